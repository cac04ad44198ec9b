"""What a Raft node stands on, as protocols: a clock, a transport, a store.

The simulator gives a clock of virtual time, links that lose and a disk that forgets; a replica gives asyncio, ZeroMQ
and LMDB. The node cannot tell them apart.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from replicas.raft.messages import Envelope, Message
from replicas.raft.types import Base, Entry, HardState, Snapshot


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


@dataclass(frozen=True, slots=True)  # a tuple has a method of the name `index`
class Staged:
    """A checked chunk of a snapshot that a leader sent."""

    snapshot: str
    index: int
    data: bytes


class Install(NamedTuple):
    """The staged snapshot becomes the state, the log is empty and stands on `base`; one durable switch (R15)."""

    snapshot: str
    base: Base


@dataclass(slots=True)
class Write:
    """One step's work for the disk; the fields are carried out in this order, all of it or nothing, synced (R8)."""

    ticket: int
    wipe: bool = False  # drop everything: from here on it is a new disk
    hard: HardState | None = None
    staged: list[Staged] = field(default_factory=list)
    install: Install | None = None
    cut: int | None = None  # drop every entry from this index on (R9), before the append
    append: list[Entry] = field(default_factory=list)  # the index after the last one, and on
    apply: list[Entry] = field(default_factory=list)  # committed, the index after the last applied one, and on
    trim: Base | None = None  # drop every entry up to its index, which is applied; of a new cluster: its first base


class Recovered(NamedTuple):
    """What a store holds at the start. `hard` None: a new disk.

    `terms`: (first index, term) of each run of one term in the log. `members`: the MEMBERS entries of the log.
    """

    hard: HardState | None
    base: Base
    last: int
    applied: int
    terms: tuple[tuple[int, int], ...]
    members: tuple[Entry, ...]


class Observer(Protocol):
    """Whom a store tells what became of the writes; on the node's loop, in the order of tickets."""

    def on_applied(self, applied: int, results: Mapping[int, bytes]) -> None:
        """The state stands at `applied`; `results` by index, of commands. Not yet synced, which an answer need not be:
        the log is, and the applied index rolls back with the tables, so that the log is applied again."""

    def on_durable(self, ticket: int) -> None:
        """Everything up to this ticket is synced, and what it applied can be read."""

    def on_failure(self, error: Exception, *, full: bool) -> None:
        """`full`: no space, `Store.resume` tries again. Else the disk failed and nothing more is written."""


class Store(Protocol):
    """Log, hard state and state machine of one member, on one disk (rows 7, 8 and 15 of docs/raft.md)."""

    def recover(self, observer: Observer) -> Recovered:
        """Open and check it; blocks. Raises the store's typed errors where it is damaged."""

    def submit(self, write: Write) -> None:
        """Queue a write; never waits. Tickets rise by one. The store owns the write from here on."""

    def hurry(self) -> None:
        """A read waits for what was applied: sync it without delay."""

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
