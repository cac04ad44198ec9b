"""C3: telling, asking, serving, prepending and mending, in every order."""

from dataclasses import replace

import pytest

from sequencer.messages import Backfill, Backfilled, Holdings
from sequencer.output import DamageFound, PrependRecord, ServeBackfill, TrimAsked
from sequencer.retained import NOTHING
from sequencer.types import GENESIS_CHAIN, DamagedRun
from tests.sequencer.builders import ack, log, new_view, stable, view
from tests.sequencer.group import Group
from tests.sequencer.harness import Host, bench, matching, one, persisted, running
from tests.sequencer.replaced import LOG, SLOT, VIEW, asked, filled, hear_others, piece
from tests.sequencer.snapshots import feed_snapshot


def in_use(*, window_slots: int = 1) -> Host:
    """Member 1 runs a view and has delivered six slots, which are on its disk."""
    member = running(1, base=LOG, window_slots=window_slots)
    for other in (2, 3):
        member.hear(other, ack(member.number, 6))
    member.settle()
    assert len(member.delivered) == 6
    return member


def hole(first: int, last: int) -> DamagedRun:
    """A run of LOG."""
    return DamagedRun(first, last, LOG[first - 1].sequence.chain if first else GENESIS_CHAIN, LOG[last].sequence.chain)


def prepending(member: Host) -> bool:
    """Are records on their way below the log?"""
    return member.running.prepending


def test_the_log_below_is_fetched_piece_by_piece_and_then_the_member_is_whole() -> None:
    member = filled()
    assert not matching(member.wait(60), Backfill)  # nobody has said what it holds
    member.hear(3, Holdings(1, True, False))
    assert asked(member) == Backfill(SLOT, LOG[SLOT - 1].sequence.chain, 1)
    assert not matching(member.wait(60), Backfill)  # one at a time
    out = member.hear(3, piece(2, SLOT))
    assert [operation.record.slot for operation in persisted(out, PrependRecord)] == [3, 2]
    assert not matching(member.wait(0, settle=False), Backfill)
    assert prepending(member)
    member.settle()
    assert not prepending(member)
    assert asked(member) == Backfill(2, LOG[1].sequence.chain, 1)
    member.hear(3, piece(1, 2))
    member.settle()
    hear_others(member)
    member.wait(60)
    assert member.running.whole
    assert member.durable().whole
    assert (member.disk.first, member.running.window.first) == (1, 1)
    assert Holdings(1, True, False) in matching(member.sends, Holdings, to=2)
    before = len(member.sends)
    for _ in range(30):
        hear_others(member)
        member.wait(100)
    late = [send.message for send in member.sends[before:]]
    assert not any(isinstance(message, Backfill) for message in late)
    assert not any(isinstance(message, Holdings) for message in late[len(late) // 2 :])


def test_a_log_that_is_fetched_to_its_beginning_is_whole() -> None:
    member = filled()
    member.hear(3, Holdings(0, True, False))
    asked(member)
    member.hear(3, piece(0, SLOT))
    member.settle()
    assert member.running.filled
    hear_others(member)
    member.wait(60)
    assert member.durable().whole


def test_a_restart_goes_on_where_the_disk_stands() -> None:
    member = filled()
    member.hear(3, Holdings(0, True, False))
    asked(member)
    member.hear(3, piece(2, SLOT))
    member.settle()
    member.kill()
    member.start()
    member.settle()
    for other in (2, 3):
        member.hear(other, ack(VIEW.number, 6, promised=VIEW.number), Holdings(0, True, False))
    assert one(member.wait(60), Backfill) == Backfill(2, LOG[1].sequence.chain, 0)


def test_who_does_not_answer_is_not_asked_again_at_once() -> None:
    member = filled(backfill_interval_ms=2)
    for _ in range(10):
        for other in (2, 3):
            member.hear(other, Holdings(0, other == 3, False))
        member.wait(10)
    asked_of = [send.to for send in member.sends if isinstance(send.message, Backfill)]
    assert asked_of[:2] == [3, 2]  # a whole one first
    assert len(asked_of) <= 3


@pytest.mark.parametrize(
    "answer",
    [
        Backfilled(2, LOG[1].sequence.chain, (), ()),
        Backfilled(1, LOG[0].sequence.chain, LOG[1:3], (b"", b"")),  # does not end at the gap
        Backfilled(2, LOG[1].sequence.chain, LOG[2:4], (b"",)),
        Backfilled(2, LOG[0].sequence.chain, LOG[2:4], (b"", b"")),
        Backfilled(2, LOG[1].sequence.chain, (LOG[2], replace(LOG[3], requests=())), (b"", b"")),
        Backfilled(0, GENESIS_CHAIN, LOG[:4], (b"",) * 4),  # below what was asked for
    ],
)
def test_what_does_not_fill_the_gap_is_refused(answer: Backfilled) -> None:
    member = filled()
    member.hear(3, Holdings(1, True, False))
    asked(member)
    assert not persisted(member.hear(3, answer), PrependRecord)


def test_holders_that_are_not_heard_or_hold_nothing_below_are_not_asked() -> None:
    member = filled()
    member.hear(2, Holdings(NOTHING, False, False))
    member.hear(3, Holdings(0, False, False))
    hear_others(member)
    assert one(member.wait(60), Backfill, to=3).below == SLOT
    member.wait(2_000)
    before = len(member.sends)
    member.wait(200)
    assert not matching(member.sends[before:], Backfill)


def test_own_retention_ends_it() -> None:
    """C2: what this member would trim is not promised any more."""
    member = filled()
    member.submit(b"more")
    for other in (2, 3):
        member.hear(other, ack(member.number, 7, promised=member.number))
    member.settle()
    member.make_snapshot()
    member.step(TrimAsked(5))
    member.settle()
    assert member.running.window.first == 5
    assert member.durable().whole


def test_a_member_that_never_said_otherwise_says_nothing_when_it_is_whole() -> None:
    member = filled()
    member.make_snapshot()
    before = len(member.sends)
    member.step(TrimAsked(5))
    member.settle()
    assert member.durable().whole
    assert not matching(member.sends[before:], Holdings)


def test_what_is_asked_for_is_served_from_the_disk() -> None:
    member = in_use()
    chain = LOG[3].sequence.chain
    assert member.hear(2, Backfill(4, chain, 1)).serves == [ServeBackfill(2, 4, chain, 1)]
    assert not member.hear(2, Backfill(7, chain, 1)).serves
    assert one(member.hear(2, Holdings(3, False, True)).sends, Holdings, to=2) == Holdings(0, True, False)
    assert not matching(member.hear(2, Holdings(3, False, False)).sends, Holdings)
    assert member.running.status().not_whole == (2,)


def test_a_member_that_takes_no_part_holds_nothing_and_serves_nothing() -> None:
    member = bench(1, log=LOG, installed=view(1), state=stable(1, view(1), wiped=True), applied=6, commit=6)
    assert one(member.hear(2, Holdings(3, False, True)).sends, Holdings, to=2) == Holdings(NOTHING, False, False)
    assert not member.hear(2, Backfill(4, LOG[3].sequence.chain, 1)).serves


def test_a_single_member_is_whole_with_what_it_has() -> None:
    state = stable(1, view(1, members=1, ring=(1,), source=1, proposer=2), whole=False)
    member = bench(1, members=1, state=state, log=LOG, applied=6, commit=6)
    member.wait(3_000)
    assert member.running.retained_from() == 0
    assert member.running.gap() is None


# ---------------------------------------------------------------------- holes


def test_a_hole_is_mended_from_a_peer_in_pieces() -> None:
    member = in_use()
    member.disk.damaged = {1, 2, 3}
    out = member.step(DamageFound((hole(1, 3), hole(2, 2))), DamageFound((hole(3, 3),)))
    assert [fact.fields["first"] for fact in out.facts if fact.name == "hole_found"] == [1]
    assert member.running.status().holes == ((1, 3),)
    hear_others(member)
    assert one(member.wait(60), Holdings, to=3) == Holdings(0, False, True)
    member.hear(3, Holdings(0, True, False))
    assert asked(member) == Backfill(4, LOG[3].sequence.chain, 1)
    member.hear(3, piece(3, 4))
    member.settle()
    assert member.running.status().holes == ((1, 2),)
    assert asked(member) == Backfill(3, LOG[2].sequence.chain, 1)
    member.hear(3, piece(1, 3))
    out = member.sync()
    assert [fact.fields["last"] for fact in out.facts if fact.name == "records_repaired"] == [2]
    assert not member.disk.damaged
    assert member.running.whole


def test_a_hole_that_memory_still_holds_needs_no_peer() -> None:
    member = in_use(window_slots=512)
    member.disk.damaged = {0, 1}
    member.step(DamageFound((hole(0, 1),)))
    hear_others(member)
    sent = member.wait(60)
    assert not matching(sent, Backfill)
    assert not member.disk.damaged


def test_a_hole_that_every_other_member_has_trimmed_is_trimmed_here() -> None:
    member = in_use()
    member.make_snapshot()
    member.disk.damaged = {1}
    member.step(DamageFound((hole(1, 1),)))
    for other in (2, 3):
        member.hear(other, Holdings(3, True, False))
    hear_others(member)
    member.wait(60)
    assert member.disk.first == 2
    assert member.running.whole


def test_holes_go_where_the_log_goes() -> None:
    member = in_use()
    member.make_snapshot()
    member.step(DamageFound((hole(1, 1), hole(3, 4))))
    member.step(TrimAsked(4))
    member.settle()
    assert member.running.status().holes == ((4, 4),)
    outside = member.step(DamageFound((hole(1, 1),)))
    assert not [fact for fact in outside.facts if fact.name == "hole_found"]


def test_a_snapshot_ends_all_holes() -> None:
    member = filled()
    member.running.holes = (hole(4, 4),)
    newer = view(3, log(8, after=LOG), proposer=2, source=2)
    member.hear(2, new_view(newer))
    member.settle()
    feed_snapshot(member, newer.number, 9, 2)
    assert member.running.opening
    assert not member.step(DamageFound((hole(5, 5),))).facts
    assert member.running.status().holes == ()


def test_damage_that_a_start_found_is_not_a_hole() -> None:
    member = bench(1, log=LOG, installed=view(1))
    member.running.damage = (hole(2, 2),)
    member.step(DamageFound((hole(1, 1),)))
    assert member.running.holes == ()


# ---------------------------------------------------------------------- a whole group


def test_three_disks_one_after_the_other_keep_what_is_retained() -> None:
    group = Group(3, window_slots=1).begin()
    for number in range(8):
        group.publish(1, b"%d" % number)
    for host in group.up:
        host.make_snapshot()
        host.step(TrimAsked(3))
        host.settle()
    group.publish(2, b"after")
    kept = dict(group[1].disk.records)
    assert min(kept) == 3
    for member in (1, 2, 3):
        group.kill(member)
        fresh = group[member]
        group.hosts[member] = type(fresh)(group.world, group.config, member)
        group._seen[member] = group._served[member] = 0
        group[member].starts = member * 100
        group.start(member)
        group.run_until(lambda: group.runs() and all(host.running.whole for host in group.up), 20_000)
        group[member].make_snapshot()
    for host in group.up:
        assert kept.items() <= host.disk.records.items()
