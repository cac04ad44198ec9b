"""Tables of the customers: names, keys and values. They share one table of the store, told apart by their first byte.

| table | key | value |
|---|---|---|
| accounts | account | msgpack [party, name, salt, key, created, failures, locked until, sessions] |
| names | party, name | account |
| ratings | seller | up, down |
| logins | hash of a session | msgpack [account, party, last use] |
| idle | last use, hash of a session | |
| carts | buyer | msgpack [[item, quantity, name, seller, price], ...] |
| purchases | buyer, number | msgpack [order, time, [[item, quantity, name, seller, price, feedback], ...]] |
| orders | order | msgpack [number, buyer]; number 0: refused or abandoned |
| refused | time, order | |
| sessions, outcomes, used | | who sent which command before (store/products/sessions.py) |
| meta | | where the state stands |

Texts in keys end in a zero byte, which none of them holds; numbers in keys are big-endian. Times are microseconds of
the ring's clock.
"""

from dataclasses import astuple, dataclass
from struct import Struct
from typing import Any, Final, NamedTuple

from replicas.bus.rows import RowError
from replicas.customers.rows import TABLE, CustomerRows
from ringcast.errors import BadFrame
from ringcast.market.types import CartLine, Purchase, PurchaseLine
from ringcast.strict import dumps, loads
from store.products.tables import SessionRow

_PREFIXES: Final = {
    "accounts": b"a",
    "names": b"n",
    "ratings": b"r",
    "logins": b"l",
    "idle": b"i",
    "carts": b"c",
    "purchases": b"p",
    "orders": b"o",
    "refused": b"f",
    "sessions": b"s",
    "outcomes": b"t",
    "used": b"u",
    "meta": b"m",
}
_ROW_BYTES_MAX: Final = 256 << 10
_U64: Final = Struct(">Q")
_TWO: Final = Struct(">2Q")
_SESSION: Final = Struct(">3Q")
_META: Final = Struct(">7Q")
_META_KEY: Final = b"state"


@dataclass(slots=True)
class Meta:
    """Where the state stands.

    `applied`: offset of the newest command. `time_us`: of the newest slot that held one. `horizon`, `sessions`: as in
    store/products/sessions.py. `accounts`, `purchases`: given so far. `swept_us`: when what is idle was last looked at.
    """

    applied: int = 0
    time_us: int = 0
    horizon: int = 0
    sessions: int = 0
    accounts: int = 0
    purchases: int = 0
    swept_us: int = 0


class AccountRow(NamedTuple):
    """An account. `key`: scrypt of the password. `sessions`: hashes of those that are open, newest first."""

    party: str
    name: str
    salt: bytes
    key: bytes
    created_us: int
    failures: int
    locked_us: int
    sessions: tuple[bytes, ...]


class LoginRow(NamedTuple):
    """An open session; `used_us` is exact to a minute."""

    account: str
    party: str
    used_us: int


class OrderRow(NamedTuple):
    """What became of an order. `number`: of the buyer's purchase; 0: nothing was bought, and never will be."""

    number: int
    buyer: str


def text_key(*texts: str) -> bytes:
    """Each text and its zero byte."""
    return b"".join(text.encode() + b"\0" for text in texts)


def time_key(time_us: int, name: bytes) -> bytes:
    """Key of `idle`, `refused` and `used`."""
    return _U64.pack(time_us) + name


def split_time_key(key: bytes) -> tuple[int, bytes]:
    """(time, name) of a `time_key`."""
    return int(_U64.unpack_from(key)[0]), key[_U64.size :]


class CustomerTables:
    """Typed access to the rows. Raises RowError for a row that this version can't have written."""

    def __init__(self, rows: CustomerRows) -> None:
        self._rows = rows

    # ---- any table; the names are those that store/products/sessions.py uses

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._rows.get(_PREFIXES[table] + key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._rows.put(_PREFIXES[table] + key, value)

    def delete(self, table: str, key: bytes) -> None:
        self._rows.put(_PREFIXES[table] + key, None)

    def mark(self, table: str, key: bytes) -> None:
        """A row of an index."""
        self._rows.put(_PREFIXES[table] + key, b"\0")

    def keys(self, table: str, begin: bytes, start: bytes = b"", limit: int | None = None) -> list[bytes]:
        """What follows `begin` in the first `limit` keys that have it in front, from `begin + start` on."""
        return [key[len(begin) :] for key, _ in self.range(table, begin, start, limit)]

    def range(
        self, table: str, begin: bytes, start: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """(key, value) of the keys with `begin` in front, from `begin + start` on."""
        prefix = _PREFIXES[table] + begin
        found = self._rows.scan(prefix + start, _after(prefix), limit=limit)
        return [(key[1:], value) for key, value in found]

    # ---- exactly once

    def session(self, client: bytes) -> SessionRow | None:
        row = self.get("sessions", client)
        return None if row is None else SessionRow._make(_SESSION.unpack(row))

    def put_session(self, client: bytes, row: SessionRow) -> None:
        self.put("sessions", client, _SESSION.pack(*row))

    # ---- accounts

    def account(self, account: str) -> AccountRow | None:
        row = self.get("accounts", account.encode())
        return None if row is None else AccountRow._make(self._plain("accounts", row, 8))

    def put_account(self, account: str, row: AccountRow) -> None:
        self.put("accounts", account.encode(), dumps(tuple(row)))

    def account_named(self, party: str, name: str) -> str | None:
        row = self.get("names", text_key(party, name))
        return None if row is None else row.decode()

    def name_account(self, party: str, name: str, account: str) -> None:
        self.put("names", text_key(party, name), account.encode())

    def rating(self, seller: str) -> tuple[int, int] | None:
        row = self.get("ratings", seller.encode())
        return None if row is None else _TWO.unpack(row)

    def put_rating(self, seller: str, up: int, down: int) -> None:
        self.put("ratings", seller.encode(), _TWO.pack(up, down))

    def login(self, session: bytes) -> LoginRow | None:
        row = self.get("logins", session)
        return None if row is None else LoginRow._make(self._plain("logins", row, 3))

    def put_login(self, session: bytes, row: LoginRow) -> None:
        self.put("logins", session, dumps(tuple(row)))

    # ---- orders

    def cart(self, buyer: str) -> tuple[CartLine, ...]:
        row = self.get("carts", buyer.encode())
        return () if row is None else tuple(map(CartLine._make, self._plain("carts", row)))

    def put_cart(self, buyer: str, lines: tuple[CartLine, ...]) -> None:
        if lines:
            self.put("carts", buyer.encode(), dumps(tuple(map(tuple, lines))))
        else:
            self.delete("carts", buyer.encode())

    def purchase(self, buyer: str, number: int) -> Purchase | None:
        row = self.get("purchases", text_key(buyer) + _U64.pack(number))
        return None if row is None else self._purchase(row)

    def put_purchase(self, buyer: str, number: int, purchase: Purchase) -> None:
        self.put("purchases", text_key(buyer) + _U64.pack(number), dumps(tuple(purchase)))

    def purchases(self, buyer: str, below: int | None, limit: int) -> list[tuple[int, Purchase]]:
        """(number, purchase), newest first, of those with a number below `below`."""
        prefix = _PREFIXES["purchases"] + text_key(buyer)
        end = _after(prefix) if below is None else prefix + _U64.pack(below)
        found = self._rows.scan(prefix, end, limit=limit, reverse=True)
        return [(int(_U64.unpack(key[len(prefix) :])[0]), self._purchase(value)) for key, value in found]

    def _purchase(self, row: bytes) -> Purchase:
        order, time_us, lines = self._plain("purchases", row, 3)
        return Purchase(order, time_us, tuple(map(PurchaseLine._make, lines)))

    def order(self, order: str) -> OrderRow | None:
        row = self.get("orders", order.encode())
        return None if row is None else OrderRow._make(self._plain("orders", row, 2))

    def put_order(self, order: str, row: OrderRow) -> None:
        self.put("orders", order.encode(), dumps(tuple(row)))

    # ---- where it stands

    def meta(self) -> Meta:
        row = self.get("meta", _META_KEY)
        return Meta() if row is None else Meta(*_META.unpack(row))

    def put_meta(self, meta: Meta) -> None:
        self.put("meta", _META_KEY, _META.pack(*astuple(meta)))

    @staticmethod
    def _plain(table: str, row: bytes, fields: int | None = None) -> Any:
        try:
            found = loads(row, _ROW_BYTES_MAX)
        except BadFrame as error:
            raise RowError(f"{TABLE}, {table}", row[:16], error) from None
        if type(found) is not tuple or (fields is not None and len(found) != fields):
            raise RowError(f"{TABLE}, {table}", row[:16], f"not {fields} fields")
        return found


def _after(prefix: bytes) -> bytes:
    """The least key behind those that begin with `prefix`; no prefix is all 255."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))
