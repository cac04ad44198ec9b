"""Values for tests of the core: members, views, requests, records and frames with what a test does not care about."""

from collections.abc import Iterable, Sequence
from typing import Any

from sequencer.chain import digest, extend
from sequencer.config import GroupConfig
from sequencer.messages import Broadcast, Join, Known, NewView, Prepare, Promise, Status, Token, Vector
from sequencer.messages import Known as KnownRow
from sequencer.quorum import bits
from sequencer.types import (
    FOUNDED,
    GENESIS_CHAIN,
    NO_VIEW,
    Entry,
    Identity,
    Incarnation,
    Learner,
    MembersChange,
    Request,
    SlotRecord,
    StableState,
    View,
    ViewNumber,
)
from sequencer.types import Sequence as SequenceMessage

CLUSTER = 77
MS = 1_000
FIRST_VIEW = ViewNumber(1, 3)


def incarnation(member: int, counter: int = 1) -> Incarnation:
    """The incarnation that member `member` has in tests unless said otherwise."""
    return Incarnation(counter, 100 + member)


def storage(member: int) -> int:
    """Its storage id."""
    return 1_000 + member


def identity(member: int, counter: int = 1) -> Identity:
    """Both."""
    return Identity(incarnation(member, counter), storage(member))


def vector(*members: int, counter: int = 1) -> Vector:
    """Rows of a PREPARE's or PROMISE's vector."""
    return tuple(KnownRow(member, identity(member, counter)) for member in members)


def config(members: int = 3, **limits: Any) -> GroupConfig:
    """A group of members 1..n."""
    return GroupConfig(tuple(range(1, members + 1)), **limits)


def change_request(
    sender: int, lsn: int, old: tuple[int, ...], new: tuple[int, ...], since: int = FOUNDED, info: bytes = b""
) -> Request:
    """A request that asks for other members."""
    change = MembersChange(old, new, since, info)
    return Request(sender, incarnation(sender), lsn, (), digest((), change), change)


def request(sender: int, lsn: int, payload: bytes = b"", of: Incarnation | None = None) -> Request:
    """One request; its payload names sender and lsn unless given."""
    frames = (b"headers", payload or b"%d:%d" % (sender, lsn))
    return Request(sender, of or incarnation(sender), lsn, frames, digest(frames))


def entries(requests: Iterable[Request]) -> tuple[Entry, ...]:
    """One entry for each run of one sender's requests."""
    runs: list[list[Request]] = []
    for one in requests:
        if runs and (runs[-1][-1].sender, runs[-1][-1].incarnation) == (one.sender, one.incarnation):
            runs[-1].append(one)
        else:
            runs.append([one])
    return tuple(
        Entry(run[0].sender, run[0].incarnation, run[0].lsn, run[-1].lsn, tuple(one.digest for one in run))
        for run in runs
    )


def record(
    slot: int, previous: bytes, requests: Sequence[Request], number: ViewNumber, time_us: int | None = None
) -> SlotRecord:
    """The record of a slot that orders these requests in view `number`."""
    at = slot if time_us is None else time_us
    chain = extend(previous, number, slot, at, entries(requests))
    return SlotRecord(SequenceMessage(number, slot, at, entries(requests), chain), tuple(requests))


def log(
    slots: int,
    number: ViewNumber = FIRST_VIEW,
    *,
    sender: int = 2,
    after: Sequence[SlotRecord] = (),
    first_lsn: int | None = None,
    word: bytes = b"",
    of: Incarnation | None = None,
) -> tuple[SlotRecord, ...]:
    """`slots` records behind `after`, each ordering the next request of `sender`; `word` makes the content differ."""
    made = list(after)
    lsn = first_lsn or 1 + sum(one.sender == sender for old in after for one in old.requests)
    for ahead in range(slots):
        previous = made[-1].sequence.chain if made else GENESIS_CHAIN
        payload = word + b"%d:%d" % (sender, lsn + ahead)
        made.append(record(len(made), previous, [request(sender, lsn + ahead, payload, of)], number))
    return tuple(made)


def end_chain(records: Sequence[SlotRecord]) -> bytes:
    """chain(end - 1) of a log that begins at slot 0."""
    return records[-1].sequence.chain if records else GENESIS_CHAIN


def view(
    counter: int,
    base: Sequence[SlotRecord] = (),
    *,
    ring: tuple[int, ...] = (1, 2, 3),
    source: int = 3,
    proposer: int = 3,
    members: int = 3,
    learners: dict[int, Identity | None] | None = None,
) -> View:
    """A view whose base is the end of the log `base`."""
    ids = tuple(range(1, members + 1))
    named = {member: identity(member) for member in ids if member not in ring} | (learners or {})
    listed = tuple(Learner(member, who) for member, who in sorted(named.items()))
    return View(ViewNumber(counter, proposer), ring, source, len(base), end_chain(base), ids, ids, listed)


def stable(member: int, installed: View | None = None, **changes: object) -> StableState:
    """What the disk of an ordinary member says: it installed `installed` and promised nothing higher."""
    state: dict[str, object] = {
        "member": member,
        "storage": storage(member),
        "incarnation": incarnation(member),
        "cluster": CLUSTER,
        "promised": installed.number if installed else NO_VIEW,
        "announced": installed,
        "view": installed,
    }
    return StableState(**(state | changes))  # type: ignore[arg-type]


def status(number: ViewNumber, stored: int = 0, **changes: object) -> Status:
    """ACK of a ring member that runs view `number` and hears everyone."""
    state: dict[str, object] = {
        "view": number,
        "runs": True,
        "promised": number,
        "stored": stored,
        "commit": 0,
        "accepted_hop": -1,
        "newest_lsn": 0,
        "heard": bits(range(1, 8)),
        "wiped": False,
        "leaving": False,
    }
    return Status(**(state | changes))  # type: ignore[arg-type]


def ack(number: ViewNumber, stored: int = 0, **changes: object) -> Broadcast:
    """The PUB frame that carries it alone."""
    return Broadcast(status(number, stored, **changes))


def published(number: ViewNumber, records: Sequence[SlotRecord], stored: int = 0, **changes: object) -> Broadcast:
    """A holder's PUB frame: the requests, the SEQUENCEs and its ACK (A7)."""
    requests = tuple(one for made in records for one in made.requests)
    return Broadcast(status(number, stored, **changes), requests, tuple(made.sequence for made in records))


def token(number: ViewNumber, hop: int, slot: int, sequences: Sequence[SlotRecord] = (), commit: int = 0) -> Token:
    """A TOKEN."""
    return Token(number, hop, slot, commit, tuple(made.sequence for made in sequences))


def prepare(number: ViewNumber, *known: int, genesis: int = 0) -> Prepare:
    """A PREPARE whose vector names these members."""
    return Prepare(number, genesis, vector(*known))


def promise(
    number: ViewNumber,
    log_view: ViewNumber,
    records: Sequence[SlotRecord] = (),
    *known: Known,
    first: int = 0,
    heard: int = bits(range(1, 8)),
    commit: int = 0,
    members: tuple[int, ...] = (1, 2, 3),
    log_members: tuple[int, ...] = (),
) -> Promise:
    """A PROMISE of a member whose log is `records`."""
    before = log_members or members
    chain = end_chain(records)
    return Promise(number, log_view, first, len(records), chain, commit, known, heard, before, members, before)


def join(member: int, end: int = 0, promised: ViewNumber = NO_VIEW, *, wiped: bool = False, disk: int = 0) -> Join:
    """A JOIN."""
    return Join(disk or storage(member), wiped, end, promised, bits(range(1, 8)))


def new_view(announced: View) -> NewView:
    """NEW_VIEW."""
    return NewView(announced)
