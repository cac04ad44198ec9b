"""broker/sockets.py: no lost wake-up, whole messages, bounded sends, and whole bursts a turn."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop
import zmq

from broker import sockets
from broker.sockets import DrainedSocket, Message, Sent, SocketLimits, bind, open_socket

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


Opener = Callable[..., sockets.ZmqSocket]
Pair = tuple[sockets.ZmqSocket, sockets.ZmqSocket]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """`open_socket` in a context of its own; all that it opened is closed at the end."""
    context: sockets.ZmqContext = zmq.Context()
    made: list[sockets.ZmqSocket] = []

    def make(kind: int, limits: SocketLimits | None = None) -> sockets.ZmqSocket:
        made.append(open_socket(context, kind, limits))
        return made[-1]

    yield make
    for socket in made:
        socket.close(linger=0)
    context.term()


@pytest.fixture
def pair(opened: Opener) -> Pair:
    router, dealer = opened(zmq.ROUTER), opened(zmq.DEALER)
    dealer.connect(bind(router, "tcp://127.0.0.1:*"))
    return router, dealer


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.001)


class Sink:
    """Collects what a drained socket hands over."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls = 0

    def __call__(self, messages: list[Message]) -> None:
        self.calls += 1
        self.messages += messages


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("seed", range(4))
def test_every_message_of_every_burst_arrives_on_both_loops(
    opened: Opener, make_loop: Callable[[], asyncio.AbstractEventLoop], seed: int
) -> None:
    """Bursts of random size from both sides at once, with tiny budgets: a swallowed signal would stop the test."""

    async def run() -> None:
        chance = random.Random(seed)
        limits = SocketLimits(send_queue_max=0, receive_queue_max=0)
        router, dealer = opened(zmq.ROUTER, limits), opened(zmq.DEALER, limits)
        dealer.connect(bind(router, "tcp://127.0.0.1:*"))
        echoed: list[bytes] = []

        def echo(messages: list[Message]) -> None:
            for identity, payload in messages:
                assert server.send((identity, payload)) is Sent.DONE

        def collect(messages: list[Message]) -> None:
            echoed.extend(message[0] for message in messages)

        server = DrainedSocket(router, echo, turn_messages_max=chance.choice((1, 7, 1000)))
        client = DrainedSocket(dealer, collect, turn_messages_max=chance.choice((1, 5, 1000)), turn_bytes_max=4000)
        sent = 0
        for _ in range(60):
            for _ in range(chance.choice((1, 1, 2, 30, 300))):
                assert client.send((b"%d" % sent + b"x" * chance.randrange(200),)) is Sent.DONE
                sent += 1
            if chance.random() < 0.5:
                await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.003)))
            if chance.random() < 0.3:
                await until(lambda expected=sent: len(echoed) == expected)  # type: ignore[misc]
        await until(lambda: len(echoed) == sent)
        assert [int(payload.rstrip(b"x")) for payload in echoed] == list(range(sent))
        server.close()
        client.close()

    loop = make_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(run(), 30))
    finally:
        loop.close()


async def test_messages_that_came_before_the_reader_are_found(pair: Pair) -> None:
    router, dealer = pair
    dealer.send(b"early")
    assert router.poll(5_000) == zmq.POLLIN  # this call has used up the descriptor's signal
    sink = Sink()
    drained = DrainedSocket(router, sink)
    await until(lambda: len(sink.messages) == 1)
    assert sink.messages[0][1:] == [b"early"]
    drained.close()


async def test_a_raising_handler_does_not_stop_the_reader(pair: Pair) -> None:
    router, dealer = pair
    seen: list[bytes] = []
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def handler(messages: list[Message]) -> None:
        seen.extend(message[1] for message in messages)
        raise RuntimeError("a handler's bug")

    drained = DrainedSocket(router, handler, turn_messages_max=1)
    for i in range(20):
        dealer.send(b"%d" % i)
    await until(lambda: len(seen) == 20)
    await until(lambda: len(reported) == 20)
    drained.close()


async def test_a_full_queue_and_an_unknown_peer_are_said_so_at_once(opened: Opener) -> None:
    router = opened(zmq.ROUTER, SocketLimits(send_queue_max=5))
    endpoint = bind(router, "tcp://127.0.0.1:*")
    slow = opened(zmq.DEALER, SocketLimits(receive_queue_max=5))
    slow.setsockopt(zmq.RCVBUF, 4096)
    slow.setsockopt(zmq.IDENTITY, b"slow")
    slow.connect(endpoint)
    drained = DrainedSocket(router, Sink())
    assert drained.send((b"nobody", b"x")) is Sent.GONE
    await until(lambda: drained.send((b"slow", b"first")) is Sent.DONE)
    outcomes = [drained.send((b"slow", b"x" * 100_000)) for _ in range(2_000)]
    assert outcomes[-1] is Sent.FULL
    assert Sent.GONE not in outcomes
    # What was taken arrives whole.
    for _ in range(outcomes.count(Sent.DONE) + 1):
        assert slow.poll(5_000) == zmq.POLLIN
        assert len(slow.recv_multipart()) == 1
    drained.close()


async def test_a_message_of_too_many_frames_is_dropped_and_counted(pair: Pair) -> None:
    router, dealer = pair
    sink = Sink()
    drained = DrainedSocket(router, sink)
    dealer.send_multipart([b""] * (sockets.PARTS_MAX + 5))
    dealer.send(b"after")
    await until(lambda: bool(sink.messages))
    assert sink.messages[0][1:] == [b"after"]
    assert drained.oversized == 1
    drained.close()


async def test_an_oversized_frame_cuts_its_sender_and_nobody_else(opened: Opener) -> None:
    router = opened(zmq.ROUTER, SocketLimits(frame_bytes_max=1_000))
    endpoint = bind(router, "tcp://127.0.0.1:*")
    sink = Sink()
    drained = DrainedSocket(router, sink)
    bad, good = opened(zmq.DEALER), opened(zmq.DEALER)
    bad.connect(endpoint)
    good.connect(endpoint)
    bad.send(b"x" * 2_000)
    good.send(b"x" * 1_000)
    await until(lambda: bool(sink.messages))
    assert [message[1] for message in sink.messages] == [b"x" * 1_000]
    drained.close()


async def test_close_inside_the_handler_and_twice(pair: Pair) -> None:
    router, dealer = pair

    def handler(_: list[Message]) -> None:
        drained.close()

    drained = DrainedSocket(router, handler)
    dealer.send(b"x")
    await until(lambda: drained.closed)
    drained.close()
    assert router.closed


async def test_a_turn_takes_all_that_waits_up_to_its_bound(opened: Opener) -> None:
    """What makes draining worth it: a wake of the loop for hundreds of messages, not for each (`inproc`: no thread
    in between, so all of them wait when the reader starts)."""
    limits = SocketLimits(send_queue_max=0, receive_queue_max=0)
    router, dealer = opened(zmq.ROUTER, limits), opened(zmq.DEALER, limits)
    router.bind("inproc://turns")
    dealer.connect("inproc://turns")
    for n in range(1_000):
        dealer.send(b"%d" % n, zmq.NOBLOCK)
    sink = Sink()
    drained = DrainedSocket(router, sink, turn_messages_max=300)
    await until(lambda: len(sink.messages) == 1_000)
    drained.close()
    assert [message[-1] for message in sink.messages] == [b"%d" % n for n in range(1_000)]
    assert sink.calls == 4  # 300 + 300 + 300 + 100
