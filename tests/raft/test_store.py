"""The LMDB store: whole writes or none, what is damaged is noticed, and the same as the simulator's disk."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from replicas.raft.simulator.disk import Disk
from store.compaction import compact_folder
from store.engine import open_engine
from store.errors import FolderInUse, StoreDamaged, WrongFolder
from store.raft_contract import (
    Base,
    Entry,
    HardState,
    Incarnation,
    Install,
    Kind,
    Member,
    Members,
    Snapshot,
    Staged,
    Write,
)
from store.raft_log import RaftStore
from store.raft_members import encode_members
from tests.raft.driver import GENESIS, HARD, Driver, sets
from tests.raft.harness import members
from tests.raft.tables import Heard, opened, rows
from tests.store.helpers import flip


async def test_a_new_folder_holds_nothing(tmp_path: Path) -> None:
    store, recovered = opened(tmp_path / "new", Heard())
    assert (recovered.hard, recovered.last, recovered.applied, recovered.base.index) == (None, 0, 0, 0)
    store.close()


async def test_what_is_durable_is_there_after_a_restart(driver: Driver) -> None:
    change = Entry(4, 2, Kind.MEMBERS, encode_members(members(2)))
    await driver.write(Write(0, append=[sets(2), sets(3, 2), change], apply=[sets(2)]))
    again = driver.again()
    found = again.recovered
    assert found.hard == HARD
    assert (found.base, found.last, found.applied) == (GENESIS, 4, 2)
    assert found.terms == ((2, 1), (3, 2))
    assert found.members == (change,)
    assert list(again.store.entries(2, 5, 1 << 20)) == [sets(2), sets(3, 2), change]
    assert rows(again.store) == {b"k": b"2"}
    again.store.close()


async def test_commands_are_answered_and_seen_in_order(driver: Driver) -> None:
    nothing = Entry(3, 1, Kind.NOOP, b"")
    odd = Entry(4, 1, Kind.COMMAND, b"odd")
    entries = [sets(2), nothing, odd, sets(5)]
    await driver.write(Write(0, append=entries, apply=entries))
    assert driver.heard.results == {2: b"", 4: b"refused", 5: b"2"}
    assert driver.heard.applied == 5
    assert rows(driver.store) == {b"k": b"5"}


async def test_a_cut_and_what_follows_it_are_one_write(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2), sets(3), sets(4)], apply=[sets(2)]))
    await driver.write(Write(0, cut=3, append=[sets(3, 4)]))
    again = driver.again()
    assert again.recovered.terms == ((2, 1), (3, 4))
    assert again.recovered.last == 3
    again.store.close()


async def test_a_first_base_and_the_first_entries_are_one_write(tmp_path: Path) -> None:
    one = Driver(tmp_path / "data")
    await one.write(Write(0, hard=HARD, found=GENESIS, append=[sets(2), sets(3)], apply=[sets(2)]))
    again = one.again()
    found = again.recovered
    assert (found.hard, found.base, found.last, found.applied) == (HARD, GENESIS, 3, 2)
    assert list(again.store.entries(2, 4, 1 << 20)) == [sets(2), sets(3)]
    again.store.close()


async def test_a_disk_that_holds_a_log_is_never_founded_again(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2)]))
    await driver.write(Write(0, found=Base(5, 2, members())))
    ((error, full),) = driver.heard.failures
    assert "first base" in str(error)
    assert not full
    again = driver.again()
    assert (again.recovered.base, again.recovered.last) == (GENESIS, 2)
    again.store.close()


async def test_what_is_applied_is_never_cut(driver: Driver) -> None:
    """R9, once more where it counts: the whole group is refused, nothing is written."""
    await driver.write(Write(0, append=[sets(2), sets(3)], apply=[sets(2)]))
    await driver.write(Write(0, cut=2, append=[sets(2, 9)]))
    ((error, full),) = driver.heard.failures
    assert "applied" in str(error)
    assert not full
    again = driver.again()
    assert (again.recovered.last, again.recovered.terms) == (3, ((2, 1),))
    again.store.close()


async def test_trimming_keeps_the_configuration(driver: Driver) -> None:
    entries = [sets(index) for index in range(2, 12)]
    await driver.write(Write(0, append=entries, apply=entries, trim=Base(9, 1, members(5))))
    again = driver.again()
    assert again.recovered.base == Base(9, 1, members(5))
    assert list(again.store.entries(10, 12, 1 << 20)) == entries[-2:]
    again.store.close()


async def _snapshot(store: RaftStore) -> Snapshot:
    made: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
    store.make_snapshot(made.set_result)
    found = await asyncio.wait_for(made, 10)
    assert found is not None
    return found


async def test_a_snapshot_carries_the_state_and_nothing_of_the_member(driver: Driver, tmp_path: Path) -> None:
    """R15: another disk keeps its term, vote and name."""
    change = Entry(4, 3, Kind.MEMBERS, encode_members(members(2)))
    entries = [sets(2), sets(3, key=b"other"), change, sets(5, 3)]
    await driver.write(Write(0, append=entries, apply=entries[:-1]))
    made = await _snapshot(driver.store)
    assert made.base == Base(4, 3, members(2))
    target = Driver(tmp_path / "target")
    own = HARD._replace(storage=555, term=8, voted_for=None)
    await target.write(Write(0, hard=own, append=[sets(1, value=b"old"), sets(2)], apply=[sets(1, value=b"old")]))
    for index in range(made.count):
        data = driver.store.read_chunk(made.name, index)
        assert data is not None
        assert target.store.chunk_fits(made.name, index, data)
        assert not target.store.chunk_fits(made.name, index, data[:-1] + bytes([data[-1] ^ 1]))
        await target.write(Write(0, staged=[Staged(made.name, index, data)]))
    await target.write(Write(0, install=Install(made.name, made.base)))
    assert not target.heard.failures
    again = target.again()
    assert again.recovered.hard == own
    assert (again.recovered.base, again.recovered.last, again.recovered.applied) == (made.base, 4, 4)
    assert rows(again.store) == {b"k": b"2", b"other": b"3"}
    again.store.close()


async def test_a_snapshot_that_is_not_whole_changes_nothing(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2)], apply=[sets(2)]))
    made = await _snapshot(driver.store)
    await driver.write(Write(0, staged=[Staged("another", 0, b"x")], install=Install(made.name, made.base)))
    assert driver.heard.failures
    again = driver.again()
    assert (again.recovered.last, rows(again.store)) == (2, {b"k": b"2"})
    again.store.close()


async def test_a_wiped_disk_is_a_new_one(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2)], apply=[sets(2)]))
    fresh = HardState(0, 999, Incarnation(1, 1), 0, None, ())
    await driver.write(Write(0, wipe=True, hard=fresh))
    again = driver.again()
    assert again.recovered == (fresh, Base(0, 0, Members()), 0, 0, (), (), "")
    assert rows(again.store) == {}
    again.store.close()


async def test_one_process_at_a_time_and_one_member_for_ever(driver: Driver) -> None:
    with pytest.raises(FolderInUse):
        opened(driver.folder, Heard())
    driver.store.close()
    with pytest.raises(WrongFolder):
        opened(driver.folder, Heard(), member=2)


@pytest.mark.parametrize("needle", [b"=unmistakable", b"member-3"], ids=["entry", "marks"])
async def test_a_flipped_bit_is_noticed_at_the_start(driver: Driver, needle: bytes) -> None:
    """D6 of the bus: the disk is void then, and nothing of it is used."""
    await driver.write(Write(0, append=[sets(2, value=b"unmistakable")]))
    driver.store.close()
    flip(driver.folder / "data.mdb", needle, 1)
    with pytest.raises(StoreDamaged):
        opened(driver.folder, Heard())


@pytest.mark.parametrize("lost", [2, 3])
async def test_a_missing_entry_is_noticed_at_the_start(driver: Driver, lost: int) -> None:
    await driver.write(Write(0, append=[sets(2), sets(3)]))
    driver.store.close()
    with open_engine(driver.folder, max_dbs=8) as environment:
        log = environment.open_db(b"raft_log")
        with environment.begin(write=True) as transaction:
            assert transaction.delete(lost.to_bytes(8, "big"), db=log)
    with pytest.raises(StoreDamaged):
        opened(driver.folder, Heard())


async def test_it_does_what_the_simulated_disk_does(driver: Driver) -> None:
    """The same random writes on both: what a restart finds is the same, so what the simulator proves holds here."""
    random = Random(4)
    disk = Disk()
    disk.carry_out(Write(0, hard=HARD, found=GENESIS))
    for _ in range(80):
        write = _draw(random, disk)
        await driver.write(write)
        disk.carry_out(write)
        if random.random() < 0.1:
            driver = driver.again()
            assert driver.recovered == disk.recovered()
            assert list(driver.store.entries(disk.base.index + 1, disk.last + 1, 1 << 20)) == disk.log
    assert not driver.heard.failures
    driver.store.close()


def _draw(random: Random, disk: Disk) -> Write:
    write = Write(0)
    last, term = disk.last, disk.term_at(disk.last) or 1
    if random.random() < 0.2 and last > disk.applied:
        write.cut = random.randint(disk.applied + 1, last)
        last, term = write.cut - 1, disk.term_at(write.cut - 1) or 1
    for _ in range(random.randint(0, 3)):
        last, term = last + 1, term + (random.random() < 0.2)
        kind = random.choice((Kind.COMMAND, Kind.NOOP, Kind.MEMBERS))
        data = encode_members(Members([Member(1, 101, voter=True, address="a")])) if kind is Kind.MEMBERS else b"a=b"
        write.append.append(Entry(last, term, kind, b"" if kind is Kind.NOOP else data))
    if random.random() < 0.3:
        kept = [entry for entry in disk.log if write.cut is None or entry.index < write.cut]
        committed = [entry for entry in (*kept, *write.append) if entry.index > disk.applied]
        write.apply = committed[: random.randint(0, 4)]
    applied = write.apply[-1].index if write.apply else disk.applied
    if random.random() < 0.1 and applied > disk.base.index and disk.base.index < applied <= disk.last and not write.cut:
        write.trim = Base(applied, disk.term_at(applied) or 1, GENESIS.members)
    if random.random() < 0.2:
        write.hard = HARD._replace(term=random.randint(5, 50))
    return write


async def test_a_compact_copy_takes_the_place_of_the_file(driver: Driver) -> None:
    """`ringcast compact`: the log, the tables and the state are what they were."""
    entries = [sets(index, value=bytes(30_000)) for index in range(2, 102)]
    await driver.write(Write(0, append=entries, apply=entries))
    await driver.write(Write(0, trim=Base(99, 1, GENESIS.members)))
    driver.store.close()
    done = compact_folder(driver.store.path, driver.store.member)
    assert done.after_bytes < done.before_bytes // 3
    again = driver.again()
    found = again.recovered
    assert (found.hard, found.base.index, found.last, found.applied) == (HARD, 99, 101, 101)
    assert list(again.store.entries(100, 102, 1 << 20)) == entries[-2:]
    assert rows(again.store) == {b"k": bytes(30_000)}
    assert again.store.file_size().size_bytes == done.after_bytes
    again.store.close()
