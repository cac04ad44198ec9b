"""A purchase across the two databases, as a saga (docs/marketplace.md): reserve, record, confirm.

The order's id comes from the call, so whatever interface repeats it works on the same order. The purchase is made in
the moment in which customers record it; before that moment anybody may give the order up, by an ordered command that
keeps a late record out, and after it anybody may confirm. An interface that dies leaves stock that is held until its
time is over; then the sweepers of the others ask the customers what became of the order.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeAlias

import structlog

from replicas.customers import commands as c
from replicas.market.links import CustomersLink, ProductsLink
from ringcast.errors import OrderReleased, OrderReused, Refused, RingcastError, Unavailable, UnknownOrder
from ringcast.market.errors import EmptyCart, OrderAbandoned
from ringcast.market.wire import Call
from ringcast.product_store.limits import PAGE_MAX
from ringcast.product_store.types import Reservation

#: How long stock is held for an order that nobody finishes.
HOLD_S: Final = 15.0
SWEEP_S: Final = 1.0
#: By it the sweeper knows the marketplace's orders among others in the same store.
ORDER_PREFIX: Final = "mk-"

#: (item, quantity) of each line.
Cart: TypeAlias = Sequence[tuple[str, int]]


def order_of(call: Call) -> str:
    """The order of a purchase."""
    name = call.client + call.sequence.to_bytes(8, "big")
    return ORDER_PREFIX + hashlib.blake2b(name, digest_size=16, person=b"ringcast-order").hexdigest()


class Purchases:
    """Makes purchases, and finishes those that others began. `counters`: what became of them."""

    def __init__(self, customers: CustomersLink, products: ProductsLink) -> None:
        self.counters: dict[str, int] = {"made": 0, "refused": 0, "finished": 0, "released": 0}
        self._customers = customers
        self._products = products
        self._log = structlog.get_logger()
        self._tasks: set[asyncio.Task[None]] = set()

    async def make(self, call: Call, session: bytes, cart: Awaitable[Cart]) -> Any:
        """The purchase of a cart, which is looked at here. Raises why nothing was bought, Unavailable."""
        order = order_of(call)
        try:
            held = await self._reserve(order, await cart)
        except Refused as error:
            purchase = await self._refuse(call, order, error)
        else:
            lines = tuple((line.item, line.quantity, line.price) for line in held.lines)
            try:
                purchase = await self._customers.command(c.Record(session, order, lines), call)
            except Refused:
                # Whatever the reason, the order has an end: an earlier attempt may have recorded it.
                self._later(self.finish(order))
                self.counters["refused"] += 1
                raise
        self.counters["made"] += 1
        self._later(self._confirm(order))
        return purchase

    async def _reserve(self, order: str, cart: Cart) -> Reservation:
        if not cart:
            raise EmptyCart
        try:
            return await self._products.reserve(order, cart, hold_s=HOLD_S)
        except OrderReused:
            # An earlier attempt reserved another cart. Customers compare: it is recorded already, or it never will be.
            held = await self._products.reservation(order)
            if held is None:
                raise OrderAbandoned(order=order) from None
            return held
        except OrderReleased:
            raise OrderAbandoned(order=order) from None

    async def _refuse(self, call: Call, order: str, error: Refused) -> Any:
        """The first attempt that is ordered counts: this refusal, or what another one said."""
        try:
            return await self._customers.command(c.Refuse(order, error.code, dict(error.details)), call)
        except Refused:
            self.counters["refused"] += 1
            if not isinstance(error, EmptyCart):
                self._later(self.finish(order))
            raise

    # ---- the end of an order

    async def _confirm(self, order: str) -> None:
        await self._products.confirm(order)

    async def finish(self, order: str) -> None:
        """Confirm the order if it is recorded; else see to it that it never is, and give its stock back."""
        try:
            if await self._customers.command(c.Abandon(order)):
                await self._products.confirm(order)
                self.counters["finished"] += 1
            else:
                await self._products.release(order)
                self.counters["released"] += 1
        except UnknownOrder:
            return  # it never held anything

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Any) -> None:
        """What fails here is done by a sweeper, when the stock's time is over."""
        try:
            await work
        except RingcastError as error:
            level = self._log.info if isinstance(error, Unavailable) else self._log.error
            level("order_left_to_sweeper", why=str(error))

    async def sweep(self) -> None:
        """Finish what is due, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))
            try:
                due = await self._products.due(PAGE_MAX)
            except RingcastError:
                continue
            for one in due:
                if one.order.startswith(ORDER_PREFIX):
                    await self._guarded(self.finish(one.order))

    async def drained(self) -> None:
        """Wait for what was begun."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
