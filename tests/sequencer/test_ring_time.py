"""D7: the time of slots, who sequences, and resets, as one core decides them. The rule's sentences: tests/rules."""

from sequencer.messages import Broadcast, Clock
from sequencer.output import ClockResetAsked
from sequencer.ring_time import CLOCKS_DISAGREE, CLOCKS_UNKNOWN, NOT_SERVING, NOTHING_TO_RESET, UNTOLD
from sequencer.types import ClockReset
from tests.sequencer.builders import MS, ack, published, record, request, view
from tests.sequencer.group import Group
from tests.sequencer.harness import WALL_US, Host, bench, matching, running

DAY_US = 86_400_000_000


def refusals(host: Host) -> list[object]:
    """Why resets were refused."""
    return [fact.fields["why"] for fact in host.facts if fact.name == "clock_reset_refused"]


def ahead(host: Host, lead_us: int) -> None:
    """The log's last slot has a time that is so far ahead."""
    below = record(0, bytes(16), [request(2, 1)], host.number, host.wall_us + lead_us)
    host.hear(2, published(host.number, [below]))
    host.settle()


def test_a_clock_is_told_beside_heartbeats_and_not_with_each() -> None:
    member = running(1, heartbeat_interval_ms=50, clock_interval_ms=250)
    sends = member.wait(1_000)
    told = matching(sends, Clock, None)
    assert 3 <= len(told) <= 5
    assert len(matching(sends, Broadcast, None)) >= 3 * len(told)
    assert {clock.wall_us - clock.now_us for clock in told} == {WALL_US}


def test_a_new_incarnation_voids_what_the_one_before_told() -> None:
    member = running(1)
    member.clock(2)
    member.clock(3)
    assert set(member.running.clock_status().offsets_us) == {1, 2, 3}
    member.hear(2, ack(member.number, runs=False), of_counter=2)
    assert set(member.running.clock_status().offsets_us) == {1, 3}


def test_the_status_names_who_is_beyond_the_bound() -> None:
    member = running(1)
    assert member.running.clock_status().quorum_us is None
    assert member.running.clock_status().offsets_us == {}
    member.clock(2, DAY_US)
    member.clock(3)
    status = member.running.status().clocks
    assert (status.quorum_us, status.beyond) == (member.wall_us, (2,))
    assert status.offsets_us == {1: 0, 2: DAY_US, 3: 0}
    assert status.ring_us == member.wall_us


def test_it_tells_once_that_its_clock_is_beyond_the_bound_and_once_that_it_is_within() -> None:
    member = running(1)
    member.clock(2)
    member.clock(3)
    member.wall_offset_us = -DAY_US
    member.step()
    member.step()
    member.wall_offset_us = 0
    member.step()
    told = [fact.name for fact in member.facts if "bound" in fact.name]
    assert told == ["clock_beyond_bound", "clock_within_bound"]


def test_it_tells_that_the_time_of_the_log_is_ahead_and_when_it_is_right_again() -> None:
    member = running(1)
    ahead(member, 60_000 * MS)
    member.clock(2)
    member.clock(3)
    assert member.running.clock_status().ahead_us == 60_000 * MS
    member.world.now_us += 60_000 * MS
    member.clock(2)
    member.clock(3)
    told = [fact.name for fact in member.facts if "ring_time" in fact.name]
    assert told == ["ring_time_ahead", "ring_time_right"]


def test_only_clocks_of_members_count() -> None:
    member = running(1)
    member.clock(4)
    assert 4 not in member.running.clocks.showing((1, 2, 3, 4), member.world.now_us)
    others = view(3, members=5, ring=(2, 3, 4))._replace(members=(2, 3, 4))
    member.running.view = others  # it was removed
    assert 1 not in member.running.shown_clocks().clocks


def test_why_a_reset_is_refused() -> None:
    alone = bench(1)
    alone.step(ClockResetAsked())
    member = running(1)
    member.step(ClockResetAsked())
    member.clock(2)
    member.step(ClockResetAsked())
    member.clock(3, DAY_US)
    member.clock(2, -DAY_US)
    member.step(ClockResetAsked())
    member.clock(2)
    member.clock(3)
    member.step(ClockResetAsked())
    assert refusals(alone) == [NOT_SERVING]
    assert refusals(member) == [CLOCKS_UNKNOWN, UNTOLD, CLOCKS_DISAGREE, NOTHING_TO_RESET]


def test_a_reset_names_the_time_that_was_seen() -> None:
    member = running(3)
    ahead(member, DAY_US)
    member.clock(1)
    member.clock(2)
    out = member.step(ClockResetAsked())
    asked = [one.change for sent in matching(out.sends, Broadcast) for one in sent.requests]
    assert asked == [ClockReset(member.wall_us + DAY_US)]
    assert not refusals(member)


def test_a_ring_whose_time_is_ahead_is_reset_on_all_members() -> None:
    group = Group(3).begin()
    for host in group.up:
        host.wall_offset_us = DAY_US
    group.run(600)
    group.publish(1, b"tomorrow")
    group.run(100)
    for host in group.up:
        host.wall_offset_us = 0
    group.run(600)
    group.publish(2, b"still tomorrow")
    group.run(100)
    group[3].step(ClockResetAsked())
    group.run(300)
    group.publish(1, b"today")
    group.run(100)
    times = [one.sequence.time_us - WALL_US - group.world.now_us for one in group[1].delivered]
    assert [round(off / DAY_US) for off in times] == [1, 1, 0, 0]
    assert [one.sequence.time_us for one in group[2].delivered] == [one.sequence.time_us for one in group[3].delivered]
    group.check()
