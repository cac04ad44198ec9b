"""Pipelined publishing: messages become batches by size, by number and by time, and receipts come later."""

import asyncio
from types import TracebackType
from typing import Self

from ringcast.bus.batch import COUNT_MAX, table_bytes
from ringcast.bus.joining import BATCH_BYTES, BATCH_MESSAGES, OpenBatch, Ticket
from ringcast.bus.session import Session
from ringcast.errors import Closed, RingcastError, TooLarge
from ringcast.types import Headers, Receipt, pack_headers

LINGER_MS = 1.0


class Publisher:
    """`ticket = await publisher.send(payload)`, later `receipt = await ticket`; or `await publisher.flush()` for all.

    A batch leaves when it holds `batch_bytes` or `batch_messages`, when it is `linger_ms` old, or at the end of the
    loop turn if nothing of this publisher is in flight: the slower the cluster, the larger the batches. Order is kept.
    """

    def __init__(
        self,
        session: Session,
        topic: str,
        *,
        batch_bytes: int = BATCH_BYTES,
        batch_messages: int = BATCH_MESSAGES,
        linger_ms: float = LINGER_MS,
    ) -> None:
        limits = session.welcome.limits
        self.topic = topic
        self._session = session
        self._bytes_max = limits.batch_bytes_max
        self._batch_bytes = min(batch_bytes, limits.batch_bytes_max)
        self._batch_messages = max(1, min(batch_messages, limits.batch_count_max, COUNT_MAX))
        self._linger_s = linger_ms / 1_000
        self._open: OpenBatch | None = None
        self._timer: asyncio.Handle | None = None
        self._in_flight: set[asyncio.Future[Receipt]] = set()
        self._error: RingcastError | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def send(self, payload: bytes, headers: Headers | None = None) -> Ticket:
        """Put one message into the pipeline; waits only while the window is full (A9), and costs no task.

        Cancelled while it waits, the message is not sent; once it returned, the message will be, exactly once. Raises
        TooLarge, TypeError for a payload that is not bytes, Closed.
        """
        if type(payload) is not bytes:
            raise TypeError(f"a payload is bytes, not {type(payload).__name__}: encode it first")
        if (
            (batch := self._open) is not None
            and not headers
            and batch.size + 8 + len(payload) < self._batch_bytes
            and len(batch.payloads) + 1 < self._batch_messages
            and not self._closed
        ):
            return Ticket(batch.receipt, batch.add(payload))  # most messages: one more of an open batch
        packed = pack_headers(headers) if headers else b""
        size = 8 + len(payload) + len(packed)
        if size + 4 > self._bytes_max:
            limit = self._bytes_max - table_bytes(1)
            raise TooLarge(what="the message", size=len(payload) + len(packed), limit=limit, unit="bytes")
        if self._open is not None and self._open.size + size > self._batch_bytes:
            self._flush()
        if self._open is None and not self._session.outbox.has_room(size):
            await self._session.room(size)
        if self._closed:
            raise Closed(what="publisher")
        batch = self._open or self._begin()
        ticket = Ticket(batch.receipt, batch.add(payload, packed))
        if len(batch.payloads) >= self._batch_messages or batch.size >= self._batch_bytes:
            self._flush()
        return ticket

    async def flush(self) -> None:
        """Send what is open and wait for all receipts. Raises the first error since the last flush."""
        self._flush()
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def close(self) -> None:
        """Flush, and take no more."""
        self._closed = True
        await self.flush()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            self._closed = True
            self._flush()

    def _begin(self) -> OpenBatch:
        self._session.check_open()
        batch = self._open = OpenBatch(self._loop.create_future())
        if self._in_flight:
            self._timer = self._loop.call_later(self._linger_s, self._flush)
        else:
            self._timer = self._loop.call_soon(self._flush)
        return batch

    def _flush(self) -> None:
        batch, self._open = self._open, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if batch is None:
            return
        self._in_flight.add(batch.receipt)
        batch.receipt.add_done_callback(self._on_receipt)
        try:
            self._session.publish(self.topic, batch.packed(), len(batch.payloads), batch.receipt)
        except RingcastError as error:
            batch.receipt.set_exception(error)

    def _on_receipt(self, receipt: "asyncio.Future[Receipt]") -> None:
        self._in_flight.discard(receipt)
        error = receipt.exception()
        if isinstance(error, RingcastError) and self._error is None:
            self._error = error
        if not self._in_flight:
            # Nothing is in flight any more: waiting for company would only cost time.
            self._flush()
