"""The client without asyncio, made from the asynchronous one: a thread runs the loop, each call waits for it.

    with ringcast.sync.connect("cluster.json") as bus:
        receipt = bus.publish("orders", b"42 apples")
        for message in bus.subscribe("orders", start=receipt.offset):
            print(message.offset, message.payload)

Names, arguments, results and errors are those of `ringcast`; objects may be used from several threads at once. A
KeyboardInterrupt while a call waits cancels it, as a cancellation does there: a batch that was sent stays pending.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

import ringcast.client
import ringcast.joining
import ringcast.messages
import ringcast.publisher
import ringcast.subscription
from ringcast.endpoints import Cluster
from ringcast.errors import Closed
from ringcast.joining import BATCH_BYTES, BATCH_MESSAGES
from ringcast.publisher import LINGER_MS
from ringcast.subscription import Start
from ringcast.types import Headers, Receipt, Record

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ringcast", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The coroutine's outcome; an exception that hits the waiting thread cancels it. Raises Closed."""
        with self._lock:
            if self._closed:
                coroutine.close()
                raise Closed(what="bus")
            future: Future[R] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._calls.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Closed(what="bus") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._calls.discard(future)

    def close(self) -> None:
        """Stop the thread; calls that still wait in other threads raise Closed. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for future in tuple(self._calls):
            future.cancel()
        self._runner.close()


class _Wrapper(Protocol[A_co]):
    """A synchronous object around an asynchronous one."""

    @property
    def loop(self) -> Loop: ...

    @property
    def inner(self) -> A_co: ...


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[_Wrapper[A], P], R]:
    """The same method with the same arguments and documentation; it returns when the coroutine would."""

    @functools.wraps(method)
    def call(self: _Wrapper[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.loop.run(method(self.inner, *args, **kwargs))

    return call


def connect(
    cluster: Cluster,
    *,
    replica: int | None = None,
    timeout: float = ringcast.client.TIMEOUT_S,
    window_bytes: int = 0,
) -> "Bus":
    """A bus to enter with `with`; the arguments and errors of `ringcast.connect`."""
    return Bus(ringcast.client.connect(cluster, replica=replica, timeout=timeout, window_bytes=window_bytes))


class Bus:
    """`ringcast.Bus`, waiting."""

    def __init__(self, inner: ringcast.client.Bus) -> None:
        self.inner = inner
        self._loop: Loop | None = None

    @property
    def loop(self) -> Loop:
        if self._loop is None:
            raise Closed(what="bus")
        return self._loop

    def __enter__(self) -> Self:
        self._loop = Loop()
        try:
            self._loop.run(self.inner.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything, the thread too; calls that wait raise. Safe to call twice."""
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run(self.inner.close())
            finally:
                loop.close()

    @property
    def cluster(self) -> int:
        """The cluster's id, 64 bits."""
        return self.inner.cluster

    @property
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last."""
        return self.inner.replica

    @property
    def client(self) -> bytes:
        """Our client id, 16 bytes; a new one after SessionExpired."""
        return self.inner.client

    publish = _blocking(ringcast.client.Bus.publish)
    publish_many = _blocking(ringcast.client.Bus.publish_many)
    query = _blocking(ringcast.client.Bus.query)
    status = _blocking(ringcast.client.Bus.status)
    topics = _blocking(ringcast.client.Bus.topics)
    offset_at = _blocking(ringcast.client.Bus.offset_at)
    cursors = _blocking(ringcast.client.Bus.cursors)
    cursor = _blocking(ringcast.client.Bus.cursor)
    reset_cursor = _blocking(ringcast.client.Bus.reset_cursor)
    delete_cursor = _blocking(ringcast.client.Bus.delete_cursor)
    fetch = _blocking(ringcast.client.Bus.fetch)
    get = _blocking(ringcast.client.Bus.get)

    def publisher(
        self,
        topic: str,
        *,
        batch_bytes: int = BATCH_BYTES,
        batch_messages: int = BATCH_MESSAGES,
        linger_ms: float = LINGER_MS,
    ) -> "Publisher":
        """As `ringcast.Bus.publisher`; use it with `with`, or `close()` it."""

        async def make() -> ringcast.publisher.Publisher:
            return self.inner.publisher(
                topic, batch_bytes=batch_bytes, batch_messages=batch_messages, linger_ms=linger_ms
            )

        return Publisher(self.loop, self.loop.run(make()))

    def subscribe(
        self, topic: str, start: Start = "earliest", cursor: str | None = None, replica: int | None = None
    ) -> "Subscription":
        """As `ringcast.Bus.subscribe`; iterate with `for`."""

        async def make() -> ringcast.subscription.Subscription:
            return self.inner.subscribe(topic, start, cursor, replica)

        return Subscription(self.loop, self.loop.run(make()))


class Ticket:
    """The receipt of one message, when it comes."""

    def __init__(self, loop: Loop, inner: ringcast.joining.Ticket) -> None:
        self.loop = loop
        self.inner = inner

    def done(self) -> bool:
        """Is there a receipt, or an error?"""
        return self.inner.done()

    def result(self) -> Receipt:
        """Wait for the receipt. Raises what its batch met: PublishUnknown, Refused."""

        async def wait() -> Receipt:
            return await self.inner

        return self.loop.run(wait())


class Publisher:
    """`ringcast.Publisher`, waiting."""

    def __init__(self, loop: Loop, inner: ringcast.publisher.Publisher) -> None:
        self.loop = loop
        self.inner = inner

    def send(self, payload: bytes, headers: Headers | None = None) -> Ticket:
        """As `ringcast.Publisher.send`: waits only at the window; `ticket.result()` waits for the receipt."""
        return Ticket(self.loop, self.loop.run(self.inner.send(payload, headers)))

    flush = _blocking(ringcast.publisher.Publisher.flush)
    close = _blocking(ringcast.publisher.Publisher.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.run(self.inner.__aexit__(kind, error, trace))


@dataclass(slots=True)
class Message(Record):
    """`ringcast.Message`, waiting."""

    loop: Loop | None = field(default=None, repr=False, compare=False)
    inner: ringcast.messages.Message | None = field(default=None, repr=False, compare=False)

    def done(self, timeout: float | None = None) -> None:
        """As `ringcast.Message.done`."""
        assert self.loop is not None
        assert self.inner is not None
        self.loop.run(self.inner.done(timeout))


class Subscription:
    """`ringcast.Subscription`, waiting; an iteration ends when the subscription is closed."""

    def __init__(self, loop: Loop, inner: ringcast.subscription.Subscription) -> None:
        self.loop = loop
        self.inner = inner

    @property
    def position(self) -> int | None:
        """Everything that matches below this offset is in hand; None before the first message was asked for."""
        return self.inner.position

    def __iter__(self) -> Iterator[Message]:
        """The messages, for ever. Raises as `ringcast.Subscription.next_batch`."""
        for batch in self.batches():
            for one in batch:
                yield Message(
                    one.topic, one.payload, one.offset, one.time_us, one.client, one.packed_headers, self.loop, one
                )

    def batches(self) -> Iterator[ringcast.messages.Batch]:
        """The batches as they were published, for ever."""
        while True:
            try:
                batch = self.loop.run(self.inner.next_batch())
            except Closed:
                return
            yield batch

    begin = _blocking(ringcast.subscription.Subscription.begin)
    close = _blocking(ringcast.subscription.Subscription.close)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
