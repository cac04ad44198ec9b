"""Publishers that note what was acknowledged."""

import asyncio
import time

import ringcast
from ringcast.endpoints import Cluster


class Load:
    """Publishers of `count` clients, each numbering its own messages; runs until `stop`.

    `acknowledged`: payload -> offset. `gap_s`: the longest time without any receipt.
    """

    def __init__(self, where: Cluster, clients: int = 2, topic: str = "load", pause_s: float = 0.001) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self.gap_s = 0.0
        self.topic = topic
        self._where = where
        self._clients = clients
        self._pause_s = pause_s
        self._stopping = asyncio.Event()
        self._last = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to publish."""
        self._last = time.monotonic()
        self._tasks = [asyncio.create_task(self._publish(client)) for client in range(self._clients)]

    async def _publish(self, client: int) -> None:
        async with ringcast.connect(self._where, timeout=30) as bus:
            number = 0
            while not self._stopping.is_set():
                payload = b"%d-%d" % (client, number)
                receipt = await bus.publish(self.topic, payload)
                now = time.monotonic()
                self.gap_s = max(self.gap_s, now - self._last)
                self._last = now
                self.acknowledged[payload] = receipt.offset
                number += 1
                await asyncio.sleep(self._pause_s)

    async def reach(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until `count` messages are acknowledged in all."""
        async with asyncio.timeout(timeout_s):
            while len(self.acknowledged) < count:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    async def more(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until `count` more messages are acknowledged."""
        await self.reach(len(self.acknowledged) + count, timeout_s)

    async def stop(self) -> None:
        """End and wait; raises what a publisher met."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
