"""Sockets that are drained: watched by file descriptor, read with NOBLOCK until EAGAIN, handed over in one list.

`zmq.asyncio` makes one future per frame (80 k frames/s here); a drained socket gives several 100 k frames/s, and the
whole of what arrived becomes one step of the core (docs/architecture.md, "Sockets are drained").

Rules that libzmq puts on such a reader, each kept here and nowhere else:

- The descriptor is edge-triggered: it says "something changed", not "there is a message", and any call on the socket
  may swallow the signal. So ZMQ_EVENTS is read again after each drain, and once per loop turn after sends.
- A multipart message is sent whole or not at all: the high-water mark is checked at its first frame. If a peer goes in
  the middle, the rest must still be handed in, or libzmq would drop frames of the next message.
- One reader per socket. There is no task and no await, so nothing to cancel and no frame to lose.

Measured: `recv(copy=False)` then `.bytes` beats `recv(copy=True)` at every size, since the frame knows by itself
whether more follow (420 k against 320 k two-frame messages/s at 100 B). Keeping the buffer instead of the bytes saves
3 us at 26 kB and pins libzmq's memory: not worth it. Sending copies below COPY_BYTES_MAX.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from typing import Self, TypeAlias

import zmq
from zmq.backend import Socket as Backend

from broker import resets

Message: TypeAlias = list[bytes]
OnFrames: TypeAlias = Callable[[list[Message]], None]
#: (first part, its frame) -> the public key of who sent the message, "" if there is none (broker/doors.py).
Identify: TypeAlias = Callable[[bytes, zmq.Frame], str]
ZmqContext: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"
ZmqSocket: TypeAlias = "zmq.Socket[bytes]"

#: Frames from this size on are lent to libzmq instead of copied: below it the bookkeeping costs more than the copy.
COPY_BYTES_MAX = 128 << 10
#: Of a client's connection that is dead, or has taken no answer for so long.
CLIENT_CUT_AFTER_MS = 10_000
#: Frames of one message; libzmq limits the bytes of a frame but not how many a message has.
PARTS_MAX = 4096

#: What a port that only sends takes: subscriptions, and what a handshake says.
SUBSCRIPTION_BYTES_MAX = 4 << 10
#: What a part costs of a turn's budget beside its bytes.
PART_BYTES = 1 << 10


#: CURVE adds to each part: its name, a nonce, an authenticator and flags.
CURVE_PART_BYTES = 33

# Plain numbers: pyzmq's enums cost more than the receive itself.
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)
_SOURCE_DESCRIPTOR = int(zmq.SRCFD)
_receive = Backend.recv
_send = Backend.send
_get = Backend.get


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bounds of one socket. Queues are in messages and per peer; a frame beyond `frame_bytes_max` cuts its sender.

    `cut_after_ms`: the kernel closes a connection whose other end has acknowledged nothing, or has taken nothing of
    what waits, for this long: a peer that is gone, and one that runs but does not read. 0 = after many minutes.

    ZMTP heartbeats are never turned on: they may abort a process at either end (broker/resets.py).
    """

    frame_bytes_max: int = 64 << 20
    send_queue_max: int = 1_000
    receive_queue_max: int = 1_000
    handshake_ms: int = 5_000
    backlog: int = 512
    cut_after_ms: int = 0

    @classmethod
    def of_clients(cls, frame_bytes_max: int) -> Self:
        """Of a ROUTER that clients connect to."""
        return cls(frame_bytes_max, cut_after_ms=CLIENT_CUT_AFTER_MS)


@dataclass(slots=True)
class Meter:
    """What a reader took of each connection. `taken`: bytes by descriptor, as they were on the wire.

    `part_bytes`: what stands before a small part on the wire, and around it with CURVE (RFC 26). `oversized`: the
    connections that sent a message of more than PARTS_MAX parts.
    `discarded`: descriptors whose messages are thrown away unread. `emptied`: how often the socket was found empty.
    """

    taken: dict[int, int] = field(default_factory=dict)
    discarded: set[int] = field(default_factory=set)
    emptied: int = 0
    part_bytes: int = 2
    oversized: list[int] = field(default_factory=list)


class Sent(Enum):
    """What became of a message."""

    DONE = "done"
    FULL = "full"  # the peer's queue is at its high-water mark: nothing of the message was taken
    GONE = "gone"  # the peer is not connected (ROUTER_MANDATORY), or went while the message was handed over


def open_socket(context: ZmqContext, kind: int, limits: SocketLimits | None = None) -> ZmqSocket:
    """A socket with every bound set. Nothing lingers: what must arrive is resent by its owner, not by a socket."""
    limits = limits or SocketLimits()
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.frame_bytes_max)
    socket.setsockopt(zmq.SNDHWM, limits.send_queue_max)
    socket.setsockopt(zmq.RCVHWM, limits.receive_queue_max)
    socket.setsockopt(zmq.HANDSHAKE_IVL, limits.handshake_ms)
    socket.setsockopt(zmq.BACKLOG, limits.backlog)
    if limits.cut_after_ms:
        socket.setsockopt(zmq.TCP_MAXRT, limits.cut_after_ms)
        for option in (zmq.TCP_KEEPALIVE, zmq.TCP_KEEPALIVE_IDLE, zmq.TCP_KEEPALIVE_INTVL, zmq.TCP_KEEPALIVE_CNT):
            socket.setsockopt(option, 1)  # asked after a second without traffic, and each second
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


class AddressRefused(OSError):
    """An endpoint cannot be bound: it is taken, or not one of this machine."""

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(f"{endpoint} cannot be bound: {why}")
        self.endpoint = endpoint
        self.why = why


def bind(socket: ZmqSocket, endpoint: str) -> str:
    """Bind and return the endpoint with the port that was given ('tcp://127.0.0.1:*' takes any free one).

    A reset is not heard here (broker/resets.py): without `cut_after_ms` a dead peer's connection stays for minutes.
    Raises AddressRefused.
    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise AddressRefused(endpoint, zmq.strerror(error.errno or 0)) from error
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    if bound.startswith("tcp://"):
        resets.ignore(int(bound.rpartition(":")[2]))
    return bound


class DrainedSocket:
    """A zmq socket with one reader: `on_frames(messages)` gets everything that a loop turn found, oldest first.

    `on_frames` runs on the loop and must not block; it may send on this socket and may close it. An error it raises
    goes to the loop's exception handler and does not stop the reader. `on_frames=None`: a socket that only sends.
    A turn takes at most `turn_messages_max` messages and about `turn_bytes_max` bytes, so that timers and other
    sockets have their turn too; the rest comes in the next one.
    """

    def __init__(
        self,
        socket: ZmqSocket,
        on_frames: OnFrames | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        turn_messages_max: int = 1_000,
        turn_bytes_max: int = 16 << 20,
        identify: Identify | None = None,
        meter: Meter | None = None,
        asks: bool = True,
    ) -> None:
        """`meter`: of a ROUTER. `asks` False: messages are tried for, and ZMQ_EVENTS is never looked at.

        An XPUB works subscriptions off while it is asked, and pyzmq holds the interpreter's lock meanwhile; it lets go
        of it to receive.
        """
        self.socket = socket
        self._meter = meter
        self._asks = asks
        #: While `on_frames` runs: for each of its messages the key of who sent it; without `identify`, "" for each.
        self.keys: Iterable[str] = repeat("")
        self._identify = identify
        self.oversized = 0  # messages of more than PARTS_MAX frames, dropped
        self._on_frames = on_frames
        self._turn_messages_max = turn_messages_max
        self._turn_bytes_max = turn_bytes_max
        self._loop = loop or asyncio.get_running_loop()
        self._recheck: asyncio.Handle | None = None
        self._closed = False
        self._found: list[str] = []
        if on_frames is not None:
            self._descriptor = socket.fileno()
            self._loop.add_reader(self._descriptor, self._drain)
            self._plan_recheck()  # what came before the reader was set has already used up its signal

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def send(self, frames: Sequence[bytes | zmq.Frame]) -> Sent:
        """Queue one multipart message without waiting, whole or not at all; the caller acts on FULL and GONE."""
        if self._on_frames is not None and self._recheck is None:
            self._plan_recheck()
        socket = self.socket
        last = len(frames) - 1
        outcome = Sent.DONE
        for i, frame in enumerate(frames):
            flags = _NOBLOCK if i == last else _NOBLOCK | _MORE
            try:
                if len(frame) < COPY_BYTES_MAX:
                    _send(socket, frame, flags)
                else:
                    _send(socket, frame, flags, False)
            except zmq.Again:
                outcome = Sent.FULL if i == 0 else Sent.GONE
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                outcome = Sent.GONE
            if outcome is not Sent.DONE and i == 0:
                break
        return outcome

    def send_tracked(self, frames: Sequence[bytes]) -> tuple[Sent, zmq.MessageTracker | None]:
        """As `send`; the tracker is done when libzmq has handed the message on to the peer and holds none of it."""
        tracked = zmq.Frame(frames[-1], track=True, copy_threshold=0)
        outcome = self.send((*frames[:-1], tracked))
        return outcome, tracked.tracker if outcome is Sent.DONE else None

    def close(self) -> None:
        """Stop reading and close; what is queued to send is dropped. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._recheck is not None:
            self._recheck.cancel()
        if self._on_frames is not None:
            self._loop.remove_reader(self._descriptor)
        self.socket.close(linger=0)

    def _plan_recheck(self) -> None:
        self._recheck = self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        self._recheck = None
        if self._readable():
            self._drain()

    def _readable(self) -> bool:
        return not self._closed and (not self._asks or bool(int(_get(self.socket, _EVENTS)) & _POLLIN))

    def _drain(self) -> None:
        if not self._readable():
            self._empty()
            return
        assert self._on_frames is not None
        messages: list[Message] = []
        more = True
        try:
            more = self._receive_into(messages)
        except zmq.Again:
            more = False
            self._empty()
        finally:
            # Whatever comes after the last look at ZMQ_EVENTS signals anew; a send in `on_frames` plans its own look.
            if more and self._recheck is None:
                self._plan_recheck()
            if messages:
                if self._found:
                    self.keys, self._found = self._found, []
                self._on_frames(messages)

    def _receive_into(self, messages: list[Message]) -> bool:
        """Append what is there, up to the turn's budget; False if there is no more. Raises zmq.Again for that too.

        After a first message ZMQ_EVENTS is asked, which is cheaper than an exception where few came; later not, for
        it is dearer where many do.
        """
        socket, receive, identify, meter = self.socket, _receive, self._identify, self._meter
        bytes_left = self._turn_bytes_max
        for number in range(self._turn_messages_max):
            frame = receive(socket, _NOBLOCK, False)
            if meter is not None and meter.discarded and _descriptor_of(frame) in meter.discarded:
                self._discard(frame)
                bytes_left -= PART_BYTES
            else:
                first, part = frame, frame.bytes
                size = len(part)
                parts, count = [part], 1
                key = identify(part, frame) if identify is not None else ""
                while frame.more:
                    frame = receive(socket, _NOBLOCK, False)
                    part = frame.bytes
                    size += len(part)
                    count += 1
                    if count <= PARTS_MAX:
                        parts.append(part)
                bytes_left -= size + count * PART_BYTES
                if meter is not None:
                    _count(meter, first, parts[0], count, size)
                if count <= PARTS_MAX:
                    messages.append(parts)
                    if identify is not None:
                        self._found.append(key)
                else:
                    self.oversized += 1
                    if meter is not None:
                        meter.oversized.append(_descriptor_of(first))
            if number == 0 and not self._readable():
                self._empty()
                return False
            if bytes_left < 0:
                return True
        return True

    def _empty(self) -> None:
        """There is no message left."""
        if self._meter is not None:
            self._meter.emptied += 1

    def _discard(self, frame: zmq.Frame) -> None:
        while frame.more:
            frame = _receive(self.socket, _NOBLOCK, False)


def _descriptor_of(frame: zmq.Frame) -> int:
    """Of the connection that brought it; -1: not known."""
    try:
        return int(frame.get(_SOURCE_DESCRIPTOR))
    except zmq.ZMQError:
        return -1


def _count(meter: Meter, first: zmq.Frame, name: bytes, count: int, size: int) -> None:
    """Note a message that was taken. Not on the wire: the ROUTER's name of the connection, which comes first.

    A few bytes too little for a large part: see `Port.look`.
    """
    descriptor = _descriptor_of(first)
    taken = meter.taken
    wire = size - len(name) + (count - 1) * meter.part_bytes
    taken[descriptor] = taken.get(descriptor, 0) + wire
