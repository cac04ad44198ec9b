"""What a Raft node stands on, as protocols: a clock, a transport, a store.

The simulator gives a clock of virtual time, links that lose and a disk that forgets; a replica gives asyncio, ZeroMQ
and LMDB. The node cannot tell them apart.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, Protocol

from replicas.raft.messages import Envelope, Message
from store.raft_contract import Entry, Observer, Recovered, Snapshot, Write


class Loop(Protocol):
    """The part of an event loop that a node needs; every asyncio loop has it."""

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Call back in the next turn."""

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""


class Transport(Protocol):
    """Messages to the other members. They may be lost, doubled, delayed and reordered; the node resends."""

    def send(self, member: int, envelope: Envelope, message: Message) -> None:
        """Never waits, never raises."""

    def connect(self, addresses: Mapping[int, str]) -> None:
        """These are the peers now: the node calls it at the start and with each new configuration (R16)."""


class Store(Protocol):
    """Log, hard state and state machine of one member, on one disk (rows 7, 8 and 15 of docs/raft.md)."""

    def recover(self, observer: Observer) -> Recovered:
        """Open and check it; blocks. Raises the store's typed errors where it is damaged."""

    def submit(self, write: Write) -> None:
        """Queue a write; never waits. Tickets rise by one. The store owns the write from here on."""

    def resume(self) -> None:
        """There may be space again."""

    def entries(self, first: int, end: int, bytes_max: int) -> Sequence[Entry]:
        """Durable entries of [first, end): at least one, the rest as far as `bytes_max` reaches."""

    def make_snapshot(self, done: Callable[[Snapshot | None], object]) -> None:
        """Make one of what is durable; `done` on the node's loop, with None if that failed."""

    def read_chunk(self, name: str, index: int) -> bytes | None:
        """A chunk of a snapshot made here; None if that is gone."""

    def chunk_fits(self, name: str, index: int, data: bytes) -> bool:
        """Whether this is that chunk, untouched."""

    def close(self) -> None:
        """Write what is queued, and close."""
