"""D6: damaged records, their repair, and what happens when nobody can repair them."""

from dataclasses import replace

from sequencer.messages import Fetch, Join, Records
from sequencer.output import CutLog, RepairRecord, ResetDisk, ServeRecords
from sequencer.types import GENESIS_CHAIN, NO_VIEW
from tests.sequencer.builders import ack, join, log, new_view, stable, view
from tests.sequencer.disk import Disk, World
from tests.sequencer.harness import Host, bench, matching, one, persisted, running
from tests.sequencer.snapshots import snapshot_chunks


def damaged(*slots: int, applied: int = 1, end: int = 6) -> Host:
    """Member 1 of view 1, some of whose records are damaged; members 2 and 3 are heard."""
    world = World()
    disk = Disk(world, stable(1, view(1)), log(end))
    disk.damaged = set(slots)
    for made in log(applied):
        disk.state = disk.state.after(made)
    member = Host(world, bench().config, 1, disk)
    member.start()
    member.settle()
    member.hear(3, ack(view(1).number, end))
    return member


def give_up(member: Host) -> None:
    """Let every peer fail to repair."""
    for _ in range(20):
        member.hear(2, join(2))
        member.hear(3, join(3))
        member.wait(50)


def test_the_rest_of_a_run_is_asked_for_until_it_is_whole() -> None:
    """Records may come in parts; each must link to the one before."""
    member = damaged(2, 3, 5)
    one(member.wait(50), Fetch, to=3, first=2, end=4, repair=True)
    records = log(6)
    hollow = replace(records[2], requests=())
    for refused in ((records[1], records[3]), (hollow,), (log(1, after=records[:1], word=b"x")[1],)):
        assert not persisted(member.hear(3, Records(NO_VIEW, 2, refused, repair=True)), RepairRecord)
    assert not persisted(member.hear(3, Records(NO_VIEW, 2, records[2:3], repair=True)), RepairRecord)
    member.hear(3, ack(view(1).number, 6))
    one(member.wait(50), Fetch, to=3, first=3, end=4, chain=records[2].sequence.chain)
    out = member.hear(3, Records(NO_VIEW, 3, records[3:], repair=True))
    assert [operation.record.slot for operation in persisted(out, RepairRecord)] == [2, 3]
    member.settle()
    assert not member.asks_restart()
    member.hear(3, Records(NO_VIEW, 5, records[5:], repair=True))
    member.settle()
    assert member.asks_restart()
    assert not member.disk.damaged


def test_with_nobody_heard_nobody_is_asked() -> None:
    member = damaged(2)
    member.wait(400)
    before = len(member.sends)
    assert not matching(member.wait(100), Fetch)
    assert matching(member.sends[before:], Join)


def test_what_links_to_the_wrong_end_is_refused() -> None:
    """The chain after the run was stored here too: another history does not become ours."""
    member = damaged(2)
    other = log(1, after=log(2), word=b"another ")[2]
    out = member.hear(3, Records(NO_VIEW, 2, (other,), repair=True))
    assert [fact.name for fact in out.facts] == ["repair_refused"]
    assert persisted(member.hear(3, Records(NO_VIEW, 2, (log(3)[2],), repair=True)), RepairRecord)


def test_repair_is_served_from_memory_and_from_disk_by_chain_only() -> None:
    member = running(1, base=log(6), window_slots=2)
    chain = log(6)[4].sequence.chain
    asked = Fetch(NO_VIEW, 5, 6, chain, repair=True)
    assert one(member.hear(3, asked).sends, Records, to=3, repair=True).records == log(6)[5:]
    for refused in (replace(asked, chain=GENESIS_CHAIN), replace(asked, end=5), replace(asked, first=9)):
        assert not matching(member.hear(3, refused).sends, Records)
    old = Fetch(NO_VIEW, 1, 6, log(1)[0].sequence.chain, repair=True)
    assert member.hear(3, old).serves == [ServeRecords(3, NO_VIEW, 1, 4, repair=True, chain=old.chain)]


def test_a_damaged_member_serves_no_repair() -> None:
    member = damaged(2)
    out = member.hear(3, Fetch(NO_VIEW, 0, 1, GENESIS_CHAIN, repair=True))
    assert not out.serves
    assert not matching(out.sends, Records)


def test_repair_that_comes_too_late_is_not_needed() -> None:
    """Or was never asked for."""
    member = running(1, base=log(3))
    assert not member.hear(3, Records(NO_VIEW, 0, log(3), repair=True)).persists


def test_repair_comes_before_a_new_view() -> None:
    """D6: what no peer can repair is replaced, not what nobody was asked for."""
    member = damaged(2)
    assert not member.hear(3, new_view(view(4, log(6)))).persists
    give_up(member)
    assert persisted(member.hear(3, new_view(view(4, log(6)))), CutLog)
    assert not member.hear(3, Records(NO_VIEW, 2, log(6)[2:3], repair=True)).persists  # it is being replaced
    member.wait(200)
    member.hear(3, Records(view(4).number, 1, log(6)[1:]))
    member.settle()
    assert member.number == view(4).number
    assert not member.running.damage
    member.wait(200)
    assert member.disk.log == log(6)


def test_a_damaged_member_that_installs_asks_for_no_further_view() -> None:
    """It needs one made without its promise and has it: another would end the install, again and again."""
    member = damaged(2)
    assert matching(member.wait(200), Join, 3)[0].promised > member.durable().promised
    give_up(member)
    member.hear(3, new_view(view(4, log(6))))
    member.settle()
    before = len(member.sends)
    member.wait(400)
    assert {sent.promised for sent in matching(member.sends[before:], Join)} == {view(4).number}


def test_what_is_damaged_may_be_replaced_by_a_snapshot() -> None:
    """C1: the peers have trimmed what is missing here."""
    member = damaged(4, applied=1)
    give_up(member)
    member.hear(3, new_view(view(4, log(6))))
    member.hear(3, *snapshot_chunks(member, view(4).number, 6))
    member.settle()
    assert member.number == view(4).number
    assert (member.disk.first, member.disk.end) == (6, 6)


def test_damage_below_what_is_applied_starts_over() -> None:
    """It can't be cut: the member empties its disk and comes back as wiped."""
    member = damaged(1, applied=3)
    give_up(member)
    out = member.hear(3, new_view(view(4, log(6))))
    assert persisted(out, ResetDisk)
    member.settle()
    assert member.asks_restart()
    assert member.durable().wiped
    assert (member.disk.first, member.disk.end) == (0, 0)
