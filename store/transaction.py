"""The LMDB side: looking records up in a transaction, and the steps of `operations.Transaction`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import lmdb

from store.contract import Append, Prepend, Repair, Staging
from store.environment import CHAINS, LOG, STABLE, STAGING
from store.errors import RecordDamaged, StoreDamaged, StoreMisuse
from store.journal import Journaled
from store.operations import Transaction
from store.records import (
    Marks,
    Record,
    decode_chain,
    decode_marks,
    decode_record,
    decode_row,
    encode_chain,
    encode_marks,
    encode_record,
    encode_row,
    key_slot,
    seal,
    slot_key,
    unseal,
)

Databases = dict[str, lmdb._Database]
STABLE_KEY = b"stable"
MARKS_KEY = b"marks"
CLEAN_STOP_KEY = b"clean_stop"
STAGED_KEY = b"staged"


class LogView:
    """The log as one transaction sees it, and behind it the records that only the journal has."""

    def __init__(
        self,
        transaction: lmdb.Transaction[memoryview],
        databases: Databases,
        marks: Marks,
        tail: Sequence[Append] = (),
    ) -> None:
        self.transaction = transaction
        self.databases = databases
        self.marks = with_tail(marks, tail)
        self._tail = {append.slot: append for append in tail}

    def record(self, slot: int) -> Record:
        """Raises RecordDamaged."""
        append = self._tail.get(slot)
        if append is not None:
            return Record(append.chain, append.previous, b"".join(append.parts))
        return decode_record(slot, self.transaction.get(slot_key(slot), db=self.databases[LOG]))

    def chain_row(self, slot: int) -> bytes | None:
        """chain(slot) from its own row."""
        append = self._tail.get(slot)
        if append is not None:
            return append.chain
        return decode_chain(slot, self.transaction.get(slot_key(slot), db=self.databases[CHAINS]))

    def known_chain(self, slot: int) -> bytes | None:
        """chain(slot) for first - 1 <= slot < end: marks, chain row, the record, then the record above it (D6)."""
        marks = self.marks
        if slot == marks.first - 1:
            return marks.before
        if slot == marks.end - 1:
            return marks.chain
        row = self.chain_row(slot)
        if row is not None:
            return row
        with suppress(RecordDamaged):
            return self.record(slot).chain
        with suppress(RecordDamaged):
            return self.record(slot + 1).previous
        return None


def with_tail(marks: Marks, tail: Sequence[Append]) -> Marks:
    """The marks of a log that goes on with these records."""
    return marks._replace(end=tail[-1].slot + 1, chain=tail[-1].chain) if tail else marks


def read_marks(transaction: lmdb.Transaction[memoryview], databases: Databases, folder: Path) -> Marks:
    """Raises StoreDamaged: without marks nobody knows what was acknowledged."""
    sealed = transaction.get(MARKS_KEY, db=databases[STABLE])
    value = unseal(MARKS_KEY, sealed) if sealed is not None else None
    marks = decode_marks(value) if value is not None else None
    if marks is None:
        raise StoreDamaged(folder, "the marks of the log's first slot and end are bad or missing")
    return marks


def read_staging(transaction: lmdb.Transaction[memoryview], databases: Databases) -> Staging | None:
    """The name stands in the stable database, the chunks are rows of their own."""
    name = transaction.get(STAGED_KEY, db=databases[STABLE])
    if name is None:
        return None
    with transaction.cursor(databases[STAGING]) as cursor:
        return Staging(bytes(name).decode(), frozenset(key_slot(key) for key in cursor.iternext(values=False)))


class LmdbTransaction(Transaction):
    """One batch in one LMDB write transaction, which the caller commits or aborts.

    It begins with what the journal alone has, and notes that LMDB has it then.
    """

    def __init__(
        self,
        transaction: lmdb.Transaction[memoryview],
        databases: Databases,
        marks: Marks,
        journaled: Sequence[Journaled] = (),
    ) -> None:
        super().__init__(marks)
        self._transaction = transaction
        self._databases = databases
        for _, append in journaled:
            self._append(append)
        if journaled:
            self.marks = self.marks._replace(journaled=journaled[-1].number)

    # The log's rows are always above every other one, so LMDB need not search for their place (append=True).
    def append_records(self, appends: Sequence[Append]) -> None:
        keys = [slot_key(append.slot) for append in appends]
        records = [encode_record(append.slot, append.chain, append.previous, append.parts) for append in appends]
        chains = [encode_chain(append.slot, append.chain) for append in appends]
        self._put(LOG, list(zip(keys, records, strict=True)), append=True)
        self._put(CHAINS, list(zip(keys, chains, strict=True)), append=True)

    def _put(self, database: str, rows: Sequence[tuple[bytes, bytes]], *, append: bool) -> None:
        handle = self._databases[database]
        if len(rows) == 1:
            ((key, value),) = rows
            written = int(self._transaction.put(key, value, append=append, db=handle))
        else:
            with self._transaction.cursor(handle) as cursor:
                _, written = cursor.putmulti(rows, append=append)
        if written != len(rows):  # py-lmdb tells it by the count alone
            raise StoreMisuse(f"{len(rows) - written} rows of {database!r} are not above the ones that are there")

    def rewrite_record(self, repair: Repair | Prepend) -> None:
        key = slot_key(repair.slot)
        record = encode_record(repair.slot, repair.chain, repair.previous, repair.parts)
        self._transaction.put(key, record, db=self._databases[LOG])
        self._transaction.put(key, encode_chain(repair.slot, repair.chain), db=self._databases[CHAINS])

    def delete_slots(self, first: int, end: int) -> None:
        whole = (first, end) == (self.marks.first, self.marks.end)
        for database in (LOG, CHAINS):
            self._delete(database, b"" if whole else slot_key(first), None if whole else slot_key(end))

    def known_chain(self, slot: int) -> bytes | None:
        return LogView(self._transaction, self._databases, self.marks).known_chain(slot)

    def put_rows(self, table: str, rows: Sequence[tuple[bytes, bytes]], empty: bool) -> None:
        self._put(table, [(key, encode_row(key, value)) for key, value in rows], append=empty)

    def delete_rows(self, table: str, keys: Iterable[bytes]) -> None:
        database = self._databases[table]
        for key in keys:
            self._transaction.delete(key, db=database)

    def delete_range(self, table: str, start: bytes, end: bytes | None) -> None:
        self._delete(table, start, end)

    def first_row(self, table: str, start: bytes) -> tuple[bytes, bytes | None] | None:
        with self._transaction.cursor(self._databases[table]) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            key = bytes(cursor.key())
            return (key, decode_row(key, cursor.value())) if found else None

    def _delete(self, database: str, start: bytes, end: bytes | None) -> None:
        handle = self._databases[database]
        if not start and end is None:
            self._transaction.drop(handle, delete=False)
            return
        with self._transaction.cursor(handle) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and (end is None or bytes(cursor.key()) < end):
                cursor.delete()
                found = bool(cursor.key())

    def staging(self) -> Staging | None:
        return read_staging(self._transaction, self._databases)

    def stage(self, snapshot: str, index: int, data: bytes) -> None:
        self._transaction.put(STAGED_KEY, snapshot.encode(), db=self._databases[STABLE])
        self._transaction.put(slot_key(index), data, db=self._databases[STAGING])

    def staged_chunks(self) -> Iterator[tuple[int, bytes]]:
        with self._transaction.cursor(self._databases[STAGING]) as cursor:
            for key, value in cursor:
                yield key_slot(key), bytes(value)

    def clear_staging(self) -> None:
        self._transaction.delete(STAGED_KEY, db=self._databases[STABLE])
        self._transaction.drop(self._databases[STAGING], delete=False)

    def write_stable(self, value: bytes) -> None:
        self._write_sealed(STABLE_KEY, value)

    def write_marks(self, marks: Marks) -> None:
        self._write_sealed(MARKS_KEY, encode_marks(marks))

    def _write_sealed(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, seal(key, value), db=self._databases[STABLE])
