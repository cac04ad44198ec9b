"""broker/guard.py, ports.py, kernel.py: a connection that fills the memory, or takes the last descriptors, is cut."""

import asyncio
import os
import socket as sockets
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import structlog
import zmq

from broker import kernel
from broker.guard import Guard, GuardLimits, open_port
from broker.ports import SUBSCRIBER_BYTES, Accepted, Port, PortLimits
from broker.security import CLIENTS
from broker.sockets import PARTS_MAX, DrainedSocket, Message, SocketLimits, ZmqContext, bind, open_socket
from tests.broker.clients import until
from tests.broker.flooding import Flood, frame
from tests.broker.secured import secured

MIB = 1 << 20
#: What is received and never taken.
HANDSHAKES_BYTES = 4_096
LIMITS = GuardLimits(memory_bytes=1 << 40, connection_bytes=4 * MIB, port_bytes=10 * MIB)


class Place:
    """A bound ROUTER whose reader can be stopped, and a guard."""

    def __init__(self, limits: GuardLimits, kind: int = zmq.ROUTER) -> None:
        self.context: ZmqContext = zmq.Context()
        self.guard = Guard(limits)
        self.socket = open_socket(self.context, kind, SocketLimits(frame_bytes_max=64 * MIB))
        self.endpoint = bind(self.socket, "tcp://127.0.0.1:*")
        self.port = open_port("client", self.socket, self.guard, reads=kind == zmq.ROUTER)
        self.messages: list[Message] = []
        self.reader: DrainedSocket | None = None

    def read(self) -> None:
        """Begin to read."""
        self.reader = DrainedSocket(self.socket, self.messages.extend, meter=self.port.meter)

    def close(self) -> None:
        self.port.close()
        if self.reader is not None:
            self.reader.close()
        self.guard.close()
        self.context.destroy(linger=0)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place(LIMITS)
    yield made
    made.close()


async def flooded(flood: Flood, data: bytes, bytes_max: int = 64 * MIB) -> bool:
    with closing(flood.socket):
        return await asyncio.to_thread(flood.send_until_cut, data, bytes_max)


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize(
    "data",
    [frame(b"x" * MIB), frame(b"x" * 1_000, more=True) * 1_000],
    ids=["large frames", "a message without an end"],
)
async def test_a_connection_that_sends_more_than_is_read_is_cut_counted_and_named(place: Place, data: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        flood = Flood(place.endpoint)
        assert await flooded(flood, data)
        await until(lambda: bool(logs))
    assert place.port.counters["cut_connection_bytes"] == 1
    assert logs[0]["event"] == "connection_cut"
    assert (logs[0]["address"], logs[0]["port"], logs[0]["limit"]) == (flood.address, "client", 4 * MIB)


async def test_what_a_cut_connection_left_is_thrown_away_and_others_are_read(place: Place) -> None:
    with Flood(place.endpoint) as innocent:
        innocent.send(frame(b"first"))
        assert await flooded(Flood(place.endpoint), frame(b"x" * MIB))
        place.read()
        innocent.send(frame(b"second"))
        await until(lambda: len(place.messages) >= 2)
        assert [parts[1] for parts in place.messages] == [b"first", b"second"]
        await until(lambda: place.port.held < HANDSHAKES_BYTES)


async def test_a_connection_that_is_read_may_send_any_amount(place: Place) -> None:
    """What was taken is counted to the byte: no drift cuts it, however much comes."""
    place.read()
    with Flood(place.endpoint) as flood:
        for number in range(60):
            data = frame(b"head" * 30, more=True) + frame(b"x" * MIB) if number % 2 else frame(b"s" * 90) * 1_000
            await asyncio.to_thread(flood.send, data)
            await until(lambda: place.port.held < 2 * MIB)
        await until(lambda: len(place.messages) == 30 + 30_000)
        await until(lambda: place.port.held < HANDSHAKES_BYTES)
    assert not [name for name in place.port.counters if name.startswith("cut")]


async def test_connections_that_are_too_much_together_are_cut_largest_first(place: Place) -> None:
    floods = [Flood(place.endpoint) for _ in range(5)]
    await until(lambda: len(place.port.connections) == 5)
    for number, flood in enumerate(floods):
        with suppress(OSError):  # it may be cut already
            flood.send(frame(b"x" * (MIB + number * 200_000)) * 2)
    await until(lambda: place.port.counters["cut_port_bytes"] > 0)
    await until(lambda: len(place.port.connections) == 5 - place.port.counters["cut_port_bytes"])
    assert floods[0].socket.getsockname()[1] in {
        int(one.address.rpartition(":")[2]) for one in place.port.connections.values()
    }
    with pytest.raises(OSError, match=r"reset|pipe"):
        await asyncio.to_thread(floods[-1].send, b"x" * 64 * MIB)
    for flood in floods:
        flood.socket.close()


async def test_a_message_of_too_many_parts_cuts_its_sender(place: Place) -> None:
    place.read()
    assert await flooded(Flood(place.endpoint), frame(b"", more=True) * (PARTS_MAX + 1) + frame(b""), 3 * PARTS_MAX)
    await until(lambda: place.port.counters["cut_parts"] == 1)


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.XPUB])
async def test_a_flood_of_subscriptions_is_cut(kind: int) -> None:
    """libzmq keeps each of them, in some fifty times its size."""
    place = Place(LIMITS, kind)
    if kind == zmq.XPUB:
        place.socket.setsockopt(zmq.XPUB_MANUAL, 1)
    sender = DrainedSocket(place.socket, place.messages.extend if kind == zmq.XPUB else None, asks=False)
    sending = asyncio.create_task(_send_always(sender))
    subscriptions = b"".join(frame(b"\x01%09d" % number + b"t" * 200) for number in range(1_000))
    assert await flooded(Flood(place.endpoint, b"SUB"), subscriptions, 40 * MIB)
    await until(lambda: place.port.counters["cut_connection_bytes"] == 1)
    sending.cancel()
    place.port.close()
    sender.close()
    place.close()


async def _send_always(sender: DrainedSocket) -> None:
    while True:
        sender.send((b"topic", b"payload"))
        await asyncio.sleep(0.005)


async def test_with_keys_the_log_names_the_key(tmp_path: Path) -> None:
    with secured(tmp_path) as place:
        guard = Guard(LIMITS)
        router, endpoint = place.bound(zmq.ROUTER, limits=SocketLimits(frame_bytes_max=64 * MIB))
        port = open_port("client", router, guard)
        door = place.security.door(port, CLIENTS)
        messages: list[Message] = []
        reader = DrainedSocket(router, messages.extend, identify=door.of_route, meter=port.meter)
        client = place.connected(zmq.DEALER, endpoint)
        with structlog.testing.capture_logs() as logs:
            client.send(b"hello")
            await until(lambda: bool(messages))
            # What is read is counted with what CURVE adds: nothing is held.
            for _ in range(40):
                await asyncio.to_thread(client.send_multipart, [b"x" * 200_000] * 3)
            await until(lambda: len(messages) == 41)
            await until(lambda: port.held < HANDSHAKES_BYTES)
            assert not logs
            reader._loop.remove_reader(reader._descriptor)  # the loop is busy
            for _ in range(40):
                await asyncio.to_thread(client.send, b"x" * MIB)
            await until(lambda: any(one["event"] == "connection_cut" for one in logs))
        assert next(one for one in logs if one["event"] == "connection_cut")["key"] == "billing"
        port.close()
        guard.close()
        reader.close()


async def test_when_memory_is_short_who_holds_most_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with Flood(place.endpoint) as small, Flood(place.endpoint) as large:
        await until(lambda: len(place.port.connections) == 2)
        small.send(frame(b"x" * 1_500_000))
        large.send(frame(b"x" * 3 * MIB, more=True))
        await until(lambda: len([one for one in place.port.connections.values() if one.held > MIB]) == 2)
        monkeypatch.setattr(kernel.Memory, "anonymous_bytes", lambda _: 1 << 40)
        await until(lambda: place.port.counters["cut_memory_bytes"] >= 1)
        monkeypatch.undo()
        assert await asyncio.to_thread(large.wait_cut)


async def test_when_memory_is_short_who_does_not_read_its_answers_is_cut(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.read()
    assert place.reader is not None
    with Flood(place.endpoint) as silent, Flood(place.endpoint) as innocent:
        silent.send(frame(b"ask"))
        await until(lambda: bool(place.messages))
        for _ in range(200):
            place.reader.send((place.messages[0][0], b"x" * 100_000))
        await until(lambda: any(one.unsent > 100_000 for one in place.port.connections.values()))
        monkeypatch.setattr(kernel.Memory, "anonymous_bytes", lambda _: 1 << 40)
        await until(lambda: place.port.counters["cut_memory_bytes"] >= 1)
        monkeypatch.undo()
        await until(lambda: [one.address for one in place.port.connections.values()] == [innocent.address])


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("given_back", "trims"), [(100 * MIB, [0]), (0, [0, 12, 34])])
async def test_memory_that_has_grown_is_given_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, given_back: int, trims: list[int], short: bool
) -> None:
    """What cannot be given back is tried for less and less often; also where memory is short and none is to be cut."""
    if short:
        place.guard._high_bytes = 0
    place.guard.close()
    now, turn = time.monotonic(), 0
    memory = [place.guard.memory_bytes + 100 * MIB]
    tried: list[int] = []

    def trim() -> None:
        tried.append(turn)
        memory[0] -= given_back

    monkeypatch.setattr(kernel, "trim", trim)
    monkeypatch.setattr(kernel.Memory, "anonymous_bytes", lambda _: memory[0])
    for turn in range(0, 60, 2):
        place.guard.look(now + turn)
    assert tried == trims


# ---------------------------------------------------------------- what is measured


@pytest.fixture
def measured(place: Place, monkeypatch: pytest.MonkeyPatch) -> Accepted:
    """A connection of which the test says what the kernel received; nothing looks but the test."""
    place.guard.close()
    one = place.port.connections[7] = Accepted(7, 1, "10.0.0.9:1", time.monotonic(), 0)
    monkeypatch.setattr(kernel, "traffic", lambda _: received(one))
    return one


_received: dict[int, int | None] = {}


def received(one: Accepted) -> kernel.Traffic | None:
    found = _received.get(one.descriptor, 0)
    return None if found is None else kernel.Traffic(found, 0)


async def test_heartbeats_of_years_are_no_debt(place: Place, measured: Accepted) -> None:
    """A command of ZMTP is received and never taken; what was taken in a look that found all read settles it."""
    meter = place.port.meter
    for day in range(1, 400):
        _received[7] = day * 100_000  # of which 90,000 bytes are heartbeats
        meter.taken[7] = day * 10_000
        meter.emptied += 1
        place.port.look(time.monotonic())
    assert measured.held <= 100_000
    assert not measured.cut


async def test_an_unfinished_message_is_a_debt_for_as_long_as_it_lasts(place: Place, measured: Accepted) -> None:
    for turn in range(1, 5):
        _received[7] = turn * 900_000
        place.port.meter.emptied += 1  # of other connections
        place.port.look(time.monotonic())
    assert measured.held == 3_600_000


async def test_a_descriptor_that_is_another_connections_by_now_is_left_alone(place: Place, measured: Accepted) -> None:
    with closing(sockets.create_server(("127.0.0.1", 0))) as server:
        ours = sockets.create_connection(server.getsockname())
        theirs, _ = server.accept()
        measured.descriptor = theirs.fileno()
        place.port.cut(measured, "memory_bytes", 1)
        assert not place.port.counters["cut_memory_bytes"]
        theirs.sendall(b"alive")
        assert ours.recv(5) == b"alive"
        ours.close()
        theirs.close()


async def test_a_connection_without_an_event_of_its_end_is_forgotten(place: Place, measured: Accepted) -> None:
    _received[7] = None
    assert place.port.look(time.monotonic()) == []
    assert 7 not in place.port.connections
    _received[7] = 0


async def test_what_a_subscriber_may_send_grows_with_its_age(measured: Accepted) -> None:
    context: ZmqContext = zmq.Context()
    socket = open_socket(context, zmq.PUB)
    bind(socket, "tcp://127.0.0.1:*")
    port = Port("feed", socket, reads=False)
    port.limits = PortLimits(SUBSCRIBER_BYTES, SUBSCRIBER_BYTES)
    port.connections[7] = measured
    _received[7] = 10 * SUBSCRIBER_BYTES
    assert port.look(measured.since_s + 3_600) == [measured]
    assert port.look(measured.since_s + 60) == []
    assert measured.cut == "connection_bytes"
    _received[7] = 0
    port.close()
    context.destroy(linger=0)


@pytest.mark.parametrize(("family", "host"), [(sockets.AF_INET, "127.0.0.1"), (sockets.AF_INET6, "::1")])
def test_the_address_of_a_connection(family: int, host: str) -> None:
    try:
        server = sockets.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no such addresses here")
    with closing(server), closing(sockets.create_connection(server.getsockname()[:2])) as ours:
        theirs, _ = server.accept()
        with closing(theirs):
            name, port = ours.getsockname()[:2]
            assert kernel.peer_of(theirs.fileno()) == (
                f"{name}:{port}" if family == sockets.AF_INET else f"[{name}]:{port}"
            )
            ours.sendall(b"x" * 1_000)
            deadline = time.monotonic() + 5
            while kernel.traffic(theirs.fileno()) != (1_000, 0):
                assert time.monotonic() < deadline
            assert kernel.cookie(theirs.fileno()) != kernel.cookie(ours.fileno())
        assert kernel.peer_of(server.fileno()) == "?"


def test_what_is_no_connection(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert kernel.cookie(descriptor) is None
    assert kernel.traffic(descriptor) is None
    assert kernel.peer_of(descriptor) == "?"
    assert not kernel.shut_down(descriptor)
    os.close(descriptor)
    assert 1 * MIB < kernel.Memory().anonymous_bytes() < 1 << 34


@pytest.mark.parametrize(("text", "limit"), [("536870912\n", 512 * MIB), ("max\n", None)])
def test_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, limit: int | None
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text)
    monkeypatch.setattr(kernel, "_MEMORY_LIMITS", [tmp_path / "missing", file])
    assert kernel.memory_limit() == limit


# ---------------------------------------------------------------- descriptors


async def test_clients_leave_a_reserve_of_descriptors() -> None:
    free = os.dup(0)
    os.close(free)
    place = Place(LIMITS._replace(descriptors=free + 140, reserve=100))
    floods = [Flood(place.endpoint) for _ in range(8)]
    with structlog.testing.capture_logs() as logs:
        more = [sockets.create_connection(tuple(floods[0].socket.getpeername())) for _ in range(60)]
        await until(lambda: place.port.counters["cut_descriptors"] > 0)
        await until(lambda: bool(logs))
    assert logs[0]["why"] == "descriptors"
    place.read()
    floods[0].send(frame(b"still there"))
    await until(lambda: bool(place.messages))
    for one in [*more, *(flood.socket for flood in floods)]:
        one.close()
    place.close()


async def test_a_guard_that_fails_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it no bound holds: the replica ends (replicas/hosting.py, `background`)."""

    def fail(_: kernel.Memory) -> int:
        raise OSError("no /proc")

    monkeypatch.setattr(kernel.Memory, "anonymous_bytes", fail)
    async with asyncio.timeout(10):
        with pytest.raises(OSError, match="no /proc"):
            await place.guard.failed()


async def test_the_address_of_a_connection_needs_no_function_that_another_library_may_replace(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySyncObj 0.3 puts a function of Windows in the place of socket.inet_ntop on every system."""
    monkeypatch.setattr("socket.inet_ntop", None)
    peer = place.context.socket(zmq.DEALER)
    peer.connect(place.endpoint)
    await until(lambda: bool(place.port.connections))
    assert {one.address.rpartition(":")[0] for one in place.port.connections.values()} == {"127.0.0.1"}
    peer.close(linger=0)
