"""The shell's side of the disk: what goes to the journal, in which order tickets come back, and what a failure does."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from replicas.bus.disk import SLOW_FOR_S, SLOW_S, Disk
from store.contract import Append, DeleteRange, Operation, PutRow, SaveStable, TrimLog
from store.errors import DiskFailed, DiskFull, StoreError
from store.memory import MemoryStore
from tests.store.helpers import append

WAIT_S = 10.0
ROW = PutRow("topics", b"t", b"row")


class Told:
    """What the shell hears."""

    def __init__(self) -> None:
        self.persisted: list[int] = []
        self.full: list[int] = []
        self.freed = 0
        self.failures: list[Exception] = []

    def on_freed(self) -> None:
        self.freed += 1


class Watched(MemoryStore):
    """Says what went where; `held`: commits wait for the test; `fails`: what the next call of either kind raises."""

    def __init__(self) -> None:
        super().__init__()
        self.journaled: list[int] = []
        self.committed: list[Operation] = []
        self.held = False
        self.fails: list[StoreError] = []
        self.seconds = 0.0

    def journal(self, appends: Sequence[Append]) -> bool:
        if self.fails:
            raise self.fails[0]
        time.sleep(self.seconds)
        self.journaled += [append.slot for append in appends]
        MemoryStore.commit(self, appends)
        return True

    def commit(self, operations: Sequence[Operation]) -> None:
        until = time.monotonic() + WAIT_S
        while self.held and time.monotonic() < until:
            time.sleep(0.001)
        if self.fails:
            raise self.fails.pop()
        self.committed += operations
        super().commit(operations)


@pytest.fixture
def store() -> Watched:
    made = Watched()
    made.recover()
    return made


Make = Callable[..., tuple[Disk, Told]]


@pytest.fixture
def make(store: Watched) -> Iterator[Make]:
    """Call it on the loop."""
    made: list[Disk] = []

    def build(*, journaling: bool = True) -> tuple[Disk, Told]:
        told = Told()
        disk = Disk(
            store,
            on_persisted=told.persisted.append,
            on_full=told.full.append,
            on_freed=told.on_freed,
            on_failed=told.failures.append,
            journaling=journaling,
        )
        made.append(disk)
        return disk, told

    yield build
    store.held = False
    for disk in made:
        disk.stop(WAIT_S)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the writer is a thread
            await asyncio.sleep(0.001)


async def test_records_are_journaled_and_told_in_the_next_turn(make: Make, store: Watched) -> None:
    disk, told = make()
    assert disk.journal(1, [append(0)])
    assert disk.journal(2, [append(1), append(2)])
    assert told.persisted == [], "a step is told of its ticket after it, never inside"
    await asyncio.sleep(0)
    assert told.persisted == [1, 2]
    assert store.journaled == [0, 1, 2]
    assert disk.idle
    assert disk.journaled[:2] == (2, 2)
    assert disk.counts.commits == 0


async def test_only_records_are_journaled(make: Make, store: Watched) -> None:
    disk, _ = make()
    assert not disk.journal(1, [SaveStable(b"1")])
    assert not disk.journal(1, [append(0), ROW])
    assert store.journaled == []
    memory, _ = make(journaling=False)
    assert not memory.journal(1, [append(0)])


async def test_rows_are_overtaken_and_other_tickets_are_not(make: Make, store: Watched) -> None:
    """D4: the core's tickets are durable in their order; who waits for rows waits for the rows themselves."""
    disk, told = make()
    store.held = True
    rows_durable: list[bool] = []
    disk.submit(0, [ROW])
    disk.after(lambda: rows_durable.append(True))
    assert disk.journal(1, [append(0)])
    await until(lambda: told.persisted)
    assert told.persisted == [1]
    assert not rows_durable
    assert not disk.idle
    disk.submit(2, [SaveStable(b"2")])
    assert not disk.journal(3, [append(1)])
    disk.submit(3, [append(1)])
    store.held = False
    await until(lambda: len(told.persisted) > 1 and disk.idle)
    assert told.persisted in ([1, 3], [1, 2, 3])
    assert rows_durable
    assert disk.journal(4, [append(2)])


async def test_nothing_is_journaled_on_a_full_disk(make: Make, store: Watched) -> None:
    """D5: the member is read-only until there is space."""
    disk, told = make()
    store.fails.append(DiskFull(Path("data"), "no space left"))
    disk.submit(0, [ROW])
    await until(lambda: told.full)
    assert told.full == [0]
    assert not disk.journal(1, [append(0)])
    await until(lambda: told.freed)
    assert disk.journal(1, [append(0)])


async def test_a_trim_on_a_full_disk_goes_before_what_waits(make: Make, store: Watched) -> None:
    """C2, D5: or the disk stays full, however far the bound is lowered. Its own ticket keeps its place (D4)."""
    disk, told = make()
    store.commit([append(0), append(1)])
    store.committed.clear()
    trim: list[Operation] = [TrimLog(1), DeleteRange("offsets", b"", b"k")]
    assert not disk.journal(1, trim), "there is space: it waits for its turn"
    full = DiskFull(Path("data"), "no space left")
    store.fails += [full, full]
    disk.submit(1, [append(2)])
    await until(lambda: told.full)
    assert disk.journal(2, trim)
    await until(lambda: told.freed)
    await until(lambda: told.persisted)
    assert store.committed == [*trim, append(2)]
    assert told.persisted == [2]
    assert told.full == [1]


async def test_a_failure_is_met_by_the_writer_too_and_ends_the_member(make: Make, store: Watched) -> None:
    """D5: nothing is acknowledged, and the reaction is in one place."""
    disk, told = make()
    error = DiskFailed(Path("data"), "EIO")
    store.fails.append(error)
    assert not disk.journal(1, [append(0)])
    disk.submit(1, [append(0)])
    await until(lambda: told.failures)
    assert told.failures == [error]
    assert told.persisted == []


async def test_after_a_slow_flush_the_loop_is_not_held_up(make: Make, store: Watched) -> None:
    disk, _ = make()
    store.seconds = 1.5 * SLOW_S
    assert disk.journal(1, [append(0)])
    store.seconds = 0.0
    assert not disk.journal(2, [append(1)])
    assert disk._slow_until > time.monotonic() + SLOW_FOR_S / 2


async def test_a_stopped_disk_tells_nothing(make: Make) -> None:
    """The core that is begun after it has tickets of its own (a repaired or wiped disk is read again, D6)."""
    disk, told = make()
    assert disk.journal(1, [append(0)])
    disk.submit(2, [append(1)])
    assert disk.stop(WAIT_S)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told.persisted == []
