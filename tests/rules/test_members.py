"""V9, V10 and V11: who comes in, who goes, and what becomes of their requests."""

from collections.abc import Callable

from sequencer.messages import Broadcast, Join, Joined, Leave, Prepare, Retransmit, Token
from sequencer.output import LeaveAsked, PeerLost
from sequencer.quorum import bits
from sequencer.types import BackOff, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, incarnation, join, log, published, request, token, view
from tests.sequencer.harness import Host, matching, one


def ring_of_two(trial: Trial, member: int = 1) -> Host:
    """A member that runs a view with the ring (1, 2); member 3 is a learner of it."""
    return trial.running(member, ring=(1, 2))


def keep_up(member: Host, ms: int, say: Callable[[], object] | None = None) -> None:
    """The others' heartbeats, and what `say` says, for a while."""
    for _ in range(ms // 50):
        for other in member.config.members:
            if other != member.member:
                member.hear(other, ack(member.number))
        if say is not None:
            say()
        member.wait(50)


@rule("V9 does not present itself")
def test_a_member_outside_the_ring_sends_join_until_it_is_in_it(trial: Trial) -> None:
    """V9: A member outside the ring sends JOIN until it is in it."""
    member = trial.bench(3, installed=view(1, ring=(1, 2)))
    with trial.decides():
        assert len(matching(member.wait(500), Join, to=1)) >= 3
        member.install(view(2, proposer=2))
        assert not matching(member.wait(500), Join)


@rule("V9 does not answer a joiner")
def test_ring_members_answer_with_their_view_and_what_they_know(trial: Trial) -> None:
    """V9: Ring members answer JOINED (the NEW_VIEW of their view, the newest incarnation and storage id known"""
    member = ring_of_two(trial)
    with trial.decides():
        answer = one(member.hear(3, join(3, disk=1_003)).sends, Joined, to=3)
        assert answer.view == member.running.view
        assert answer.known is not None
        assert answer.known.storage == 1_003


@rule("V9 does not learn from JOINED")
def test_a_joiner_installs_the_view_as_a_learner_and_acknowledges(trial: Trial) -> None:
    """V9: it installs that as a learner if V7 allows, stores and acknowledges."""
    member = trial.bench(3, installed=view(1, proposer=2, source=2))
    ring = view(2, ring=(1, 2), proposer=2, source=2)
    with trial.decides():
        member.hear(1, Joined(ring, None))
        member.settle()
        assert member.running.view == ring
        member.hear(1, published(ring.number, log(1, ring.number, sender=1)))
        assert [sent.status.stored for sent in matching(member.settle(), Broadcast)] == [1]


@rule("V9 leaves the wiped out")
def test_a_wiped_joiner_that_is_not_named_is_let_in(trial: Trial) -> None:
    """V9: (a) wiped and not named by the ring's view"""
    member = ring_of_two(trial)
    member.hear(3, ack(view(1).number, runs=False, wiped=True))
    with trial.decides():
        member.hear(3, join(3, wiped=True))  # the view names this disk: it can install it
        assert not matching(member.settle(), Prepare)
        member.hear(3, join(3, wiped=True, disk=555))
        assert matching(member.settle(), Prepare, to=2)


@rule("V9 leaves the higher promised out")
def test_a_joiner_that_has_promised_higher_is_let_in(trial: Trial) -> None:
    """V9: or (b) has promised above it"""
    member = ring_of_two(trial)
    member.hear(3, ack(view(1).number, runs=False, promised=ViewNumber(8, 3)))
    with trial.decides():
        member.hear(3, join(3, promised=ViewNumber(8, 3)))
        assert one(member.settle(), Prepare, to=2).number == ViewNumber(9, 1)


@rule("V9 leaves learners out", "V9 takes in whoever has installed")
def test_a_learner_that_has_caught_up_and_hears_all_is_let_in(trial: Trial) -> None:
    """V9: or (c) has installed it, is within `catch_up_limit` and hears, and is heard by, all of the ring."""
    member = ring_of_two(trial)
    with trial.decides():
        member.hear(3, join(3), ack(member.number, heard=bits((1, 3))))
        assert not matching(member.settle(), Prepare)
        member.hear(2, ack(member.number, heard=bits((1, 2))))
        member.hear(3, ack(member.number))
        assert not matching(member.settle(), Prepare)
        member.hear(2, ack(member.number))
        assert matching(member.settle(), Prepare, to=2)


@rule("V9 every ring member changes the view")
def test_the_live_ring_member_with_the_lowest_id_makes_the_change(trial: Trial) -> None:
    """V9: The live ring member with the lowest id makes a view change, numbered above the joiner's promise"""
    member = ring_of_two(trial, 2)
    with trial.decides():
        member.hear(3, join(3, promised=ViewNumber(8, 3)))
        assert not matching(member.settle(), Prepare)


@rule("V9 knows no back-off", "V9 always waits the same")
def test_a_member_that_keeps_being_suspected_waits_longer(trial: Trial) -> None:
    """V9: A member that keeps being suspected waits longer each time (1 s, 2 s ... 30 s; kept by each ring member"""
    member = trial.bench(1, installed=view(1), idle_hop_interval_ms=60_000)
    member.install(view(2, ring=(1, 2))._replace(back_offs=(BackOff(3, 1),)))
    with trial.decides():
        keep_up(member, 1_900, lambda: member.hear(3, join(3)))
        assert not matching(member.sends, Prepare)
        keep_up(member, 200, lambda: member.hear(3, join(3)))
        assert matching(member.sends, Prepare, to=2)


@rule("V10 does not publish again")
def test_requests_that_were_not_sequenced_are_published_again(trial: Trial) -> None:
    """V10: Requests that were not sequenced are published again in the new view by their sender"""
    member = trial.running(2)
    requests = one(member.submit(b"mine").sends, Broadcast).requests
    with trial.decides():
        member.install(view(3))
        assert requests in [sent.requests for sent in matching(member.sends[1:], Broadcast)]


@rule("V10 keeps requests of the dead")
def test_requests_of_a_member_that_is_not_live_are_dropped(trial: Trial) -> None:
    """V10: Unsequenced requests of a member that is not live, or of an old incarnation, are dropped at an install"""
    member = trial.running(2)
    member.hear(1, Retransmit(member.number, (request(3, 1), request(1, 1)), ()))
    member.step(PeerLost(3))
    with trial.decides():
        member.install(view(3, proposer=1, source=1, ring=(1, 2)))
        assert member.running.buffer.get(3, incarnation(3), 1) is None
        assert member.running.buffer.get(1, incarnation(1), 1) is not None


@rule("V11 does not ask to go")
def test_a_leaver_hands_the_token_on_and_asks_for_a_view_without_itself(trial: Trial) -> None:
    """V11: On SIGTERM a member hands the token on, asks for a view without itself"""
    member = trial.running(1)
    with trial.decides():
        out = member.step(LeaveAsked())
        one(out.sends, Token, to=2)
        assert [send.to for send in out.sends if isinstance(send.message, Leave)] == [2, 3]
        assert one(out.sends, Broadcast).status.leaving


@rule("V11 lets nobody go")
def test_the_others_make_a_view_without_the_leaver(trial: Trial) -> None:
    """V11: On SIGTERM a member hands the token on, asks for a view without itself"""
    member = trial.running(1)
    with trial.decides():
        member.hear(3, Leave())
        assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)


@rule("V11 lets go whom it needs")
def test_a_member_that_the_quorum_needs_stays(trial: Trial) -> None:
    """V11: with only Q members alive it can't be free of failed publishes, and says so."""
    member = trial.running(1, ring=(1, 3))
    member.step(PeerLost(2))
    with trial.decides():
        member.hear(3, ack(member.number, leaving=True))
        assert not member.running.suspects(view(2, ring=(1, 3)))
        assert not matching([*member.settle(), *member.wait(10)], Prepare)


@rule("V11 never leaves")
def test_a_leaver_has_left_when_it_runs_a_view_without_itself(trial: Trial) -> None:
    """V11: drains its clients to other members, and exits; no publish fails."""
    member = trial.running(1)
    member.step(LeaveAsked())
    assert not member.running.left
    with trial.decides():
        member.hear(3, token(member.number, 3, 0))
        assert not member.running.left
        member.install(view(3, ring=(2, 3)))
        member.wait(50)
        assert member.running.left
