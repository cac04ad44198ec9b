"""A folder of keys, a server's side and clients on CURVE sockets, all in one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from broker.security import CLIENTS, Security
from broker.sockets import SocketLimits, ZmqContext, ZmqSocket, bind, open_socket
from replicas.keys import KeyFolder, Rights
from ringcast.keys import Pair, read_client_keys, read_document, read_pair

BILLING = Rights(publish=("orders.>",), subscribe=("orders.>",), cursors=("billing",))


class Secured:
    """Keys of three members of the bus and one of the product store; clients `admin` and `billing`."""

    def __init__(self, folder: Path) -> None:
        self.keys = KeyFolder.create(folder, {"bus": [1, 2, 3], "products": [1]})
        self.keys.add_client("billing", BILLING)
        self.folder = folder
        self.context: ZmqContext = zmq.Context()
        self.outside: ZmqContext = zmq.Context()
        self.security = Security(self.context, folder, "bus", 1)
        self._sockets: list[ZmqSocket] = []

    def pair(self, file: str, kind: str) -> Pair:
        """The keys in a file."""
        return read_pair(read_document(self.folder / file, kind, secret=True), self.folder / file)

    def bound(self, kind: int, domain: str = CLIENTS, limits: SocketLimits | None = None) -> tuple[ZmqSocket, str]:
        """A secured socket and its endpoint."""
        socket = open_socket(self.context, kind, limits)
        self.security.listen(socket, domain)
        return socket, bind(socket, "tcp://127.0.0.1:*")

    def connected(self, kind: int, endpoint: str, name: str = "billing") -> ZmqSocket:
        """A client's socket with its key."""
        keys = read_client_keys(self.folder / f"client-{name}.key")
        return self.dialled(kind, endpoint, keys.pair, keys.servers[0])

    def dialled(self, kind: int, endpoint: str, pair: Pair | None = None, server: str = "") -> ZmqSocket:
        """A socket with any keys, or none."""
        socket = open_socket(self.outside, kind)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        for option, value in (pair.dials(server) if pair else {}).items():
            socket.setsockopt(option, value)
        self._sockets.append(socket)
        socket.connect(endpoint)
        return socket

    def close(self) -> None:
        """Everything but what the test opened on `context` itself."""
        self.security.close()
        for socket in self._sockets:
            socket.close(linger=0)
        self.context.destroy(linger=0)
        self.outside.destroy(linger=0)


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """A Secured that is closed at the end."""
    made = Secured(folder / "keys")
    try:
        yield made
    finally:
        made.close()
