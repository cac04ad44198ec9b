"""Raft messages as frames: one msgpack header, strictly read, then the data of the entries or of the chunk, as it is.

Header: version, cluster, ring, sender, storage, incarnation counter and nonce, type, fields. A frame of another
version, of another ring, or with anything that a field may not hold is a typed error: dropped and counted, never raised
into a loop (docs/faults.md 38, 39). Whose vote a sender's storage is, the node judges.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Clock,
    Envelope,
    Found,
    Hello,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    StateLost,
    TimeoutNow,
    Welcome,
)
from replicas.raft.state import Received
from ringcast.errors import UnsupportedVersion, WrongCluster
from ringcast.product_store.admin import ADDRESS_CHARACTERS_MAX
from ringcast.strict import U64_MAX, Check, Plain, array, bad, dumps, flag, integer, loads, many, text
from store.raft_contract import Base, Entry, Incarnation, Kind
from store.raft_members import MEMBERS_BYTES_MAX, member_id, read_members

VERSION = 1
ENTRIES_MAX = 65_536
HEADER_BYTES_MAX = MEMBERS_BYTES_MAX + ENTRIES_MAX * 12 + 1_024
_FIRST = 8  # fields before the message's own

_u64 = integer(0, U64_MAX)
_number = integer()
_name = text(64)
_entry = array(_number, integer(0, max(Kind)), integer(0, U64_MAX))
_ENVELOPE: tuple[tuple[str, Check], ...] = (
    ("the cluster id", _u64),
    ("the sender", member_id),
    ("the storage id", _u64),
    ("the incarnation", _number),
    ("the incarnation's nonce", _u64),
)

Fields = tuple[Any, ...]
Data = Sequence[bytes]


def _any(_what: str, _value: Any) -> None:
    """Checked by who reads it."""


class _Type(NamedTuple):
    """`pack` gives the fields and the data frames, `read` makes the message of checked fields and data."""

    checks: tuple[tuple[str, Check], ...]
    pack: Callable[[Any], tuple[tuple[Plain, ...], Data]]
    read: Callable[[Fields, Data], Message]


def _plain(kind: Callable[..., Message], **checks: Check) -> _Type:
    """A message without data, whose fields travel as they are."""

    def read(fields: Fields, data: Data) -> Message:
        _no_data(data)
        return kind(*fields)

    return _Type(tuple(checks.items()), lambda message: (tuple(message), ()), read)


def _no_data(data: Data) -> None:
    if data:
        bad("the number of frames", len(data) + 1, "1")


def _pack_base(base: Base) -> Plain:
    return (base.index, base.term, tuple(map(tuple, base.members)))


def _read_base(fields: Any) -> Base:
    array(_number, _number, _any)("the base", fields)
    index, term, members = fields
    return Base(index, term, read_members(members))


def _pack_append(message: AppendEntries) -> tuple[tuple[Plain, ...], Data]:
    """Indexes follow from the first one; the data of all entries are one frame, cut by their lengths."""
    entries = tuple((entry.term, int(entry.kind), len(entry.data)) for entry in message.entries)
    data = (b"".join(entry.data for entry in message.entries),) if entries else ()
    return (*message[:4], entries, *message[5:]), data


def _read_append(fields: Fields, data: Data) -> Message:
    term, leader, prev, prev_term, heads, commit, request_id = fields
    if len(data) != bool(heads):
        bad("the number of frames", len(data) + 1, f"{1 + bool(heads)}")
    if not heads:
        return AppendEntries(term, leader, prev, prev_term, (), commit, request_id)
    (joined,) = data
    entries = []
    at, below = 0, prev_term
    for index, (entry_term, kind, size) in enumerate(heads, prev + 1):
        if not below <= entry_term <= term:
            bad("the term of an entry", entry_term, f"{below}..{term}")
        below = entry_term
        entries.append(Entry(index, entry_term, Kind(kind), joined[at : at + size]))
        at += size
    if at != len(joined):
        bad("the data of the entries", f"{len(joined)} bytes", f"{at} bytes")
    for entry in entries:
        if entry.kind is Kind.MEMBERS:
            read_members(loads(entry.data, MEMBERS_BYTES_MAX))
    return AppendEntries(term, leader, prev, prev_term, tuple(entries), commit, request_id)


def _pack_chunk(message: InstallSnapshot) -> tuple[tuple[Plain, ...], Data]:
    fields = (message.term, message.leader_id, message.snapshot, _pack_base(message.base), message.count, message.index)
    return (*fields, message.request_id), (message.data,)


def _read_chunk(fields: Fields, data: Data) -> Message:
    term, leader, name, base, count, index, request_id = fields
    if len(data) != 1:
        bad("the number of frames", len(data) + 1, "2")
    if index >= count:
        bad("the chunk", index, f"below {count}")
    return InstallSnapshot(term, leader, name, _read_base(base), count, index, data[0], request_id)


def _read_found(fields: Fields, data: Data) -> Message:
    _no_data(data)
    return Found(_read_base(fields[0]))


def _read_welcome(fields: Fields, data: Data) -> Message:
    _no_data(data)
    storage, known = fields
    return Welcome(storage, Incarnation(*known))


#: Type on the wire -> message. Numbers are given once and never used again.
_TYPES: dict[int, tuple[type, _Type]] = {
    1: (
        RequestVote,
        _plain(
            RequestVote,
            term=_number,
            candidate_id=member_id,
            last_log_index=_number,
            last_log_term=_number,
            pre_vote=flag,
            transfer=flag,
        ),
    ),
    2: (RequestVoteResponse, _plain(RequestVoteResponse, term=_number, vote_granted=flag, pre_vote=flag)),
    3: (
        AppendEntries,
        _Type(
            (
                ("term", _number),
                ("leader_id", member_id),
                ("prev_log_index", integer(0, U64_MAX >> 2)),
                ("prev_log_term", _number),
                ("entries", many(_entry, ENTRIES_MAX)),
                ("commit_index", _number),
                ("request_id", _number),
            ),
            _pack_append,
            _read_append,
        ),
    ),
    4: (
        AppendEntriesResponse,
        _plain(
            AppendEntriesResponse,
            term=_number,
            success=flag,
            last_log_index=_number,
            request_id=_number,
            prev_log_index=_number,
            conflict_term=_number,
            conflict_index=_number,
        ),
    ),
    5: (
        InstallSnapshot,
        _Type(
            (
                ("term", _number),
                ("leader_id", member_id),
                ("snapshot", _name),
                ("base", _any),
                ("count", integer(1, 1 << 32)),
                ("index", _number),
                ("request_id", _number),
            ),
            _pack_chunk,
            _read_chunk,
        ),
    ),
    6: (
        InstallSnapshotResponse,
        _plain(InstallSnapshotResponse, term=_number, snapshot=_name, next_index=_number, request_id=_number),
    ),
    7: (TimeoutNow, _plain(TimeoutNow, term=_number)),
    8: (Hello, _plain(Hello, address=text(ADDRESS_CHARACTERS_MAX))),
    9: (
        Welcome,
        _Type(
            (("storage", _u64), ("known", array(_number, _u64))),
            lambda message: ((message.storage, tuple(message.known)), ()),
            _read_welcome,
        ),
    ),
    10: (Found, _Type((("base", _any),), lambda message: ((_pack_base(message.base),), ()), _read_found)),
    11: (Clock, _plain(Clock, wall_us=_number, now_us=_number)),
    12: (StateLost, _plain(StateLost, term=_number, base=_number)),
}
_NUMBERS: dict[type, tuple[int, _Type]] = {kind: (number, how) for number, (kind, how) in _TYPES.items()}


def encode(envelope: Envelope, ring: int, message: Message) -> list[bytes]:
    """The frames of a message."""
    number, how = _NUMBERS[type(message)]
    fields, data = how.pack(message)
    incarnation = envelope.incarnation
    head = (VERSION, envelope.cluster, ring, envelope.sender, envelope.storage, *incarnation, number)
    return [dumps((*head, *fields)), *data]


class RaftCodec:
    """Frames -> Received, for `broker.peers.PeerTransport`."""

    def __init__(self, ring: int, member: int) -> None:
        self._ring = ring
        self._member = member

    def decode(self, frames: Sequence[bytes]) -> Received | None:
        """None for our own. Raises BadFrame, UnsupportedVersion or WrongCluster: drop the frame and count it."""
        if not frames:
            bad("the number of frames", 0, "1 or 2")
        fields = loads(frames[0], HEADER_BYTES_MAX)
        if type(fields) is not tuple or len(fields) < _FIRST:
            bad("the header", type(fields).__name__, f"an array of at least {_FIRST}")
        version, cluster, ring, sender, storage, counter, nonce, number = fields[:_FIRST]
        if version != VERSION or type(version) is not int:
            raise UnsupportedVersion(version=repr(version)[:20], supported=VERSION)
        for (what, check), value in zip(_ENVELOPE, (cluster, sender, storage, counter, nonce), strict=True):
            check(what, value)
        if ring != self._ring or type(ring) is not int:
            raise WrongCluster(cluster=cluster, expected=cluster, ring=repr(ring)[:20], expected_ring=self._ring)
        if sender == self._member:
            return None
        known = _TYPES.get(number) if type(number) is int else None
        if known is None:  # R22: a table, and no name from outside
            bad("the frame type", number, f"1..{len(_TYPES)}")
        how = known[1]
        own = fields[_FIRST:]
        if len(own) != len(how.checks):
            bad("the fields", len(own), f"{len(how.checks)}")
        for (what, check), value in zip(how.checks, own, strict=True):
            check(what, value)
        message = how.read(own, frames[1:])
        return Received(Envelope(cluster, sender, storage, Incarnation(counter, nonce)), message)
