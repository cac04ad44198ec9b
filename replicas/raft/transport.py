"""The node's transport over the peers' sockets of `broker`: DEALER -> ROUTER, one connection for each direction (R11).

A peer whose connection broke, and could not be made again at once, is told to the node: so a leader that was killed is
missed in milliseconds, and one that is only silent after the election timeout.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from replicas.raft.codec import encode
from replicas.raft.messages import Envelope, Message
from replicas.raft.node import RaftNode
from replicas.raft.state import Received


class Sockets(Protocol):
    """The part of `broker.peers.PeerTransport` that is needed."""

    counters: Counter[str]

    def send(self, member: int, frames: Sequence[bytes]) -> bool:
        """False if it did not leave."""

    def close(self) -> None:
        """No callback comes after it."""


class RaftTransport:
    """`replicas.raft.seams.Transport`. Made first, then the node on it, then `open` with the sockets.

    `follow(addresses)` is told the peers whenever they change: it connects those that are new and lets go of the rest.
    """

    def __init__(self, ring: int, follow: Callable[[Mapping[int, str]], None]) -> None:
        self._ring = ring
        self._follow = follow
        self._sockets: Sockets | None = None
        self._node: RaftNode | None = None

    def open(self, node: RaftNode, sockets: Sockets) -> None:
        """From here on messages flow; start the node now."""
        self._node, self._sockets = node, sockets

    def send(self, member: int, envelope: Envelope, message: Message) -> None:
        if self._sockets is not None:
            self._sockets.send(member, encode(envelope, self._ring, message))

    def connect(self, addresses: Mapping[int, str]) -> None:
        self._follow(addresses)

    # -------------------------------------------------------------- callbacks of the sockets

    def on_events(self, events: list[Received]) -> None:
        """What one turn brought, oldest first."""
        node = self._node
        if node is not None:
            for received in events:
                node.receive(*received)

    def on_peer_lost(self, member: int) -> None:
        """The connection broke."""
        if self._node is not None:
            self._node.peer_lost(member)

    def on_peer_found(self, member: int) -> None:
        """Heartbeats find it."""

    def close(self) -> None:
        """Nothing is sent or received any more."""
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
