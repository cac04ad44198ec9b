"""Messages between members (docs/protocol.md, "Messages"). Nouns; immutable; the codec lives with the transport.

Every frame travels in an envelope that names cluster, sender and incarnation; `Received` in `output.py` carries it.
Socket: PUB for `Broadcast`, DEALER to ROUTER for all others.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sequencer.types import NO_VIEW, Identity, Incarnation, Request, Sequence, SlotRecord, View, ViewNumber


class Known(NamedTuple):
    """One row of the vector that PREPARE and PROMISE carry (V0)."""

    member: int
    identity: Identity


Vector = tuple[Known, ...]


class Status(NamedTuple):
    """ACK and HEARTBEAT in one: rides on every PUB frame.

    `view` is the installed view and `stored` an end that belongs to it; `stored` is 0 once a higher view is promised
    (V3). `runs`: installed in this incarnation and nothing higher promised. `accepted_hop` is -1 before the first.
    `heard`: members from which any frame came within the suspect timeout, as a bit set (bit i = member i).
    """

    view: ViewNumber
    runs: bool
    promised: ViewNumber
    stored: int
    commit: int
    accepted_hop: int
    newest_lsn: int
    heard: int
    wiped: bool
    leaving: bool

    @property
    def health(self) -> tuple[object, ...]:
        """What is not about the log: while it stays the same, nobody needs to look at this member again (V1, V9)."""
        return (*self[:3], *self[7:])


class Broadcast(NamedTuple):
    """REQUEST, SEQUENCE, ACK and HEARTBEAT in one PUB frame (A7, "ACK rides on any PUB frame")."""

    status: Status
    requests: tuple[Request, ...] = ()
    sequences: tuple[Sequence, ...] = ()


class Clock(NamedTuple):
    """What the sender's wall clock and its monotonic clock show (D7); travels on PUB beside a heartbeat.

    Members of an older version tell none.
    """

    wall_us: int
    now_us: int


class Token(NamedTuple):
    """The right to sequence slot `slot` of `view`; `sequences` are the newest entries (A7)."""

    view: ViewNumber
    hop: int
    slot: int
    commit: int
    sequences: tuple[Sequence, ...]


class LsnRange(NamedTuple):
    """Requests first..last (inclusive) of one incarnation of a sender."""

    sender: int
    incarnation: Incarnation
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Nack:
    """Missing slots [first_slot, end_slot) of an installed view, and missing requests (A8)."""

    view: ViewNumber
    first_slot: int
    end_slot: int
    requests: tuple[LsnRange, ...]


@dataclass(frozen=True, slots=True)
class Retransmit:
    """Answer to NACK; each record carries the view in which its slot was sequenced (A8)."""

    view: ViewNumber
    requests: tuple[Request, ...]
    records: tuple[SlotRecord, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """`genesis`: 0, or the fresh cluster id of a genesis (V0). The vector is durable before the answer."""

    number: ViewNumber
    genesis: int
    vector: Vector
    accept_loss: bool = False  # an operator's `recover --accept-loss`: wiped members promise too, all n must (D2, V0)
    log_view: ViewNumber = NO_VIEW  # the proposer's: who has installed a newer view without it says so (V12)


@dataclass(frozen=True, slots=True)
class Promise:
    """`end` and `chain` were taken when the promise itself was durable (V3); `first` is the trim point of the log.

    V12: `log_members` are those of the log view, `members` the configuration of the log at `end`.
    """

    number: ViewNumber
    log_view: ViewNumber
    first: int
    end: int
    chain: bytes
    commit: int
    vector: Vector
    heard: int
    log_members: tuple[int, ...]
    members: tuple[int, ...]
    founders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver has promised `promised`, which is higher than `number`."""

    number: ViewNumber
    promised: ViewNumber


@dataclass(frozen=True, slots=True)
class Healthy:
    """V4: the receiver runs a healthy view and will not be deposed by a member from outside its ring."""

    number: ViewNumber
    view: View


@dataclass(frozen=True, slots=True)
class NewView:
    """The announcement (V5)."""

    view: View


@dataclass(frozen=True, slots=True)
class Installed:
    """The sender has installed view `number`, durably."""

    number: ViewNumber


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask for records from `first` on while installing `view`, or to repair a damaged run (`repair`, D6).

    `chain` = chain(first - 1) at the asker. `chunk` is the next wanted chunk of snapshot `snapshot` ("" = none yet).
    """

    view: ViewNumber
    first: int
    end: int
    chain: bytes
    repair: bool = False
    snapshot: str = ""
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Records:
    """Contiguous records from `first` on; empty only if the fetcher's first slot is the sender's end.

    `more`: the next ones are on their way already, so the fetcher need not ask for them. `committed`: the sender knows
    that every slot below it is.
    """

    view: ViewNumber
    first: int
    records: tuple[SlotRecord, ...]
    repair: bool = False
    more: bool = False
    committed: int = 0


@dataclass(frozen=True, slots=True)
class Chains:
    """The asker's chain differs: chain(first), chain(first + 1) ... of the sender, so that the asker can cut (V7)."""

    view: ViewNumber
    first: int
    chains: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Chunk `index` of `count` of a snapshot of the state at slot `slot` (C1); `chain` = chain(slot - 1)."""

    view: ViewNumber
    snapshot: str
    slot: int
    chain: bytes
    index: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """K3: asks for the newest stored end of the installed view."""

    nonce: int


@dataclass(frozen=True, slots=True)
class ReadOk:
    """Answer to READ."""

    nonce: int
    view: ViewNumber
    stored: int


@dataclass(frozen=True, slots=True)
class Join:
    """A member outside the ring presents itself (V0, V9). A blank one has cluster id 0 in its envelope."""

    storage: int
    wiped: bool
    end: int
    promised: ViewNumber
    heard: int


@dataclass(frozen=True, slots=True)
class Joined:
    """The ring's answer to JOIN: its view, and the newest identity known of the joiner (V9)."""

    view: View
    known: Identity | None


@dataclass(frozen=True, slots=True)
class Leave:
    """The sender wants a view without itself (V11)."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """C3: the sender's log begins at `first`, and whether it is whole. `ask`: the receiver says the same of its own.

    Sent by a member that is not whole, and to one that asks; a member of which nothing is told is taken for whole.
    """

    first: int
    whole: bool
    ask: bool


@dataclass(frozen=True, slots=True)
class Backfill:
    """C3: ask for committed records right below slot `below`, not below `first`; `chain` = chain(below - 1)."""

    below: int
    chain: bytes
    first: int


@dataclass(frozen=True, slots=True)
class Backfilled:
    """Contiguous records from `first` up to the slot that was asked for, at least one; `before` = chain(first - 1).

    `notes`: for each record what the sender's state machine keeps of it, opaque to the core (verdicts).
    """

    first: int
    before: bytes
    records: tuple[SlotRecord, ...]
    notes: tuple[bytes, ...]


Message = (
    Broadcast
    | Clock
    | Token
    | Nack
    | Retransmit
    | Prepare
    | Promise
    | Refused
    | Healthy
    | NewView
    | Installed
    | Fetch
    | Records
    | Chains
    | SnapshotChunk
    | Read
    | ReadOk
    | Join
    | Joined
    | Leave
    | Holdings
    | Backfill
    | Backfilled
)
