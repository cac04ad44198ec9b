"""Who stands behind the connections of one bound socket: the key of each message, and the end of a connection.

libzmq tells the authenticated key with every message (its `User-Id`), which cannot be forged and is never stale: a
name of a ROUTER's connection can be taken by another one later. And it tells the descriptor, so that a connection whose
key was revoked is really cut: shut down by the kernel, as if its other end had gone.
"""

import os
import socket as sockets
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import zmq

from broker import resets
from broker.ports import Port

USER_ID = "User-Id"
_SOURCE_DESCRIPTOR = int(zmq.SRCFD)
#: Connections whose descriptor is known; then all are asked for it again.
ROUTES_MAX = 20_000


class Holder(NamedTuple):
    """A connection's key, and where it comes from: a descriptor is used again, a pair of addresses is not so soon."""

    key: str
    peer: Any


class Door:
    """The connections of one bound socket. `counters`: handshakes that ended before a key was known."""

    def __init__(self, port: Port) -> None:
        self.counters: Counter[str] = Counter()
        self.holders: dict[int, Holder] = {}
        #: Of the last message that was told apart by `of_subscription`; None: its connection is gone.
        self.last: Holder | None = None
        self._routes: dict[bytes, str] = {}
        self._port = int(port.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0").rpartition(":")[2])
        port.on_handshake_failed = self._on_handshake_failed

    # ------------------------------------------------------------------ who sent it (see DrainedSocket)

    def of_route(self, first: bytes, frame: zmq.Frame) -> str:
        """The key of a ROUTER's message; "" if there is none."""
        key = _key_of(frame)
        if self._routes.get(first) != key:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[first] = key
            self.met(frame, key)
        return key

    def of_subscription(self, _first: bytes, frame: zmq.Frame) -> str:
        """The key of an XPUB's message; "" for what libzmq says of a connection that has gone."""
        key = _key_of(frame)
        self.last = self.met(frame, key) if key else None
        return key

    def met(self, frame: zmq.Frame, key: str) -> Holder | None:
        """Remember which connection has this key; None: it is gone."""
        try:
            descriptor = int(frame.get(_SOURCE_DESCRIPTOR))
            with _copy(descriptor) as connection:
                holder = self.holders[descriptor] = Holder(key, connection.getpeername())
        except (OSError, zmq.ZMQError):
            self.counters["gone"] += 1
            return None
        return holder

    # ------------------------------------------------------------------ the end

    def cut(self, doomed: Callable[[Holder], bool]) -> int:
        """End these connections; how many."""
        cut = 0
        for descriptor, holder in list(self.holders.items()):
            if doomed(holder):
                del self.holders[descriptor]
                cut += self._shut(descriptor, holder)
        return cut

    def _shut(self, descriptor: int, holder: Holder) -> bool:
        """Shut one connection down, if the descriptor is still this one."""
        try:
            with _copy(descriptor) as connection:
                if connection.getsockname()[1] != self._port or connection.getpeername() != holder.peer:
                    return False
                resets.end(connection)
        except OSError:
            return False
        return True

    def _on_handshake_failed(self, event: int) -> None:
        broken = event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self.counters["handshakes_broken_off" if broken else "handshakes_failed"] += 1


def _copy(descriptor: int) -> sockets.socket:
    """The connection behind a descriptor of libzmq's, to be closed by us. Raises OSError."""
    copy = os.dup(descriptor)
    try:
        return sockets.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _key_of(frame: zmq.Frame) -> str:
    try:
        return str(frame.get(USER_ID))
    except zmq.ZMQError:
        return ""
