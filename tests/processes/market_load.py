"""Sellers and buyers on a marketplace whose processes are killed: every answer is held against what must be."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from replicas.raft.simulator.linearizable import Operation, violations
from ringcast.errors import OutOfStock
from ringcast.market import (
    Buyer,
    EmptyCart,
    NameTaken,
    NotInCart,
    Purchase,
    Seller,
)
from ringcast.market import CartChanged as Changed

PASSWORD = "correct horse"
CALL_S = 25.0
CATEGORY = "home"
PLENTY, FEW = 1_000_000, 40


class MarketLoad:
    """`loners` have a cart each, which must be what they think it is; `sharers` use one account at the same time, and a
    seller and his items: all of that is recorded for the checker. A call that fails stops the load: `stop` raises it.

    `purchases`: acknowledged. `units`: put on sale by item, less what was removed.
    """

    def __init__(self, cluster: Path, loners: int = 3, sharers: int = 3) -> None:
        self.cluster = cluster
        self.purchases: list[Purchase] = []
        self.units: Counter[str] = Counter()
        self.history: list[Operation] = []
        self.calls = 0
        self._loners, self._sharers = loners, sharers
        self._values = count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self._items: list[str] = []
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Accounts and items, then everybody at once; waits for the first purchases."""
        async with Seller(self.cluster, timeout=CALL_S) as seller:
            await seller.create_account("sue", PASSWORD)
            await seller.login("sue", PASSWORD)
            for units in (PLENTY, PLENTY, FEW):
                item = await seller.put_item_for_sale("Lamp", category=CATEGORY, price=0, quantity=units)
                self._items.append(item)
                self.units[item] = units
        async with Buyer(self.cluster, timeout=CALL_S) as buyer:
            await buyer.create_account("shared", PASSWORD)
        self._tasks = [asyncio.create_task(self._loner(number)) for number in range(self._loners)]
        self._tasks += [asyncio.create_task(self._sharer(number)) for number in range(self._sharers)]
        self._tasks += [asyncio.create_task(self._seller(number)) for number in range(2)]
        await self.more(3)

    async def more(self, purchases: int) -> None:
        """Wait until so many more are acknowledged. Raises what stopped the load."""
        wanted = len(self.purchases) + purchases
        while len(self.purchases) < wanted:
            done = next((task for task in self._tasks if task.done()), None)
            if done is not None:
                done.result()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End, and hold the histories against the checker."""
        self._ending = True
        await asyncio.gather(*self._tasks)
        wrong = violations(self.history)
        assert not wrong, wrong

    # ---- one cart each: exactly once

    async def _loner(self, number: int) -> None:
        random, name = Random(number), f"loner-{number}"
        cart: Counter[str] = Counter()
        bought: list[str] = []
        async with Buyer(self.cluster, timeout=CALL_S) as buyer:
            await buyer.create_account(name, PASSWORD)
            await buyer.login(name, PASSWORD)
            while not self._ending:
                self.calls += 1
                item = random.choice(self._items)
                match random.randrange(8):
                    case 0 | 1 | 2:
                        units = random.randint(1, 3)
                        cart[item] += units
                        assert await buyer.add_to_cart(item, units) == cart[item]
                    case 3:
                        try:
                            left = await buyer.remove_from_cart(item)
                        except NotInCart:
                            assert not cart[item]
                        else:
                            cart[item] -= 1
                            assert left == cart[item]
                    case 4:
                        found = await buyer.display_cart()
                        assert Counter({line.item: line.quantity for line in found.lines}) == +cart
                    case 5:
                        page = await buyer.get_purchase_history(limit=5)
                        assert [one.order for one in page.entries] == bought[-1:-6:-1]
                    case _:
                        await self._buy(buyer, cart, bought)

    async def _buy(self, buyer: Buyer, cart: Counter[str], bought: list[str]) -> None:
        try:
            purchase = await buyer.make_purchase()
        except EmptyCart:
            assert not +cart
        except OutOfStock as error:
            await buyer.remove_from_cart(str(error.details["item"]), cart.pop(str(error.details["item"])))
        else:
            assert Counter({line.item: line.quantity for line in purchase.lines}) == +cart
            cart.clear()
            bought.append(purchase.order)
            self.purchases.append(purchase)
            await buyer.give_feedback(purchase.order, purchase.lines[0].item, up=True)

    # ---- shared: linearizable

    async def _recorded(self, key: str, call: Callable[[], Awaitable[Operation | None]]) -> None:
        """`call` says what its answer means for a register."""
        invoked = self._loop.time()
        found = await call()
        self.calls += 1
        if found is not None:
            self.history.append(found._replace(key=key, invoked=invoked, returned=self._loop.time()))

    async def _sharer(self, number: int) -> None:
        random, item = Random(100 + number), self._items[0]
        async with Buyer(self.cluster, timeout=CALL_S) as buyer:
            await buyer.login("shared", PASSWORD)
            for name in count():
                if self._ending:
                    return
                await self._recorded("cart", lambda: self._use_cart(buyer, item, random))
                await self._recorded("price", lambda: _price(buyer, item))
                if name % 5 == number % 5:
                    # Small numbers that all of them use: who is first has the name.
                    await self._recorded(f"account {name // 15}", partial(_take_name, buyer, name // 15))
                await asyncio.sleep(random.uniform(0, 0.04))

    async def _use_cart(self, buyer: Buyer, item: str, random: Random) -> Operation | None:
        units = random.randint(1, 3)
        match random.randrange(6):
            case 0 | 1:
                held = await buyer.add_to_cart(item, units)
                return _moved(held - units, held)
            case 2:
                try:
                    left = await buyer.remove_from_cart(item, units)
                except NotInCart as error:
                    return _read(int(str(error.details["held"])))
                return _moved(left + units, left)
            case 3:
                await buyer.clear_cart()
                return _wrote(0)
            case 4:
                return _read(sum(line.quantity for line in (await buyer.display_cart()).lines))
        try:
            purchase = await buyer.make_purchase()
        except EmptyCart:
            return _read(0)
        except Changed:
            return None
        self.purchases.append(purchase)
        return _moved(purchase.lines[0].quantity, 0)

    async def _seller(self, number: int) -> None:
        """Prices are a register; the last units of an item that nobody buys are counted down."""
        random = Random(200 + number)
        async with Seller(self.cluster, timeout=CALL_S) as seller:
            await seller.login("sue", PASSWORD)
            own = await seller.put_item_for_sale("Desk", category="desks", price=1, quantity=PLENTY)
            left = PLENTY
            while not self._ending:
                price = next(self._values)
                await self._recorded("price", partial(self._change_price, seller, price))
                units = random.randint(1, 3)
                left -= units
                assert await seller.remove_units(own, units) == left, "each change is applied once"
                await asyncio.sleep(random.uniform(0, 0.05))
            self.units[own] = left

    async def _change_price(self, seller: Seller, price: int) -> Operation:
        await seller.change_price(self._items[0], price)
        return _wrote(price)


async def _price(buyer: Buyer, item: str) -> Operation:
    found = await buyer.search_items(CATEGORY)
    return _read(next(match.item.price for match in found.entries if match.item.id == item))


async def _take_name(buyer: Buyer, name: int) -> Operation:
    """A name is a register that is 0 until it is taken."""
    taken = True
    try:
        await buyer.create_account(f"name-{name}", PASSWORD)
    except NameTaken:
        taken = False
    return Operation("", "cas", (0, 1), taken, 0.0)


def _read(value: int) -> Operation:
    return Operation("", "read", (), value, 0.0)


def _wrote(value: int) -> Operation:
    return Operation("", "write", (value,), None, 0.0)


def _moved(old: int, new: int) -> Operation:
    return Operation("", "cas", (old, new), True, 0.0)
