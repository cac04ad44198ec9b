"""One LMDB transaction of a Raft member: looking entries up, and carrying writes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lmdb

from ringcast.errors import BadFrame
from store.environment import WriteTransaction
from store.errors import ChunkDamaged, RecordDamaged, StoreDamaged, StoreMisuse
from store.raft_contract import Base, Entry, HardState, Install, Kind, Staged, Write
from store.raft_members import decode_members
from store.raft_rows import (
    EMPTY_MARKS,
    Marks,
    decode_entry,
    decode_hard,
    decode_marks,
    encode_entry,
    encode_hard,
    encode_marks,
)
from store.records import key_slot, seal, slot_key, unseal
from store.snapshot import decode_chunk

if TYPE_CHECKING:
    from store.raft_log import StateMachine

Databases = Mapping[str, "lmdb._Database"]

LOG: Final = "raft_log"
STABLE: Final = "raft_stable"
STAGING: Final = "raft_staging"
OWN: Final = (LOG, STABLE, STAGING)
MARKS_KEY: Final = b"marks"
HARD_KEY: Final = b"hard"
STAGED_KEY: Final = b"staged"
DISTRUST_KEY: Final = b"distrust"


def read_marks(transaction: lmdb.Transaction[memoryview], databases: Databases, folder: Path) -> Marks:
    """Raises StoreDamaged: without marks nobody knows what was acknowledged."""
    value = _unsealed(transaction, databases, MARKS_KEY)
    try:
        if value is not None:
            return decode_marks(value)
    except BadFrame as error:
        raise StoreDamaged(folder, f"the marks of the log: {error}") from error
    raise StoreDamaged(folder, "the marks of the log's base and end are bad or missing")


def write_marks(transaction: WriteTransaction, databases: Databases, marks: Marks) -> None:
    """Behind their checksum."""
    transaction.put(MARKS_KEY, seal(MARKS_KEY, encode_marks(marks)), db=databases[STABLE])


def read_hard(transaction: lmdb.Transaction[memoryview], databases: Databases, folder: Path) -> HardState | None:
    """None on a new disk. Raises StoreDamaged: a vote may be lost."""
    if transaction.get(HARD_KEY, db=databases[STABLE]) is None:
        return None
    value = _unsealed(transaction, databases, HARD_KEY)
    try:
        if value is not None:
            return decode_hard(value)
    except BadFrame as error:
        raise StoreDamaged(folder, f"term and vote: {error}") from error
    raise StoreDamaged(folder, "term and vote do not fit their checksum")


def read_distrust(transaction: lmdb.Transaction[memoryview], databases: Databases) -> str:
    """Why the tables cannot be trusted (R24), "" if they can."""
    if transaction.get(DISTRUST_KEY, db=databases[STABLE]) is None:
        return ""
    value = _unsealed(transaction, databases, DISTRUST_KEY)
    return "a row of the tables" if value is None else value.decode()


def _unsealed(transaction: lmdb.Transaction[memoryview], databases: Databases, key: bytes) -> bytes | None:
    sealed = transaction.get(key, db=databases[STABLE])
    return None if sealed is None else unseal(key, sealed)


class RaftLogView:
    """The log as one transaction sees it."""

    def __init__(self, transaction: lmdb.Transaction[Any], databases: Databases) -> None:
        self._transaction = transaction
        self._log = databases[LOG]

    def entry(self, index: int) -> Entry:
        """Raises RecordDamaged."""
        key = slot_key(index)
        return decode_entry(key, self._transaction.get(key, db=self._log))

    def entries(self, first: int, end: int) -> Iterator[Entry]:
        """Those of [first, end), all of which must be there. Raises RecordDamaged."""
        if first >= end:
            return
        with self._transaction.cursor(self._log) as cursor:
            found = cursor.set_range(slot_key(first))
            for index in range(first, end):
                if not found or bytes(cursor.key()) != slot_key(index):
                    raise RecordDamaged(index)
                yield decode_entry(slot_key(index), cursor.value())
                found = cursor.next()

    def check_bounds(self, marks: Marks, folder: Path) -> None:
        """No entry may lie outside the marks: they would not be the newest. Raises StoreDamaged."""
        with self._transaction.cursor(self._log) as cursor:
            for found in (cursor.first(), cursor.last()):
                key = bytes(cursor.key()) if found else b""
                if found and not (len(key) == 8 and marks.base.index < key_slot(key) <= marks.last):
                    raise StoreDamaged(folder, f"log row {key.hex()} lies outside ({marks.base.index}, {marks.last}]")

    def base_at(self, index: int, marks: Marks) -> Base:
        """What the log would stand on if it were trimmed up to an index of it."""
        if index == marks.base.index:
            return marks.base
        members = marks.base.members
        term = marks.base.term
        for entry in self.entries(marks.base.index + 1, index + 1):
            term = entry.term
            if entry.kind is Kind.MEMBERS:
                members = decode_members(entry.data)
        return Base(index, term, members)


class RaftTransaction:
    """A group of writes. `results` by index, of the commands that were applied up to `applied`.

    Whatever it raises undoes the whole group: StoreMisuse and ChunkDamaged are our own mistakes, or a disk that lies.
    """

    def __init__(
        self,
        transaction: WriteTransaction,
        databases: Databases,
        tables: Sequence[str],
        machine: StateMachine,
        marks: Marks,
        distrusted: str = "",
    ) -> None:
        self._transaction = transaction
        self._databases = databases
        self._tables = tables
        self._machine = machine
        self._before = self._marks = marks
        self._hard: HardState | None = None
        self.distrusted = distrusted
        self.results: dict[int, bytes] = {}
        self.applied = 0

    def carry_out(self, write: Write) -> None:
        """In the order of Write's fields."""
        if write.wipe:
            self._empty(EMPTY_MARKS)
            self._clear(STAGING)
            self._hard = None
            self._trust()
        if write.hard is not None:
            self._hard = write.hard
        if write.distrust:
            self.distrusted = write.distrust
        if write.found is not None:
            self._found(write.found)
        for chunk in write.staged:
            self._stage(chunk)
        if write.install is not None:
            self._install(write.install)
        if write.cut is not None:
            self._cut(write.cut)
        if write.append:
            self._append(write.append)
        if write.apply and not self.distrusted:
            self._apply(write.apply)
        if write.trim is not None and not self.distrusted:
            self._trim(write.trim)

    def finish(self) -> Marks:
        """Write hard state, marks, and whether the tables can be trusted; returns the marks."""
        if self.distrusted:
            sealed = seal(DISTRUST_KEY, self.distrusted.encode())
            self._transaction.put(DISTRUST_KEY, sealed, db=self._databases[STABLE])
        if self._hard is not None:
            self._transaction.put(HARD_KEY, seal(HARD_KEY, encode_hard(self._hard)), db=self._databases[STABLE])
        if self._marks != self._before:
            write_marks(self._transaction, self._databases, self._marks)
        return self._marks

    # -------------------------------------------------------------- the log

    def _append(self, entries: Sequence[Entry]) -> None:
        if entries[0].index != self._marks.last + 1:
            raise StoreMisuse(f"entry {entries[0].index} after entry {self._marks.last}")
        rows = [encode_entry(entry) for entry in entries]
        with self._transaction.cursor(self._databases[LOG]) as cursor:
            _, written = cursor.putmulti(rows, append=True)
        if written != len(rows):
            raise StoreMisuse(f"{len(rows) - written} entries are not above the ones that are there")
        self._marks = self._marks._replace(last=entries[-1].index, last_term=entries[-1].term)

    def _cut(self, first: int) -> None:
        """R9: never what is applied; tables that are not trusted cannot say that, but the node has (R24)."""
        if not self.distrusted and first <= self._machine.applied(self._transaction):
            raise StoreMisuse(f"a cut at {first} of what is applied")
        if first > self._marks.last:
            return
        self._delete(first, self._marks.last + 1)
        base = self._marks.base
        below = RaftLogView(self._transaction, self._databases).entry(first - 1) if first - 1 > base.index else base
        self._marks = self._marks._replace(last=first - 1, last_term=below.term)

    def _found(self, base: Base) -> None:
        """It stands above nothing."""
        applied = self._machine.applied(self._transaction)
        if applied or self._marks != EMPTY_MARKS:
            raise StoreMisuse(f"a first base on a disk that has {self._marks}, applied {applied}")
        self._machine.apply(self._transaction, [(index, b"") for index in range(1, base.index + 1)])
        self._marks = Marks(base, base.index, base.term)

    def _trim(self, base: Base) -> None:
        applied = self._machine.applied(self._transaction)
        if base.index > applied:
            raise StoreMisuse(f"a trim up to {base.index}, applied is {applied}")
        self._delete(self._marks.base.index + 1, base.index + 1)
        self._marks = self._marks._replace(base=base)

    def _delete(self, first: int, end: int) -> None:
        log = self._databases[LOG]
        for index in range(first, end):
            self._transaction.delete(slot_key(index), db=log)

    # -------------------------------------------------------------- the state

    def _apply(self, entries: Sequence[Entry]) -> None:
        commands = [(entry.index, entry.data if entry.kind is Kind.COMMAND else b"") for entry in entries]
        results = self._machine.apply(self._transaction, commands)
        for entry, result in zip(entries, results, strict=True):
            if entry.kind is Kind.COMMAND:
                self.results[entry.index] = result
        self.applied = entries[-1].index

    def _stage(self, chunk: Staged) -> None:
        name = chunk.snapshot.encode()
        if self._staged_name() != chunk.snapshot:
            self._clear(STAGING)
            self._transaction.put(STAGED_KEY, name, db=self._databases[STABLE])
        self._transaction.put(slot_key(chunk.index), chunk.data, db=self._databases[STAGING])

    def _staged_name(self) -> str | None:
        name = self._transaction.get(STAGED_KEY, db=self._databases[STABLE])
        return None if name is None else bytes(name).decode()

    def _install(self, install: Install) -> None:
        """The tables are the staged ones, the log is empty; what is not whole is refused whole."""
        name = install.snapshot
        if self._staged_name() != name:
            raise StoreMisuse(f"snapshot {name!r} is not staged, {self._staged_name()!r} is")
        if install.refill:
            for table in self._tables:
                self._clear(table)
        else:
            self._empty(Marks(install.base, install.base.index, install.base.term))
        last = False
        with self._transaction.cursor(self._databases[STAGING]) as cursor:
            for index, (key, data) in enumerate(cursor):
                if key_slot(key) != index or last:
                    raise ChunkDamaged(name, index, "it is missing, or one too many")
                chunk = decode_chunk(name, index, bytes(data), self._tables)
                last = chunk.last
                for table, rows in chunk.tables():
                    with self._transaction.cursor(self._databases[table]) as rows_cursor:
                        rows_cursor.putmulti(rows)
        if not last or self._machine.applied(self._transaction) != install.base.index:
            raise ChunkDamaged(name, 0, f"its chunks do not make the state at {install.base.index}")
        self._clear(STAGING)
        self._transaction.delete(STAGED_KEY, db=self._databases[STABLE])
        self._trust()

    def _trust(self) -> None:
        self.distrusted = ""
        self._transaction.delete(DISTRUST_KEY, db=self._databases[STABLE])

    def _empty(self, marks: Marks) -> None:
        for table in (LOG, *self._tables):
            self._clear(table)
        self._marks = marks

    def _clear(self, table: str) -> None:
        self._transaction.drop(self._databases[table], delete=False)
