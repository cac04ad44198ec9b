"""The client without asyncio, made from the asynchronous one: a thread runs the loop, each call waits for it.

    with ringcast.sync.connect("cluster.json") as bus:
        receipt = bus.publish("orders", b"42 apples")
        with bus.subscribe("orders", start=receipt.offset) as messages:
            for message in messages:
                print(message.offset, message.payload)

Names, arguments, results and errors are those of `ringcast`; objects may be used from several threads at once. A
KeyboardInterrupt while a call waits cancels it, as a cancellation does there: a batch that was sent stays pending.

A client works in the process that opened it. In a forked child (gunicorn --preload, multiprocessing) each call raises
Forked at once: connect in the child.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ringcast.blocking import BlockingClient, Loop, blocking
from ringcast.bus import client as bus_client
from ringcast.bus import joining, messages, publisher, subscription
from ringcast.bus.joining import BATCH_BYTES, BATCH_MESSAGES
from ringcast.bus.messages import NO_CURSOR
from ringcast.bus.publisher import LINGER_MS
from ringcast.bus.subscription import Start
from ringcast.endpoints import Cluster, Keys
from ringcast.errors import Closed, Refused
from ringcast.following import TIMEOUT_S
from ringcast.market.sync import Buyer, Seller
from ringcast.product_store.sync import ProductStore, products
from ringcast.types import Headers, Receipt, Record

__all__ = [
    "Bus",
    "Buyer",
    "Message",
    "ProductStore",
    "Publisher",
    "Seller",
    "Subscription",
    "Ticket",
    "connect",
    "products",
]


def connect(
    cluster: Cluster,
    *,
    replica: int | None = None,
    timeout: float = TIMEOUT_S,
    window_bytes: int = 0,
    keys: Keys = None,
) -> "Bus":
    """A bus to enter with `with`; the arguments and errors of `ringcast.connect`."""
    return Bus(bus_client.connect(cluster, replica=replica, timeout=timeout, window_bytes=window_bytes, keys=keys))


class Bus(BlockingClient[bus_client.Bus]):
    """`ringcast.Bus`, waiting."""

    @property
    def cluster(self) -> int:
        """The cluster's id, 64 bits."""
        return self.inner.cluster

    @property
    def client(self) -> bytes:
        """Our client id, 16 bytes; a new one after SessionExpired."""
        return self.inner.client

    publish = blocking(bus_client.Bus.publish)
    publish_many = blocking(bus_client.Bus.publish_many)
    query = blocking(bus_client.Bus.query)
    status = blocking(bus_client.Bus.status)
    topics = blocking(bus_client.Bus.topics)
    offset_at = blocking(bus_client.Bus.offset_at)
    cursors = blocking(bus_client.Bus.cursors)
    cursor = blocking(bus_client.Bus.cursor)
    reset_cursor = blocking(bus_client.Bus.reset_cursor)
    delete_cursor = blocking(bus_client.Bus.delete_cursor)
    fetch = blocking(bus_client.Bus.fetch)
    get = blocking(bus_client.Bus.get)

    def publisher(
        self,
        topic: str,
        *,
        batch_bytes: int = BATCH_BYTES,
        batch_messages: int = BATCH_MESSAGES,
        linger_ms: float = LINGER_MS,
    ) -> "Publisher":
        """As `ringcast.Bus.publisher`; use it with `with`, or `close()` it."""

        async def make() -> publisher.Publisher:
            return self.inner.publisher(
                topic, batch_bytes=batch_bytes, batch_messages=batch_messages, linger_ms=linger_ms
            )

        return Publisher(self.loop, self.loop.run(make()))

    def subscribe(
        self, topic: str, start: Start = "earliest", cursor: str | None = None, replica: int | None = None
    ) -> "Subscription":
        """As `ringcast.Bus.subscribe`; iterate with `for`."""

        async def make() -> subscription.Subscription:
            return self.inner.subscribe(topic, start, cursor, replica)

        return Subscription(self.loop, self.loop.run(make()))


class Ticket:
    """The receipt of one message, when it comes."""

    def __init__(self, loop: Loop, inner: joining.Ticket) -> None:
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

    def __init__(self, loop: Loop, inner: publisher.Publisher) -> None:
        self.loop = loop
        self.inner = inner

    def send(self, payload: bytes, headers: Headers | None = None) -> Ticket:
        """As `ringcast.Publisher.send`: waits only at the window; `ticket.result()` waits for the receipt."""
        return Ticket(self.loop, self.loop.run(self.inner.send(payload, headers)))

    flush = blocking(publisher.Publisher.flush)
    close = blocking(publisher.Publisher.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self.loop.here:
            self.loop.run(self.inner.__aexit__(kind, error, trace))


class _Handed(Record):
    """Handles and no values: they are not compared, copied deeply or sent to another process."""

    __slots__ = ("inner", "loop")
    loop: Loop | None
    inner: messages.Message | None


@dataclass(init=False)
class Message(_Handed):
    """`ringcast.Message`, waiting."""

    __slots__ = ()

    def __init__(
        self,
        topic: str,
        payload: bytes,
        offset: int,
        time_us: int,
        client: bytes,
        packed_headers: bytes = b"",
        loop: Loop | None = None,
        inner: messages.Message | None = None,
    ) -> None:
        super().__init__(topic, payload, offset, time_us, client, packed_headers)
        self.loop = loop
        self.inner = inner

    def __reduce__(self) -> tuple[object, ...]:
        return Message, (self.topic, self.payload, self.offset, self.time_us, self.client, self.packed_headers)

    def __copy__(self) -> "Message":
        known = (self.topic, self.payload, self.offset, self.time_us, self.client, self.packed_headers)
        return Message(*known, self.loop, self.inner)

    def done(self, timeout: float | None = None) -> None:
        """As `ringcast.Message.done`. Raises Refused for a copy that came without its handle."""
        if self.loop is None or self.inner is None:
            raise Refused(reason=NO_CURSOR)
        self.loop.run(self.inner.done(timeout))


class Subscription:
    """`ringcast.Subscription`, waiting; an iteration ends when the subscription is closed."""

    def __init__(self, loop: Loop, inner: subscription.Subscription) -> None:
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

    def batches(self) -> Iterator[messages.Batch]:
        """The batches as they were published, for ever."""
        while True:
            try:
                batch = self.loop.run(self.inner.next_batch())
            except Closed:
                return
            yield batch

    begin = blocking(subscription.Subscription.begin)
    close = blocking(subscription.Subscription.close)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.loop.here:
            self.close()
