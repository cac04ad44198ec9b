"""V1, V2, V4, V6, V9 where links stay broken: whose word counts, who may propose, who waits."""

from sequencer.messages import Broadcast, Healthy, Join, Joined, NewView, Prepare, Retransmit
from sequencer.output import PeerLost
from sequencer.quorum import bits
from sequencer.types import BackOff, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, join, prepare, promise, request, status, view
from tests.sequencer.harness import Host, matching, one

RING = view(2, ring=(1, 2), proposer=1, source=1)


def learner(trial: Trial) -> Host:
    """Member 3, which runs the view of ring (1, 2) and hears member 1 alone."""
    member = trial.bench(3, installed=view(1))
    member.install(RING)
    member.step(PeerLost(2))
    return member


def is_told(member: Host, ms: int, **says: int) -> None:
    """Member 1 speaks for a while."""
    for _ in range(ms // 50):
        member.hear(1, ack(RING.number, **says))
        member.wait(50)


@rule("V1 goes by what it hears itself")
def test_a_learner_goes_by_the_word_of_a_ring_member(trial: Trial) -> None:
    """V1: one ring member that says it hears the whole ring is enough, since a ring holds a quorum"""
    member = learner(trial)
    with trial.decides():
        is_told(member, 1_500, heard=bits((1, 2, 3)))
        assert not matching(member.sends, Prepare)
        assert matching(member.sends, Join, to=1)
    is_told(member, 500, heard=bits((1, 3)))  # the ring is torn: it wants another one as much as member 1 does
    assert matching(member.sends, Prepare, to=1)


@rule("V1 does not ask who runs a newer view")
def test_who_hears_of_a_newer_view_asks_for_it(trial: Trial) -> None:
    """V1: A member that hears of a newer view than it was told of sends JOIN and waits."""
    member = trial.running(3)
    member.step(PeerLost(2))
    newer = view(7, ring=(1, 2), proposer=1, source=1)
    with trial.decides():
        member.hear(1, ack(newer.number))
        assert matching(member.wait(1), Join, to=1)
        for _ in range(10):
            member.hear(1, ack(newer.number))
            member.wait(50)
        assert not matching(member.sends, Prepare)
        member.hear(1, Joined(newer, None))
        member.settle()
        assert member.running.view == newer


@rule("V1 sees its own links only")
def test_a_ring_is_torn_when_one_of_it_says_that_it_does_not_hear_another(trial: Trial) -> None:
    """V1: A ring is *torn*, and so unhealthy, when one of its members says that it does not hear another."""
    member = trial.running(1)
    with trial.decides():
        member.hear(2, ack(member.number, heard=bits((1, 2))))
        assert not member.running.is_healthy(view(2))
        assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)


@rule("V2 proposes between two that do not hear each other")
def test_who_stands_between_two_that_do_not_hear_each_other_proposes_nothing(trial: Trial) -> None:
    """V2: and while these all hear each other, as their heartbeats say"""
    member = trial.bench(3, members=5, installed=view(1, members=5))
    with trial.decides():
        for _ in range(20):
            member.hear(2, ack(view(1).number, runs=False, heard=bits((2, 3, 5))))
            member.hear(4, ack(view(1).number, runs=False, heard=bits((3, 4))))
            member.wait(50)
        assert not matching(member.sends, Prepare)
    for _ in range(4):
        member.hear(2, ack(view(1).number, runs=False))
        member.hear(4, ack(view(1).number, runs=False))
        member.wait(50)
    assert matching(member.sends, Prepare, to=2)


@rule("V2 never pauses")
def test_proposals_that_come_to_nothing_grow_rare(trial: Trial) -> None:
    """V2: others after a delay by rank (randomised), which grows while its proposals come to nothing."""
    member = trial.bench(1, installed=view(1), view_timeout_ms=100, propose_delay_ms=60, back_off_max_ms=2_000)
    with trial.decides():
        for _ in range(200):
            for other in (2, 3):
                member.hear(other, ack(view(1).number, runs=False))
            member.wait(50)
        numbers = {sent.number for sent in matching(member.sends, Prepare)}
        assert 5 <= len(numbers) <= 15


@rule("V4 learners go by what they hear themselves")
def test_a_learner_lets_nobody_depose_a_ring_that_is_well(trial: Trial) -> None:
    """V4: A learner that does not hear all of the ring goes by the word of a ring member that does (V1)."""
    member = trial.bench(4, members=5, installed=view(1, members=5))
    member.install(view(2, members=5, ring=(1, 2, 3), proposer=1, source=1))
    member.step(PeerLost(2))
    member.hear(1, ack(member.number, heard=bits((1, 2, 3, 4))))
    with trial.decides():
        answer = one(member.hear(5, prepare(ViewNumber(9, 5))).sends, Healthy, to=5)
        assert answer.view == member.running.view


def test_a_number_without_a_ring_comes_to_nothing() -> None:
    """V6: no announcement while no quorum of the promisers all hear each other, and then with the first word of it."""
    member = Trial(None).running(1, members=5, promise_wait_ms=20)
    member.step(PeerLost(2))
    assert matching([*member.settle(), *member.wait(1)], Prepare, to=3)
    proposed = member.running.stable.promised
    everyone = (1, 2, 3, 4, 5)
    for other in (3, 4, 5):
        member.hear(other, promise(proposed, view(2).number, heard=bits((1, other)), members=everyone))
    assert not matching(member.wait(100), NewView)
    for other in (3, 4):
        member.hear(other, ack(view(2).number, runs=False, promised=proposed, heard=bits((1, 3, 4))))
    assert matching(member.wait(25), NewView, to=3)[0].view.ring == (1, 3, 4)


@rule("V9 joiners that were let in for nothing do not wait")
def test_a_joiner_that_a_view_did_not_help_waits_longer(trial: Trial) -> None:
    """V9: and so does one for which (b) or (c) made a view whose ring it is not in."""
    member = trial.bench(1, installed=view(1), idle_hop_interval_ms=60_000)
    member.install(view(2, ring=(1, 2)))
    member.hear(2, ack(member.number))
    member.hear(3, ack(view(1).number, runs=False, promised=ViewNumber(8, 3)), join(3, promised=ViewNumber(8, 3)))
    proposed = one(member.settle(), Prepare, to=2).number
    member.hear(2, promise(proposed, view(2).number, heard=bits((1, 2))))
    with trial.decides():
        member.wait(25)
        chosen = matching(member.sends, NewView, to=2)[0].view
        assert chosen.ring == (1, 2)
        assert chosen.back_offs == (BackOff(3, 0),)


@rule("A8 passes nothing on")
def test_requests_that_the_holder_does_not_hear_are_passed_on(trial: Trial) -> None:
    """A8: are passed on to these, by RETRANSMIT, by the first ring member that hears it."""
    member = trial.bench(1, installed=view(1))
    member.install(view(2, ring=(1, 2)))
    member.hear(3, ack(member.number))
    member.hear(2, ack(member.number))
    member.wait(10)
    assert not matching(member.hear(3, Broadcast(status(member.number), (request(3, 1),))).sends, Retransmit)
    with trial.decides():
        member.hear(2, ack(member.number, heard=bits((1, 2))))
        member.wait(10)
        out = member.hear(3, Broadcast(status(member.number), (request(3, 2),)))
        assert one(out.sends, Retransmit, to=2).requests == (request(3, 2),)
