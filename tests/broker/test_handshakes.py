"""Bytes on a secured port: recorded ones, broken ones, and anything that a key may send (docs/faults.md 38-41, 44)."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from broker.gateway import Gateway
from broker.sockets import SocketLimits
from ringcast import wire
from ringcast.bus.batch import pack
from tests.broker.clients import CLUSTER, RING, PlayedReplica, until
from tests.broker.secured import Secured, secured

MUTATIONS = 80
HELLO = wire.encode(CLUSTER, RING, wire.Hello(bytes(16), 0))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Secured]:
    with secured(tmp_path) as made:
        yield made


class Front:
    """A gateway with keys, and what it heard."""

    def __init__(self, place: Secured) -> None:
        self.place = place
        self.replica = PlayedReplica()
        router, self.endpoint = place.bound(zmq.ROUTER)
        self.gateway = Gateway(router, self.replica, member=2, ring=RING, feed="", security=place.security)
        self.host, _, port = self.endpoint.removeprefix("tcp://").rpartition(":")
        self.port = int(port)

    async def throw(self, data: bytes) -> None:
        """Bytes on a connection of their own, and whatever comes back."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(0.05):
                await reader.read()
        except (TimeoutError, ConnectionError):
            pass  # cut, or silent: both are right
        finally:
            writer.close()

    async def serves(self) -> None:
        """It still lets in who has a key."""
        welcomed = self.gateway.counters["hello"]
        self.place.connected(zmq.DEALER, self.endpoint).send(HELLO)
        await until(lambda: self.gateway.counters["hello"] == welcomed + 1)


@pytest.fixture
async def front(place: Secured) -> AsyncIterator[Front]:
    made = Front(place)
    yield made
    made.gateway.close()


async def record(front: Front) -> bytes:
    """What a client with a key says on the wire, from the greeting to its HELLO's WELCOME."""
    said = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back = await asyncio.open_connection(front.host, front.port)

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter, *, keep: bool) -> None:
            while data := await source.read(4_096):
                if keep:
                    said.extend(data)
                to.write(data)
                await to.drain()

        try:
            await asyncio.gather(copy(reader, back, keep=True), copy(back_reader, writer, keep=False))
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    dealer = front.place.connected(zmq.DEALER, f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    dealer.send(HELLO)
    await until(lambda: bool(dealer.poll(0)))
    server.close()
    return bytes(said)


async def test_a_recorded_session_opens_nothing(front: Front) -> None:
    """Fault 44: nonces and session keys are the server's too."""
    said = await record(front)
    assert front.gateway.counters["hello"] == 1
    broken = front.place.security.all_counters
    before = broken()["handshakes_failed"] + broken()["handshakes_broken_off"]
    for _ in range(3):
        await front.throw(said)
    await until(lambda: broken()["handshakes_failed"] + broken()["handshakes_broken_off"] >= before + 3)
    assert front.gateway.counters["hello"] == 1
    await front.serves()


async def test_a_handshake_with_any_byte_changed_or_cut(front: Front) -> None:
    said, draw = await record(front), random.Random(44)
    for _ in range(MUTATIONS):
        data = bytearray(said)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        await front.throw(bytes(data[: draw.randrange(1, len(data) + 1)]))
    assert front.gateway.counters["hello"] == 1
    await front.serves()


async def test_anything_that_a_key_sends_is_dropped_or_answered(front: Front) -> None:
    """Fault 38: past the handshake a client with few rights sends whatever it likes."""
    draw, dealer = random.Random(38), front.place.connected(zmq.DEALER, front.endpoint)
    dealer.send(HELLO)
    await until(lambda: front.gateway.connections == 1)
    whole = wire.encode(CLUSTER, RING, wire.Publish("orders.eu", bytes(16), 1, 1, 0))
    for _ in range(400):
        header = bytearray(whole)
        header[draw.randrange(len(header))] = draw.randrange(256)
        parts = [bytes(header), *(draw.randbytes(draw.randrange(40)) for _ in range(draw.randrange(3)))]
        dealer.send_multipart(draw.choice([parts, [draw.randbytes(draw.randrange(200))], [b"\xdd\xff\xff\xff\xff"]]))
    await until(lambda: front.gateway.counters["dropped"] > 100)
    dealer.send_multipart([whole, pack([b"good"])])
    await until(lambda: len(front.replica.requests) == 1)
    assert {header.topic for header in front.replica.headers()} == {"orders.eu"}


async def test_a_frame_beyond_the_limit_cuts_its_sender(place: Secured) -> None:
    """Fault 40, encrypted."""
    router, endpoint = place.bound(zmq.ROUTER, limits=SocketLimits(frame_bytes_max=1 << 20))
    front = PlayedReplica()
    gateway = Gateway(router, front, member=2, ring=RING, feed="", security=place.security)
    other = place.connected(zmq.DEALER, endpoint, "admin")
    other.send(HELLO)
    await until(lambda: gateway.connections == 1)
    large = place.connected(zmq.DEALER, endpoint)
    monitor = large.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    large.send_multipart([b"", bytes(2 << 20)])
    await until(lambda: bool(monitor.poll(0)), 20)
    other.send(wire.encode(CLUSTER, RING, wire.Ping(1)))
    await until(lambda: len(other.recv_multipart()) > 0)
    large.disable_monitor()
    monitor.close(linger=0)
    gateway.close()
