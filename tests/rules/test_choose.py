"""V5 and V6: the one announcement of a number, its source and its ring."""

from typing import Any

from sequencer.messages import NewView, Prepare, Promise
from sequencer.output import PeerLost
from sequencer.quorum import bits
from sequencer.types import BackOff, SlotRecord, View, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, log, new_view, prepare, promise, view
from tests.sequencer.harness import Host, matching, one


def proposes(
    trial: Trial, members: int = 3, *, lost: int = 3, base: tuple[SlotRecord, ...] = (), **limits: int
) -> Host:
    """Member 1 has sent PREPARE, since it lost a member."""
    member = trial.running(1, members=members, base=base, promise_wait_ms=20, **limits)
    member.step(PeerLost(lost))
    assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)
    assert member.proposal() is not None
    return member


def prefers_all(trial: Trial, **how: Any) -> Host:
    """Member 1 has sent PREPARE since member 3 restarted; it hears all, and all may be in the ring."""
    member = trial.running(1, **how)
    member.hear(3, ack(member.number, runs=False), of_counter=2)
    assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)
    return member


def number(member: Host) -> ViewNumber:
    """The number that it proposes."""
    return member.running.stable.promised


def announced(member: Host, ms: int = 25) -> View:
    """What it announces within the wait for the last promises."""
    member.wait(ms)
    return matching(member.sends, NewView, to=2)[0].view


@rule("V5 by length alone")
def test_the_log_view_weighs_more_than_the_end(trial: Trial) -> None:
    """V5: With Q promises (own included) the *source* is the promiser with the highest (log view, end), in that"""
    member = proposes(trial, base=log(1))
    member.hear(2, promise(number(member), view(1).number, log(4)))
    with trial.decides():
        chosen = announced(member)
        assert (chosen.source, chosen.base) == (1, 1)


@rule("V5 by log view alone")
def test_of_equal_log_views_the_longest_log_is_the_source(trial: Trial) -> None:
    """V5: With Q promises (own included) the *source* is the promiser with the highest (log view, end), in that"""
    member = proposes(trial, base=log(1))
    longer = log(2, member.number, after=log(1))
    member.hear(2, promise(number(member), member.number, longer))
    with trial.decides():
        chosen = announced(member)
        assert (chosen.source, chosen.base, chosen.chain) == (2, 3, longer[2].sequence.chain)


@rule("V5 second announcement", "V5 forgets a late promiser")
def test_a_late_promise_makes_a_learner_of_the_same_announcement(trial: Trial) -> None:
    """V5: a promise that comes later makes its sender a learner of that same announcement."""
    member = proposes(trial, lost=3)
    proposed = number(member)
    member.hear(2, promise(proposed, view(2).number))
    first = announced(member)
    with trial.decides():
        out = member.hear(3, promise(proposed, view(2).number, log(9, view(2).number)))
        assert one(out.sends, NewView, to=3).view == first
        member.wait(200)
        assert first.ring == (1, 2)
        assert {sent.view for sent in matching(member.sends, NewView)} == {first}


@rule("V5 takes up its number after a restart")
def test_a_proposer_announces_nothing_after_its_own_restart(trial: Trial) -> None:
    """V5: A proposer announces at most one (ring, source, end, chain) per number, and none after its own restart"""
    member = proposes(trial)
    proposed = number(member)
    member.kill()
    member.start()
    member.settle()
    with trial.decides():
        member.hear(2, promise(proposed, view(2).number, log(3)))
        member.hear(3, promise(proposed, view(2).number, log(3)))
        assert not matching(member.wait(50), NewView)


@rule("V5 takes a different announcement")
def test_another_announcement_of_the_same_number_is_ignored(trial: Trial) -> None:
    """V5: Members ignore a NEW_VIEW whose ring, end or chain differs from the one they hold for that number"""
    member = trial.bench(1, installed=view(1))
    held = view(5, log(2))
    member.hear(3, new_view(held))
    member.settle()
    member.kill()
    member.start()  # "the same one again (also after a restart, or from another member) is the same announcement"
    member.settle()
    with trial.decides():
        for other in (view(5, log(3)), view(5, log(2, word=b"other ")), view(5, log(2), ring=(1, 2))):
            member.hear(2, new_view(other))
            assert member.running.installing is None
        member.hear(2, new_view(held))
        assert member.running.installing == held


@rule("V6 whoever promised")
def test_the_ring_is_within_the_catch_up_limit_of_the_source(trial: Trial) -> None:
    """V6: the promisers within `catch_up_limit` of the source (one whose end the source has trimmed is not)"""
    member = prefers_all(trial, base=log(9), catch_up_limit_slots=4)
    member.hear(3, promise(number(member), view(1).number, log(4)), of_counter=2)
    member.hear(2, promise(number(member), view(2).number, log(9)))
    with trial.decides():
        chosen = announced(member)
        assert chosen.ring == (1, 2)
        assert [learner.member for learner in chosen.learners] == [3]


@rule("V6 keeps the silent")
def test_who_has_fallen_silent_since_its_promise_is_not_in_it(trial: Trial) -> None:
    """V6: that all hear each other, as their promises and newer heartbeats say"""
    member = prefers_all(trial)
    member.hear(3, promise(number(member), view(2).number), of_counter=2)
    member.step(PeerLost(3))
    member.hear(2, promise(number(member), view(2).number))
    with trial.decides():
        assert announced(member).ring == (1, 2)


@rule("V6 suspects the one that promised")
def test_a_suspicion_for_an_old_incarnation_ends_with_the_promise(trial: Trial) -> None:
    """V6: A suspicion for an old incarnation ends with the member's promise"""
    member = prefers_all(trial)
    member.hear(3, promise(number(member), view(2).number), of_counter=2)
    member.hear(2, promise(number(member), view(2).number))
    with trial.decides():
        assert announced(member).ring == (1, 2, 3)


@rule("V6 knows no back-off")
def test_those_in_back_off_are_taken_away(trial: Trial) -> None:
    """V6: leavers, and then members in back-off, are left out while Q remain"""
    member = trial.bench(1, installed=view(1))
    member.install(view(2, ring=(1, 2))._replace(back_offs=(BackOff(3, 5),)))
    member.hear(2, ack(member.number, runs=False), of_counter=2)
    member.hear(3, ack(view(1).number, promised=member.number, runs=False))
    assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)
    member.hear(3, promise(number(member), view(2).number))
    member.hear(2, promise(number(member), view(2).number), of_counter=2)
    with trial.decides():
        assert announced(member).ring == (1, 2)


@rule("V6 whoever is heard or not")
def test_a_ring_is_of_members_that_all_hear_each_other(trial: Trial) -> None:
    """V6: that all hear each other, as their promises and newer heartbeats say"""
    member = prefers_all(trial)
    member.hear(2, promise(number(member), view(2).number))
    member.hear(3, promise(number(member), view(2).number, heard=bits((1, 3))), of_counter=2)
    with trial.decides():
        assert announced(member).ring == (1, 2)


@rule("V6 fewer than a quorum")
def test_a_ring_holds_at_least_a_quorum(trial: Trial) -> None:
    """V6: If too few are within the limit, Q of those that hear each other, with the highest (log view, end)"""
    member = proposes(trial, base=log(9), catch_up_limit_slots=4)
    member.hear(2, promise(number(member), view(1).number, log(2)))
    with trial.decides():
        assert announced(member).ring == (1, 2)


def test_a_prepare_is_answered_by_a_promise() -> None:
    """What these tests say for the others is what a core says."""
    member = Trial(None).bench(1, log=log(2), installed=view(1))
    member.hear(3, prepare(ViewNumber(5, 3)))
    said = one(member.settle(), Promise, to=3)
    expected = promise(ViewNumber(5, 3), view(1).number, log(2))
    assert (said.log_view, said.end, said.chain) == (expected.log_view, expected.end, expected.chain)
