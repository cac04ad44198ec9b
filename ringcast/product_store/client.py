"""The product store's asynchronous client: `async with ringcast.products(cluster) as store`."""

# ruff: noqa: ASYNC109 - our `timeout` raises NotInQuorum where that is the reason, which asyncio.timeout can't know

import uuid
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import zmq

from ringcast import wire
from ringcast.endpoints import Cluster, Keys, find
from ringcast.following import TIMEOUT_S, Following
from ringcast.product_store.admin import Instruction
from ringcast.product_store.limits import KEYWORDS_MAX, LINES_MAX, PAGE_MAX, illegal
from ringcast.product_store.operations import (
    BySeller,
    ChangePrice,
    ChangeQuantity,
    Confirm,
    Due,
    Get,
    Items,
    Operation,
    Put,
    Question,
    Release,
    Remove,
    ReservationOf,
    Reserve,
    Search,
    StatusOf,
    StockOf,
    Sweep,
    encode_operation,
)
from ringcast.product_store.session import ProductSession
from ringcast.product_store.types import Condition, Item, Match, Page, Reservation, SoldLine, Stock
from ringcast.strict import Check, Plain, array, integer, many, mapping, plain, text

T = TypeVar("T")

HOLD_S: Final = 900.0
PAGE: Final = 100

#: "linearizable": as of the call or later, after a round to a quorum. "local": what the replica has applied.
Consistency: TypeAlias = Literal["linearizable", "local"]

_CONSISTENCY: Final = {"linearizable": wire.LINEARIZABLE, "local": wire.LOCAL}
_U63, _TEXT = integer(), text(256)
_ITEM = array(_TEXT, _TEXT, _TEXT, _TEXT, many(_TEXT, KEYWORDS_MAX), _TEXT, _U63, _U63)
_PAGE = array(many(_ITEM, PAGE_MAX), _TEXT)
_MATCHES = array(many(array(_ITEM, _U63), PAGE_MAX), _TEXT)
_STOCK = array(_U63, _U63, _U63)
_RESERVATION = array(_TEXT, _TEXT, many(array(_TEXT, _U63, _U63), LINES_MAX), _U63)
_ORDERS = many(_TEXT, PAGE_MAX)


def products(cluster: Cluster, *, timeout: float = TIMEOUT_S, keys: Keys = None) -> "ProductStore":
    """A product store to enter with `async with`.

    cluster: endpoints of its replicas (`["tcp://host:port", ...]`, or one string with commas), or the path of a
        `cluster.json`, or of the folder it is in.
    timeout: seconds, for entering and for each call that names no other; `math.inf` = none.
    keys: as of `ringcast.connect`.

    Raises Refused if `cluster` cannot be read, KeysUnusable. Entering raises Unreachable, HandshakeRefused,
    WrongCluster, UnsupportedVersion.
    """
    return ProductStore(cluster, timeout=timeout, keys=keys)


class ProductStore(Following[ProductSession]):
    """One client of the product store: it follows the leader, fails over by itself, and each change is applied once.

    Calls of many tasks share frames. Every call raises IllegalValue before anything is sent, and Timeout (a change may
    have been applied then, once at most) or NotInQuorum; changes raise OutcomeUnknown if the session ended meanwhile.
    """

    _what = "product store"

    def __init__(self, cluster: Cluster, *, timeout: float, keys: Keys = None) -> None:
        super().__init__(find(cluster, "products", keys), timeout)

    def _make_session(self, context: "zmq.Context[zmq.Socket[bytes]]") -> ProductSession:
        return ProductSession(context, self._endpoints)

    async def _change(self, operation: Operation, timeout: float | None) -> Any:
        session, packed = self._live, encode_operation(operation)
        what = f"{type(operation).__name__} of {operation[0]}"
        return await session.change(what, packed, self._seconds(timeout))

    async def _ask(
        self, question: Question | Instruction, consistency: Consistency, timeout: float | None, *, alone: bool = False
    ) -> Any:
        session, packed = self._live, encode_operation(question)
        if consistency not in _CONSISTENCY:
            illegal("consistency", consistency, "'linearizable' or 'local'")
        how, seconds = _CONSISTENCY[consistency], self._seconds(timeout)
        return await session.ask(type(question).__name__, packed, how, seconds, alone=alone)

    # ---- items

    async def put(
        self,
        name: str,
        *,
        seller: str,
        category: str,
        price: int,
        quantity: int,
        keywords: Iterable[str] = (),
        condition: str = Condition.NEW,
        id: str | None = None,  # noqa: A002 - what everybody calls it
        timeout: float | None = None,
    ) -> str:
        """Put `quantity` units on sale at `price` each, in minor units; returns the item's id, a random one by default.

        Raises ItemExists. A name, category or keyword is taken as it is written: 'Red' is not 'red'.
        """
        item = uuid.uuid4().hex if id is None else id
        put = Put(item, seller, name, category, tuple(keywords), str(condition), price, quantity)
        await self.put_item(put, timeout=timeout)
        return item

    async def put_item(self, put: Put, *, timeout: float | None = None) -> None:
        """As `put`, of a row that was read from a file (product_store/rows.py)."""
        await self._change(put, timeout)

    async def get(
        self, item: str, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Item | None:
        """An item, None if there is none of this id on sale."""
        value = await self._ask(Get(item), consistency, timeout)
        return None if value is None else item_of(value)

    async def stock(
        self, item: str, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Stock | None:
        """Units of an item left, reserved and sold."""
        value = await self._ask(StockOf(item), consistency, timeout)
        return None if value is None else Stock._make(checked(_STOCK, value))

    async def change_price(self, item: str, seller: str, price: int, *, timeout: float | None = None) -> None:
        """A new price, for orders that are reserved from now on. Raises UnknownItem, NotTheSeller."""
        await self._change(ChangePrice(item, seller, price), timeout)

    async def change_quantity(self, item: str, seller: str, change: int, *, timeout: float | None = None) -> int:
        """Put so many units more on sale, or take some off (change < 0); returns how many are left.

        Raises UnknownItem, NotTheSeller, OutOfStock.
        """
        value = await self._change(ChangeQuantity(item, seller, change), timeout)
        return int(checked(_U63, value))

    async def remove(self, item: str, seller: str, *, timeout: float | None = None) -> int:
        """Take an item off sale; returns how many units were left. Raises UnknownItem, NotTheSeller."""
        return int(checked(_U63, await self._change(Remove(item, seller), timeout)))

    async def by_seller(
        self,
        seller: str,
        cursor: str = "",
        *,
        limit: int = PAGE,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> Page[Item]:
        """A page of a seller's items, by id; go on with `page.next` until it is ""."""
        return items_of(await self._ask(BySeller(seller, cursor, limit), consistency, timeout, alone=True))

    async def items(
        self,
        cursor: str = "",
        *,
        limit: int = PAGE,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> Page[Item]:
        """A page of all items on sale, by id; go on with `page.next` until it is ""."""
        return items_of(await self._ask(Items(cursor, limit), consistency, timeout, alone=True))

    async def search(
        self,
        category: str,
        keywords: Iterable[str] = (),
        cursor: str = "",
        *,
        limit: int = PAGE,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> Page[Match]:
        """A page of a category's items with at least one of the keywords (all, if none is given), best match first.

        Best: has the most of them; then by id. Go on with `page.next` until it is "".
        """
        question = Search(category, tuple(keywords), cursor, limit)
        return matches_of(await self._ask(question, consistency, timeout, alone=True))

    # ---- orders

    async def reserve(
        self, order: str, lines: Iterable[tuple[str, int]], *, hold_s: float = HOLD_S, timeout: float | None = None
    ) -> Reservation:
        """Take stock for an order: all lines of (item, quantity), or none; once for each order id.

        It is held for `hold_s` seconds at least; then a sweep may release it.
        Raises UnknownItem, OutOfStock, OrderReused, OrderReleased.
        """
        asked = tuple((item, quantity) for item, quantity in lines)
        return _reservation(await self._change(Reserve(order, asked, round(hold_s * 1_000)), timeout))

    async def confirm(self, order: str, *, timeout: float | None = None) -> Reservation:
        """The order's units are sold; late is no error until they are released. Raises UnknownOrder, OrderReleased."""
        return _reservation(await self._change(Confirm(order), timeout))

    async def release(self, order: str, *, timeout: float | None = None) -> Reservation:
        """Give the order's units back. Raises UnknownOrder, OrderConfirmed."""
        return _reservation(await self._change(Release(order), timeout))

    async def reservation(
        self, order: str, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Reservation | None:
        """A reservation; None if there never was one, or if it ended more than a week ago."""
        value = await self._ask(ReservationOf(order), consistency, timeout)
        return None if value is None else _reservation(value)

    async def due(self, limit: int = PAGE, *, timeout: float | None = None) -> tuple[Reservation, ...]:
        """Held orders whose time is over, oldest first: confirm or release each."""
        value = await self._ask(Due(limit), "linearizable", timeout, alone=True)
        return tuple(map(_reservation, checked(many(_RESERVATION, PAGE_MAX), value)))

    async def sweep(self, limit: int = PAGE, *, timeout: float | None = None) -> tuple[str, ...]:
        """Release up to `limit` held orders whose time is over, oldest first; returns their ids."""
        found: tuple[str, ...] = checked(_ORDERS, await self._change(Sweep(limit), timeout))
        return found

    # ---- the replica

    async def status(self, *, consistency: Consistency = "local", timeout: float | None = None) -> dict[str, Plain]:
        """What the replica we are connected to says about itself and its group, at once and without a quorum.

        "linearizable": what the leader says, once a quorum has confirmed that it leads.
        """
        value = await self._ask(StatusOf(), consistency, timeout)
        found: dict[str, Plain] = checked(mapping(plain, 64), value)
        return found

    async def instruct(
        self, instruction: Instruction, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Plain:
        """Have an operator's instruction carried out (product_store/admin.py has each one's answer and errors).

        "linearizable": by the leader, after a round to a quorum; "local": by the replica we are connected to.
        """
        value = await self._ask(instruction, consistency, timeout, alone=True)
        plain("the answer", value)
        return value  # type: ignore[no-any-return]


def checked(check: Check, value: T) -> T:
    """The value of an outcome. Raises BadFrame."""
    check("the answer", value)
    return value


def item_of(value: Any) -> Item:
    """An item as an outcome holds it. Raises BadFrame."""
    return Item._make(checked(_ITEM, value))


def items_of(value: Any) -> Page[Item]:
    """A page of items as an outcome holds it. Raises BadFrame."""
    entries, more = checked(_PAGE, value)
    return Page(tuple(map(item_of, entries)), more)


def matches_of(value: Any) -> Page[Match]:
    """A page of matches as an outcome holds it. Raises BadFrame."""
    entries, more = checked(_MATCHES, value)
    return Page(tuple(Match(item_of(item), matched) for item, matched in entries), more)


def _reservation(value: Any) -> Reservation:
    order, state, lines, due_us = checked(_RESERVATION, value)
    return Reservation(order, state, tuple(map(SoldLine._make, lines)), due_us)
