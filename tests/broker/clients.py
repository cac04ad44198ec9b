"""A raw zmq client made of ringcast.wire alone, and a replica that the test plays, for gateway and feed."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import zmq

from broker.gateway import Gateway, GatewayLimits, Reply, Standing
from broker.sockets import SocketLimits, ZmqContext, bind, open_socket
from ringcast import wire
from ringcast.bus.batch import pack
from ringcast.bus.request import BatchHeader, decode_batch_headers
from ringcast.errors import RingcastError
from ringcast.types import CLIENT_ID_BYTES

CLUSTER = 0xC0FFEE
RING = 0


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for a condition, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.001)


class PlayedReplica:
    """What a gateway stands in; the test decides when a request is delivered."""

    def __init__(self) -> None:
        self.cluster_id = CLUSTER
        self.requests: list[tuple[bytes, ...]] = []
        self.asked: list[tuple[wire.Fetch | wire.Query, Reply]] = []
        self.bytes_free = 1 << 30
        self.error: RingcastError | None = None
        self.next_offset = 0

    def cluster(self) -> int:
        """Part of broker.gateway.Replica, as all below."""
        return self.cluster_id

    def standing(self) -> Standing:
        return Standing((3, 99), (7, 1), 42, self.next_offset)

    def trouble(self) -> RingcastError | None:
        return self.error

    def room(self) -> int:
        return self.bytes_free

    def submit(self, frames: tuple[bytes, ...]) -> None:
        self.requests.append(frames)

    def answer(self, request: wire.Fetch | wire.Query, reply: Reply) -> None:
        self.asked.append((request, reply))

    def headers(self) -> list[BatchHeader]:
        """All batches that were submitted, in order."""
        return [header for frames in self.requests for header in decode_batch_headers(frames[0])]

    def deliver(self, gateway: Gateway, count: int | None = None) -> None:
        """Apply the oldest `count` requests (all), one slot each."""
        count = len(self.requests) if count is None else count
        applied = []
        for frames in self.requests[:count]:
            for header in decode_batch_headers(frames[0]):
                applied.append((header.client, header.sequence, self.next_offset, header.messages, 5, 1_000, ()))
                self.next_offset += header.messages
        del self.requests[:count]
        gateway.delivered(applied, [])


class RawClient:
    """A DEALER that speaks frames; nothing is done behind the test's back."""

    def __init__(self, context: ZmqContext, endpoint: str, limits: SocketLimits | None = None) -> None:
        self.socket = open_socket(context, zmq.DEALER, limits)
        self.socket.connect(endpoint)
        self.client = os.urandom(CLIENT_ID_BYTES)
        self.payloads: list[bytes] = []

    def send(self, message: wire.Message, *payloads: bytes, cluster: int = CLUSTER, ring: int = RING) -> None:
        """One frame."""
        self.send_raw(wire.encode(cluster, ring, message), *payloads)

    def send_raw(self, *frames: bytes) -> None:
        """Any bytes."""
        self.socket.send_multipart(frames, zmq.NOBLOCK)

    async def receive(self, seconds: float = 5) -> wire.Message:
        """The next message; its payload frames are in `payloads`."""
        deadline = time.monotonic() + seconds
        while not self.socket.poll(0):
            assert time.monotonic() < deadline, "no answer in time"
            await asyncio.sleep(0.001)
        header, *self.payloads = self.socket.recv_multipart(zmq.NOBLOCK)
        frame = wire.decode(header, len(self.payloads))
        assert (frame.cluster, frame.ring) in {(CLUSTER, RING), (0, RING)}
        return frame.message

    async def silent(self, seconds: float = 0.05) -> bool:
        """No frame comes for so long."""
        await asyncio.sleep(seconds)
        return not self.socket.poll(0)

    async def hello(self, wanted: int = 0, cluster: int = wire.ANY_CLUSTER) -> wire.Welcome:
        """HELLO, WELCOME."""
        self.send(wire.Hello(self.client, wanted), cluster=cluster)
        welcome = await self.receive()
        assert isinstance(welcome, wire.Welcome), welcome
        return welcome

    def publish(
        self, sequence: int, payloads: Sequence[bytes] = (b"x",), topic: str = "orders", client: bytes | None = None
    ) -> None:
        """PUBLISH of a well-formed batch."""
        header = wire.Publish(topic, client or self.client, sequence, len(payloads), 42)
        self.send(header, pack(payloads))

    def close(self) -> None:
        """The socket is gone, as after a kill."""
        self.socket.close(linger=0)


class Front:
    """A gateway on a loopback port, its played replica, and clients."""

    def __init__(self, limits: GatewayLimits | None = None, socket_limits: SocketLimits | None = None) -> None:
        self.context: ZmqContext = zmq.Context()
        router = open_socket(self.context, zmq.ROUTER, socket_limits)
        self.endpoint = bind(router, "tcp://127.0.0.1:*")
        self.replica = PlayedReplica()
        self.gateway = Gateway(router, self.replica, member=2, ring=RING, feed="tcp://feed", limits=limits)
        self.clients: list[RawClient] = []

    def client(self, limits: SocketLimits | None = None) -> RawClient:
        """One more client; it has not said HELLO."""
        self.clients.append(RawClient(self.context, self.endpoint, limits))
        return self.clients[-1]

    def close(self) -> None:
        """Everything."""
        for client in self.clients:
            client.close()
        self.gateway.close()
        self.context.term()


@contextmanager
def front(limits: GatewayLimits | None = None, socket_limits: SocketLimits | None = None) -> Iterator[Front]:
    """A Front that is closed at the end."""
    made = Front(limits, socket_limits)
    try:
        yield made
    finally:
        made.close()
