"""The nouns of the protocol (docs/protocol.md, "Vocabulary"): identities, views, requests, records, stable state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

CHAIN_BYTES = 16
GENESIS_CHAIN = bytes(CHAIN_BYTES)


class Incarnation(NamedTuple):
    """One run of a member's process: the counter rises at each start, the 64 random bits tell clones apart.

    Compared as a pair; two incarnations are the same only if both parts are equal.
    """

    counter: int
    nonce: int


class Identity(NamedTuple):
    """The newest incarnation known of a member and the storage id of the disk it ran on (V0)."""

    incarnation: Incarnation
    storage: int


class ViewNumber(NamedTuple):
    """(counter, proposer id), compared in that order, so that a number is unique to its proposer."""

    counter: int
    proposer: int


NO_VIEW = ViewNumber(0, 0)
FOUNDED = -1  # in place of a slot: no change of members yet (V12)


class MembersChange(NamedTuple):
    """V12: what a request asks of the configuration: a compare-and-set, judged from the log alone.

    `since` is the slot of the change that made `old`, FOUNDED for the founders' configuration: a stale request can't
    take effect later, when the same members are configured again. `info` is opaque to the core (addresses).
    """

    old: tuple[int, ...]
    new: tuple[int, ...]
    since: int
    info: bytes


class ClockReset(NamedTuple):
    """D7: what an operator's request asks of the ring's time: to be what the clocks of a quorum say, though it go back.

    `seen_us` is the slot time that the operator saw: a request that comes after another reset does nothing.
    """

    seen_us: int


Change = MembersChange | ClockReset  # what a request may carry in place of frames


class Configuration(NamedTuple):
    """The members at a place of the log, and the slot and info of the change that made them (V12).

    `members` is empty while `slot` is FOUNDED: no change is below that place, so they are the founders.
    """

    members: tuple[int, ...] = ()
    slot: int = FOUNDED
    info: bytes = b""


FOUNDERS = Configuration()


class Learner(NamedTuple):
    """A configured member outside the ring, with the identity that the PREPARE's vector named (V0); None: never met."""

    member: int
    identity: Identity | None


class BackOff(NamedTuple):
    """How long a member that keeps being suspected stays out of the ring (V9): level 0 = 1 s, 1 = 2 s ... 30 s."""

    member: int
    level: int


class View(NamedTuple):
    """One announcement (NEW_VIEW): at most one per number (V5).

    `base` is the source's end: slots below it come from the source, slots at or above it are sequenced in this view.
    `chain` is chain(base - 1). `ring` is in id order and holds at least a quorum of the members (of an even number, to
    which one was just added, half). `members` is the configuration at `base`, `founders` that of the genesis (V12).
    """

    number: ViewNumber
    ring: tuple[int, ...]
    source: int
    base: int
    chain: bytes
    members: tuple[int, ...]
    founders: tuple[int, ...]
    learners: tuple[Learner, ...] = ()
    back_offs: tuple[BackOff, ...] = ()
    accepted_loss: ViewNumber = NO_VIEW  # the newest view that an operator made with wiped promises (D2, V0)


class Entry(NamedTuple):
    """A run of one sender's requests that a slot orders: lsns first..last, and the digest of each."""

    sender: int
    incarnation: Incarnation
    first_lsn: int
    last_lsn: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """(sender, incarnation, lsn) and the opaque frames: batch headers first, then one packed batch for each.

    One that asks for a change of members, or of the ring's time, carries that and no frames (V12, D7).
    """

    sender: int
    incarnation: Incarnation
    lsn: int
    frames: tuple[bytes, ...]
    digest: bytes
    change: Change | None = None

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return sum(map(len, self.frames))


@dataclass(frozen=True, slots=True)
class Sequence:
    """One SEQUENCE message: the content of a slot without the payloads (A3, A10); `time_us`: D7."""

    view: ViewNumber
    slot: int
    time_us: int
    entries: tuple[Entry, ...]
    chain: bytes


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """One log record (D1): the SEQUENCE entry and the requests it orders, in the order of its entries."""

    sequence: Sequence
    requests: tuple[Request, ...]

    @property
    def slot(self) -> int:
        """Position in the log."""
        return self.sequence.slot

    @property
    def size(self) -> int:
        """Bytes of all payload frames."""
        return sum(request.size for request in self.requests)


class Ordered(NamedTuple):
    """A row of the A2 table: the newest incarnation of a sender that a slot ordered, and its last lsn."""

    incarnation: Incarnation
    last_lsn: int


@dataclass(frozen=True, slots=True)
class StableState:
    """What D3 keeps durable; one value, written whole.

    `cluster` is 0 while the member is blank (V0). `announced` is the NEW_VIEW held for the number `promised`
    (V5: a second one for that number is ignored, also after a restart). `view` is the installed view: its number is
    the log view. `wiped`: promises, ACKs and read answers count for nothing until a view is installed that names us;
    with `cluster` 0 the member is lost and does not know of which cluster (D6).
    `whole`: False from the use of a snapshot until the retained log below it is here too (C3).
    """

    member: int
    storage: int
    incarnation: Incarnation
    cluster: int = 0
    marks: frozenset[int] = frozenset()
    wiped: bool = False
    promised: ViewNumber = NO_VIEW
    announced: View | None = None
    view: View | None = None
    known: Mapping[int, Identity] = field(default_factory=lambda: MappingProxyType({}))
    whole: bool = True

    @property
    def log_view(self) -> ViewNumber:
        """The newest view this member has installed."""
        return self.view.number if self.view else NO_VIEW


class DamagedRun(NamedTuple):
    """Slots first..last whose records are bad or missing although they were visible (D6).

    chain_before = chain(first - 1), chain_after = chain(last): a peer's records are taken only if they link the two.
    """

    first: int
    last: int
    chain_before: bytes
    chain_after: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the disk said at start.

    `first` <= `applied` <= `end`; `tail` holds the records [applied, end); `senders`, `configuration` and `time_us` are
    the state at `applied`, `chain` = chain(applied - 1), `first_chain` = chain(first - 1). With damage the tail is
    empty and the core only repairs (D6).
    `lost`: the disk is new, since what was there could not be trusted and was set aside (D6); the cluster that it was
    of, 0 if nothing says it. None: no such thing.
    """

    stable: StableState | None
    first: int = 0
    applied: int = 0
    end: int = 0
    end_chain: bytes = GENESIS_CHAIN
    chain: bytes = GENESIS_CHAIN
    time_us: int = 0
    commit: int = 0
    senders: Mapping[int, Ordered] = field(default_factory=lambda: MappingProxyType({}))
    tail: tuple[SlotRecord, ...] = ()
    damage: tuple[DamagedRun, ...] = ()
    lost_memory: bool = False
    lost: int | None = None
    configuration: Configuration = FOUNDERS
    first_chain: bytes = GENESIS_CHAIN
