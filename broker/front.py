"""Clients of a replica as connections on one ROUTER: HELLO, liveness, rights, and answers that are read or not.

Per frame: decode strictly, and hand it to the child. With keys (`security`) each message tells whose it is, and what
its owner may do is looked up once a connection.

What a client does wrong hurts that client alone: garbage is dropped and counted, a typed refusal names the limit, and
who does not read its answers is cut. A client that was cut, or that this process does not know, is told so at its next
frame, and connects again (K2).
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Generic, TypeVar

import zmq

from broker.connection import Connection
from broker.grants import Grant
from broker.guard import Guard, open_port
from broker.security import Security, clients_door, grant_of
from broker.sockets import DrainedSocket, Message, Sent
from ringcast import wire
from ringcast.errors import BadFrame, NotReady, RingcastError, UnsupportedVersion, WrongCluster

TICK_S = 0.25
#: Ticks without any frame after which a connection is forgotten; clients ping each 250 ms.
SILENT_TICKS_MAX = 120
UNKNOWN_CLUSTER = 0
#: Smaller answers are bounded by the queue's high-water mark alone.
TRACKED_BYTES_MIN = 64 << 10

C = TypeVar("C", bound=Connection)


class Front(ABC, Generic[C]):
    """Serves connections on a bound ROUTER. `counters`: frames by kind, `dropped`, `refused`, `cut`, `expired` ...

    The replica calls `leave` when it stops, and `close`. Its limits: connections, and bytes of large answers that a
    client asked for and does not read.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        *,
        replica: int,
        ring: int,
        connections_max: int,
        answer_bytes_max: int,
        security: Security | None,
        guard: Guard | None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._replica = replica
        self._ring = ring
        self._connections_max = connections_max
        self._answer_bytes_max = answer_bytes_max
        self._connections: dict[bytes, C] = {}
        self._members: tuple[wire.Endpoint, ...] = ()
        self._leaving = ""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._security = security
        self._port = open_port("client", socket, guard)
        identify = clients_door(security, self._port, self._keys_changed)
        self._socket = DrainedSocket(socket, self._on_frames, identify=identify, meter=self._port.meter)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    # ------------------------------------------------------------------ the child's

    @abstractmethod
    def _cluster(self) -> int:
        """The cluster id, 0 while there is none; once it is known it stays: clients take no frame of another one."""

    @abstractmethod
    def _trouble(self) -> RingcastError | None:
        """Why nothing can be ordered here now, else None."""

    @abstractmethod
    def _connect(self, route: bytes, hello: wire.Hello, key: str, grant: Grant) -> C:
        """The connection of a client that is let in."""

    @abstractmethod
    def _welcome(self, connection: C) -> wire.Welcome:
        """What it is told."""

    @abstractmethod
    def _on_request(self, connection: C, message: wire.Message, parts: Message, trouble: RingcastError | None) -> None:
        """A frame of a client, other than HELLO and GOODBYE. `parts`: all of it."""

    @abstractmethod
    def _on_wake(self) -> None:
        """All that one wake found was handed to `_on_request`."""

    # ------------------------------------------------------------------ the replica's

    @property
    def connections(self) -> int:
        """Clients that said HELLO and are not gone."""
        return len(self._connections)

    def tell_members(self, members: tuple[wire.Endpoint, ...]) -> None:
        """Where clients find the replicas from now on (V12); each client hears of a change at once."""
        if members != self._members:
            self._members = members
            for connection in list(self._connections.values()):
                self._send(connection, wire.Members(members))

    def leave(self, reason: str) -> None:
        """Send every client to another replica and take no new ones (V11); answers to what is pending still go out."""
        self._leaving = reason or "stopping"
        for connection in list(self._connections.values()):
            self._send(connection, wire.Goodbye(self._leaving))

    def close(self) -> None:
        """Stop; the socket is closed. Safe to call twice."""
        self._closed = True
        self._timer.cancel()
        self._port.close()
        self._socket.close()

    # ------------------------------------------------------------------ frames in

    def _why_not(self) -> RingcastError | None:
        """Why nothing is taken in now, else None."""
        if self._leaving:
            return NotReady(replica=self._replica, state=f"leaving: {self._leaving}")
        return self._trouble()

    def _no_entry(self) -> RingcastError | None:
        """Why no new client is let in now, else None. Trouble is no reason: who waits here is served when it ends."""
        if self._leaving or self._cluster() == UNKNOWN_CLUSTER:
            return self._why_not() or NotReady(replica=self._replica, state="starting")
        return None

    def _on_frames(self, messages: list[Message]) -> None:
        trouble = self._why_not()
        for parts, key in zip(messages, self._socket.keys, strict=False):
            try:
                self._on_message(parts, key, trouble)
            except UnsupportedVersion as error:
                self.counters["dropped"] += 1
                self._fail(parts[0], 0, error)
            except BadFrame:
                self.counters["dropped"] += 1
            except WrongCluster as error:
                self.counters["wrong_cluster"] += 1
                self._fail(parts[0], 0, error)
        self._on_wake()

    def _on_message(self, parts: Message, key: str, trouble: RingcastError | None) -> None:
        route = parts[0]
        frame = wire.decode(parts[1] if len(parts) > 1 else b"", len(parts) - 2)
        message = frame.message
        wire.expect(frame, self._cluster(), self._ring)
        connection = self._connections.get(route)
        if connection is not None and connection.key != key:
            self._drop(connection)  # its name came to be another connection's
            connection = None
        if connection is None:
            if type(message) is wire.Hello:
                self._on_hello(route, message, key)
            elif type(message) is not wire.Goodbye:
                self.counters["strangers"] += 1
                self._fail(route, 0, NotReady(replica=self._replica, state="waiting for HELLO on this connection"))
            return
        connection.silent_ticks = 0
        if type(message) is wire.Hello:
            self._drop(connection)
            self._on_hello(route, message, key)
        elif type(message) is wire.Goodbye:
            self._drop(connection)
        else:
            self._on_request(connection, message, parts, trouble)

    def _on_hello(self, route: bytes, hello: wire.Hello, key: str) -> None:
        grant = grant_of(self._security, key)
        if grant is None:
            self.counters["without_grant"] += 1  # revoked in this moment: it is cut
            return
        if (error := self._no_entry()) is not None:
            self._fail(route, 0, error)
            return
        if len(self._connections) >= self._connections_max:
            state = f"full: it serves {len(self._connections)} clients, its limit"
            self._fail(route, 0, NotReady(replica=self._replica, state=state))
            return
        connection = self._connections[route] = self._connect(route, hello, key, grant)
        self.counters["hello"] += 1
        self._send(connection, self._welcome(connection))

    # ------------------------------------------------------------------ frames out

    def _send(self, connection: C, message: wire.Message, payloads: Sequence[bytes] = ()) -> None:
        """An answer, with its payloads; nothing happens if its connection is gone."""
        if connection.closed or self._closed:
            return
        frames = (connection.route, wire.encode(self._cluster(), self._ring, message), *payloads)
        size = sum(map(len, frames))
        if size < TRACKED_BYTES_MIN:
            self._mind(connection, self._socket.send(frames))
            return
        outcome, tracker = self._socket.send_tracked(frames)
        unread = connection.unread
        if tracker is not None:
            unread.append((tracker, size))
            connection.unread_bytes += size
        while unread and unread[0][0].done:
            connection.unread_bytes -= unread.popleft()[1]
        beyond = connection.unread_bytes > self._answer_bytes_max
        self._mind(connection, Sent.FULL if beyond and outcome is Sent.DONE else outcome)

    def _fail(self, route: bytes, request: int, error: RingcastError) -> None:
        """FAILED, to a connection or to a stranger; request 0 refuses the connection."""
        self.counters["failed"] += 1
        self._send_to(route, (route, wire.encode(self._cluster(), self._ring, wire.failure(request, error))))

    def _send_to(self, route: bytes, frames: Sequence[bytes]) -> None:
        """Small frames, to whoever has this name."""
        if self._closed:
            return
        outcome = self._socket.send(frames)
        if outcome is not Sent.DONE:
            connection = self._connections.get(route)
            if connection is not None:
                self._mind(connection, outcome)

    def _mind(self, connection: C, outcome: Sent) -> None:
        """It does not read what it asked for (A9), or is gone: forget it."""
        if outcome is Sent.FULL:
            self.counters["cut"] += 1
        if outcome is not Sent.DONE:
            self._drop(connection)

    # ------------------------------------------------------------------ the end of a connection

    def _drop(self, connection: C) -> None:
        connection.closed = True
        self._connections.pop(connection.route, None)

    def _keys_changed(self) -> None:
        """Who has other rights than before says HELLO again, or is gone for good: its connection is cut already."""
        assert self._security is not None
        for connection in list(self._connections.values()):
            if self._security.grant(connection.key) != connection.grant:
                self._drop(connection)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        # Counted in ticks, not in time: a process that was stopped itself must not take its clients for dead.
        for connection in list(self._connections.values()):
            connection.silent_ticks += 1
            if connection.silent_ticks > SILENT_TICKS_MAX:
                self.counters["expired"] += 1
                self._drop(connection)
