"""Tables of the product store: names, keys, values, and checked access to them in one transaction.

| table | key | value |
|---|---|---|
| items | item | msgpack [seller, name, category, keywords, condition, price] |
| stock | item | left, reserved, sold, serial number of this putting on sale |
| by_seller | seller, item | |
| by_category | category, item | |
| by_keyword | category, keyword, item | |
| reservations | order | msgpack [state, due, lines [[item, quantity, price, serial], ...]] |
| held | due, order | |
| finished | due, order | |
| sessions | client | opened, acknowledged, last use |
| outcomes | client, sequence | digest of the request, its outcomes |
| used | last use, client | |
| meta | `applied` | applied index, time, horizon of sessions, sessions, serial numbers given |

Texts in keys end in a zero byte, which none of them holds; numbers in keys are big-endian, so that the order of bytes
is theirs. Values stand behind a CRC (records.py); index rows, whose values are empty, lead to rows that do. All of
them travel in snapshots.
"""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple

import lmdb

from ringcast.strict import dumps, loads
from store.errors import RowDamaged
from store.records import decode_row, encode_row

INDEXES: Final = ("by_seller", "by_category", "by_keyword", "held", "finished", "used")
VALUES: Final = ("items", "stock", "reservations", "sessions", "outcomes", "meta")
#: Everything that a snapshot holds, in the order that the state's digest takes it in.
TABLES: Final = VALUES + INDEXES

_APPLIED_KEY: Final = b"applied"
_ROW_BYTES_MAX: Final = 64 << 10
_U64: Final = Struct(">Q")
_STOCK: Final = Struct(">4Q")
_SESSION: Final = Struct(">3Q")
_META: Final = Struct(">5Q")

Databases = Mapping[str, "lmdb._Database"]


@dataclass(slots=True)
class Meta:
    """Where the state stands.

    `applied`: every entry up to it is in the tables. `time_us`: the highest time of an entry, microseconds since 1970.
    `horizon`: a session that was opened before it may have been forgotten. `sessions`: rows of that table.
    `serials`: so many items were put on sale so far.
    """

    applied: int = 0
    time_us: int = 0
    horizon: int = 0
    sessions: int = 0
    serials: int = 0


class StockRow(NamedTuple):
    """Units of one item. `serial` tells this putting on sale from an earlier one under the same id."""

    left: int
    reserved: int
    sold: int
    serial: int


class OrderLine(NamedTuple):
    """A line of a reservation."""

    item: str
    quantity: int
    price: int
    serial: int


class OrderRow(NamedTuple):
    """A reservation. `due_us`: while held, when it may be released; then, when it is forgotten."""

    state: str
    due_us: int
    lines: tuple[OrderLine, ...]


class ItemRow(NamedTuple):
    """What a seller says about an item."""

    seller: str
    name: str
    category: str
    keywords: tuple[str, ...]
    condition: str
    price: int


class SessionRow(NamedTuple):
    """A client that may send its requests again: those above `acknowledged` have their outcomes kept."""

    opened: int
    acknowledged: int
    used_us: int


@lru_cache(maxsize=16_384)
def prefix(*texts: str) -> bytes:
    """The beginning of an index key: each text and its zero byte."""
    return b"".join(text.encode() + b"\0" for text in texts)


def due_key(time_us: int, name: bytes) -> bytes:
    """Key of `held`, `finished` and `used`."""
    return _U64.pack(time_us) + name


def split_due_key(key: bytes) -> tuple[int, bytes]:
    """(time, name) of a `due_key`."""
    return int(_U64.unpack_from(key)[0]), key[_U64.size :]


def outcome_key(client: bytes, sequence: int) -> bytes:
    """Key of `outcomes`."""
    return client + _U64.pack(sequence)


class Tables:
    """The tables as one transaction sees them. Raises RowDamaged, and lmdb.Error as the transaction does."""

    def __init__(self, transaction: "lmdb.Transaction[Any]", databases: Databases, folder: Path) -> None:
        self._transaction = transaction
        self._databases = databases
        self._folder = folder
        #: Index rows that were marked and not written yet: many that are put in the order of their keys cost half.
        self._marked: dict[str, list[bytes]] = {}

    # ---- rows with a value

    def get(self, table: str, key: bytes) -> bytes | None:
        stored = self._transaction.get(key, db=self._databases[table])
        if stored is None:
            return None
        value = decode_row(key, stored)
        if value is None:
            raise self.damaged(table, key)
        return value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, encode_row(key, value), db=self._databases[table])

    def delete(self, table: str, key: bytes) -> None:
        """Also of an index row."""
        self.flush(table)
        self._transaction.delete(key, db=self._databases[table])

    def item(self, item: str) -> ItemRow | None:
        row = self.get("items", item.encode())
        return None if row is None else ItemRow._make(loads(row, _ROW_BYTES_MAX))

    def put_item(self, item: str, row: ItemRow) -> None:
        self.put("items", item.encode(), dumps(row))

    def stock(self, item: str) -> StockRow | None:
        row = self.get("stock", item.encode())
        return None if row is None else StockRow._make(_STOCK.unpack(row))

    def put_stock(self, item: str, row: StockRow) -> None:
        self.put("stock", item.encode(), _STOCK.pack(*row))

    def order(self, order: str) -> OrderRow | None:
        row = self.get("reservations", order.encode())
        if row is None:
            return None
        state, due_us, lines = loads(row, _ROW_BYTES_MAX)
        return OrderRow(state, due_us, tuple(map(OrderLine._make, lines)))

    def put_order(self, order: str, row: OrderRow) -> None:
        self.put("reservations", order.encode(), dumps(row))

    def session(self, client: bytes) -> SessionRow | None:
        row = self.get("sessions", client)
        return None if row is None else SessionRow._make(_SESSION.unpack(row))

    def put_session(self, client: bytes, row: SessionRow) -> None:
        self.put("sessions", client, _SESSION.pack(*row))

    def meta(self) -> Meta:
        row = self.get("meta", _APPLIED_KEY)
        return Meta() if row is None else Meta(*_META.unpack(row))

    def put_meta(self, meta: Meta) -> None:
        self.put("meta", _APPLIED_KEY, _META.pack(*astuple(meta)))

    # ---- rows of indexes

    def mark(self, table: str, key: bytes) -> None:
        """It is there from now on for `keys` and `delete` of this object, and for everybody after `flush`."""
        self._marked.setdefault(table, []).append(key)

    def flush(self, table: str | None = None) -> None:
        """Write what was marked, of one table or of all."""
        for name in [table] if table is not None else list(self._marked):
            keys = self._marked.pop(name, None)
            if keys:
                keys.sort()
                with self._transaction.cursor(self._databases[name]) as cursor:
                    cursor.putmulti([(key, b"") for key in keys])

    def keys(self, table: str, begin: bytes, start: bytes = b"", limit: int | None = None) -> list[bytes]:
        """What follows `begin` in the first `limit` keys that have it in front, from `begin + start` on."""
        self.flush(table)
        size = len(begin)
        with self._transaction.cursor(self._databases[table]) as cursor:
            found = cursor.set_range(begin + start) if begin or start else cursor.first()
            if not found:
                return []
            keys = cursor.iternext(keys=True, values=False)
            if limit is not None:
                keys = islice(keys, limit)
            taken: list[bytes] = []
            for key in keys:
                if key[:size] != begin:
                    break
                taken.append(bytes(key[size:]))
            return taken

    def damaged(self, table: str, key: bytes) -> RowDamaged:
        """The error of a row that is bad, or not there although another one leads to it."""
        return RowDamaged(self._folder, table, key)

    # ---- whole tables

    def entries(self, table: str) -> int:
        """Rows of a table."""
        return int(self._transaction.stat(self._databases[table])["entries"])

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) in order, as stored; one cursor, so nothing may be written meanwhile."""
        with self._transaction.cursor(self._databases[table]) as cursor:
            for key, value in cursor:
                yield bytes(key), bytes(value)
