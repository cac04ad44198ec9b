"""Clients of the marketplace that call every function, one call at a time each, and check every answer.

A client is a seller and a buyer in one task. A *round* calls each of the twenty functions at least once; what was
acknowledged is held against what the marketplace says later, so a lost or repeated change shows.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from ringcast.errors import RingcastError
from ringcast.market import Buyer, Seller

T = TypeVar("T")

PASSWORD = "correct horse"  # noqa: S105 - of accounts that live for one run
CALL_S = 30.0
#: The functions as the table calls them, in the order of docs/marketplace.md.
FUNCTIONS = (
    "seller: create account",
    "seller: login",
    "seller: logout",
    "seller: put an item for sale",
    "seller: change the sale price",
    "seller: remove units from sale",
    "seller: display own items",
    "seller: get own rating",
    "buyer: create account",
    "buyer: login",
    "buyer: logout",
    "buyer: search items",
    "buyer: add item to the cart",
    "buyer: remove item from the cart",
    "buyer: clear the cart",
    "buyer: display the cart",
    "buyer: make purchase",
    "buyer: give feedback",
    "buyer: get a seller's rating",
    "buyer: get purchase history",
)
#: Functions whose time is mostly that of scrypt.
HASHED = frozenset(name for name in FUNCTIONS if name.endswith(("create account", "login")))
READS = frozenset(
    name
    for name in FUNCTIONS
    if name.endswith(("own items", "rating", "search items", "display the cart", "purchase history"))
)


class Samples:
    """What all clients of a window saw. `seconds`: by function. `ended`: when calls were answered, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
        self.ended: list[float] = []
        self.errors: list[str] = []
        self.lost: list[str] = []

    async def timed(self, name: str, call: Awaitable[T]) -> T:
        """The call's answer; its time is kept. An error is kept and raised."""
        started = perf_counter()
        try:
            found = await call
        except RingcastError as error:
            self.errors.append(f"{name}: {error}")
            raise
        ended = perf_counter()
        self.seconds[name].append(ended - started)
        self.ended.append(ended)
        return found

    def expect(self, what: str, found: object, wanted: object) -> None:
        """What was acknowledged must be there."""
        if found != wanted:
            self.lost.append(f"{what}: {found!r} instead of {wanted!r}")


class Worker:
    """One client. `prefix`: its accounts begin with it, its items' category is it."""

    def __init__(self, cluster: Path, prefix: str, samples: Samples) -> None:
        self.seller = Seller(cluster, timeout=CALL_S)
        self.buyer = Buyer(cluster, timeout=CALL_S)
        self.units: dict[str, int] = {}
        self._prefix = prefix
        self._samples = samples
        self._rounds = count()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Worker":
        await self._open.enter_async_context(self.seller)
        await self._open.enter_async_context(self.buyer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def round(self) -> None:
        """Every function, with new accounts."""
        name = f"{self._prefix}.{next(self._rounds)}"
        timed, seller = self._samples.timed, self.seller
        await timed("seller: create account", seller.create_account(name, PASSWORD))
        account = await timed("seller: login", seller.login(name, PASSWORD))
        item = await self._sell(account)
        await self._buy(name, account, item)
        rating = await timed("seller: get own rating", seller.get_rating())
        self._samples.expect("the rating", tuple(rating), (1, 0))
        await timed("seller: logout", seller.logout())

    async def _sell(self, account: str) -> str:
        timed, expect, seller = self._samples.timed, self._samples.expect, self.seller
        put = seller.put_item_for_sale(
            "Desk lamp", category=self._prefix, price=1_999, quantity=10, keywords=("light", "desk")
        )
        item = await timed("seller: put an item for sale", put)
        await timed("seller: change the sale price", seller.change_price(item, 1_499))
        left = await timed("seller: remove units from sale", seller.remove_units(item, 3))
        expect("units left", left, 7)
        self.units[item] = 7
        page = await timed("seller: display own items", seller.display_items())
        expect("own items", [(one.id, one.price, one.quantity) for one in page.entries], [(item, 1_499, 7)])
        expect("the seller", [one.seller for one in page.entries], [account])
        return item

    async def _buy(self, name: str, seller: str, item: str) -> None:
        timed, expect, buyer = self._samples.timed, self._samples.expect, self.buyer
        await timed("buyer: create account", buyer.create_account(name, PASSWORD))
        await timed("buyer: login", buyer.login(name, PASSWORD))
        await timed("buyer: search items", buyer.search_items(self._prefix, ("light", "desk"), limit=10))
        expect("units added", await timed("buyer: add item to the cart", buyer.add_to_cart(item, 3)), 3)
        expect("units in the cart", await timed("buyer: remove item from the cart", buyer.remove_from_cart(item)), 2)
        cart = await timed("buyer: display the cart", buyer.display_cart())
        expect("the cart", [(line.item, line.quantity) for line in cart.lines], [(item, 2)])
        purchase = await timed("buyer: make purchase", buyer.make_purchase())
        expect("what was bought", [(line.item, line.quantity) for line in purchase.lines], [(item, 2)])
        await timed("buyer: give feedback", buyer.give_feedback(purchase.order, item, up=True))
        await timed("buyer: get a seller's rating", buyer.get_seller_rating(seller))
        history = await timed("buyer: get purchase history", buyer.get_purchase_history())
        expect("the history", [one.order for one in history.entries], [purchase.order])
        await buyer.add_to_cart(item)
        await timed("buyer: clear the cart", buyer.clear_cart())
        await timed("buyer: logout", buyer.logout())

    # ---- the mix: 70% reads, no passwords

    async def enter(self) -> None:
        """Accounts and an item, for `mix`; nothing of it is timed."""
        name = f"{self._prefix}.mix"
        await self.seller.create_account(name, PASSWORD)
        self._account = await self.seller.login(name, PASSWORD)
        await self.buyer.create_account(name, PASSWORD)
        await self.buyer.login(name, PASSWORD)
        self._item = await self.seller.put_item_for_sale("Lamp", category=self._prefix, price=1, quantity=1_000_000)
        self.units[self._item] = 1_000_000

    async def mix(self, stopped: asyncio.Event) -> None:
        """Seven reads and three changes, again and again."""
        timed, seller, buyer, item = self._samples.timed, self.seller, self.buyer, self._item
        while not stopped.is_set():
            await timed("buyer: search items", buyer.search_items(self._prefix, (), limit=10))
            await timed("buyer: add item to the cart", buyer.add_to_cart(item))
            await timed("buyer: display the cart", buyer.display_cart())
            await timed("buyer: get a seller's rating", buyer.get_seller_rating(self._account))
            await timed("seller: change the sale price", seller.change_price(item, 2))
            await timed("seller: display own items", seller.display_items(limit=10))
            await timed("buyer: get purchase history", buyer.get_purchase_history())
            await timed("buyer: make purchase", buyer.make_purchase())
            await timed("seller: get own rating", seller.get_rating())
            await timed("buyer: display the cart", buyer.display_cart())


async def hashes(workers: list[Worker]) -> dict[tuple[str, int], tuple[int, float]]:
    """Passwords hashed so far, and their seconds in all with the queue, by interface that a client is connected to."""
    found: dict[tuple[str, int], tuple[int, float]] = {}
    for worker in workers:
        for client in (worker.seller, worker.buyer):
            status: dict[str, Any] = await client.status()
            made = status["hashes"]
            found[status["party"], status["replica"]] = (made["made"], made["seconds"])
    return found


def mean_hash_s(
    before: dict[tuple[str, int], tuple[int, float]], after: dict[tuple[str, int], tuple[int, float]]
) -> float | None:
    """The mean time of a password's hash in between; of an interface that was killed, since it started again."""
    made, seconds = 0, 0.0
    for interface, (more, longer) in after.items():
        earlier = before.get(interface, (0, 0.0))
        if earlier[0] > more:
            earlier = (0, 0.0)
        made += more - earlier[0]
        seconds += longer - earlier[1]
    return seconds / made if made else None
