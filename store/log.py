"""The store on LMDB: `store.contract.LogStore` says what each method promises."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Final

from store.contract import (
    APPLIED_KEY,
    INDEX_TABLES,
    STATE_TABLES,
    TABLES,
    Append,
    DamagedRun,
    DeleteRange,
    FileSize,
    FoldRange,
    Operation,
    PutRow,
    Recovered,
    SnapshotFile,
    Staging,
    payload_bytes,
)
from store.environment import (
    CHAINS,
    DATABASES,
    LOG,
    MAP_BYTES_START,
    STABLE,
    STAGING,
    Environment,
    WriteTransaction,
    disk_error,
    open_folder,
    value_bytes,
)
from store.errors import DiskFull, RecordDamaged, RowDamaged, StoreClosed, StoreDamaged, StoreMisuse
from store.folder import FolderLock, write_identity
from store.journal import FRAME_BYTES, FRAMES, JOURNAL_NAME, Journal, Journaled, create_journal
from store.operations import with_append
from store.records import EMPTY_MARKS, decode_row, encode_chain, encode_marks, seal, slot_key, unseal
from store.recovery import (
    VERIFY_ALL_BYTES,
    Checked,
    check_bounds,
    check_records,
    check_rows,
    damaged_chunks,
)
from store.reserve import Reserve
from store.scrub import Scrubbed, scrub_files, scrub_table
from store.snapshot import Row, SnapshotFolder, decode_slot, encode_chunks, snapshot_name
from store.transaction import (
    CLEAN_STOP_KEY,
    MARKS_KEY,
    STABLE_KEY,
    LmdbTransaction,
    LogView,
    read_marks,
    read_staging,
    with_tail,
)

PAGE_ROWS: Final = 512


class LmdbStore:
    """`member`'s data folder `path`; it is made if it is not there. Nothing is opened before `recover()`."""

    def __init__(
        self, path: Path, member: int, *, map_bytes: int = MAP_BYTES_START, verify_all_bytes: int = VERIFY_ALL_BYTES
    ) -> None:
        self.path = path
        self.member = member
        self._map_bytes = map_bytes
        self._verify_all_bytes = verify_all_bytes
        self._lock: FolderLock | None = None
        self._opened: Environment | None = None
        self._journal: Journal | None = None
        self._gate = Lock()  # over what follows
        self._marks = EMPTY_MARKS  # LMDB's
        self._newest = EMPTY_MARKS  # with what the journal alone has
        self._tail: tuple[Journaled, ...] = ()  # durable in the journal, not in LMDB yet
        self._committing: Sequence[Operation] = ()
        self._snapshots = SnapshotFolder(path / "snapshots")
        self._reserve = Reserve(path)

    # -------------------------------------------------------------- start and stop

    def recover(self) -> Recovered:
        if self._opened is not None:
            raise StoreMisuse(f"data folder {self.path} is open already")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        try:
            self._open()
            return self._check()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._snapshots.load()
        self._opened, new = open_folder(self.path, self.member, self._map_bytes, DATABASES)
        if new:
            self._set_up()
            write_identity(self.path, self.member)
        self._journal = Journal(self.path)

    def _set_up(self) -> None:
        environment = self._environment
        with environment.read() as transaction:
            if transaction.stat(environment.databases[STABLE])["entries"]:
                raise StoreDamaged(self.path, "the file that names its member is missing")
        sealed = seal(MARKS_KEY, encode_marks(EMPTY_MARKS))
        environment.write(lambda txn: txn.put(MARKS_KEY, sealed, db=environment.databases[STABLE]), len(sealed))
        try:
            create_journal(self.path)
        except OSError as error:
            raise disk_error(self.path, error, FRAMES * FRAME_BYTES) from error

    def _check(self) -> Recovered:
        environment = self._environment
        databases = environment.databases
        with environment.read() as transaction:
            marks = self._marks = read_marks(transaction, databases, self.path)
            check_bounds(transaction, databases, marks, self.path)
            sealed = transaction.get(STABLE_KEY, db=databases[STABLE])
            stable = unseal(STABLE_KEY, sealed) if sealed is not None else None
            clean_stop = transaction.get(CLEAN_STOP_KEY, db=databases[STABLE]) is not None
            start = self._verify_start()
            # The index grows with the log: a large one is checked row by row as it is read (A10).
            check_rows(transaction, databases, self.path, TABLES if start == marks.first else STATE_TABLES)
            checked = check_records(LogView(transaction, databases, marks), start, marks.end)
            bad_chunks = damaged_chunks(transaction, databases)
        self._mend(checked, bad_chunks)
        self._replay()
        first, end, _, chain, stable_saved, _ = self._newest
        self._snapshots.drop(lambda file: file.slot > end)
        damaged = stable is None and stable_saved
        return Recovered(stable, damaged, first, end, chain, checked.damaged, clean_stop, start)

    def _replay(self) -> None:
        """Bring what the journal alone has to LMDB; on a full disk it stays where it is, and is as durable there."""
        self._newest = self._marks
        try:
            self._tail = self._opened_journal.replay(self._marks.journaled)
        except OSError as error:
            raise self._environment.fail(error) from error
        for number, append in self._tail:
            try:
                self._newest = with_append(self._newest, append)
            except StoreMisuse as error:
                raise StoreDamaged(self.path, f"{JOURNAL_NAME}: record {number} does not follow: {error}") from error
        if self._tail:
            with suppress(DiskFull):
                self.commit(())

    def _verify_start(self) -> int:
        """A10: from the newest snapshot on, or everything when that is little."""
        marks = self._marks
        snapshots = self._snapshots.list()
        if not snapshots or self.log_bytes() <= self._verify_all_bytes:
            return marks.first
        return min(max(snapshots[0].slot, marks.first), marks.end)

    def _mend(self, checked: Checked, bad_chunks: Sequence[int]) -> None:
        """Erase the clean-stop mark durably (D2); write chain rows again whose records are whole; drop bad chunks."""
        databases = self._environment.databases

        def work(transaction: WriteTransaction) -> None:
            transaction.delete(CLEAN_STOP_KEY, db=databases[STABLE])
            for slot, chain in checked.chain_rows:
                transaction.put(slot_key(slot), encode_chain(slot, chain), db=databases[CHAINS])
            for index in bad_chunks:
                transaction.delete(slot_key(index), db=databases[STAGING])

        self._environment.write(work, 0)

    def mark_clean_stop(self) -> None:
        if self._tail:
            self.commit(())
        stable = self._environment.databases[STABLE]
        self._environment.write(lambda transaction: transaction.put(CLEAN_STOP_KEY, b"1", db=stable), 0)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _environment(self) -> Environment:
        if self._opened is None:
            raise StoreClosed(f"data folder {self.path} is not open: call recover() first")
        return self._opened

    @property
    def _opened_journal(self) -> Journal:
        if self._journal is None:
            raise StoreClosed(f"data folder {self.path} is not open: call recover() first")
        return self._journal

    @contextmanager
    def _view(self) -> Iterator[LogView]:
        """The log as of now; marks and records are of one transaction, and of the journal what that did not have.

        The journal's part is taken first: what leaves it is in LMDB before.
        """
        environment, tail = self._environment, self._tail
        with environment.read() as transaction:
            marks = read_marks(transaction, environment.databases, self.path)
            left = [append for number, append in tail if number > marks.journaled]
            yield LogView(transaction, environment.databases, marks, left)

    # -------------------------------------------------------------- writing

    def commit(self, operations: Sequence[Operation]) -> None:
        environment, journal = self._environment, self._opened_journal
        with self._gate:
            tail, self._committing = self._tail, operations

        def work(transaction: WriteTransaction) -> LmdbTransaction:
            batch = LmdbTransaction(transaction, environment.databases, self._marks, tail)
            batch.apply(operations)
            return batch

        try:
            size = sum(map(payload_bytes, operations)) + sum(payload_bytes(append) for _, append in tail)
            batch = environment.write(work, size)
            with self._gate:
                self._marks = batch.marks
                self._tail = self._tail[len(tail) :]
                self._newest = with_tail(batch.marks, [append for _, append in self._tail])
                journal.cover(batch.marks.journaled)
        finally:
            self._committing = ()
        if batch.restarted_log:
            self._snapshots.drop(lambda _: True)

    def journal(self, appends: Sequence[Append]) -> bool:
        environment, journal = self._environment, self._opened_journal
        with self._gate:
            environment.check_writable()
            if not all(isinstance(operation, PutRow | DeleteRange | FoldRange) for operation in self._committing):
                return False
            newest = self._newest
            for append in appends:
                newest = with_append(newest, append)
            try:
                number = journal.write(appends)
            except OSError as error:
                raise environment.fail(error) from error
            if number is None:
                return False
            self._tail += tuple(Journaled(number, append) for append in appends)
            self._newest = newest
        return True

    # -------------------------------------------------------------- the log

    def bounds(self) -> tuple[int, int]:
        newest = self._newest
        return newest.first, newest.end

    def read(self, slot: int) -> tuple[bytes, bytes] | None:
        with self._view() as view:
            if not view.marks.first <= slot < view.marks.end:
                return None
            record = view.record(slot)
        return record.body, record.chain

    def read_range(self, first: int, end: int, bytes_max: int) -> list[tuple[int, bytes, bytes]]:
        found: list[tuple[int, bytes, bytes]] = []
        size = 0
        with self._view() as view:
            if first < view.marks.first:
                return []
            for slot in range(first, min(end, view.marks.end)):
                try:
                    record = view.record(slot)
                except RecordDamaged:
                    if found:
                        break
                    raise
                size += len(record.body)
                if found and size > bytes_max:
                    break
                found.append((slot, record.body, record.chain))
        return found

    def chain(self, slot: int) -> bytes | None:
        with self._view() as view:
            return view.known_chain(slot) if view.marks.first - 1 <= slot < view.marks.end else None

    def verify(self, first: int, end: int) -> tuple[DamagedRun, ...]:
        with self._view() as view:
            return check_records(view, first, end).damaged

    def log_bytes(self) -> int:
        environment = self._environment
        return sum(map(environment.used_bytes, (LOG, CHAINS, *INDEX_TABLES)))

    def file_size(self) -> FileSize:
        return self._environment.file_size()

    def record_bytes(self, first: int, slots_max: int) -> list[int]:
        environment = self._environment
        handle = environment.databases[LOG]
        with environment.read() as transaction, transaction.cursor(handle) as cursor:
            if not cursor.set_range(slot_key(first)):
                return []
            values = islice(cursor.iternext(keys=False), slots_max)
            found = [value_bytes(len(value), environment.page_bytes) for value in values]
        first, end = self.bounds()
        index = (self.log_bytes() - environment.used_bytes(LOG)) // max(1, end - first)
        return [size + index for size in found]

    def keep_reserve(self) -> None:
        self._reserve.make()

    def release_reserve(self) -> None:
        self._reserve.release()

    # -------------------------------------------------------------- the tables

    def row(self, table: str, key: bytes) -> bytes | None:
        environment = self._environment
        with environment.read() as transaction:
            stored = transaction.get(key, db=environment.databases[table])
            return None if stored is None else self._decode(table, key, stored)

    def _decode(self, table: str, key: bytes, stored: memoryview) -> bytes:
        value = decode_row(key, stored)
        if value is None:
            raise RowDamaged(self.path, table, key)
        return value

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        left = PAGE_ROWS if limit is None else limit
        while left > 0:
            wanted = min(left, PAGE_ROWS)
            page = self._page(table, start, end, reverse, wanted)
            yield from page
            if len(page) < wanted:
                return
            if limit is not None:
                left -= len(page)
            if reverse:
                end = page[-1][0]
            else:
                start = page[-1][0] + b"\0"

    def _page(
        self, table: str, start: bytes, end: bytes | None, reverse: bool, wanted: int
    ) -> list[tuple[bytes, bytes]]:
        page: list[tuple[bytes, bytes]] = []
        environment = self._environment
        with environment.read() as transaction, transaction.cursor(environment.databases[table]) as cursor:
            if not reverse:
                found = cursor.set_range(start) if start else cursor.first()
            elif end is not None and cursor.set_range(end):
                found = cursor.prev()
            else:
                found = cursor.last()
            while found and len(page) < wanted:
                key = bytes(cursor.key())
                if key < start or (end is not None and key >= end):
                    break
                page.append((key, self._decode(table, key, cursor.value())))
                found = cursor.prev() if reverse else cursor.next()
        return page

    # -------------------------------------------------------------- snapshots

    def make_snapshot(self, chunk_bytes: int) -> SnapshotFile:
        with self._view() as view:
            stored = view.transaction.get(APPLIED_KEY, db=view.databases["meta"])
            slot = None if stored is None else decode_slot(self._decode("meta", APPLIED_KEY, stored))
            chain = (
                view.known_chain(slot - 1) if slot is not None and view.marks.first <= slot <= view.marks.end else None
            )
            if slot is None or chain is None:
                first, end = view.marks[:2]
                raise StoreMisuse(
                    f"a snapshot needs row {APPLIED_KEY!r} of table 'meta' to name a slot of [{first}, {end}], "
                    f"it says {slot}: write it with every applied slot"
                )
            name = snapshot_name(slot, secrets.token_bytes(4))
            while True:
                chunks = encode_chunks(name, slot, chain, self._state_rows(view), chunk_bytes)
                try:
                    return self._snapshots.write(name, slot, chain, chunks)
                except OSError as error:
                    failed = disk_error(self.path, error, 0)
                    # A trim that is owed is worth more than an older one that a peer may be fetching.
                    if not isinstance(failed, DiskFull) or not self._snapshots.drop_older():
                        raise failed from error

    def _state_rows(self, view: LogView) -> Iterator[Row]:
        for table in STATE_TABLES:
            with view.transaction.cursor(view.databases[table]) as cursor:
                for found, stored in cursor:
                    key = bytes(found)
                    yield table, key, self._decode(table, key, stored)

    def snapshots(self) -> tuple[SnapshotFile, ...]:
        return self._snapshots.list()

    def read_chunk(self, snapshot: str, index: int) -> bytes:
        return self._snapshots.read_chunk(snapshot, index)

    def drop_snapshot(self, name: str) -> None:
        self._snapshots.drop(lambda file: file.name == name)

    def scrub_rows(self, table: str) -> Scrubbed:
        def damaged(key: bytes, value: bytes) -> str | None:
            return None if decode_row(key, value) is not None else RowDamaged(self.path, table, key).why

        return scrub_table(self._environment, table, damaged)

    def scrub_snapshots(self) -> Scrubbed:
        return scrub_files(self._snapshots)

    def table_bytes(self) -> int:
        return sum(map(self._environment.used_bytes, TABLES))

    def staging(self) -> Staging | None:
        environment = self._environment
        with environment.read() as transaction:
            return read_staging(transaction, environment.databases)
