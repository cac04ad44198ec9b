"""What a Raft member keeps: entries, members, what is durable; and what its store takes and gives (docs/raft.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol


class Kind(IntEnum):
    """What an entry is."""

    COMMAND = 0  # the state machine's
    NOOP = 1  # opens a term (R13)
    MEMBERS = 2  # a configuration; in force from the moment it is in the log (R16)


@dataclass(frozen=True, slots=True)  # a tuple has a method of the name `index`
class Entry:
    """One place of the log. (index, term) names its content and that of everything below (log matching)."""

    index: int
    term: int
    kind: Kind
    data: bytes

    @property
    def size_bytes(self) -> int:
        """About what it takes in a frame."""
        return len(self.data) + 24


class Member(NamedTuple):
    """A member of a configuration.

    A voter is a disk: (id, storage). The same member with a new disk is nobody's voter until the log says so. A learner
    (`voter` False, storage 0) is sent the log and counts for nothing.
    """

    id: int
    storage: int
    voter: bool
    address: str


class Members(tuple[Member, ...]):
    """A configuration, in id order."""

    __slots__ = ()

    def find(self, member: int) -> Member | None:
        """The member of this id."""
        return next((one for one in self if one.id == member), None)

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of the voters: all of them, not those that are up (R6)."""
        return tuple(one.id for one in self if one.voter)

    def without(self, member: int) -> "Members":
        """The configuration without a member."""
        return Members(one for one in self if one.id != member)

    def with_(self, changed: Member) -> "Members":
        """The configuration with a member added, or put in place of the one of its id."""
        return Members(sorted((*self.without(changed.id), changed)))

    def is_voter(self, member: int, storage: int) -> bool:
        """Whether the vote of this disk counts."""
        found = self.find(member)
        return found is not None and found.voter and found.storage == storage


class Incarnation(NamedTuple):
    """One start of a disk: the counter rises with each, the nonce tells two starts of one counter apart."""

    counter: int
    nonce: int


NO_INCARNATION = Incarnation(0, 0)


class HardState(NamedTuple):
    """What is durable before any message that depends on it (R3, R7, R8); it never travels.

    `cluster` 0: blank, in no cluster yet. `known`: the newest incarnation that this member heard of each disk.
    """

    cluster: int
    storage: int
    incarnation: Incarnation
    term: int
    voted_for: int | None
    known: tuple[tuple[int, Incarnation], ...]


@dataclass(frozen=True, slots=True)
class Base:
    """What the log stands on: the entry `index` of `term` is the last one that is not in it, `members` are its."""

    index: int
    term: int
    members: Members


NO_BASE = Base(0, 0, Members())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that a store made: the state at `base.index`, in `count` chunks."""

    name: str
    base: Base
    count: int


@dataclass(frozen=True, slots=True)  # a tuple has a method of the name `index`
class Staged:
    """A checked chunk of a snapshot that a leader sent."""

    snapshot: str
    index: int
    data: bytes


class Install(NamedTuple):
    """The staged snapshot becomes the state; one durable switch (R15).

    The log is empty then and stands on `base`; or (`refill`) it is kept, the state at `base` alone is exchanged (R24).
    """

    snapshot: str
    base: Base
    refill: bool = False


@dataclass(slots=True)
class Write:
    """One step's work for the disk; the fields are carried out in this order, all of it or nothing, synced (R8)."""

    ticket: int
    wipe: bool = False  # drop everything: from here on it is a new disk
    hard: HardState | None = None
    distrust: str = ""  # why the tables cannot be trusted: nothing is applied or trimmed until an install (R24)
    found: Base | None = None  # the first base of a new cluster, on an empty disk, before its first entries
    staged: list[Staged] = field(default_factory=list)
    install: Install | None = None
    cut: int | None = None  # drop every entry from this index on (R9), before the append
    append: list[Entry] = field(default_factory=list)  # the index after the last one, and on
    apply: list[Entry] = field(default_factory=list)  # committed, the index after the last applied one, and on
    trim: Base | None = None  # drop every entry up to its index, which is applied

    @property
    def size_bytes(self) -> int:
        """About what it adds to a transaction."""
        entries = sum(entry.size_bytes for entry in (*self.append, *self.apply))
        return 64 + entries + sum(len(chunk.data) for chunk in self.staged)


class Recovered(NamedTuple):
    """What a store holds at the start. `hard` None: a new disk.

    `terms`: (first index, term) of each run of one term in the log. `members`: the MEMBERS entries of the log.
    `distrusted`: why the tables cannot be trusted (R24), "" if they can.
    """

    hard: HardState | None
    base: Base
    last: int
    applied: int
    terms: tuple[tuple[int, int], ...]
    members: tuple[Entry, ...]
    distrusted: str = ""


class Observer(Protocol):
    """Whom a store tells what became of the writes; on the node's loop, in the order of tickets."""

    def on_applied(self, applied: int, results: Mapping[int, bytes]) -> None:
        """The state stands at `applied`; `results` by index, of commands. Not yet synced, which an answer need not be:
        the log is, and the applied index rolls back with the tables, so that the log is applied again."""

    def on_durable(self, ticket: int) -> None:
        """Everything up to this ticket is synced, and what it applied can be read."""

    def on_state_damaged(self, why: str, *, distrusted: bool) -> None:
        """A row of the tables is damaged. `distrusted`: nothing could be applied any more, and a restart knows it."""

    def on_failure(self, error: Exception, *, full: bool) -> None:
        """`full`: no space, `Store.resume` tries again. Else the disk failed and nothing more is written."""
