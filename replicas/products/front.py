"""Clients of a product replica as connections on one ROUTER: HELLO, liveness, and answers that are read or not.

What a client does wrong hurts that client alone: garbage is dropped and counted, and who does not read its answers is
cut. A client that was cut, or that this process does not know, is told so at its next frame, and connects again.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

import zmq

from broker.grants import ANYTHING, Grant
from broker.security import Security, clients_door, grant_of
from broker.sockets import DrainedSocket, Message, Sent
from ringcast import wire
from ringcast.errors import BadFrame, NotReady, RingcastError, UnsupportedVersion, WrongCluster
from ringcast.products_limits import ID_CHARACTERS_MAX
from ringcast.products_wire import OPERATIONS_MAX, REQUEST_BYTES_MAX, WINDOW

RING = 0
TICK_S = 0.25
#: Ticks without any frame after which a connection is forgotten; clients ping each 250 ms.
SILENT_TICKS_MAX = 120
#: Smaller answers are bounded by the queue's high-water mark alone.
TRACKED_BYTES_MIN = 64 << 10

_LIMITS = wire.Limits(REQUEST_BYTES_MAX, OPERATIONS_MAX, ID_CHARACTERS_MAX, WINDOW)


class Standing(NamedTuple):
    """Where the replica and its group stand.

    `cluster`: 0 while it is not known. `leader`: -1 = not known. `applied`: the log's index in the tables here.
    """

    cluster: int
    term: int
    leader: int
    applied: int


class ProductLimits(NamedTuple):
    """Bytes are those of requests without an answer (products_wire.size_of), and of answers that were not read.

    `entry_bytes_max`: no entry is larger, but for one that holds a single request.
    """

    connections_max: int = 10_000
    client_bytes_max: int = 4 << 20
    total_bytes_max: int = 64 << 20
    entry_bytes_max: int = 1 << 20
    answer_bytes_max: int = 32 << 20


class Connection:
    """A client after its HELLO. `key`: it was said with. `grant`: what it may do.

    `bytes`, `count`: of its unanswered requests; `unread`: answers that libzmq holds.
    """

    __slots__ = (
        "bytes",
        "client",
        "closed",
        "count",
        "grant",
        "key",
        "route",
        "silent_ticks",
        "unread",
        "unread_bytes",
    )

    def __init__(self, route: bytes, client: bytes, key: str = "", grant: Grant = ANYTHING) -> None:
        self.route = route
        self.client = client
        self.key = key
        self.grant = grant
        self.bytes = 0
        self.count = 0
        self.silent_ticks = 0
        self.closed = False
        self.unread: deque[tuple[zmq.MessageTracker, int]] = deque()
        self.unread_bytes = 0


class ProductFront(ABC):
    """Serves connections on a bound ROUTER. `counters`: frames by kind, `dropped`, `refused`, `cut` ..."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        replica: int,
        limits: ProductLimits | None,
        security: Security | None = None,
    ) -> None:
        self.limits = limits or ProductLimits()
        self.counters: Counter[str] = Counter()
        self._replica = replica
        self._connections: dict[bytes, Connection] = {}
        self._members: tuple[wire.Endpoint, ...] = ()
        self._leaving = ""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._security = security
        identify = clients_door(security, socket, self._keys_changed)
        self._socket = DrainedSocket(socket, self._on_frames, identify=identify)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    @abstractmethod
    def _standing(self) -> Standing:
        """For WELCOME and PONG."""

    @abstractmethod
    def _trouble(self) -> RingcastError | None:
        """Why nothing can be ordered here now, else None."""

    @abstractmethod
    def _on_request(self, connection: Connection, message: wire.Message, trouble: RingcastError | None) -> None:
        """A frame of a client, other than those that this class answers."""

    @abstractmethod
    def _on_wake(self) -> None:
        """All that one wake found was handed to `_on_request`."""

    @property
    def connections(self) -> int:
        """Clients that said HELLO and are not gone."""
        return len(self._connections)

    def tell_members(self, members: tuple[wire.Endpoint, ...]) -> None:
        """Where clients find the replicas from now on (V12 of the bus); each client hears of a change at once."""
        if members != self._members:
            self._members = members
            for connection in list(self._connections.values()):
                self._send(connection, wire.Members(members))

    def leave(self, reason: str) -> None:
        """Send every client to another replica and take no new ones; answers to what is pending still go out."""
        self._leaving = reason or "stopping"
        for connection in list(self._connections.values()):
            self._send(connection, wire.Goodbye(self._leaving))

    def close(self) -> None:
        """Stop; the socket is closed. Safe to call twice."""
        self._closed = True
        self._timer.cancel()
        self._socket.close()

    # ------------------------------------------------------------------ frames in

    def _on_frames(self, messages: list[Message]) -> None:
        trouble = self._trouble()
        if self._leaving:
            trouble = NotReady(replica=self._replica, state=f"leaving: {self._leaving}")
        for parts, key in zip(messages, self._socket.keys, strict=False):
            try:
                self._on_message(parts, key, trouble)
            except (UnsupportedVersion, WrongCluster) as error:
                self.counters["dropped"] += 1
                self._fail(parts[0], 0, error)
            except BadFrame:
                self.counters["dropped"] += 1
        self._on_wake()

    def _on_message(self, parts: Message, key: str, trouble: RingcastError | None) -> None:
        route = parts[0]
        frame = wire.decode(parts[1] if len(parts) > 1 else b"", len(parts) - 2)
        message, standing = frame.message, self._standing()
        wire.expect(frame, standing.cluster, RING)
        connection = self._connections.get(route)
        if connection is not None and connection.key != key:
            self._drop(connection)  # its name came to be another connection's
            connection = None
        if connection is None:
            if type(message) is wire.Hello:
                self._on_hello(route, message, standing, key)
            elif type(message) is not wire.Goodbye:
                self.counters["strangers"] += 1
                self._fail(route, 0, NotReady(replica=self._replica, state="waiting for HELLO on this connection"))
            return
        connection.silent_ticks = 0
        match message:
            case wire.Ping(nonce):
                credit = self.limits.client_bytes_max
                self._send(connection, wire.Pong(nonce, trouble is None, credit, standing.applied))
            case wire.Hello():
                self._drop(connection)
                self._on_hello(route, message, standing, key)
            case wire.Goodbye():
                self._drop(connection)
            case _:
                self._on_request(connection, message, trouble)

    def _on_hello(self, route: bytes, hello: wire.Hello, standing: Standing, key: str) -> None:
        grant = grant_of(self._security, key)
        if grant is None:
            self.counters["without_grant"] += 1  # revoked in this moment: it is cut
            return
        state = ""
        if self._leaving:
            state = f"leaving: {self._leaving}"
        elif not standing.cluster:
            state = "starting"
        elif len(self._connections) >= self.limits.connections_max:
            state = f"full: it serves {len(self._connections)} clients, its limit"
        if state:
            self._fail(route, 0, NotReady(replica=self._replica, state=state))
            return
        connection = self._connections[route] = Connection(route, hello.client, key, grant)
        self.counters["hello"] += 1
        view, applied = (standing.term, max(0, standing.leader)), standing.applied
        credit = self.limits.client_bytes_max
        welcome = wire.Welcome(self._replica, (0, 0), view, applied, credit, _LIMITS, "", applied, self._members)
        self._send(connection, welcome)

    # ------------------------------------------------------------------ frames out

    def _send(self, connection: Connection, message: wire.Message) -> None:
        """An answer; nothing happens if its connection is gone."""
        if connection.closed or self._closed:
            return
        header = wire.encode(self._standing().cluster, RING, message)
        if len(header) < TRACKED_BYTES_MIN:
            self._mind(connection, self._socket.send((connection.route, header)))
            return
        outcome, tracker = self._socket.send_tracked((connection.route, header))
        unread = connection.unread
        if tracker is not None:
            unread.append((tracker, len(header)))
            connection.unread_bytes += len(header)
        while unread and unread[0][0].done:
            connection.unread_bytes -= unread.popleft()[1]
        beyond = connection.unread_bytes > self.limits.answer_bytes_max
        self._mind(connection, Sent.FULL if beyond else outcome)

    def _fail(self, route: bytes, request: int, error: RingcastError) -> None:
        """FAILED, to a connection or to a stranger."""
        self.counters["failed"] += 1
        if not self._closed:
            frames: Sequence[bytes] = (route, wire.encode(self._standing().cluster, RING, wire.failure(request, error)))
            outcome, connection = self._socket.send(frames), self._connections.get(route)
            if connection is not None:
                self._mind(connection, outcome)

    def _mind(self, connection: Connection, outcome: Sent) -> None:
        """It does not read what it asked for, or is gone: forget it."""
        if outcome is Sent.FULL:
            self.counters["cut"] += 1
        if outcome is not Sent.DONE:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
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
