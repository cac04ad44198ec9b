"""Whole groups of cores: what the rules are for. Each scenario ends with the same order at every member."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from sequencer.messages import Broadcast, Message, Promise, Retransmit, SnapshotChunk, Token
from sequencer.output import DiskFilled, DiskFreed, LeaveAsked, ReadAsked, RecoverAsked, TrimAsked
from sequencer.types import SlotRecord
from tests.sequencer.disk import Disk
from tests.sequencer.group import Group


@pytest.fixture
def groups() -> Iterator[list[Group]]:
    """Groups that a test makes; compared at teardown."""
    made: list[Group] = []
    yield made
    for group in made:
        group.check()


def begin(groups: list[Group], members: int = 3, **limits: Any) -> Group:
    """A group in its first view."""
    group = Group(members, **limits).begin()
    groups.append(group)
    return group


def everywhere(group: Group) -> list[SlotRecord]:
    """What every member that is up delivered: the same at all of them."""
    group.run_until(lambda: len({len(host.delivered) for host in group.up}) == 1)
    logs = [host.delivered for host in group.up]
    assert all(log == logs[0] for log in logs)
    return logs[0]


@pytest.mark.parametrize("members", range(1, 8))
def test_any_number_of_members_orders_what_all_of_them_submit(groups: list[Group], members: int) -> None:
    group = begin(groups, members)
    for turn in range(3):
        for member in group.config.members:
            group.publish(member, b"turn %d" % turn)
    assert len({request for record in everywhere(group) for request in record.requests}) == 3 * members


def test_the_token_rotates_over_the_ring(groups: list[Group]) -> None:
    """A4: under load slot b+j of view v is sequenced by ring[j mod |ring|]."""
    group = begin(groups)
    holders: list[int] = []
    group.drop(lambda sender, receiver, message: _notes(holders, sender, message))
    for turn in range(9):
        group.publish(1 + turn % 3, b"%d" % turn)
    order = [sender for index, sender in enumerate(holders) if index == 0 or holders[index - 1] != sender]
    assert all(after == before % 3 + 1 for before, after in pairwise(order))


def _notes(holders: list[int], sender: int, message: Message) -> bool:
    if isinstance(message, Broadcast) and message.sequences:
        holders.append(sender)
    return False


@pytest.mark.parametrize("members", [3, 5])
def test_a_killed_holder_is_replaced_and_comes_back(groups: list[Group], members: int) -> None:
    group = begin(groups, members)
    group.publish(1, b"before")
    victim = group.holder()
    other = victim % members + 1
    group.kill(victim)
    group.publish(other, b"after")
    group.run_until(group.runs)
    group.start(victim)
    group.run_until(lambda: group.runs() and group[victim].running.in_ring, 20_000)
    group.publish(victim, b"back")
    assert len(everywhere(group)) == 3


def test_a_group_that_was_killed_at_once_goes_on_where_it_was(groups: list[Group]) -> None:
    group = begin(groups)
    for turn in range(5):
        group.publish(1, b"%d" % turn)
    before = everywhere(group)
    for member in group.config.members:
        group[member].kill()
    group.wire.clear()
    group.start()
    group.run_until(group.runs)
    group.publish(2, b"after")
    assert everywhere(group)[: len(before)] == before


def test_the_smaller_part_of_a_partition_blocks_and_catches_up(groups: list[Group]) -> None:
    group = begin(groups)
    group.publish(1, b"before")
    cut = group.isolate(3)
    group.run_until(lambda: group.runs(1, 2) and group[1].running.view != group[3].running.view)
    group.publish(1, b"without 3")
    assert not group[3].running.in_quorum()
    assert len(group[3].delivered) == 1
    group.drops.remove(cut)
    group.run_until(lambda: group.runs() and group[3].running.in_ring, 20_000)
    assert len(everywhere(group)) == 2


def test_requests_that_met_a_partition_are_ordered_once_it_heals(groups: list[Group]) -> None:
    """V10: their sender publishes them again in the new view."""
    group = begin(groups)
    cut = group.isolate(3)
    group[3].submit(b"3 from the other side")
    group.run(1_000)
    group.drops.remove(cut)
    group.run_until(lambda: all(b"3 from the other side" in group.payloads(host) for host in group.up), 20_000)
    assert len(everywhere(group)) == 1


def test_lost_frames_are_asked_for_again(groups: list[Group]) -> None:
    """A8: every third PUB frame is lost, requests and slots alike."""
    group = begin(groups)
    count = iter(range(1_000_000))
    group.drop(lambda _, receiver, message: isinstance(message, Broadcast) and next(count) % 3 == 0)
    for turn in range(30):
        group.publish(1 + turn % 3, b"%d" % turn)
    assert sum(len(record.requests) for record in everywhere(group)) == 30


def test_a_lost_token_is_sent_again(groups: list[Group]) -> None:
    group = begin(groups)
    lost = iter(range(1_000_000))
    group.drop(lambda _, receiver, message: isinstance(message, Token) and next(lost) % 2 == 0)
    for turn in range(6):
        group.publish(1 + turn % 3, b"%d" % turn)
    assert len({host.running.view for host in group.up}) == 1


def test_a_member_that_was_away_past_the_trim_catches_up_by_snapshot(groups: list[Group]) -> None:
    """C1, C2."""
    group = begin(groups, window_slots=1, retention_grace_ms=1, retransmit_bytes_max=64)
    group.publish(1, b"before")
    group.kill(3)
    for turn in range(6):
        group.publish(1, b"away %d" % turn)
    trim(group, 1, 2)
    group.start(3)
    group.run_until(lambda: group[3].disk.first == 7 and group[3].running.in_ring, 20_000)
    group.publish(3, b"back")
    assert group[3].delivered[-1] == group[1].delivered[-1]


def trim(group: Group, *members: int) -> None:
    """Members make a snapshot and trim their log up to it."""
    group.run(5)
    for member in members:
        host = group[member]
        made = host.make_snapshot()
        host.running.window.forget(made.slot, 0, 0)
        host.step(TrimAsked(made.slot))
        host.sync()
        assert host.disk.first == made.slot


def test_an_installed_member_that_fell_behind_the_trim_gets_a_snapshot(groups: list[Group]) -> None:
    """A8, C1: its NACK is answered with a snapshot, chunk by chunk, and it goes on in its view."""
    group = begin(groups, window_slots=1, retention_grace_ms=1, suspect_timeout_ms=3_000, token_timeout_ms=3_000)
    group.run_until(lambda: group.holder() == 1)
    blocked = group.drop(lambda sender, receiver, message: receiver == 3 and not bare(message))
    waiting = group.drop(lambda sender, receiver, message: receiver == 2 and isinstance(message, Token))
    group[1].submit(b"1 one")
    group.run_until(lambda: group[2].running.delivered == 1)
    trim(group, 1, 2)
    lossy = iter(range(1_000_000))
    group.drops.remove(blocked)
    group.drop(lambda sender, receiver, message: isinstance(message, SnapshotChunk) and next(lossy) % 3 == 1)
    group.run_until(lambda: group[3].running.delivered == 1, 20_000)
    assert group[3].disk.first == 1
    group.drops.remove(waiting)
    group.publish(3, b"two")
    assert group[3].delivered[-1] == group[1].delivered[-1]


def bare(message: Message) -> bool:
    """A heartbeat, or anything else that brings no request and no slot."""
    if isinstance(message, Broadcast):
        return not message.requests and not message.sequences
    return not isinstance(message, Retransmit)


def test_a_wiped_member_is_readmitted_and_gets_everything_back(groups: list[Group]) -> None:
    """V0."""
    group = begin(groups)
    for turn in range(4):
        group.publish(1, b"%d" % turn)
    group.kill(3)
    group[3].disk = Disk(group.world)
    group.start(3)
    group.run_until(lambda: group[3].running.in_ring and not group[3].running.stable.wiped, 20_000)
    group.publish(3, b"back")
    assert len(everywhere(group)) == 5


def test_a_disk_put_back_from_a_copy_comes_back_as_wiped(groups: list[Group]) -> None:
    """V0: a peer knows a newer incarnation."""
    group = begin(groups)
    group.kill(3)
    copy = group[3].disk.stable
    group.start(3)
    group.run_until(lambda: group.runs() and group[3].running.in_ring, 20_000)
    group.publish(3, b"not in the copy")
    group.kill(3)
    group[3].disk = Disk(group.world, copy)
    starts = group[3].starts
    group.start(3)
    group.run_until(lambda: group[3].core is not None and group[3].running.in_ring, 20_000)
    assert group[3].starts > starts + 1
    assert len(everywhere(group)) == 1


def test_damaged_records_are_repaired_from_the_peers(groups: list[Group]) -> None:
    """D6: two runs, both with the same chain as the peers' records."""
    group = begin(groups, retransmit_bytes_max=1)
    for turn in range(8):
        group.publish(1, b"%d" % turn)
    group.kill(3)
    group.run_until(group.runs)
    group[3].disk.damaged = {1, 2, 5}
    group.start(3)
    assert group[3].running.status().damaged
    group.run_until(lambda: not group[3].disk.damaged and group.runs(), 20_000)
    assert len(everywhere(group)) == 8


def test_what_no_peer_can_repair_makes_the_member_wiped(groups: list[Group]) -> None:
    """D6: the peers have trimmed what is damaged below what is applied here."""
    group = begin(groups, window_slots=1, retention_grace_ms=1)
    for turn in range(4):
        group.publish(1, b"%d" % turn)
    group.kill(3)
    group.run_until(group.runs)
    trim(group, 1, 2)
    group[3].disk.damaged = {1}
    group.start(3)
    group.run_until(lambda: group[3].core is not None and group[3].running.in_ring, 30_000)
    assert not group[3].disk.damaged
    group.publish(3, b"back")


def test_a_leaver_goes_and_no_request_is_lost(groups: list[Group]) -> None:
    """V11."""
    group = begin(groups, 5)
    leaver = group.holder()
    group[leaver].submit(b"last words")
    group[leaver].step(LeaveAsked())
    group.run_until(lambda: group[leaver].core is None)
    group.run_until(lambda: group.runs() and all(b"last words" in group.payloads(host) for host in group.up))
    view = next(group.up).running.view
    assert view is not None
    assert leaver not in view.ring


def test_a_member_alone_leaves_at_once(groups: list[Group]) -> None:
    group = begin(groups, 1)
    group[1].step(LeaveAsked())
    assert group[1].running.left


def test_a_full_disk_leaves_the_ring_and_comes_back(groups: list[Group]) -> None:
    """D5."""
    group = begin(groups)
    group.publish(1, b"before")
    group.unsynced.add(3)
    group[3].step(DiskFilled(0))
    group.run_until(lambda: group.runs(1, 2) and 3 not in _ring(group, 1))
    group.publish(1, b"without")
    group[3].step(DiskFreed())
    group.unsynced.clear()
    group.run_until(lambda: group[3].running.in_ring, 20_000)
    assert len(everywhere(group)) == 2


def _ring(group: Group, member: int) -> tuple[int, ...]:
    view = group[member].running.view
    return view.ring if view else ()


def test_a_slow_proposer_gets_its_promises_again(groups: list[Group]) -> None:
    """V3: PREPARE is sent again, and answered again."""
    group = begin(groups)
    promises = group.drop(lambda sender, receiver, message: isinstance(message, Promise))
    group.kill(3)
    group.run(60)
    group.drops.remove(promises)
    group.run_until(lambda: group.runs() and 3 not in _ring(group, 1))


def test_reads_see_what_was_acknowledged_before(groups: list[Group]) -> None:
    """K3: at every member, also when answers are lost."""
    group = begin(groups)
    group.publish(1, b"one", b"two")
    lost = group.isolate(2)
    for host in group.up:
        host.step(ReadAsked(1), ReadAsked(2))
    group.run(20)
    group.drops.remove(lost)
    group.run_until(lambda: all(len(host.reads) == 2 for host in group.up))
    assert {ready.slot for host in group.up for ready in host.reads} == {group[1].running.commit}


def test_an_operator_accepts_loss_when_too_few_unwiped_members_are_left(groups: list[Group]) -> None:
    """D2, V0: n = 2, one disk is new: no quorum of members that are not wiped, until an operator says so."""
    group = begin(groups, 2)
    group.publish(1, b"one")
    group.kill(2)
    group[2].disk = Disk(group.world)
    group.start(2)
    group.run(3_000)
    group[1].submit(b"two")
    group.run(1_000)
    assert len(group[1].delivered) == 1
    group[1].step(RecoverAsked())
    group.run_until(lambda: group.runs() and not group[2].running.stable.wiped, 20_000)
    assert group[1].running.status().possible_loss
    group.publish(2, b"three")
    assert len(everywhere(group)) == 3
