"""What goes into a step and what comes out of it.

The contract of the output (D4), in the order in which the shell executes it:

1. `persists` are handed to the FIFO writer under `ticket`; nothing waits for them here.
2. `sends` leave at once. The core itself holds back every frame that depends on durable state and emits it in the
   step that takes the `Persisted` event of the ticket it waits for, so the shell has no such rule to keep.
3. `serves` are answered from the log or a snapshot file: they name committed slots only, which never change.
4. `delivers` go to the state machines in slot order; replies to clients leave after that.
5. `reads`, `facts`, `configuration` go to those who wait for them. 6. `halt`, `restart`: stop stepping this core.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from sequencer.messages import Message
from sequencer.types import (
    FOUNDERS,
    Configuration,
    DamagedRun,
    Incarnation,
    Ordered,
    SlotRecord,
    StableState,
    ViewNumber,
)

# ------------------------------------------------------------------ events: past tense


class Received(NamedTuple):
    """A frame came from a peer; cluster, sender and incarnation are its envelope."""

    cluster: int
    sender: int
    incarnation: Incarnation
    message: Message


class Submitted(NamedTuple):
    """The gateway has client batches to order; `frames` are opaque (A1). Refused when `room()` is 0."""

    frames: tuple[bytes, ...]


class Persisted(NamedTuple):
    """Everything up to and including `ticket` is durable."""

    ticket: int


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection to a peer broke and could not be made again at once (V1)."""

    member: int


@dataclass(frozen=True, slots=True)
class PeerFound:
    """The connection to a peer stands (again)."""

    member: int


@dataclass(frozen=True, slots=True)
class ReadAsked:
    """K3: someone wants to read linearizably; answered by a `ReadReady` with the same nonce."""

    nonce: int


@dataclass(frozen=True, slots=True)
class SnapshotMade:
    """A snapshot of the state at committed slot `slot` is durable here, with `count` chunks (C1)."""

    snapshot: str
    slot: int
    chain: bytes
    count: int


@dataclass(frozen=True, slots=True)
class TrimAsked:
    """Retention wants the log to begin at `first`; the core trims no further than C2 allows.

    Slots below `overdue` are beyond the hard bound: a member that lags gets a snapshot instead of them.
    """

    first: int
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class DamageFound:
    """A read, or the scrub, met damaged records of committed slots in a log that is in use (D6, C3)."""

    runs: tuple[DamagedRun, ...]


@dataclass(frozen=True, slots=True)
class SnapshotOpened:
    """The shell has used a received snapshot durably: the state machine stands at `slot` with this A2 table.

    `configuration` is the one there (V12).
    """

    slot: int
    chain: bytes
    time_us: int
    senders: tuple[tuple[int, Ordered], ...]
    configuration: Configuration = FOUNDERS


@dataclass(frozen=True, slots=True)
class ClockResetAsked:
    """An operator wants the ring's time to be what the clocks of a quorum say (D7)."""


@dataclass(frozen=True, slots=True)
class ChangeMembersAsked:
    """V12: an operator wants these members; one is added or removed. Answered by a fact of the same step.

    `accept_loss`: also where fewer than a quorum of whole copies would stay (C3).
    """

    new: tuple[int, ...]
    info: bytes
    accept_loss: bool = False


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """SIGTERM (V11)."""


@dataclass(frozen=True, slots=True)
class RecoverAsked:
    """An operator accepts loss (D2, V0): make a view from the promises of all n, wiped ones included."""


@dataclass(frozen=True, slots=True)
class DiskFilled:
    """The writer refused tickets from `ticket` on: no space (D5). They are kept and not retried until space returns."""

    ticket: int


@dataclass(frozen=True, slots=True)
class DiskFreed:
    """There is space again; the writer goes on with what it kept."""


Event = (
    Received
    | Submitted
    | Persisted
    | PeerLost
    | PeerFound
    | ReadAsked
    | SnapshotMade
    | TrimAsked
    | DamageFound
    | SnapshotOpened
    | ChangeMembersAsked
    | ClockResetAsked
    | LeaveAsked
    | RecoverAsked
    | DiskFilled
    | DiskFreed
)

# ------------------------------------------------------------------ instructions: imperative


class Send(NamedTuple):
    """To one peer over DEALER, or to all over PUB when `to` is None. `cluster`: 0 in frames of a blank member (V0)."""

    to: int | None
    message: Message
    cluster: int


class AppendRecord(NamedTuple):
    """Append at the end of the log; `previous` = chain(slot - 1)."""

    record: SlotRecord
    previous: bytes


@dataclass(frozen=True, slots=True)
class CutLog:
    """Drop every slot >= `end` (V7)."""

    end: int


@dataclass(frozen=True, slots=True)
class TrimLog:
    """Drop every slot < `first` (C2)."""

    first: int


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """Write a damaged slot again (D6). `note`: as in `PrependRecord`; None: the repair brought none."""

    record: SlotRecord
    previous: bytes
    note: bytes | None = None


class PrependRecord(NamedTuple):
    """Put the record of slot first - 1 before the log's first one (C3); `previous` = chain(slot - 1).

    `note`: what a peer's state machine keeps of the slot, opaque here.
    """

    record: SlotRecord
    previous: bytes
    note: bytes


@dataclass(frozen=True, slots=True)
class SaveStable:
    """Write the stable state whole (D3). `commit` is a lower bound for the next start."""

    state: StableState
    commit: int


@dataclass(frozen=True, slots=True)
class StageChunk:
    """Keep a received snapshot chunk."""

    snapshot: str
    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UseSnapshot:
    """One durable switch: the state is the staged one, the log is empty and begins at `slot` (C1)."""

    snapshot: str
    slot: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class ResetDisk:
    """A wiped member starts over: log and state are emptied, the stable state stays (V0)."""


Persist = (
    AppendRecord | PrependRecord | CutLog | TrimLog | RepairRecord | SaveStable | StageChunk | UseSnapshot | ResetDisk
)


@dataclass(frozen=True, slots=True)
class ServeRecords:
    """Read committed records [first, end) from the log, up to a byte limit of the shell's, and send them to `to`.

    `retransmit`: as RETRANSMIT of the installed view, else as RECORDS.
    """

    to: int
    view: ViewNumber
    first: int
    end: int
    repair: bool = False
    retransmit: bool = False
    chain: bytes | None = None  # the asker's chain(first - 1): serve nothing if ours differs


@dataclass(frozen=True, slots=True)
class ServeChunk:
    """Read chunk `index` of a snapshot and send it to `to` as SNAPSHOT."""

    to: int
    view: ViewNumber
    snapshot: str
    slot: int
    chain: bytes
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class ServeBackfill:
    """Read committed records right below slot `below`, not below `first`, with their notes, and send them to `to`.

    Up to a byte limit of the shell's, the highest ones; nothing unless chain(below - 1) is `chain` here too (C3).
    """

    to: int
    below: int
    chain: bytes
    first: int


Serve = ServeRecords | ServeChunk | ServeBackfill


class ReadReady(NamedTuple):
    """K3: read once the state machine has applied every slot below `slot`."""

    nonce: int
    slot: int


class Fact(NamedTuple):
    """Something worth a log line or a counter: one name per fact."""

    name: str
    fields: dict[str, object]


@dataclass(slots=True)
class Output:
    """One batch (D4); see the module's docstring for the order."""

    ticket: int = 0
    persists: list[Persist] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    serves: list[Serve] = field(default_factory=list)
    delivers: list[SlotRecord] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    configuration: Configuration | None = None  # `delivers` holds the change that made it: addresses may follow (V12)
    halt: str = ""
    restart: bool = False
