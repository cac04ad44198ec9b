"""Ringcast's own client, used as an application uses it."""

import asyncio
from collections import deque
from typing import Self

import ringcast
from bench.clients import Where
from bench.loads import Load, in_tasks, keep_open

TOPIC = "bench.messages"
BATCH = 256
_CLOCK_EVERY = 64


class RingcastClient:
    """One bus connection; the client itself sees to failovers, so nothing is ever tried again here."""

    transient: tuple[type[BaseException], ...] = (ringcast.Unavailable,)

    def __init__(self, where: Where) -> None:
        self.bus = ringcast.connect(where.endpoints, timeout=60.0)

    async def __aenter__(self) -> Self:
        await self.bus.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.bus.close()

    def attached(self) -> str:
        """The id of the replica."""
        return str(self.bus.replica)

    async def publish(self, payload: bytes) -> object:
        """`bus.publish`."""
        return await self.bus.publish(TOPIC, payload)

    async def pipelined(self, load: Load) -> int:
        """`publisher.send`, every ticket awaited."""
        waiting: deque[ringcast.Ticket] = deque()
        sent = 0
        async with self.bus.publisher(TOPIC) as publisher:
            while sent < load.count and (sent % _CLOCK_EVERY or not load.over()):
                waiting.append(await publisher.send(load.payload))
                sent += 1
                if len(waiting) >= load.window:
                    await waiting.popleft()
            while waiting:
                await waiting.popleft()
        return sent

    async def publish_batch(self, payload: bytes) -> ringcast.Receipt:
        """`bus.publish_many` of 256."""
        return await self.bus.publish_many(TOPIC, [payload] * BATCH)

    async def batched(self, load: Load) -> int:
        """`bus.publish_many` of 256."""

        async def send() -> "asyncio.Task[ringcast.Receipt]":
            return asyncio.ensure_future(self.publish_batch(load.payload))

        return await keep_open(load, send, BATCH)

    async def tasks(self, load: Load) -> int:
        """Many concurrent `await bus.publish`."""
        return await in_tasks(load, self.publish)


CLIENT = RingcastClient
