"""Redis streams: XADD in pipelines, each closed by a WAIT for one replica. Not consensus: the primary decides alone."""

import asyncio
from functools import partial
from typing import Self

import redis.asyncio
import redis.exceptions

from bench.clients import RETRY_AFTER_S, Where
from bench.errors import NotMeasurable, ProcessFailed
from bench.loads import Load, in_tasks, keep_open

STREAM = "bench"
#: Pipelines under way: one fills while the other waits.
OVERLAP = 2
CONNECTIONS_MAX = 64
_WAIT_MS = 10_000


class RedisClient:
    """A pool of connections to the primary."""

    transient: tuple[type[BaseException], ...] = (redis.exceptions.RedisError, OSError, TimeoutError)

    def __init__(self, where: Where) -> None:
        host, _, port = where.endpoints[0].rpartition(":")
        # Without a bound each task would open a connection of its own; who waits for one waits as long as it takes.
        pool = redis.asyncio.BlockingConnectionPool(CONNECTIONS_MAX, None, host=host, port=int(port))
        self._redis = redis.asyncio.Redis(connection_pool=pool)

    async def __aenter__(self) -> Self:
        await self._redis.ping()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._redis.aclose()

    def attached(self) -> str:
        """The primary."""
        return "1"

    async def _add(self, payload: bytes, count: int) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for _ in range(count):
            pipeline.execute_command("XADD", STREAM, "*", b"m", payload)
        pipeline.execute_command("WAIT", 1, _WAIT_MS)
        answers = await pipeline.execute()
        if int(answers[-1]) < 1:
            raise ProcessFailed(f"no Redis replica had the messages within {_WAIT_MS} ms")

    async def publish(self, payload: bytes) -> object:
        """XADD and WAIT in one round trip."""
        return await asyncio.wait_for(self._add(payload, 1), RETRY_AFTER_S)

    async def pipelined(self, load: Load) -> int:
        """Pipelines of half the window, two under way."""
        size = max(1, load.window // OVERLAP)

        async def send() -> "asyncio.Task[None]":
            return asyncio.ensure_future(self._add(load.payload, size))

        return await keep_open(load, send, size)

    async def batched(self, load: Load) -> int:
        """A pipeline is no batch: it is not all or none."""
        raise NotMeasurable("a Redis pipeline is not all or none")

    async def tasks(self, load: Load) -> int:
        """Many concurrent XADD + WAIT; no limit of time each, since most of them wait for a connection."""
        return await in_tasks(load, partial(self._add, count=1))


CLIENT = RedisClient
