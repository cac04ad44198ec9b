"""A Raft member's store on LMDB: hard state, log and its state machine's tables, in one environment (R7, R8, R15).

One writer thread carries out groups of writes, each group in one synced transaction: what is appended, what is applied
and the applied index stand or fall together. Applied commands are answered before the sync: they are committed, so the
log has them, on a majority of disks; after a crash they are applied again from there.

Snapshots are the rows of the tables in one read transaction, as they stand on disk; term, vote, name of the disk and
log stay where they are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from struct import Struct
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Protocol

from store.contract import FileSize, SnapshotFile
from store.environment import MAP_BYTES_START, Environment, WriteTransaction, disk_error, open_folder
from store.errors import (
    ChunkDamaged,
    DiskFull,
    RecordDamaged,
    RowDamaged,
    SnapshotGone,
    StoreClosed,
    StoreDamaged,
    StoreError,
)
from store.folder import FolderLock, write_identity
from store.raft_contract import Entry, Kind, Observer, Recovered, Snapshot, Write
from store.raft_rows import EMPTY_MARKS, Marks, decode_entry
from store.raft_transaction import (
    LOG,
    OWN,
    RaftLogView,
    RaftTransaction,
    read_distrust,
    read_hard,
    read_marks,
    write_marks,
)
from store.scrub import Scrubbed, scrub_files, scrub_table
from store.snapshot import Row, SnapshotFolder, check_chunk, encode_chunks, snapshot_name
from store.writer import Writer

if TYPE_CHECKING:
    import lmdb

CHUNK_BYTES: Final = 1 << 20
STOP_SECONDS: Final = 30.0
_TERM: Final = Struct(">Q8x")  # in the place of a chain


class StateMachine(Protocol):
    """What the log is for; deterministic, and it keeps nothing between two transactions."""

    def apply(self, transaction: lmdb.Transaction[Any], entries: Iterable[tuple[int, bytes]]) -> list[bytes]:
        """The result of each (index, command); b"" is no command but an index that passes. Never raises for a command:
        what it cannot carry out is a result. It keeps the applied index, in the same transaction."""

    def applied(self, transaction: lmdb.Transaction[Any]) -> int:
        """That index."""

    def check_row(self, table: str, key: bytes, value: bytes) -> None:
        """Raises RowDamaged unless a row is as it was written."""


class RaftStore:
    """`member`'s data folder `path`; `tables` are the state machine's, all of them travel in snapshots.

    `replicas.raft.seams.Store` says what the methods promise. Callbacks come on `loop`; but
    `observe(seconds)` hears of each synced commit in the writer's thread.
    """

    def __init__(
        self,
        path: Path,
        member: int,
        tables: Sequence[str],
        machine: Callable[[Mapping[str, lmdb._Database], Path], StateMachine],
        loop: asyncio.AbstractEventLoop,
        *,
        map_bytes: int = MAP_BYTES_START,
        chunk_bytes: int = CHUNK_BYTES,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.path = path
        self.member = member
        self._tables = tuple(tables)
        self._make_machine = machine
        self._loop = loop
        self._map_bytes = map_bytes
        self._chunk_bytes = chunk_bytes
        self._snapshots = SnapshotFolder(path / "snapshots")
        self._lock: FolderLock | None = None
        self._opened: Environment | None = None
        self._machine: StateMachine | None = None
        self._marks = EMPTY_MARKS
        self._distrusted = ""
        self._observer: Observer | None = None
        self._writer = Writer(
            self, self._durable, self._failed, size_bytes=lambda write: write.size_bytes, observe=observe
        )

    # -------------------------------------------------------------- start and stop

    def recover(self, observer: Observer) -> Recovered:
        """Raises FolderInUse, WrongFolder, StoreDamaged (`set_aside` and start as a new disk), DiskFull, DiskFailed."""
        self._observer = observer
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        try:
            self._snapshots.load()
            self._opened, new = open_folder(self.path, self.member, self._map_bytes, (*OWN, *self._tables))
            self._machine = self._make_machine(self._opened.databases, self.path)
            if new:
                databases = self._opened.databases
                self._opened.write(lambda transaction: write_marks(transaction, databases, EMPTY_MARKS), 100)
                write_identity(self.path, self.member)
            recovered = self._check()
        except BaseException:
            self._release()
            raise
        self._writer.start()
        return recovered

    def _check(self) -> Recovered:
        """Every entry, its checksum and its place; rows of the tables are checked when read, and by the scrub."""
        environment, machine = self._environment, self.machine
        with environment.read() as transaction:
            marks = self._marks = read_marks(transaction, environment.databases, self.path)
            hard = read_hard(transaction, environment.databases, self.path)
            distrusted = read_distrust(transaction, environment.databases)
            try:
                applied = machine.applied(transaction)
            except RowDamaged as error:  # R24: log and vote are whole, so the tables alone are filled again
                distrusted, applied = distrusted or error.why, marks.base.index
            self._distrusted = distrusted
            view = RaftLogView(transaction, environment.databases)
            terms: list[tuple[int, int]] = []
            members: list[Entry] = []
            try:
                view.check_bounds(marks, self.path)
                for entry in view.entries(marks.base.index + 1, marks.last + 1):
                    if not terms or terms[-1][1] != entry.term:
                        terms.append((entry.index, entry.term))
                    if entry.kind is Kind.MEMBERS:
                        members.append(entry)
            except RecordDamaged as error:
                raise StoreDamaged(self.path, str(error)) from error
        ends = [marks.base.term, *(term for _, term in terms)]
        if not marks.base.index <= applied <= marks.last or ends != sorted(ends) or ends[-1] != marks.last_term:
            raise StoreDamaged(self.path, f"applied {applied} and terms {ends[-3:]} do not fit {marks}")
        return Recovered(hard, marks.base, marks.last, applied, tuple(terms), tuple(members), distrusted)

    def close(self) -> None:
        """Write what is queued, and give everything back."""
        if self._opened is not None:
            self._writer.stop(STOP_SECONDS)
        self._release()

    def _release(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _environment(self) -> Environment:
        if self._opened is None:
            raise StoreClosed(f"data folder {self.path} is not open: call recover() first")
        return self._opened

    @property
    def machine(self) -> StateMachine:
        """The state machine; it reads in a transaction of `reading`."""
        if self._machine is None:
            raise StoreClosed(f"data folder {self.path} is not open: call recover() first")
        return self._machine

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction[memoryview]]:
        """One consistent view of the tables, as of the newest durable write."""
        with self._environment.read() as transaction:
            yield transaction

    # -------------------------------------------------------------- writing

    def submit(self, write: Write) -> None:
        """Raises WriterStopped after a failure."""
        self._writer.submit(write.ticket, [write])

    def resume(self) -> None:
        """There may be space again."""
        self._writer.resume()

    def commit(self, operations: Sequence[Write]) -> None:
        """The writer's: a group in one transaction. Where a damaged row stops it, all but the applying (R24)."""
        try:
            self._commit(operations, self._distrusted)
        except RowDamaged as error:
            why = error.why
            self._commit(operations, why)
            if self._distrusted:
                self._call(lambda observer: observer.on_state_damaged(why, distrusted=True))
        if any(write.wipe or write.install is not None for write in operations):
            self._snapshots.drop(lambda _: True)

    def _commit(self, operations: Sequence[Write], distrusted: str) -> None:
        environment = self._environment

        def work(transaction: WriteTransaction) -> tuple[Marks, str]:
            databases = environment.databases
            group = RaftTransaction(transaction, databases, self._tables, self.machine, self._marks, distrusted)
            for write in operations:
                group.carry_out(write)
            marks = group.finish()
            if group.results:
                self._call(lambda observer: observer.on_applied(group.applied, group.results))
            return marks, group.distrusted

        self._marks, self._distrusted = environment.write(work, sum(write.size_bytes for write in operations))

    def _durable(self, ticket: int) -> None:
        self._call(lambda observer: observer.on_durable(ticket))

    def _failed(self, error: Exception) -> None:
        self._call(lambda observer: observer.on_failure(error, full=isinstance(error, DiskFull)))

    def _call(self, what: Callable[[Observer], object]) -> None:
        """On the loop; from any thread."""
        if self._observer is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, self._observer)

    # -------------------------------------------------------------- the log

    def entries(self, first: int, end: int, bytes_max: int) -> Sequence[Entry]:
        """Raises RecordDamaged: the disk changed what was whole at the start."""
        found: list[Entry] = []
        size = 0
        with self._environment.read() as transaction:
            for entry in RaftLogView(transaction, self._environment.databases).entries(first, end):
                size += entry.size_bytes
                if found and size > bytes_max:
                    break
                found.append(entry)
        return found

    def log_bytes(self) -> int:
        """Bytes that the entries take on disk."""
        return self._environment.used_bytes(LOG)

    def file_size(self) -> FileSize:
        """The database file."""
        return self._environment.file_size()

    # -------------------------------------------------------------- the scrub

    def scrub_rows(self) -> Scrubbed:
        """Every row of the tables. Raises StoreClosed while they are not trusted (R24): nothing can be said then."""
        for table in self._tables:
            if self._distrusted:
                raise StoreClosed(f"the tables of {self.path} are to be filled again")
            yield from scrub_table(self._environment, table, partial(self._damaged_row, table))

    def _damaged_row(self, table: str, key: bytes, value: bytes) -> str | None:
        try:
            self.machine.check_row(table, key, value)
        except RowDamaged as error:
            return error.why
        return None

    def scrub_log(self) -> Scrubbed:
        """Every entry: `entry 17`."""
        return scrub_table(self._environment, LOG, _damaged_entry)

    def scrub_snapshots(self) -> Scrubbed:
        """Every snapshot file, by its name."""
        return scrub_files(self._snapshots)

    def drop_snapshot(self, name: str) -> None:
        """It is damaged: the next follower that needs one gets a new one."""
        self._snapshots.drop(lambda file: file.name == name)

    def table_bytes(self) -> int:
        """Bytes that the tables take on disk."""
        return sum(map(self._environment.used_bytes, self._tables))

    def snapshot_bytes(self) -> int:
        """Bytes of the snapshot files."""
        return sum(file.size_bytes for file in self._snapshots.list())

    # -------------------------------------------------------------- snapshots

    def make_snapshot(self, done: Callable[[Snapshot | None], object]) -> None:
        """In a thread of its own: it may take seconds."""
        Thread(target=self._make_snapshot, args=(done,), name="ringcast-snapshot", daemon=True).start()

    def _make_snapshot(self, done: Callable[[Snapshot | None], object]) -> None:
        try:
            made: Snapshot | None = self._write_snapshot()
        except RowDamaged as error:
            made, why = None, error.why
            self._call(lambda observer: observer.on_state_damaged(why, distrusted=False))
        except StoreError:
            made = None  # the disk is full, or the store closed: the next answer of the follower asks again
        self._call(lambda _: done(made))

    def _write_snapshot(self) -> Snapshot:
        environment = self._environment
        with environment.read() as transaction:
            marks = read_marks(transaction, environment.databases, self.path)
            base = RaftLogView(transaction, environment.databases).base_at(self.machine.applied(transaction), marks)
            name = snapshot_name(base.index, secrets.token_bytes(4))
            chain = _TERM.pack(base.term)
            rows = self._rows(transaction)
            chunks = encode_chunks(name, base.index, chain, rows, self._chunk_bytes, self._tables)
            try:
                made = self._snapshots.write(name, base.index, chain, chunks)
            except OSError as error:
                raise disk_error(self.path, error, 0) from error
        return Snapshot(name, base, made.chunks)

    def _rows(self, transaction: lmdb.Transaction[memoryview]) -> Iterator[Row]:
        """As they stand on disk, with their checksums. Raises RowDamaged: nobody is filled with damage."""
        for table in self._tables:
            with transaction.cursor(self._environment.databases[table]) as cursor:
                for key, value in cursor:
                    row = table, bytes(key), bytes(value)
                    self.machine.check_row(*row)
                    yield row

    def snapshots(self) -> tuple[SnapshotFile, ...]:
        """The files that are there, newest first."""
        return self._snapshots.list()

    def read_chunk(self, name: str, index: int) -> bytes | None:
        """None if the snapshot is gone, or the chunk bad."""
        try:
            return self._snapshots.read_chunk(name, index)
        except (SnapshotGone, ChunkDamaged):
            return None

    def chunk_fits(self, name: str, index: int, data: bytes) -> bool:
        """For whoever receives one."""
        try:
            check_chunk(name, index, data)
        except ChunkDamaged:
            return False
        return True


def _damaged_entry(key: bytes, value: bytes) -> str | None:
    try:
        decode_entry(key, value)
    except RecordDamaged as error:
        return f"entry {error.slot}"
    return None
