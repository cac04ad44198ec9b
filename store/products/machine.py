"""The replicated state machine of the product store: committed entries in, results out, all in one transaction."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lmdb

from ringcast.errors import BadFrame, RingcastError
from ringcast.product_store.operations import decode_operation, encode_error, encode_outcome
from ringcast.product_store.wire import Operate
from store.errors import RowDamaged, StoreMisuse
from store.products.entries import decode_entry
from store.products.operations import Operations
from store.products.sessions import SESSIONS_MAX, Repeated, Sessions, digest_of
from store.products.tables import INDEXES, TABLES, Databases, Meta, Tables
from store.products.view import ProductView
from store.records import decode_row

#: The tables' time falls by more than this or not at all (D7): a wrong clock is further off, a right one is not.
SET_BACK_US = 60_000_000
#: The outcome of what has no value.
NOTHING = encode_outcome(None)


class ProductMachine:
    """The product tables of an environment. It keeps nothing between calls: a transaction that is given up is undone.

    `sessions_max` is part of the rules: the same on every replica.
    """

    def __init__(self, databases: Databases, folder: Path, *, sessions_max: int = SESSIONS_MAX) -> None:
        """`databases`: handles of TABLES at least; `folder` is named in errors."""
        self._databases = databases
        self._folder = folder
        self._sessions_max = sessions_max

    def apply(self, transaction: "lmdb.Transaction[Any]", entries: Iterable[tuple[int, bytes]]) -> list[bytes]:
        """Apply committed (index, bytes) in the order of the log, and return the result of each.

        The caller commits the transaction, which makes the changes and `applied` durable together, or gives it up. An
        entry at or below `applied` is not applied again, its result is b"". What an entry holds never raises: a refusal
        is a result. Raises StoreMisuse for an index that is left out, RowDamaged and lmdb.Error for the disk.
        """
        tables = self._tables(transaction)
        meta = tables.meta()
        before = meta.applied
        results = []
        for index, data in entries:
            if index <= meta.applied:
                results.append(b"")
                continue
            if index != meta.applied + 1:
                raise StoreMisuse(f"entry {index} after entry {meta.applied}: every index is applied, each in its turn")
            meta.applied = index
            results.append(self._apply_entry(tables, meta, data) if data else b"")
        if meta.applied != before:
            tables.put_meta(meta)
            tables.flush()
        return results

    def _apply_entry(self, tables: Tables, meta: Meta, data: bytes) -> bytes:
        try:
            entry = decode_entry(data)
        except BadFrame as error:
            return encode_error(error)
        sessions, operations = Sessions(tables, meta, self._sessions_max), Operations(tables, meta)
        by_us = meta.time_us - entry.time_us
        if entry.sets_back and by_us > SET_BACK_US:
            meta.time_us = entry.time_us
            sessions.set_back()
            operations.set_back(by_us)
        meta.time_us = max(meta.time_us, entry.time_us)
        sessions.end_idle()
        operations.forget_finished()
        return encode_outcome([_apply_request(request, sessions, operations) for request in entry.requests])

    def view(self, transaction: "lmdb.Transaction[Any]") -> ProductView:
        """What can be read, as of the transaction."""
        return ProductView(self._tables(transaction))

    def applied(self, transaction: "lmdb.Transaction[Any]") -> int:
        """The index of the newest entry that is applied, 0 = none."""
        return self._tables(transaction).meta().applied

    def check_row(self, table: str, key: bytes, value: bytes) -> None:
        """Rows with a value stand behind a checksum; those of an index have none, and lead to rows that do."""
        if value if table in INDEXES else decode_row(key, value) is None:
            raise RowDamaged(self._folder, table, key)

    def digest(self, transaction: "lmdb.Transaction[Any]") -> bytes:
        """16 bytes over the whole state: equal on replicas that applied the same entries, whatever LMDB's layout."""
        tables = self._tables(transaction)
        whole = hashlib.blake2b(digest_size=16)
        for table in TABLES:
            whole.update(b"%s %d;" % (table.encode(), tables.entries(table)))
            for key, value in tables.rows(table):
                whole.update(b"%d %d;%s%s" % (len(key), len(value), key, value))
        return whole.digest()

    def _tables(self, transaction: "lmdb.Transaction[Any]") -> Tables:
        return Tables(transaction, self._databases, self._folder)


def _apply_request(request: Operate, sessions: Sessions, operations: Operations) -> bytes:
    seal = digest_of(request)
    verdict = sessions.judge(request, seal)
    if isinstance(verdict, Repeated):
        return verdict.outcomes
    if verdict is not None:
        return encode_error(verdict)
    outcomes = encode_outcome([_apply_operation(data, operations) for data in request.operations])
    sessions.remember(request, seal, outcomes)
    return outcomes


def _apply_operation(data: bytes, operations: Operations) -> bytes:
    try:
        value = operations.apply(decode_operation(data))
        return NOTHING if value is None else encode_outcome(value)
    except BadFrame:
        # The decoder's own words may differ between its versions, and outcomes are part of the state.
        error = BadFrame(what="the operation", value=f"{len(data)} bytes", limit="one that every replica knows")
        return encode_error(error)
    except RingcastError as error:
        return encode_error(error)
