"""Sellers and shoppers on a product store whose processes are killed: what was acknowledged, and what came of it."""

import asyncio
from collections.abc import Callable
from itertools import count

import ringcast
from replicas.local_cluster import LocalCluster

SELLER = "ann"
CATEGORY = "home"
CALL_S = 20.0
#: So many times that it can't run out, and a change that is applied twice shows.
UNITS = 1_000_000


class ProductsLoad:
    """`writers` clients, each puts an item of its own and takes one unit of it again and again, one call at a time.

    `taken`: acknowledged, by writer. A call that fails stops the load: `stop` raises what it raised.
    """

    def __init__(self, cluster: LocalCluster, writers: int = 4) -> None:
        self._cluster = cluster
        self.taken = [0] * writers
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        """Begin, and wait for the first change of each."""
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(len(self.taken))]
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

    async def more(self, changes: int) -> None:
        """Wait until every writer had so many more acknowledged."""
        goals = [taken + changes for taken in self.taken]
        await self.until(lambda: all(taken >= goal for taken, goal in zip(self.taken, goals, strict=True)))

    async def until(self, holds: Callable[[], bool], seconds: float = CALL_S) -> None:
        """Wait for a condition, as long as no writer failed."""
        async with asyncio.timeout(seconds):
            while not holds():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End, then look: nothing that was acknowledged is lost, and nothing was applied twice."""
        self._ending = True
        async with asyncio.timeout(CALL_S):
            await asyncio.gather(*self._tasks)
        async with ringcast.products(self._cluster.path, timeout=CALL_S) as store:
            for number, taken in enumerate(self.taken):
                found = await store.stock(f"item-{number}")
                assert found is not None
                assert found.left == UNITS - taken


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
                if found["role"] == "leader":
                    return member
            await asyncio.sleep(0.01)
