"""A ZeroMQ socket that is drained by file descriptor, and its connection events.

`zmq.asyncio` costs a future per frame (docs/architecture.md, "Sockets are drained"). Here the loop watches the socket's
FD and one turn takes all that waits. The FD is edge-triggered and any call on the socket may eat the edge, so
ZMQ_EVENTS is looked at again after each drain and each send.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import zmq
from zmq.utils.monitor import parse_monitor_message

#: Frames taken in one turn before the loop may do something else.
DRAIN_FRAMES_MAX = 1_000

#: A connection that broke is replaced, maybe by one to another replica: its owner closes it long before libzmq would
#: try again. Not -1, which means never: libzmq 4.3.5 then takes the queue of the connection away at once, and aborts
#: the process if that happens between two parts of a message that is being read (`!_more`, fq.cpp).
RECONNECT_MS = 24 * 60 * 60 * 1_000

#: Events that mean: this connection is no more, or never was (V1's "killed process is noticed in milliseconds").
LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class DrainedSocket:
    """One socket, one reader. `on_frames(frames)` is called for each multipart message, in the loop's thread.

    The owner closes it; nothing is called after `close()`.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", on_frames: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.Handle | None = None
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self.drain)
        self._recheck()

    @property
    def closed(self) -> bool:
        return bool(self._socket.closed)

    def send(self, frames: Sequence[bytes]) -> bool:
        """Queue one multipart message; False if the socket's queue is full (the other side does not take it)."""
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT, copy=True)
        except zmq.Again:
            return False
        self._recheck()
        return True

    def drain(self) -> None:
        """Take what waits, up to DRAIN_FRAMES_MAX messages."""
        try:
            for _ in range(DRAIN_FRAMES_MAX):
                if self._socket.closed:
                    return
                self._on_frames(self._socket.recv_multipart(zmq.DONTWAIT, copy=True))
        except zmq.Again:
            pass
        finally:
            # Also if a handler raised: the loop logs it, and the rest must not wait for an edge that never comes.
            self._recheck()

    def _recheck(self) -> None:
        """Edge-triggered: what arrived meanwhile raises no new edge, so come back by ourselves."""
        if self._again is None and not self._socket.closed and self._readable():
            self._again = self._loop.call_soon(self._drain_again)

    def _readable(self) -> bool:
        events = self._socket.getsockopt(zmq.EVENTS)
        return isinstance(events, int) and bool(events & zmq.POLLIN)

    def _drain_again(self) -> None:
        self._again = None
        self.drain()

    def close(self, linger_ms: int = 0) -> None:
        """Stop reading and close. Frames not yet sent are dropped after `linger_ms`."""
        if self._socket.closed:
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._fd)
        self._socket.close(linger=linger_ms)


class Watched:
    """A connecting socket with its monitor: frames, and `on_lost(event)` when its connection broke or failed."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        kind: int,
        endpoint: str,
        *,
        on_frames: Callable[[list[bytes]], None],
        on_lost: Callable[[int], None],
        options: Mapping[int, int | bytes],
    ) -> None:
        """Raises zmq.ZMQError if the endpoint is no ZeroMQ address."""
        socket = context.socket(kind)
        try:
            for option, value in {zmq.LINGER: 0, zmq.RECONNECT_IVL: RECONNECT_MS, **options}.items():
                socket.setsockopt(option, value)
            monitor = socket.get_monitor_socket(LOST)
            socket.connect(endpoint)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise
        self._on_lost = on_lost
        self._inner = socket
        self.socket = DrainedSocket(socket, on_frames)
        self._monitor = DrainedSocket(monitor, self._on_event)

    def _on_event(self, frames: list[bytes]) -> None:
        event = int(parse_monitor_message(frames)["event"])
        if event & LOST:
            self._on_lost(event)

    def subscribe(self, prefix: bytes) -> None:
        """SUB only: receive what begins with these bytes."""
        self._inner.setsockopt(zmq.SUBSCRIBE, prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        """SUB only: no more of them, unless another prefix brings it."""
        self._inner.setsockopt(zmq.UNSUBSCRIBE, prefix)

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket and its monitor."""
        if self.socket.closed:
            return
        # In this order. libzmq's I/O thread sends events with a call that waits, and holds the lock that disabling
        # takes: an event between the end of its receiver and the disabling would stop this thread for ever.
        with suppress(zmq.ZMQError):
            self._inner.disable_monitor()
        self._monitor.close()
        self.socket.close(linger_ms)
