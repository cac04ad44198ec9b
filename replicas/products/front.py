"""What the product store's and the marketplace's gateways share: where they stand, and their limits."""

from abc import abstractmethod
from typing import NamedTuple

import zmq

from broker.connection import Connection
from broker.front import Front
from broker.grants import Grant
from broker.guard import Guard
from broker.security import Security
from broker.sockets import Message
from ringcast import wire
from ringcast.errors import RingcastError
from ringcast.product_store.limits import ID_CHARACTERS_MAX
from ringcast.product_store.wire import OPERATIONS_MAX, REQUEST_BYTES_MAX, WINDOW

RING = 0

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


class ProductFront(Front[Connection]):
    """Serves connections on a bound ROUTER."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        replica: int,
        limits: ProductLimits | None,
        security: Security | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.limits = limits or ProductLimits()
        super().__init__(
            socket,
            replica=replica,
            ring=RING,
            connections_max=self.limits.connections_max,
            answer_bytes_max=self.limits.answer_bytes_max,
            security=security,
            guard=guard,
        )

    @abstractmethod
    def _standing(self) -> Standing:
        """For WELCOME and PONG."""

    @abstractmethod
    def _on_service(self, connection: Connection, message: wire.Message, trouble: RingcastError | None) -> None:
        """A frame of a client, other than those that are answered here."""

    def _cluster(self) -> int:
        return self._standing().cluster

    def _connect(self, route: bytes, hello: wire.Hello, key: str, grant: Grant) -> Connection:
        return Connection(route, hello.client, key, grant)

    def _welcome(self, connection: Connection) -> wire.Welcome:
        _, term, leader, applied = self._standing()
        view, credit = (term, max(0, leader)), self.limits.client_bytes_max
        return wire.Welcome(self._replica, (0, 0), view, applied, credit, _LIMITS, "", applied, self._members)

    def _on_request(
        self, connection: Connection, message: wire.Message, parts: Message, trouble: RingcastError | None
    ) -> None:
        if type(message) is wire.Ping:
            credit, applied = self.limits.client_bytes_max, self._standing().applied
            self._send(connection, wire.Pong(message.nonce, trouble is None, credit, applied))
        else:
            self._on_service(connection, message, trouble)
