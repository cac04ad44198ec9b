"""Sellers and shoppers on a product store whose processes are killed: what was acknowledged, and what came of it."""

import asyncio
from collections.abc import Callable
from itertools import count
from random import Random

import ringcast
from replicas.local.cluster import LocalCluster
from replicas.raft.simulator.linearizable import Operation, violations

SELLER = "ann"
CATEGORY = "home"
CALL_S = 20.0
#: So many times that it can't run out, and a change that is applied twice shows.
UNITS = 1_000_000
#: Items whose price everybody reads and changes: registers, for the checker.
SHARED = ("shared-0", "shared-1", "shared-2", "shared-3")
THINK_S = 0.01


class ProductsLoad:
    """`writers` clients, each puts an item of its own and takes one unit of it again and again, one call at a time;
    `shoppers` clients read and change the prices of shared items, and all of that is recorded.

    `taken`: acknowledged, by writer. A call that fails stops the load: `stop` raises what it raised. `at`: the replicas
    that the shoppers are given, each one of them; a call of theirs may time out, what it did is open then.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        writers: int = 4,
        shoppers: int = 4,
        *,
        at: tuple[int, ...] = (),
        call_s: float = 2.0,
    ) -> None:
        self._cluster = cluster
        self._clients = [cluster.replicas[at[number % len(at)]].client if at else "" for number in range(shoppers)]
        self._call_s = call_s
        self.taken = [0] * writers
        self.history: list[Operation] = []
        self._values = count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        """Begin, and wait for the first change of each."""
        async with ringcast.products(self._cluster.path, timeout=CALL_S) as store:
            for item in SHARED:
                await store.put("shared", seller=SELLER, category=CATEGORY, price=0, quantity=1, id=item)
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(len(self.taken))]
        self._tasks += [asyncio.create_task(self._shop(number)) for number in range(len(self._clients))]
        await self.more(1)

    async def _write(self, number: int) -> None:
        async with ringcast.products(self._cluster.path, timeout=CALL_S) as store:
            await store.put(
                f"item {number}", seller=SELLER, category=CATEGORY, price=1, quantity=UNITS, id=f"item-{number}"
            )
            for done in count(1):
                if self._ending:
                    return
                left = await store.change_quantity(f"item-{number}", SELLER, -1)
                assert left == UNITS - done, "each change is applied once, in order"
                self.taken[number] = done

    async def _shop(self, number: int) -> None:
        random, loop = Random(number), asyncio.get_running_loop()
        async with ringcast.products(self._clients[number] or self._cluster.path, timeout=CALL_S) as store:
            while not self._ending:
                item = random.choice(SHARED)
                price = next(self._values) if random.random() < 0.4 else None
                what, values = ("read", ()) if price is None else ("write", (price,))
                began = loop.time()
                try:
                    if price is None:
                        found = await store.get(item, timeout=self._call_s)
                        result = None if found is None else found.price
                    else:
                        result = None
                        await store.change_price(item, SELLER, price, timeout=self._call_s)
                except ringcast.Unavailable:  # not answered: it took effect, or does yet, or never
                    self.history.append(Operation(item, what, values, None, began))
                else:
                    self.history.append(Operation(item, what, values, result, began, loop.time()))
                await asyncio.sleep(random.uniform(0, 2 * THINK_S))

    async def more(self, changes: int) -> None:
        """Wait until every writer had so many more acknowledged, and the shoppers as many calls."""
        goals = [taken + changes for taken in self.taken]
        calls = len(self.history) + changes if self._clients else 0
        await self.until(
            lambda: (
                len(self.history) >= calls and all(taken >= goal for taken, goal in zip(self.taken, goals, strict=True))
            )
        )

    async def until(self, holds: Callable[[], bool], seconds: float = CALL_S) -> None:
        """Wait for a condition, as long as nobody failed."""
        async with asyncio.timeout(seconds):
            while not holds():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End, then look: nothing acknowledged is lost, nothing was applied twice, and the history is linearizable."""
        self._ending = True
        async with asyncio.timeout(CALL_S):
            await asyncio.gather(*self._tasks)
        async with ringcast.products(self._cluster.path, timeout=CALL_S) as store:
            for number, taken in enumerate(self.taken):
                found = await store.stock(f"item-{number}")
                assert found is not None
                assert found.left == UNITS - taken
        assert violations(self.history) == []


async def leader_of(cluster: LocalCluster, *, but: int = 0) -> int:
    """Who leads, as a member says that runs; another one than `but`."""
    async with asyncio.timeout(CALL_S):
        while True:
            for member in cluster.running():
                if member == but:
                    continue
                try:
                    async with ringcast.products(cluster.replicas[member].client, timeout=1.0) as store:
                        found = await store.status()
                except ringcast.RingcastError:
                    continue
                if found["role"] == "leader" and found["replica"] == member:
                    return member
            await asyncio.sleep(0.01)


async def all_hold_the_same(cluster: LocalCluster, item: str) -> None:
    """Every member has applied the same number of units, by its own word."""
    async with asyncio.timeout(CALL_S):
        while True:
            left = set()
            for replica in cluster.replicas.values():
                async with ringcast.products(replica.client, timeout=5) as store:
                    stock = await store.stock(item, consistency="local")
                    left.add(stock and stock.left)
            if len(left) == 1:
                return
            await asyncio.sleep(0.02)
