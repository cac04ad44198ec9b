"""`ringcast market audit`: what must be true of the two databases together (docs/marketplace.md, "Invariants").

Orders are under way while we look, so what looks wrong is looked at again until it is settled, or was given the time
that an order may take.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import ringcast
from replicas.customers.commands import AUDIT_PAGE_MAX, QUESTIONS, OrdersFrom
from replicas.market.orders import HOLD_S, ORDER_PREFIX
from replicas.products.gateway import wall_clock_us
from ringcast.endpoints import Cluster
from ringcast.product_store.client import ProductStore
from ringcast.product_store.limits import PAGE_MAX
from ringcast.product_store.operations import decode_outcome
from ringcast.product_store.types import OrderState, Reservation, Stock

#: What an order may take after its hold: a sweep, and a failover in the middle of it.
GRACE_S: Final = 10.0
#: Ended reservations are forgotten after a week.
_FORGOTTEN_US: Final = 7 * 24 * 3600 * 1_000_000
_LOOK_AGAIN_S: Final = 1.0
_AT_ONCE: Final = 256


@dataclass(slots=True)
class Audit:
    """What was found. `violations`: sentences, none if all is well. Units are those of all items on sale."""

    orders: int = 0
    recorded: int = 0
    refused: int = 0
    held: int = 0
    items: int = 0
    left: int = 0
    reserved: int = 0
    sold: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not self.violations

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"clean": self.clean, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Order:
    """As customers know it. `lines`: units by item; none of an order that was refused, and no time either."""

    name: str
    recorded: bool
    lines: Mapping[str, int]
    time_us: int


async def audit(
    cluster: Cluster, *, put_on_sale: Mapping[str, int] | None = None, settle_s: float = HOLD_S + GRACE_S
) -> Audit:
    """Check both databases. `put_on_sale`: units by item, where somebody knows (a seed, a test).

    `settle_s`: how long what looks wrong may be under way. Raises Unavailable.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settle_s
    async with ringcast.connect(cluster) as bus, ringcast.products(cluster) as store:
        while True:
            found = await _look(bus, store, put_on_sale or {})
            settled = found.clean and not found.held and not found.reserved
            if settled or loop.time() >= deadline:
                if found.held:
                    found.violations.append(f"{found.held} orders still hold stock after {settle_s:g} s")
                return found
            await asyncio.sleep(_LOOK_AGAIN_S)


async def _look(bus: ringcast.Bus, store: ProductStore, put_on_sale: Mapping[str, int]) -> Audit:
    found = Audit()
    # In this order: an order that is recorded later than we read it can only make us look again.
    stocks = await _stocks(store)
    orders = await _orders(bus)
    held = await _reservations(store, orders)
    wanted: Counter[str] = Counter()
    for order in orders:
        found.orders += 1
        found.recorded += order.recorded
        found.refused += not order.recorded
        reservation = held.get(order.name)
        found.held += reservation is not None and reservation.state == OrderState.HELD
        found.violations += _judge(order, reservation)
        wanted.update(order.lines)
    for item, stock in sorted(stocks.items()):
        found.items += 1
        found.left += stock.left
        found.reserved += stock.reserved
        found.sold += stock.sold
        found.violations += _judge_stock(item, stock, wanted[item], put_on_sale.get(item))
    missing = sorted(set(put_on_sale) - set(stocks))
    found.violations += [f"item {item}: it was put on sale, and is not there" for item in missing]
    found.violations += [
        f"order {one.order}: its stock was to be given back long ago"
        for one in await store.due(PAGE_MAX)
        if one.order.startswith(ORDER_PREFIX) and wall_clock_us() - one.due_us > GRACE_S * 1_000_000
    ]
    return found


def _judge(order: _Order, reservation: Reservation | None) -> list[str]:
    """Every recorded order has its stock, as it says; none other has."""
    if not order.recorded:
        confirmed = reservation is not None and reservation.state == OrderState.CONFIRMED
        return [f"order {order.name}: its stock is sold, and it is in no history"] if confirmed else []
    if reservation is None:
        forgotten = wall_clock_us() - order.time_us > _FORGOTTEN_US
        return [] if forgotten else [f"order {order.name}: it is in a history, and no stock was ever held for it"]
    if reservation.state == OrderState.RELEASED:
        return [f"order {order.name}: it is in a history, and its stock was given back"]
    if {line.item: line.quantity for line in reservation.lines} != order.lines:
        return [f"order {order.name}: the history says {dict(order.lines)}, the stock {reservation.lines}"]
    return []


def _judge_stock(item: str, stock: Stock, wanted: int, put: int | None) -> list[str]:
    found = []
    if min(stock) < 0:
        found.append(f"item {item}: {stock} is below zero")
    if stock.sold > wanted:
        found.append(f"item {item}: {stock.sold} units are sold, and {wanted} are in histories")
    if stock.sold + stock.reserved < wanted:
        found.append(f"item {item}: {wanted} units are in histories, {stock.sold} sold and {stock.reserved} reserved")
    if put is not None and sum(stock) != put:
        found.append(f"item {item}: {put} units were put on sale, {stock} are {sum(stock)}")
    return found


async def _orders(bus: ringcast.Bus) -> list[_Order]:
    found: list[_Order] = []
    cursor = ""
    while True:
        question = QUESTIONS.encode(OrdersFrom(cursor, AUDIT_PAGE_MAX))
        result = await bus.query("customers", {"questions": [question]})
        answers: Any = result["answers"]
        entries, cursor = decode_outcome(answers[0])
        found += [_Order(name, recorded, dict(lines), time_us) for name, recorded, lines, time_us in entries]
        if not cursor:
            return found


async def _stocks(store: ProductStore) -> dict[str, Stock]:
    names: list[str] = []
    cursor = ""
    while True:
        page = await store.items(cursor, limit=PAGE_MAX)
        names += [item.id for item in page.entries]
        cursor = page.next
        if not cursor:
            break
    found: dict[str, Stock] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        stocks = await asyncio.gather(*map(store.stock, some))
        found |= {name: stock for name, stock in zip(some, stocks, strict=True) if stock is not None}
    return found


async def _reservations(store: ProductStore, orders: list[_Order]) -> dict[str, Reservation]:
    found: dict[str, Reservation] = {}
    for start in range(0, len(orders), _AT_ONCE):
        some = orders[start : start + _AT_ONCE]
        for one in await asyncio.gather(*(store.reservation(order.name) for order in some)):
            if one is not None:
                found[one.order] = one
    return found
