"""The messages. raftos' four RPCs keep its names and fields; the rest is what it does not know.

| message | from -> to | answered by |
|---|---|---|
| RequestVote (`pre_vote`: only asks, R18) | candidate -> voters | RequestVoteResponse |
| AppendEntries (none: heartbeat) | leader -> all | AppendEntriesResponse |
| InstallSnapshot, one chunk (R15) | leader -> one that the log does not reach | InstallSnapshotResponse |
| TimeoutNow | leader -> successor (a transfer) | RequestVote |
| Hello | one that starts, or is not answered -> all | Welcome; Found, while the cluster is new |
| Clock | member -> all | |
| StateLost | follower -> leader | InstallSnapshot (R24) |
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from store.raft_contract import Base, Entry, Incarnation


class Envelope(NamedTuple):
    """Who says it. `cluster` 0: a blank member, which is in none yet. (sender, storage) is what a vote belongs to."""

    cluster: int
    sender: int
    storage: int
    incarnation: Incarnation


class RequestVote(NamedTuple):
    """`pre_vote`: would you vote for me in this term (thesis 9.6); nobody's term changes. `transfer`: the leader of the
    term before asked for this election, so its followers need not protect it (thesis 3.10)."""

    term: int
    candidate_id: int
    last_log_index: int
    last_log_term: int
    pre_vote: bool
    transfer: bool


class RequestVoteResponse(NamedTuple):
    """`term`: the one asked for if granted, else the voter's."""

    term: int
    vote_granted: bool
    pre_vote: bool


class AppendEntries(NamedTuple):
    """`request_id`: of the newest round of the leader; rounds confirm its leadership (R14, R18)."""

    term: int
    leader_id: int
    prev_log_index: int
    prev_log_term: int
    entries: tuple[Entry, ...]
    commit_index: int
    request_id: int


class AppendEntriesResponse(NamedTuple):
    """`success`: the log fits up to `last_log_index`, durably. Else `prev_log_index` does not: `conflict_term` is the
    term there, which begins at `conflict_index` (thesis 5.3); 0 if the log ends before, at `conflict_index` - 1."""

    term: int
    success: bool
    last_log_index: int
    request_id: int
    prev_log_index: int
    conflict_term: int
    conflict_index: int


@dataclass(frozen=True, slots=True)  # a tuple has a method of the name `index`
class InstallSnapshot:
    """Chunk `index` of `count`."""

    term: int
    leader_id: int
    snapshot: str
    base: Base
    count: int
    index: int
    data: bytes
    request_id: int


class InstallSnapshotResponse(NamedTuple):
    """`next_index`: the first chunk that is not durable here; `count` once the snapshot is installed."""

    term: int
    snapshot: str
    next_index: int
    request_id: int


class TimeoutNow(NamedTuple):
    """Begin an election at once (thesis 3.10)."""

    term: int


class StateLost(NamedTuple):
    """R24: the tables here are damaged, log and vote are not. A snapshot at `base` or above fills them again."""

    term: int
    base: int


class Hello(NamedTuple):
    """I have started; what do you know of me? The envelope says the rest. Also of whoever may be newer than the other's
    log, so that it can be answered (R16): `address` is the sender's."""

    address: str


class Welcome(NamedTuple):
    """The newest incarnation known of a disk, before it said Hello."""

    storage: int
    known: Incarnation


class Clock(NamedTuple):
    """What the sender's wall clock and its monotonic clock show, in us; members of an older version drop it."""

    wall_us: int
    now_us: int


class Found(NamedTuple):
    """The cluster's first configuration, for a blank member whose disk it names."""

    base: Base


Message: TypeAlias = (
    RequestVote
    | RequestVoteResponse
    | AppendEntries
    | AppendEntriesResponse
    | InstallSnapshot
    | InstallSnapshotResponse
    | TimeoutNow
    | StateLost
    | Hello
    | Welcome
    | Found
    | Clock
)
