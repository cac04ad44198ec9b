"""broker/feed.py with real subscribers: frames, the control topic, and slow subscribers that block nobody."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import pytest
import zmq

from broker import feed as feed_module
from broker.feed import Feed
from broker.sockets import SocketLimits, ZmqContext, bind, open_socket
from ringcast.bus.batch import pack
from ringcast.bus.feed import Control, FeedBatch, decode, prefix
from ringcast.wire import BatchInfo
from tests.broker.clients import CLUSTER, RING, until
from tests.project.sources import PACKAGES, python_files

CLIENT = bytes(16)


class Stage:
    """A feed on a loopback port and its subscribers."""

    def __init__(self, limits: SocketLimits = feed_module.FEED_LIMITS) -> None:
        self.context: ZmqContext = zmq.Context()
        self.publisher = open_socket(self.context, zmq.PUB, limits)
        self.endpoint = bind(self.publisher, "tcp://127.0.0.1:*")
        self.cluster = CLUSTER
        self.feed = Feed(self.publisher, lambda: self.cluster, ring=RING, next_offset=0)
        self.sockets: list[zmq.Socket[bytes]] = []
        self.next_offset = 0
        self.last: dict[str, int] = {}

    async def subscriber(self, pattern: str, limits: SocketLimits | None = None) -> zmq.Socket[bytes]:
        """A SUB that is known to be subscribed."""
        socket = open_socket(self.context, zmq.SUB, limits)
        socket.setsockopt(zmq.SUBSCRIBE, prefix(pattern))
        socket.setsockopt(zmq.SUBSCRIBE, b"\x01control\x00")
        socket.connect(self.endpoint)
        self.sockets.append(socket)
        await until(lambda: bool(socket.poll(0)))
        return socket

    def publish(self, *batches: tuple[str, bytes]) -> None:
        """One delivery of single-message batches."""
        entries = []
        for topic, payload in batches:
            info = BatchInfo(topic, self.next_offset, 1, self.last.get(topic, -1), 1_000, CLIENT, 3)
            self.last[topic] = self.next_offset
            self.next_offset += 1
            entries.append((info, pack([payload])))
        self.feed.publish(entries, self.next_offset)

    def close(self) -> None:
        """Everything."""
        self.feed.close()
        for socket in self.sockets:
            socket.close(linger=0)
        self.context.term()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    made.close()


async def received(socket: zmq.Socket[bytes], seconds: float = 5) -> FeedBatch | Control:
    """The next feed message."""
    await until(lambda: bool(socket.poll(0)), seconds)
    return decode(socket.recv_multipart(zmq.NOBLOCK))


async def batches(socket: zmq.Socket[bytes], count: int) -> list[FeedBatch]:
    """The next `count` batches, control frames left out."""
    found: list[FeedBatch] = []
    while len(found) < count:
        message = await received(socket)
        if isinstance(message, FeedBatch):
            found.append(message)
    return found


async def next_control(socket: zmq.Socket[bytes], at_least: int) -> Control:
    """The first control frame with this next_offset."""
    while True:
        message = await received(socket)
        if isinstance(message, Control) and message.next_offset >= at_least:
            return message


def offsets(found: Iterable[FeedBatch]) -> list[tuple[str, int, int]]:
    """(topic, first offset, previous) of each."""
    return [(one.info.topic, one.info.first_offset, one.info.previous) for one in found]


async def test_a_subscriber_gets_its_topic_and_no_topic_that_begins_alike(stage: Stage) -> None:
    one, many, whole = await stage.subscriber("a"), await stage.subscriber("a.>"), await stage.subscriber(">")
    stage.publish(("a", b"1"), ("a2", b"2"), ("a.b", b"3"), ("a", b"4"))
    found = await batches(one, 2)
    assert offsets(found) == [("a", 0, -1), ("a", 3, 0)]
    assert found[0] == FeedBatch(CLUSTER, RING, BatchInfo("a", 0, 1, -1, 1_000, CLIENT, 3), pack([b"1"]))
    assert offsets(await batches(many, 1)) == [("a.b", 2, -1)]
    assert len(await batches(whole, 4)) == 4


async def test_the_control_topic_tells_what_was_delivered_as_soon_as_the_feed_pauses(stage: Stage) -> None:
    socket = await stage.subscriber("nothing")
    stage.publish(("a", b"1"), ("b", b"2"), ("a", b"3"))
    published = time.monotonic()
    control = await next_control(socket, 3)
    assert time.monotonic() - published < feed_module.CONTROL_INTERVAL_S
    assert control == Control(CLUSTER, RING, 3, 0, {"a": 2, "b": 1})
    control = await next_control(socket, 3)
    assert control == Control(CLUSTER, RING, 3, 3, {})


async def test_since_is_always_the_next_offset_of_the_frame_before(stage: Stage) -> None:
    socket = await stage.subscriber("a")
    for _ in range(20):
        stage.publish(("a", b"x"))
        await asyncio.sleep(0.005)
    last, changed = None, 0
    while last is None or last.next_offset < 20:
        message = await received(socket)
        if isinstance(message, Control):
            assert last is None or message.since == last.next_offset
            assert message.changed.get("a", -1) == (message.next_offset - 1 if message.changed else -1)
            changed += bool(message.changed)
            last = message
    assert changed >= 1


async def test_a_jump_shows_as_a_hole_to_whoever_is_below(stage: Stage) -> None:
    socket = await stage.subscriber("a")
    stage.publish(("a", b"x"))
    stage.feed.jump(1_000)
    assert await next_control(socket, 1_000) == Control(CLUSTER, RING, 1_000, 1_000, {})


async def test_a_batch_too_large_for_the_feed_is_announced_at_once_to_be_fetched(stage: Stage) -> None:
    socket = await stage.subscriber("a")
    stage.publish(("a", bytes(feed_module.BATCH_BYTES_MAX)))
    assert await next_control(socket, 1) == Control(CLUSTER, RING, 1, 0, {"a": 0})
    assert stage.feed.counters["too_large"] == 1


async def test_no_control_frame_without_a_cluster(stage: Stage) -> None:
    socket = await stage.subscriber("a")
    stage.cluster = 0
    controls = stage.feed.counters["controls"]
    await asyncio.sleep(2 * feed_module.CONTROL_INTERVAL_S)
    assert stage.feed.counters["controls"] == controls
    while socket.poll(0):
        assert isinstance(decode(socket.recv_multipart()), Control)


@pytest.fixture
async def short() -> AsyncIterator[Stage]:
    """A feed whose queues hold 100 frames."""
    made = Stage(SocketLimits(send_queue_max=100))
    yield made
    made.close()


async def test_a_subscriber_that_does_not_read_blocks_nobody(short: Stage) -> None:
    """F36: 200 MB past a stopped subscriber; the other one gets all of it, the loop is never held."""
    stage = short
    stopped = await stage.subscriber("a", SocketLimits(receive_queue_max=10))
    good = await stage.subscriber("a", SocketLimits(receive_queue_max=0))
    payload = bytes(100_000)
    longest = 0.0
    total = 2_000
    got: list[FeedBatch] = []
    for n in range(total):
        started = time.monotonic()
        stage.publish(("a", payload))
        longest = max(longest, time.monotonic() - started)
        if n % 50 == 49:
            got += await batches(good, 50)
    assert offsets(got) == [("a", n, n - 1) for n in range(total)]
    assert longest < 0.5
    lost_from = 0
    while stopped.poll(50):
        message = decode(stopped.recv_multipart())
        if isinstance(message, FeedBatch):
            if message.info.previous >= lost_from:
                break
            lost_from = message.info.first_offset + 1
    assert lost_from < total, "it lost frames, and can tell by `previous` or at the next control frame"


async def test_a_subscriber_that_reads_nothing_for_long_is_cut_so_that_its_queue_is_freed() -> None:
    """F36: a bounded queue, then disconnection, then catch-up from the log."""
    stage = Stage(SocketLimits(cut_after_ms=500))
    stopped = await stage.subscriber("a", SocketLimits(receive_queue_max=1))
    ours = stage.publisher.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    theirs = stopped.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    stage.sockets += [ours, theirs]

    def cut() -> bool:
        stage.publish(("a", bytes(100_000)))
        return bool(ours.poll(0))

    def noticed() -> bool:
        while stopped.poll(0):
            stopped.recv_multipart(zmq.NOBLOCK)
        return bool(theirs.poll(0))

    try:
        await until(cut, 30)
        await until(noticed, 30)
    finally:
        stage.publisher.disable_monitor()
        stopped.disable_monitor()
        stage.close()


def test_no_socket_of_ours_uses_heartbeats_of_libzmq() -> None:
    """A libzmq aborts its process when it meets one at the wrong moment; 4.3.5 is the newest."""
    found = [path for path in python_files(*PACKAGES) if "HEARTBEAT_" in path.read_text(encoding="utf-8")]
    assert not found
