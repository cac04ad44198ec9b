"""The node's transport: the peers' sockets of `broker`, DEALER -> ROUTER, a connection for each direction (R11).

A peer whose connection broke, and could not be made again at once, is told to the node: so a leader that was killed is
missed in milliseconds, and one that is only silent after the election timeout.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from broker.guard import Guard
from broker.peer import PeerEndpoints
from broker.peers import PeerLimits, PeerTransport
from broker.security import Security
from broker.sockets import ZmqContext
from replicas.raft.codec import RaftCodec, encode
from replicas.raft.messages import Envelope, Message
from replicas.raft.node import RaftNode
from replicas.raft.state import Received


class RaftTransport:
    """`replicas.raft.seams.Transport`. Made first, then the node on it, then `open` binds, then `node.start`."""

    def __init__(self, ring: int, member: int, endpoint_of: Callable[[str], str] = str) -> None:
        """`endpoint_of`: where a member listens, of its address in the configuration; ValueError: it is not known."""
        self._ring = ring
        self._member = member
        self._endpoint_of = endpoint_of
        self._node: RaftNode | None = None

    def open(
        self,
        context: ZmqContext,
        bind: str,
        node: RaftNode,
        *,
        limits: PeerLimits | None = None,
        security: Security | None = None,
        guard: Guard | None = None,
    ) -> str:
        """What arrives from here on is the node's. On the running loop; returns the endpoint. Raises AddressRefused."""
        self._sockets: PeerTransport[Received] = PeerTransport(
            context,
            bind_peer=bind,
            bind_pub=None,
            peers={},
            codec=RaftCodec(self._ring, self._member),
            on_events=self._arrived,
            on_peer_lost=self._lost,
            on_peer_found=lambda _: None,  # heartbeats find it
            limits=limits,
            security=security,
            guard=guard,
        )
        self._node = node
        return self._sockets.peer_endpoint

    @property
    def counters(self) -> Counter[str]:
        """Dropped frames by reason, cut peers, sends without a connection."""
        return self._sockets.counters

    @property
    def connected(self) -> tuple[int, ...]:
        """The peers whose connection stands."""
        return self._sockets.connected

    def send(self, member: int, envelope: Envelope, message: Message) -> None:
        self._sockets.send(member, encode(envelope, self._ring, message))

    def connect(self, addresses: Mapping[int, str]) -> None:
        for member in self._sockets.peers:
            if member not in addresses:
                self._sockets.remove(member)
        for member, address in addresses.items():
            try:
                self._sockets.add(member, PeerEndpoints(self._endpoint_of(address)))
            except ValueError:
                self._sockets.counters["address_unreadable"] += 1

    def close(self) -> None:
        """Nothing is sent or received any more."""
        if self._node is not None:
            self._node = None
            self._sockets.close()

    def _arrived(self, events: list[Received]) -> None:
        for received in events:
            if self._node is not None:
                self._node.receive(*received)

    def _lost(self, member: int) -> None:
        if self._node is not None:
            self._node.peer_lost(member)
