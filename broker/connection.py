"""A client after its HELLO, as the replica that it speaks to knows it. No I/O."""

from collections import deque
from typing import Protocol

from broker.grants import ANYTHING, Grant


class Handed(Protocol):
    """Frames that libzmq took: `done` when it needs them no more (zmq.MessageTracker)."""

    @property
    def done(self) -> bool: ...


class Connection:
    """`key`: HELLO was said with it. `grant`: what it may do. `bytes`, `count`: of what is unanswered.

    `unread`: answers that libzmq still holds for it, with their sizes; `unread_bytes` is their sum.
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
        self.unread: deque[tuple[Handed, int]] = deque()
        self.unread_bytes = 0

    def charge(self, size: int, count: int) -> None:
        """So much more is unanswered; negative: so much was answered."""
        self.bytes += size
        self.count += count
