"""What each operation does, once for both backends: the contract's checks, and the steps a backend has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from store.contract import (
    APPLIED_KEY,
    CHAIN_BYTES,
    INDEX_TABLES,
    KEY_BYTES_MAX,
    NO_CHAIN,
    STATE_TABLES,
    TABLES,
    Append,
    DeleteRange,
    DropStaging,
    FoldRange,
    Operation,
    Prepend,
    PutRow,
    Repair,
    ResetLog,
    SaveStable,
    StageChunk,
    Staging,
    TrimLog,
    Truncate,
    UseSnapshot,
)
from store.errors import ChunkDamaged, StoreMisuse
from store.records import Marks
from store.snapshot import check_chunk, decode_chunk, decode_slot


class Transaction(ABC):
    """One batch of operations on one backend.

    Appends and rows are gathered and handed on in runs: under LMDB one call for many rows is far cheaper than one each.
    """

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.restarted_log = False  # the log was emptied: snapshot files of before are void
        self._before = marks
        self._appends: list[Append] = []
        self._rows: dict[str, dict[bytes, bytes | None]] = {}
        self._stable: bytes | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            Append: self._append,
            Repair: self._repair,
            Prepend: self._prepend,
            Truncate: self._truncate,
            TrimLog: self._trim,
            SaveStable: self._save_stable,
            PutRow: self._put_row,
            DeleteRange: self._delete_range,
            FoldRange: self._fold_range,
            StageChunk: self._stage,
            DropStaging: lambda _: self.clear_staging(),
            UseSnapshot: self._use_snapshot,
            ResetLog: lambda _: self._empty(0, NO_CHAIN),
        }

    def apply(self, operations: Sequence[Operation]) -> Marks:
        """Carry out all of them; returns the new marks. Raises StoreMisuse, ChunkDamaged: the caller must roll back."""
        for operation in operations:
            self._handlers[type(operation)](operation)
        self._flush_log()
        for table in tuple(self._rows):
            self._flush_rows(table)
        if self._stable is not None:
            self.write_stable(self._stable)
            self.marks = self.marks._replace(stable_saved=True)
        if self.marks != self._before:
            self.write_marks(self.marks)
        return self.marks

    # -------------------------------------------------------------- steps of a backend

    @abstractmethod
    def append_records(self, appends: Sequence[Append]) -> None:
        """Neighbouring slots, all above every slot in the log."""

    @abstractmethod
    def rewrite_record(self, repair: Repair | Prepend) -> None:
        """Write the record and the chain row of a slot, whether they are there or not."""

    @abstractmethod
    def delete_slots(self, first: int, end: int) -> None:
        """Delete records and chain rows of [first, end), those that are there."""

    @abstractmethod
    def known_chain(self, slot: int) -> bytes | None:
        """chain(slot) from first - 1 to end - 1, from wherever it is known."""

    @abstractmethod
    def put_rows(self, table: str, rows: Sequence[tuple[bytes, bytes]], empty: bool) -> None:
        """Set rows, in key order; `empty`: the table holds none above the first of them."""

    @abstractmethod
    def delete_rows(self, table: str, keys: Iterable[bytes]) -> None:
        """Delete rows, those that are there."""

    @abstractmethod
    def delete_range(self, table: str, start: bytes, end: bytes | None) -> None:
        """Delete the rows with start <= key < end."""

    @abstractmethod
    def first_row(self, table: str, start: bytes) -> tuple[bytes, bytes | None] | None:
        """The first row with a key >= start; value None: it is damaged."""

    @abstractmethod
    def staging(self) -> Staging | None:
        """What is staged."""

    @abstractmethod
    def stage(self, snapshot: str, index: int, data: bytes) -> None:
        """Keep a chunk of the staged snapshot."""

    @abstractmethod
    def staged_chunks(self) -> Iterator[tuple[int, bytes]]:
        """(index, chunk) in order of index."""

    @abstractmethod
    def clear_staging(self) -> None:
        """Forget what is staged."""

    @abstractmethod
    def write_stable(self, value: bytes) -> None:
        """Write the stable state."""

    @abstractmethod
    def write_marks(self, marks: Marks) -> None:
        """Write the marks."""

    # -------------------------------------------------------------- the log

    def _append(self, operation: Append) -> None:
        self.marks = with_append(self.marks, operation)
        self._appends.append(operation)

    def _flush_log(self) -> None:
        if self._appends:
            self.append_records(self._appends)
            self._appends = []

    def _repair(self, operation: Repair) -> None:
        self._flush_log()
        if not self.marks.first <= operation.slot < self.marks.end:
            raise StoreMisuse(
                f"repair of slot {operation.slot}, which is outside [{self.marks.first}, {self.marks.end})"
            )
        _check_chain(operation.slot, operation.chain)
        for slot, chain in ((operation.slot, operation.chain), (operation.slot - 1, operation.previous)):
            known = self.known_chain(slot)
            if known is None and slot < operation.slot:
                continue  # the neighbour below is damaged too, and this repair tells its chain
            if chain != known:
                wanted = known.hex() if known else "not known yet: repair the slot above first"
                raise StoreMisuse(f"repair of slot {operation.slot}: chain({slot}) is {wanted}, not {chain.hex()} (D6)")
        self.rewrite_record(operation)

    def _prepend(self, operation: Prepend) -> None:
        self._flush_log()
        marks = self.marks
        if operation.slot != marks.first - 1:
            raise StoreMisuse(f"slot {operation.slot} put before the log, which begins at {marks.first} (C3)")
        if operation.chain != marks.before:
            raise StoreMisuse(
                f"slot {operation.slot} put before the log with chain {operation.chain.hex()}, but the log begins with "
                f"{marks.before.hex()} (C3)"
            )
        _check_chain(operation.slot - 1, operation.previous)
        self.rewrite_record(operation)
        self.marks = marks._replace(first=operation.slot, before=operation.previous)

    def _truncate(self, operation: Truncate) -> None:
        self._flush_log()
        marks = self.marks
        if operation.end < marks.first:
            raise StoreMisuse(
                f"cut at {operation.end}, below the log's first slot {marks.first}: use a snapshot instead (V7)"
            )
        if operation.end >= marks.end:
            return
        chain = self.known_chain(operation.end - 1)
        if chain is None:
            raise StoreMisuse(f"cut at {operation.end}: the chain before it is not known, repair it first (D6)")
        self.delete_slots(operation.end, marks.end)
        self.marks = marks._replace(end=operation.end, chain=chain)

    def _trim(self, operation: TrimLog) -> None:
        self._flush_log()
        marks = self.marks
        if operation.first > marks.end:
            raise StoreMisuse(f"trim below {operation.first}, but the log ends at {marks.end} (C2)")
        if operation.first <= marks.first:
            return
        before = self.known_chain(operation.first - 1)
        if before is None:
            raise StoreMisuse(f"trim below {operation.first}: the chain before it is not known, repair it first (D6)")
        self.delete_slots(marks.first, operation.first)
        self.marks = marks._replace(first=operation.first, before=before)

    def _save_stable(self, operation: SaveStable) -> None:
        self._stable = operation.value

    # -------------------------------------------------------------- the tables

    def _put_row(self, operation: PutRow) -> None:
        if not 0 < len(operation.key) <= KEY_BYTES_MAX:
            raise StoreMisuse(
                f"key of {len(operation.key)} bytes in table {operation.table!r}: 1 to {KEY_BYTES_MAX} fit"
            )
        _check_table(operation.table)
        self._rows.setdefault(operation.table, {})[operation.key] = operation.value

    def _delete_range(self, operation: DeleteRange) -> None:
        _check_table(operation.table)
        self._flush_rows(operation.table)
        if operation.end is None or operation.start < operation.end:
            self.delete_range(operation.table, operation.start, operation.end)

    def _fold_range(self, operation: FoldRange) -> None:
        _check_table(operation.table)
        self._flush_rows(operation.table)
        first = self.first_row(operation.table, operation.start)
        if first is not None:
            key, value = first
            self.delete_range(operation.table, operation.start, None)
            if value is not None:
                self.put_rows(operation.table, [(operation.to + key[len(operation.to) :], value)], empty=False)

    def _flush_rows(self, table: str) -> None:
        rows = self._rows.pop(table, None)
        if not rows:
            return
        gone = [key for key, value in rows.items() if value is None]
        if gone:
            self.delete_rows(table, gone)
        kept = sorted((key, value) for key, value in rows.items() if value is not None)
        if kept:
            self.put_rows(table, kept, empty=False)

    # -------------------------------------------------------------- snapshots

    def _stage(self, operation: StageChunk) -> None:
        check_chunk(operation.snapshot, operation.index, operation.data)
        staging = self.staging()
        if staging is not None and staging.snapshot != operation.snapshot:
            self.clear_staging()
        self.stage(operation.snapshot, operation.index, operation.data)

    def _use_snapshot(self, operation: UseSnapshot) -> None:
        staging = self.staging()
        if staging is None or staging.snapshot != operation.snapshot:
            raise StoreMisuse(
                f"use of snapshot {operation.snapshot!r}, but {staging.snapshot if staging else None!r} is staged"
            )
        _check_chain(operation.slot, operation.chain)
        self._clear_log_and_tables()
        index = 0
        complete = False
        applied: bytes | None = None
        for found, data in self.staged_chunks():
            if found != index:
                break
            chunk = decode_chunk(operation.snapshot, index, data)
            if (chunk.slot, chunk.chain) != (operation.slot, operation.chain):
                raise StoreMisuse(
                    f"snapshot {operation.snapshot!r} stands at slot {chunk.slot}, not at {operation.slot} (C1)"
                )
            for table, rows in chunk.tables():
                self.put_rows(table, rows, empty=True)
                if table == "meta":
                    applied = next((value for key, value in rows if key == APPLIED_KEY), applied)
            index += 1
            complete = chunk.last
        if not complete:
            raise ChunkDamaged(operation.snapshot, index, "not staged")
        if applied is None or decode_slot(applied) != operation.slot:
            raise ChunkDamaged(operation.snapshot, index - 1, f"its state is not that of slot {operation.slot}")
        self.clear_staging()
        self._restart_log(operation.slot, operation.chain)

    def _empty(self, slot: int, chain: bytes) -> None:
        self._clear_log_and_tables()
        self.clear_staging()
        self._restart_log(slot, chain)

    def _clear_log_and_tables(self) -> None:
        self._appends = []
        self._rows = {}
        self.delete_slots(self.marks.first, self.marks.end)
        for table in STATE_TABLES + INDEX_TABLES:
            self.delete_range(table, b"", None)

    def _restart_log(self, slot: int, chain: bytes) -> None:
        self.marks = self.marks._replace(first=slot, end=slot, before=chain, chain=chain)
        self.restarted_log = True


def with_append(marks: Marks, append: Append) -> Marks:
    """The marks of a log that ends with this record. Raises StoreMisuse if it is not the next one."""
    if append.slot != marks.end:
        raise StoreMisuse(f"append of slot {append.slot}, but the log ends at {marks.end}: records are contiguous (D1)")
    if append.previous != marks.chain:
        raise StoreMisuse(
            f"append of slot {append.slot} on chain {append.previous.hex()}, but the log's is {marks.chain.hex()} (A10)"
        )
    _check_chain(append.slot, append.chain)
    return marks._replace(end=append.slot + 1, chain=append.chain)


def _check_chain(slot: int, chain: bytes) -> None:
    if len(chain) != CHAIN_BYTES:
        raise StoreMisuse(f"chain of slot {slot} has {len(chain)} bytes, a chain has {CHAIN_BYTES}")


def _check_table(table: str) -> None:
    if table not in TABLES:
        raise StoreMisuse(f"there is no table {table!r}: {', '.join(TABLES)}")
