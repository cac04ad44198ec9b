"""Random operations, restarts and crashes: LMDB with its journal and the memory twin must never differ, and the file
must stay sound."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.contract import (
    KEY_BYTES_MAX,
    NO_CHAIN,
    STATE_TABLES,
    TABLES,
    Append,
    DeleteRange,
    DropStaging,
    FoldRange,
    LogStore,
    Operation,
    Prepend,
    PutRow,
    Recovered,
    Repair,
    ResetLog,
    SaveStable,
    SnapshotFile,
    StageChunk,
    TrimLog,
    Truncate,
    UseSnapshot,
)
from store.environment import check_structure
from store.errors import StoreError
from store.journal import BLOCK_BYTES, FRAME_BYTES, FRAMES, JOURNAL_NAME, decode_block, encode_block
from store.log import LmdbStore
from store.memory import MemoryStore
from tests.store.helpers import all_rows, applied, link

#: Of the torn record below; with one byte more its first copy would be whole.
TORN_BYTES_MAX = 14 + 42 + len(b"torn") - 1
KEYS = st.one_of(st.binary(min_size=1, max_size=3), st.just(b"x" * KEY_BYTES_MAX))
VALUES = st.one_of(st.binary(max_size=20), st.integers(1000, 9000).map(bytes))
ROW_CHANGES = st.one_of(
    st.builds(PutRow, st.sampled_from(TABLES), KEYS, st.none() | VALUES),
    st.builds(DeleteRange, st.sampled_from(TABLES), st.binary(max_size=2), st.none() | st.binary(max_size=2)),
    st.builds(FoldRange, st.sampled_from(TABLES), st.binary(max_size=2), st.binary(max_size=2)),
    st.builds(SaveStable, VALUES),
)


def tear(folder: Path, size: int) -> None:
    """Leave the first bytes of a write that did not reach the disk whole, behind the newest record."""
    with (folder / JOURNAL_NAME).open("r+b") as file:
        blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
        found = [decode_block(memoryview(block), 0) for block in blocks]
        number = 1 + max((records[0].number for records in found if records), default=0)
        block = encode_block(number, [Append(0, NO_CHAIN, NO_CHAIN, (b"torn",))])
        assert block is not None
        file.seek(number % FRAMES * FRAME_BYTES)
        file.write((block + block)[:size])


class More(NamedTuple):
    """So many appends at wherever the log ends by then."""

    records: int
    value: bytes


class Near(NamedTuple):
    """An operation on a slot so far below where the log ends by then."""

    make: Callable[[int], Operation]
    distance: int


NEAR = st.integers(-1, 5)
LOG_CHANGES = st.one_of(
    st.builds(More, st.integers(1, 4), VALUES),
    st.builds(More, st.integers(1, 4), VALUES),
    st.builds(Near, st.sampled_from([Truncate, TrimLog, applied]), NEAR),
)


class Twins(RuleBasedStateMachine):
    """Both stores get the same; what one answers the other must answer."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.disk = LmdbStore(self.folder / "data", 1, map_bytes=1 << 20)
        self.memory = MemoryStore()
        self.generation = 0
        self.history: dict[int, Append] = {}
        self.disk.recover()
        self.memory.recover()

    def commit(self, operations: list[Operation]) -> bool:
        """Both take the batch, or both refuse it for the same reason."""
        outcomes: list[object] = []
        for store in (self.disk, self.memory):
            try:
                outcomes.append(store.commit(operations))
            except StoreError as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0] is None

    @rule(rows=st.lists(ROW_CHANGES, max_size=6), log=st.lists(LOG_CHANGES, max_size=4))
    def batch(self, rows: list[Operation], log: list[More | Near]) -> None:
        self.generation += 1
        operations: list[Operation] = []
        end = self.memory.bounds()[1]
        chain = self.memory.chain(end - 1)
        history = dict(self.history)
        for change in log:
            if isinstance(change, More):
                assert chain is not None
                made = self.made(change, end, chain)
                history |= {append.slot: append for append in made}
                operations += made
                end, chain = end + len(made), made[-1].chain
                continue
            operation = change.make(max(0, end - change.distance))
            operations.append(operation)
            if isinstance(operation, Truncate) and operation.end < end:
                end = operation.end
                chain = history[end - 1].chain if end - 1 in history else NO_CHAIN
        if self.commit([*rows[::2], *operations, *rows[1::2]]):
            self.history = history

    def made(self, more: More, end: int, chain: bytes) -> list[Append]:
        """Records from `end` on that no other generation has."""
        made: list[Append] = []
        for slot in range(end, end + more.records):
            salt = b"%d.%d" % (self.generation, slot - end)
            made.append(Append(slot, link(slot, salt), chain, (b"", more.value, b"%d" % slot)))
            chain = made[-1].chain
        return made

    @rule(log=st.lists(st.builds(More, st.integers(1, 2), VALUES), min_size=1, max_size=4))
    def journal(self, log: list[More]) -> None:
        """Records by themselves: in the journal alone, as long as they fit and it has room."""
        self.generation += 1
        for more in log:
            end = self.memory.bounds()[1]
            chain = self.memory.chain(end - 1)
            assert chain is not None
            made = self.made(more, end, chain)
            self.history |= {append.slot: append for append in made}
            self.memory.commit(made)
            if not self.disk.journal(made):
                self.disk.commit(made)

    @rule(operation=st.sampled_from([ResetLog(), DropStaging()]), often=st.integers(0, 3))
    def start_over(self, operation: Operation, often: int) -> None:
        if not often:
            assert self.commit([operation])

    @precondition(lambda self: self.memory.bounds()[0] < self.memory.bounds()[1])
    @rule(data=st.data())
    def repair(self, data: st.DataObject) -> None:
        first, end = self.memory.bounds()
        slot = data.draw(st.integers(first, end))
        known = self.history.get(slot)
        if known is not None:
            self.commit([Repair(*known)])

    @rule(records=st.integers(1, 3))
    def prepend(self, records: int) -> None:
        """C3: what was trimmed comes back, as far as it is remembered."""
        first = self.memory.bounds()[0]
        known = [self.history.get(slot) for slot in range(first - 1, max(-1, first - 1 - records), -1)]
        self.commit([Prepend(*one) for one in known if one is not None])

    @rule(chunk_bytes=st.integers(1, 4000), order=st.randoms(use_true_random=False), drop=st.booleans())
    def snapshot(self, chunk_bytes: int, order: Random, drop: bool) -> None:
        """The chunks of one are staged in both; then both switch to them."""
        made = self.snapshot_of(self.disk, chunk_bytes)
        twin = self.snapshot_of(self.memory, chunk_bytes)
        if isinstance(made, str) or isinstance(twin, str):
            assert made == twin
            return
        assert (made.slot, made.chain, made.chunks) == (twin.slot, twin.chain, twin.chunks)
        chunks = [StageChunk(made.name, index, self.disk.read_chunk(made.name, index)) for index in range(made.chunks)]
        order.shuffle(chunks)
        self.commit(list(chunks[drop:]))
        assert self.disk.staging() == self.memory.staging()
        if self.commit([UseSnapshot(made.name, made.slot, made.chain)]):
            self.history = {}

    @staticmethod
    def snapshot_of(store: LogStore, chunk_bytes: int) -> SnapshotFile | str:
        """A snapshot, or why there is none."""
        try:
            return store.make_snapshot(chunk_bytes)
        except StoreError as error:
            return str(error)

    @rule(clean=st.booleans(), torn=st.integers(0, TORN_BYTES_MAX))
    def restart(self, clean: bool, torn: int) -> None:
        """In order, or killed while one more record was written to the journal, of which a part is there."""
        found: list[Recovered] = []
        for store in (self.disk, self.memory):
            if clean:
                store.mark_clean_stop()
            if isinstance(store, MemoryStore):
                store.crash()
            else:
                store.close()
                check_structure(store.path)
                if not clean:
                    tear(store.path, torn)
            found.append(store.recover())
        assert found[0] == found[1]
        assert found[0].clean_stop == clean
        assert found[0].damaged == ()

    @invariant()
    def both_say_the_same(self) -> None:
        assert self.disk.bounds() == self.memory.bounds()
        first, end = self.memory.bounds()
        for slot in range(max(first - 2, -1), end + 2):
            assert self.disk.chain(slot) == self.memory.chain(slot)
            if slot >= 0:
                assert self.disk.read(slot) == self.memory.read(slot)
        assert self.disk.read_range(first, end, 5000) == self.memory.read_range(first, end, 5000)
        assert all_rows(self.disk, TABLES) == all_rows(self.memory, TABLES)
        for table in STATE_TABLES:
            backwards = [list(store.rows(table, b"a", b"\xf0", True, 3)) for store in (self.disk, self.memory)]
            assert backwards[0] == backwards[1]
        assert self.disk.staging() == self.memory.staging()

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.close()
            check_structure(self.disk.path)
            shutil.rmtree(self.folder)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
