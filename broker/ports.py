"""The connections of one bound socket, and what each of them holds of this process's memory.

libzmq bounds its queues in messages, and the parts of an unfinished message not at all. So what a connection holds is
what the kernel received of it (TCP_INFO) less what the reader of the socket took: it waits in libzmq, whole or not. One
beyond its bound is shut down, and what it left is thrown away unread. `Guard` (guard.py) looks and decides when.

The monitor tells of each connection. Its queue has no bound: libzmq's thread, which serves all connections, waits for
room in it.
"""

import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import zmq

from broker import kernel
from broker.sockets import PARTS_MAX, DrainedSocket, Message, Meter, ZmqSocket

_HANDSHAKE_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_MONITORED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _HANDSHAKE_FAILED
_EVENT = struct.Struct("=HI")
#: A port that only sends takes subscriptions, and keeps them: libzmq needs some fifty bytes for each byte of one.
SUBSCRIBER_BYTES, SUBSCRIBERS_BYTES, SUBSCRIBER_BYTES_A_SECOND = 512 << 10, 4 << 20, 4 << 10


@dataclass(slots=True, eq=False)
class Accepted:
    """One connection. `received`, `held`: as of the last look; `base`: what had been taken of its descriptor before.

    `unsent`: what waits in the kernel for the other end; if it does not read, libzmq holds more behind that.
    `cut`: why it was ended, "" = it was not.
    """

    descriptor: int
    cookie: int
    address: str
    since_s: float
    base: int
    received: int = 0
    held: int = 0
    taken: int = 0
    unsent: int = 0
    cut: str = ""


@dataclass(slots=True, frozen=True)
class Cut:
    """What is told of a connection that was ended."""

    port: str
    why: str
    address: str
    key: str
    held: int
    limit: int


@dataclass(slots=True)
class PortLimits:
    """Bytes that one connection and all of them may hold; from descriptor number `descriptors` on, none is let in."""

    connection_bytes: int = 1 << 62
    port_bytes: int = 1 << 62
    descriptors: int = 1 << 62


@dataclass(slots=True)
class _Look:
    """What the last look found. `left`: bytes that connections left which are gone, and that nobody has read yet."""

    held: int = 0
    left: int = 0
    emptied: int = 0


class Port:
    """Made once its socket is bound. `meter` is for the reader of the socket; `close` before the socket.

    `read_events` is to be called when `monitor` may have something: by the guard's thread, or by the loop
    (`read_on_loop`) where there is none. Each callback is called there too. `counters`: accepted, cut_REASON.
    """

    def __init__(self, name: str, socket: ZmqSocket, *, reads: bool = True) -> None:
        """`reads` False: nobody reads what comes, which is subscriptions (PUB, XPUB)."""
        self.name = name
        self.socket = socket
        self.reads = reads
        self.limits = PortLimits()
        self.meter = Meter()
        self.counters: Counter[str] = Counter()
        self.connections: dict[int, Accepted] = {}
        self.on_close: Callable[[Port], None] = lambda _: None
        self.on_cut: Callable[[Cut], None] = lambda _: None
        self.on_handshake_failed: Callable[[int], None] = lambda _: None
        #: The name of the key behind a descriptor; "" = not known.
        self.key_of: Callable[[int], str] = lambda _: ""
        self._look = _Look()
        self.monitor = _monitor_of(socket)
        self._reader: DrainedSocket | None = None

    @property
    def held(self) -> int:
        """Bytes that wait in libzmq, as of the last look."""
        return self._look.held + self._look.left

    def close(self) -> None:
        """Before its socket. Safe to call twice."""
        if self.monitor.closed:
            return
        self.on_close(self)
        with suppress(zmq.ZMQError):  # before its receiver ends: see ringcast/sockets.py, Watched.close
            self.socket.disable_monitor()
        if self._reader is not None:
            self._reader.close()
        self.monitor.close(linger=0)

    # ------------------------------------------------------------------ what comes and goes

    def read_on_loop(self) -> None:
        """Read events on the running loop."""
        self._reader = DrainedSocket(self.monitor, self._on_events)

    def read_events(self) -> None:
        """Read all that wait."""
        with suppress(zmq.Again):
            while True:
                self._on_events([self.monitor.recv_multipart(zmq.NOBLOCK)])

    def _on_events(self, messages: list[Message]) -> None:
        for frames in messages:
            event, value = _EVENT.unpack(frames[0])
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(value)
            elif event == zmq.EVENT_DISCONNECTED:
                self._gone(value)
            else:
                self.on_handshake_failed(event)

    def _accepted(self, descriptor: int) -> None:
        self.counters["accepted"] += 1
        cookie = kernel.cookie(descriptor)
        if cookie is None:
            return  # gone already
        self._gone(descriptor)
        self.meter.discarded.discard(descriptor)
        # Some of it may have been taken before we hear of it: what came until now counts as taken.
        found_traffic = kernel.traffic(descriptor)
        base = self.meter.taken.get(descriptor, 0) - (found_traffic.received if found_traffic else 0)
        address = kernel.peer_of(descriptor)
        found = self.connections[descriptor] = Accepted(descriptor, cookie, address, time.monotonic(), base)
        if descriptor >= self.limits.descriptors:
            self.cut(found, "descriptors", self.limits.descriptors)

    def _gone(self, descriptor: int) -> None:
        found = self.connections.pop(descriptor, None)
        if found is not None and not found.cut and self.reads:
            self._look.left += found.held

    # ------------------------------------------------------------------ the guard's

    def look(self, now_s: float) -> list[Accepted]:
        """Ask the kernel about each connection, and end those beyond a bound; returns the others, the largest last."""
        look, meter, limits = self._look, self.meter, self.limits
        emptied = meter.emptied
        if read_all := emptied != look.emptied:
            look.emptied, look.left = emptied, 0
        self._cut_oversized()
        alive = [one for one in list(self.connections.values()) if not one.cut and self._measure(one, now_s, read_all)]
        alive.sort(key=_held)
        # What cut connections left counts too: else one that comes again and again would fill the memory all the same.
        bound = max(limits.connection_bytes // 8, min(limits.connection_bytes, limits.port_bytes - look.left))
        while alive and alive[-1].held > bound:
            self.cut(alive.pop(), "connection_bytes", bound)
        held = sum(map(_held, alive))
        if held > limits.port_bytes:
            while alive and held > limits.port_bytes * 3 // 4:
                held -= alive[-1].held
                self.cut(alive.pop(), "port_bytes", limits.port_bytes)
        look.held = held
        return alive

    def _cut_oversized(self) -> None:
        oversized = self.meter.oversized
        while oversized:
            one = self.connections.get(oversized.pop())
            if one is not None and not one.cut:
                self.cut(one, "parts", PARTS_MAX)

    def _measure(self, one: Accepted, now_s: float, read_all: bool) -> bool:
        """False: it is gone. What was taken is read first, so that it is never more than what was received."""
        descriptor = one.descriptor
        taken = self.meter.taken.get(descriptor, 0) - one.base
        if not self.reads:
            taken = int((now_s - one.since_s) * SUBSCRIBER_BYTES_A_SECOND)
        traffic = kernel.traffic(descriptor)
        if traffic is None or traffic.received < one.received:
            self.connections.pop(descriptor, None)  # its event is under way, or the descriptor is another one's
            return False
        received, one.unsent = traffic
        held = max(0, received - taken)
        if read_all and taken != one.taken:
            # Commands of ZMTP, such as heartbeats, are received and never taken. But all that had come when the socket
            # was found empty, and is part of a message that was taken, is no more.
            held = min(held, received - one.received)
            one.base += taken - (received - held)
            taken = received - held
        one.received, one.held, one.taken = received, held, taken
        return True

    def cut(self, one: Accepted, why: str, limit: int) -> None:
        """End a connection, if its descriptor still is this one's; what it left in libzmq is thrown away."""
        one.cut = why
        if kernel.cookie(one.descriptor) != one.cookie or not kernel.shut_down(one.descriptor):
            return
        self.meter.discarded.add(one.descriptor)
        self._look.left += one.held if self.reads else 0
        self.counters[f"cut_{why}"] += 1
        self.on_cut(Cut(self.name, why, one.address, self.key_of(one.descriptor), one.held, limit))


def _held(one: Accepted) -> int:
    return one.held


def _monitor_of(socket: ZmqSocket) -> ZmqSocket:
    """As pyzmq's `get_monitor_socket`, but what waits in it has no bound."""
    address = f"inproc://port.{id(socket):x}"
    socket.monitor(address, _MONITORED)
    receiver: ZmqSocket = socket.context.socket(zmq.PAIR)
    receiver.setsockopt(zmq.LINGER, 0)
    receiver.setsockopt(zmq.RCVHWM, 0)
    receiver.connect(address)
    return receiver
