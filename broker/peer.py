"""One peer of a member: where it is, the sockets to it, and what is known of the way (broker/peers.py)."""

import asyncio
from enum import Enum
from typing import NamedTuple

from broker.sockets import DrainedSocket


class PeerEndpoints(NamedTuple):
    """Where a peer's ROUTER and PUB are reached, as ZeroMQ endpoints; `pub` is not looked at where there is no SUB."""

    peer: str
    pub: str = ""


class Link(Enum):
    """What is known of the way to a peer."""

    UNKNOWN = "unknown"  # the first connection is being made
    UP = "up"  # the handshake succeeded
    BROKEN = "broken"  # it broke, the immediate reconnect is under way
    DOWN = "down"  # it broke, or never stood, and a connect failed


class Peer:
    """One peer's DEALER, its monitor, its SUB, and what is known of the way.

    `keys`: what the peer may prove, none without security; it is believed to have the first one until it has not.
    `reached`: the endpoints without names, None as long as none was found; `naming` keeps them up to date.
    """

    __slots__ = ("dealer", "endpoints", "keys", "link", "monitor", "naming", "reached", "sub")

    def __init__(self, endpoints: PeerEndpoints, keys: tuple[str, ...]) -> None:
        self.endpoints = endpoints
        self.keys = keys
        self.link = Link.UNKNOWN
        self.dealer: DrainedSocket | None = None
        self.monitor: DrainedSocket | None = None
        self.sub: DrainedSocket | None = None
        self.reached: PeerEndpoints | None = None
        self.naming: asyncio.Task[None] | None = None

    def hang_up(self) -> None:
        """Close the DEALER, with everything it had queued."""
        if self.dealer is not None and not self.dealer.closed:
            self.dealer.socket.disable_monitor()
            self.dealer.close()
        if self.monitor is not None:
            self.monitor.close()

    def close(self) -> None:
        if self.naming is not None:
            self.naming.cancel()
        self.hang_up()
        if self.sub is not None:
            self.sub.close()
