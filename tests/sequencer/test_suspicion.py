"""V1, V2: when a member wants a new view, and when it waits."""

from dataclasses import replace

from sequencer.messages import Leave, Prepare, Records
from sequencer.output import PeerFound, PeerLost
from sequencer.types import ViewNumber
from tests.sequencer.builders import ack, incarnation, join, log, new_view, prepare, view
from tests.sequencer.harness import bench, matching, running


def test_a_suspicion_that_ends_stops_the_proposal_that_waits() -> None:
    member = running(2, propose_delay_ms=60)
    member.step(PeerLost(3))
    assert "propose" in member.running.timers
    member.step(PeerFound(3))
    assert "propose" not in member.running.timers


def test_after_a_promise_it_waits_before_it_proposes_itself() -> None:
    """V1: the number that it promised may still succeed."""
    member = bench(1, installed=view(1), view_timeout_ms=400)
    member.hear(2, prepare(ViewNumber(5, 2), 2, 3))
    member.settle()
    before = len(member.sends)
    for _ in range(7):
        member.hear(2, ack(view(1).number, runs=False))
        member.hear(3, ack(view(1).number, runs=False))
        member.wait(50)
    assert not matching(member.sends[before:], Prepare)
    for _ in range(12):
        member.hear(2, ack(view(1).number, runs=False))
        member.hear(3, ack(view(1).number, runs=False))
        member.wait(50)
    assert matching(member.sends[before:], Prepare, to=2)[0].number > ViewNumber(5, 2)


def test_a_member_in_an_install_that_goes_on_waits_with_its_own_number() -> None:
    """V1: view_timeout restarts with each fetched chunk."""
    member = bench(1, installed=view(1), view_timeout_ms=400, suspect_timeout_ms=1_000)
    member.hear(3, new_view(view(2, log(40))))
    for slot in range(40):
        member.hear(2, ack(view(1).number, runs=False))
        member.hear(3, ack(view(1).number, runs=False), Records(view(2).number, slot, log(40)[slot : slot + 1]))
        member.wait(50)
    assert not matching(member.sends, Prepare)
    assert member.number == view(2).number


def test_a_ring_that_is_healthy_needs_nothing() -> None:
    """V4: heard all of the ring in it, nothing waits."""
    member = running(1)
    assert member.running.is_healthy(view(2))
    assert not member.running.needs_view_change()
    member.step(PeerLost(3))
    assert not member.running.is_healthy(view(2))
    assert member.running.wanted_out() == {3}


def test_a_leaver_is_suspected_only_while_a_quorum_stays() -> None:
    """V11: of several leavers the highest id first; the last ones have to stay."""
    member = running(1)
    member.hear(2, Leave())
    assert member.running.suspects(view(2)) == {2}
    member.hear(3, Leave())
    assert member.running.suspects(view(2)) == {3}
    member.step(PeerLost(3))
    assert member.running.suspects(view(2, ring=(1, 2))) == set()


def test_flow_control_is_not_being_stuck() -> None:
    """V1, A9: at the limit of slots beyond the commit point the disks are slow, not the ring."""
    member = running(1, uncommitted_slots_max=1, token_timeout_ms=100, resend_interval_ms=40)
    member.submit(b"one")
    member.submit(b"two")
    for _ in range(6):
        for other in (2, 3):
            member.hear(other, ack(member.number, accepted_hop=1))
        member.wait(50)
    assert not member.running.is_stuck()
    assert not matching(member.sends, Prepare)


def test_one_that_comes_back_blank_is_nobodys_quorum() -> None:
    """V0: what a run said of itself ends with it: a blank one is heard before it says that its disk is lost."""
    member = running(1)
    member.step(PeerLost(3))
    assert member.running.hears_quorum()
    member.hear(2, join(2), of=incarnation(2, 7), cluster=0)
    assert not member.running.hears_quorum()
    assert not member.running.in_quorum()


def test_who_hears_whom_is_what_they_say_themselves() -> None:
    """By HEARTBEAT, or by JOIN where a member runs no view; one that is not heard says nothing."""
    member = running(1)
    core = member.running
    member.hear(2, ack(member.number, heard=0b0110))
    member.hear(3, ack(member.number, heard=0b1010))
    assert (core.hears_me(2), core.hears_me(3)) == (True, True)
    assert (core.unheard_by(2), core.unheard_by(3), core.unheard_by(1)) == ([3], [2], [])
    member.step(PeerLost(3))
    assert (core.hears_me(3), core.unheard_by(3), core.unheard_by(2)) == (False, [], [])
    blank = bench(1)
    assert not blank.running.hears_me(2)
    blank.hear(2, replace(join(2), heard=0b0110), cluster=0)
    blank.hear(3, replace(join(3), heard=0b1010), cluster=0)
    assert blank.running.hears_me(2)
    assert blank.running.unheard_by(3) == [2]
