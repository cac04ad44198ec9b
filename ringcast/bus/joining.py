"""Messages that leave together: the batch that is being filled, and the joining of concurrent single publishes."""

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeAlias

from ringcast.bus.batch import pack
from ringcast.errors import RingcastError
from ringcast.types import Receipt

BATCH_BYTES = 128 << 10
BATCH_MESSAGES = 1_024
#: Joined batches without a receipt; what comes meanwhile joins the next one: the slower the cluster, the larger it is.
IN_FLIGHT_MAX = 4

#: topic, packed batch, messages, the future of its receipt.
Publish: TypeAlias = "Callable[[str, bytes, int, asyncio.Future[Receipt]], object]"


class Ticket:
    """The receipt of one message, when it comes: `await` it, once or often; cancelling an await is safe."""

    __slots__ = ("_index", "_receipt")

    def __init__(self, receipt: "asyncio.Future[Receipt]", index: int) -> None:
        self._receipt = receipt
        self._index = index

    def done(self) -> bool:
        """Is there a receipt, or an error?"""
        return self._receipt.done()

    def __await__(self) -> Generator[Any, None, Receipt]:
        """The receipt of this one message. Raises what its batch met: PublishUnknown, Refused."""
        if not self._receipt.done():
            yield from asyncio.shield(self._receipt).__await__()
        return self._receipt.result().at(self._index)


class OpenBatch:
    """A batch that is being filled. `size`: bytes of the packed batch."""

    __slots__ = ("headers", "payloads", "receipt", "size")

    def __init__(self, receipt: "asyncio.Future[Receipt]") -> None:
        self.payloads: list[bytes] = []
        self.headers: list[bytes] | None = None
        self.size = 4
        self.receipt = receipt

    def add(self, payload: bytes, headers: bytes = b"") -> int:
        """One more message, and its place; `headers` packed, b"" for none."""
        payloads = self.payloads
        index = len(payloads)
        payloads.append(payload)
        self.size += 8 + len(payload) + len(headers)
        if headers and self.headers is None:
            self.headers = [b""] * index
        if self.headers is not None:
            self.headers.append(headers)
        return index

    def packed(self) -> bytes:
        """As it travels."""
        return pack(self.payloads, self.headers)


class Joiner:
    """Single publishes that tasks make at the same time leave as one batch, at the end of the loop turn.

    Order is kept: one batch is open at a time, another topic ends it, and so does whatever else is published. A publish
    that is alone in its turn is a batch of one. `flush` before the outbox takes anything else, and before it closes.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._topic = ""
        self._open: OpenBatch | None = None
        self._waiters: list[asyncio.Future[Receipt]] = []  # of the open batch, one a message
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()

    @property
    def open_bytes(self) -> int:
        """Bytes that are not in the outbox yet."""
        return self._open.size if self._open is not None else 0

    def add(self, topic: str, payload: bytes, headers: bytes, messages_max: int) -> "asyncio.Future[Receipt]":
        """One checked message; `headers` packed. The future gets its receipt, or what the batch met."""
        batch = self._open
        if batch is not None and (
            topic != self._topic
            or batch.size + 8 + len(payload) + len(headers) > BATCH_BYTES
            or len(batch.payloads) >= min(BATCH_MESSAGES, messages_max)
        ):
            self.flush()
            batch = None
        if batch is None:
            batch = self._open = OpenBatch(self._loop.create_future())
            self._waiters = []
            self._topic = topic
            self._loop.call_soon(self._turn_over)
        batch.add(payload, headers)
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def _turn_over(self) -> None:
        if self._in_flight < IN_FLIGHT_MAX:
            self.flush()

    def flush(self) -> None:
        """Send what is open."""
        batch, self._open = self._open, None
        if batch is None:
            return
        self._in_flight += 1
        batch.receipt.add_done_callback(partial(self._on_receipt, self._waiters))
        try:
            self._publish(self._topic, batch.packed(), len(batch.payloads), batch.receipt)
        except RingcastError as error:
            batch.receipt.set_exception(error)

    def _on_receipt(self, waiters: "list[asyncio.Future[Receipt]]", receipt: "asyncio.Future[Receipt]") -> None:
        self._in_flight -= 1
        error = receipt.exception()
        for index, waiter in enumerate(waiters):
            if waiter.done():
                continue  # its caller has left
            if error is None:
                waiter.set_result(receipt.result().at(index))
            else:
                waiter.set_exception(error)
        self.flush()
