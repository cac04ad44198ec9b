"""The memory twin: the same contract without a disk, and the faults of a disk at the caller's command.

    store = MemoryStore(auto_sync=False)
    store.recover()
    store.commit(...)      # visible, not durable
    store.sync()           # durable
    store.crash()          # back to the last sync, as after a power cut; `recover()` opens it again

With `auto_sync=True` (the default) each commit is durable when it returns, as it is on LMDB.
"""

import secrets
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import TypeVar

from store.contract import (
    APPLIED_KEY,
    STATE_TABLES,
    TABLES,
    Append,
    DamagedRun,
    FileSize,
    Operation,
    Prepend,
    Recovered,
    Repair,
    SnapshotFile,
    Staging,
)
from store.errors import ChunkDamaged, RecordDamaged, SnapshotGone, StoreClosed, StoreError, StoreMisuse
from store.operations import Transaction
from store.records import EMPTY_MARKS, HEADER_BYTES, Marks, Record, damaged_runs
from store.snapshot import check_chunk, decode_slot, encode_chunks, kept_names, snapshot_name

K = TypeVar("K")
V = TypeVar("V")
Undo = list[Callable[[], None]]


class _Table:
    """Rows in key order."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}

    def set(self, key: bytes, value: bytes | None, undo: Undo) -> None:
        """Set or delete a row, and say how to take that back."""
        old = self.values.get(key)
        self._store(key, value)
        undo.append(lambda: self._store(key, old))

    def _store(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            if key not in self.values:
                insort(self.keys, key)
            self.values[key] = value
        elif self.values.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def between(self, start: bytes, end: bytes | None) -> list[bytes]:
        """Keys with start <= key < end."""
        return self.keys[bisect_left(self.keys, start) : None if end is None else bisect_left(self.keys, end)]


class _Content:
    """Everything a data folder holds. The undo lists of commits that are not synced take it back to the last sync."""

    def __init__(self) -> None:
        self.marks: Marks = EMPTY_MARKS
        self.records: dict[int, Record] = {}
        self.chains: dict[int, bytes] = {}
        self.tables = {table: _Table() for table in TABLES}
        self.stable: bytes | None = None
        self.staged: dict[str, dict[int, bytes]] = {}  # at most one snapshot
        self.snapshots: dict[str, tuple[SnapshotFile, tuple[bytes, ...]]] = {}
        self.clean_stop = False

    def known_chain(self, slot: int, marks: Marks) -> bytes | None:
        """As `transaction.LogView.known_chain`."""
        if slot == marks.first - 1:
            return marks.before
        if slot == marks.end - 1:
            return marks.chain
        above = self.records.get(slot + 1)
        return self.chains.get(slot, above.previous if above is not None else None)

    def record(self, slot: int) -> Record:
        """Raises RecordDamaged."""
        record = self.records.get(slot)
        if record is None:
            raise RecordDamaged(slot)
        return record


class MemoryTransaction(Transaction):
    """One batch; `undo` takes it back when run from its end."""

    def __init__(self, content: _Content) -> None:
        super().__init__(content.marks)
        self.content = content
        self.undo: Undo = []

    def _set(self, mapping: MutableMapping[K, V], key: K, value: V | None) -> None:
        old = mapping.get(key)
        _assign(mapping, key, value)
        self.undo.append(lambda: _assign(mapping, key, old))

    def append_records(self, appends: Sequence[Append]) -> None:
        for append in appends:
            self._write(append)

    def rewrite_record(self, repair: Repair | Prepend) -> None:
        self._write(repair)

    def _write(self, operation: Append | Repair | Prepend) -> None:
        record = Record(operation.chain, operation.previous, b"".join(operation.parts))
        self._set(self.content.records, operation.slot, record)
        self._set(self.content.chains, operation.slot, operation.chain)

    def delete_slots(self, first: int, end: int) -> None:
        for slot in range(first, end):
            self._set(self.content.records, slot, None)
            self._set(self.content.chains, slot, None)

    def known_chain(self, slot: int) -> bytes | None:
        return self.content.known_chain(slot, self.marks)

    def put_rows(self, table: str, rows: Sequence[tuple[bytes, bytes]], empty: bool) -> None:
        for key, value in rows:
            self.content.tables[table].set(key, value, self.undo)

    def delete_rows(self, table: str, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.content.tables[table].set(key, None, self.undo)

    def delete_range(self, table: str, start: bytes, end: bytes | None) -> None:
        self.delete_rows(table, self.content.tables[table].between(start, end))

    def first_row(self, table: str, start: bytes) -> tuple[bytes, bytes | None] | None:
        rows = self.content.tables[table]
        return next(((key, rows.values[key]) for key in rows.between(start, None)), None)

    def staging(self) -> Staging | None:
        return staging_of(self.content)

    def stage(self, snapshot: str, index: int, data: bytes) -> None:
        if snapshot not in self.content.staged:
            self._set(self.content.staged, snapshot, {})
        self._set(self.content.staged[snapshot], index, data)

    def staged_chunks(self) -> Iterator[tuple[int, bytes]]:
        for chunks in self.content.staged.values():
            yield from sorted(chunks.items())

    def clear_staging(self) -> None:
        for snapshot in tuple(self.content.staged):
            self._set(self.content.staged, snapshot, None)

    def write_stable(self, value: bytes) -> None:
        old = self.content.stable
        self.content.stable = value
        self.undo.append(lambda: setattr(self.content, "stable", old))

    def write_marks(self, marks: Marks) -> None:
        old = self.content.marks
        self.content.marks = marks
        self.undo.append(lambda: setattr(self.content, "marks", old))


def _assign(mapping: MutableMapping[K, V], key: K, value: V | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def staging_of(content: _Content) -> Staging | None:
    """What is staged."""
    for snapshot, chunks in content.staged.items():
        return Staging(snapshot, frozenset(chunks))
    return None


def _take_back(undo: Undo) -> None:
    while undo:
        undo.pop()()


class MemoryStore:
    """`store.contract.LogStore` in memory. One thread, unlike its twin on disk.

    `fail_next`: raised by the next commit, which then changes nothing (DiskFull, DiskFailed ...).
    """

    def __init__(self, *, auto_sync: bool = True) -> None:
        self.auto_sync = auto_sync
        self.fail_next: StoreError | None = None
        self._kept = _Content()
        self._unsynced: Undo = []
        self._open = False

    # -------------------------------------------------------------- faults

    def sync(self) -> None:
        """Everything committed so far survives a crash."""
        self._unsynced.clear()

    def crash(self) -> None:
        """Drop what was not synced, and close. What was durable is there after `recover()`."""
        _take_back(self._unsynced)
        self._open = False

    def damage(self, slot: int, *, chain_too: bool = False) -> None:
        """Lose the record of a slot, as a flipped bit does; `chain_too`: its chain row as well."""
        self._kept.record(slot)
        del self._kept.records[slot]
        if chain_too:
            self._kept.chains.pop(slot, None)

    def damage_stable(self) -> None:
        """Lose the stable state."""
        self._kept.stable = None

    # -------------------------------------------------------------- start and stop

    def recover(self) -> Recovered:
        if self._open:
            raise StoreMisuse("this memory store is open already")
        self._open = True
        kept, marks = self._kept, self._kept.marks
        clean_stop, kept.clean_stop = kept.clean_stop, False
        damaged = kept.stable is None and marks.stable_saved
        runs = self.verify(marks.first, marks.end)
        return Recovered(kept.stable, damaged, marks.first, marks.end, marks.chain, runs, clean_stop, marks.first)

    def mark_clean_stop(self) -> None:
        self._content.clean_stop = True
        self.sync()

    def close(self) -> None:
        self.sync()  # a process that ends loses nothing: the kernel has its writes
        self._open = False

    @property
    def _content(self) -> _Content:
        if not self._open:
            raise StoreClosed("this memory store is not open: call recover() first")
        return self._kept

    # -------------------------------------------------------------- writing

    def commit(self, operations: Sequence[Operation]) -> None:
        batch = MemoryTransaction(self._content)
        try:
            if self.fail_next is not None:
                failure, self.fail_next = self.fail_next, None
                raise failure
            batch.apply(operations)
        except StoreError:
            _take_back(batch.undo)
            raise
        if batch.restarted_log:
            for name in tuple(self._kept.snapshots):
                _forget(self._kept.snapshots, name, batch.undo)
        self._unsynced += batch.undo
        if self.auto_sync:
            self.sync()

    def journal(self, appends: Sequence[Append]) -> bool:
        self.commit(appends)
        self.sync()
        return True

    # -------------------------------------------------------------- the log

    def bounds(self) -> tuple[int, int]:
        return self._content.marks.first, self._content.marks.end

    def read(self, slot: int) -> tuple[bytes, bytes] | None:
        first, end = self.bounds()
        if not first <= slot < end:
            return None
        record = self._content.record(slot)
        return record.body, record.chain

    def read_range(self, first: int, end: int, bytes_max: int) -> list[tuple[int, bytes, bytes]]:
        found: list[tuple[int, bytes, bytes]] = []
        size = 0
        lowest, highest = self.bounds()
        if first < lowest:
            return []
        for slot in range(first, min(end, highest)):
            if found and slot not in self._content.records:
                break
            record = self._content.record(slot)
            size += len(record.body)
            if found and size > bytes_max:
                break
            found.append((slot, record.body, record.chain))
        return found

    def chain(self, slot: int) -> bytes | None:
        content = self._content
        return content.known_chain(slot, content.marks) if content.marks.first - 1 <= slot < content.marks.end else None

    def verify(self, first: int, end: int) -> tuple[DamagedRun, ...]:
        content, marks = self._content, self._content.marks
        slots = range(max(first, marks.first), min(end, marks.end))
        return damaged_runs((slot for slot in slots if slot not in content.records), self.chain)

    def log_bytes(self) -> int:
        return sum(HEADER_BYTES + len(record.body) for record in self._content.records.values())

    def keep_reserve(self) -> None:
        return

    def release_reserve(self) -> None:
        return

    def file_size(self) -> FileSize:
        return FileSize(self.log_bytes(), 0)

    def record_bytes(self, first: int, slots_max: int) -> list[int]:
        low, end = self.bounds()
        slots = range(max(first, low), min(end, max(first, low) + slots_max))
        return [HEADER_BYTES + len(self._content.record(slot).body) for slot in slots]

    # -------------------------------------------------------------- the tables

    def row(self, table: str, key: bytes) -> bytes | None:
        return self._content.tables[table].values.get(key)

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        rows = self._content.tables[table]
        keys = rows.between(start, end)
        for key in (keys[::-1] if reverse else keys)[:limit]:
            yield key, rows.values[key]

    # -------------------------------------------------------------- snapshots

    def make_snapshot(self, chunk_bytes: int) -> SnapshotFile:
        content, marks = self._content, self._content.marks
        applied = content.tables["meta"].values.get(APPLIED_KEY)
        slot = None if applied is None else decode_slot(applied)
        chain = self.chain(slot - 1) if slot is not None and slot >= marks.first else None
        if slot is None or chain is None:
            raise StoreMisuse(
                f"a snapshot needs row {APPLIED_KEY!r} of table 'meta' to name a slot of [{marks.first}, {marks.end}], "
                f"it says {slot}: write it with every applied slot"
            )
        name = snapshot_name(slot, secrets.token_bytes(4))
        rows = ((table, *row) for table in STATE_TABLES for row in self.rows(table))
        chunks = tuple(encode_chunks(name, slot, chain, rows, chunk_bytes))
        made = SnapshotFile(name, slot, chain, len(chunks), sum(map(len, chunks)))
        content.snapshots[name] = (made, chunks)
        for old in content.snapshots.keys() - kept_names(content.snapshots, name):
            del content.snapshots[old]
        return made

    def snapshots(self) -> tuple[SnapshotFile, ...]:
        kept = self._content.snapshots
        return tuple(kept[name][0] for name in sorted(kept, reverse=True))

    def read_chunk(self, snapshot: str, index: int) -> bytes:
        if snapshot not in self._content.snapshots:
            raise SnapshotGone(snapshot)
        _, chunks = self._content.snapshots[snapshot]
        if not 0 <= index < len(chunks):
            raise ChunkDamaged(snapshot, index, f"the snapshot has {len(chunks)} chunks")
        check_chunk(snapshot, index, chunks[index])
        return chunks[index]

    def drop_snapshot(self, name: str) -> None:
        self._content.snapshots.pop(name, None)

    def scrub_rows(self, table: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Memory has no checksums."""
        yield sum(len(key) + len(value) for key, value in self.rows(table)), ()

    def scrub_snapshots(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        yield sum(made.size_bytes for made in self.snapshots()), ()

    def table_bytes(self) -> int:
        return sum(len(key) + len(value) for table in TABLES for key, value in self.rows(table))

    def staging(self) -> Staging | None:
        return staging_of(self._content)


def _forget(mapping: MutableMapping[K, V], key: K, undo: Undo) -> None:
    old = mapping.pop(key)
    undo.append(lambda: _assign(mapping, key, old))
