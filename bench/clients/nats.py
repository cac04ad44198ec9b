"""NATS JetStream by nats-py: `publish_async` with a future for each message, atomic batches (ADR-50), plain publish."""

import asyncio
import itertools
from typing import Self

import nats
import nats.errors
import nats.js.errors
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from bench.clients import RETRY_AFTER_S, Where, retry_open
from bench.errors import NotMeasurable
from bench.loads import Load, in_tasks, keep_open

STREAM, SUBJECT = "BENCH", "bench.messages"
BATCH = 256
#: The client's own bound on futures must not be what limits a window.
PENDING_MAX = 100_000


class NatsClient:
    """One connection to any server; the client library finds another one when it breaks."""

    transient: tuple[type[BaseException], ...] = (nats.errors.Error, TimeoutError, ConnectionError)

    def __init__(self, where: Where) -> None:
        self._where = where
        self._batches = itertools.count(1)

    async def __aenter__(self) -> Self:
        self._connection = await nats.connect(
            list(self._where.endpoints),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            pending_size=64 << 20,
        )
        self._stream = self._connection.jetstream(timeout=RETRY_AFTER_S, publish_async_max_pending=PENDING_MAX)
        await retry_open(
            lambda: asyncio.ensure_future(self._make_stream()), (nats.errors.Error, nats.js.errors.Error, TimeoutError)
        )
        return self

    async def _make_stream(self) -> None:
        try:
            await self._stream.stream_info(STREAM)
        except nats.js.errors.NotFoundError:
            await self._stream.add_stream(
                StreamConfig(
                    name=STREAM,
                    subjects=[SUBJECT],
                    num_replicas=self._where.replicas,
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.LIMITS,
                    allow_atomic=True,
                )
            )
        await self._stream.publish(SUBJECT, b"ready", timeout=5.0)

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()

    def attached(self) -> str:
        """The URL of the server."""
        url = self._connection.connected_url
        return "" if url is None else url.netloc

    async def publish(self, payload: bytes) -> object:
        """`js.publish`."""
        return await self._stream.publish(SUBJECT, payload)

    async def pipelined(self, load: Load) -> int:
        """`js.publish_async`, every future awaited."""
        return await keep_open(load, lambda: self._stream.publish_async(SUBJECT, load.payload))

    async def batched(self, load: Load) -> int:
        """Atomic batches: only the last message is answered, for all of them. nats-py sends them as plain messages."""
        if not self._has_batches():
            raise NotMeasurable("this nats-server has no atomic batch publish: it came with 2.12")

        async def send() -> "asyncio.Task[object]":
            return asyncio.ensure_future(self._batch(load.payload))

        return await keep_open(load, send, BATCH)

    def _has_batches(self) -> bool:
        version = self._connection.connected_server_version
        return (version.major, version.minor) >= (2, 12)

    async def _batch(self, payload: bytes) -> object:
        name = f"b{next(self._batches)}-{id(self)}"
        for sequence in range(1, BATCH):
            headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(sequence)}
            await self._connection.publish(SUBJECT, payload, headers=headers)
        last = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(BATCH), "Nats-Batch-Commit": "1"}
        return await self._stream.publish(SUBJECT, payload, timeout=10.0, headers=last)

    async def tasks(self, load: Load) -> int:
        """Many concurrent `await js.publish`."""
        return await in_tasks(load, self.publish)


CLIENT = NatsClient
