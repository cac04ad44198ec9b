"""Bytes on disk of a Raft member: log entries, hard state and marks. Everything stands behind a checksum of its own.

| what | layout |
|---|---|
| entry, key u64be index | crc32 over (key, rest), u32be · term u64be · kind u8 · data |
| sealed value (hard state, marks) | blake2b-8 over (name, value) · msgpack |

A damaged row is not repaired in place: the disk is void then, and the member comes back with a new one (docs/raft.md).
"""

from struct import Struct
from typing import Any, NamedTuple

from ringcast.strict import U64_MAX, array, bad, dumps, integer, loads, many
from store.errors import RecordDamaged
from store.raft_contract import NO_BASE, Base, Entry, HardState, Incarnation, Kind
from store.raft_members import MEMBERS_BYTES_MAX, member_id, read_members
from store.records import decode_row, encode_row, key_slot, slot_key

VALUE_BYTES_MAX = MEMBERS_BYTES_MAX + (16 << 10)
_HEAD = Struct(">QB")
_u64 = integer(0, U64_MAX)
_incarnation = array(integer(), _u64)
_known = many(array(_u64, _incarnation), 256)


def _vote(what: str, value: Any) -> None:
    if value is not None:
        member_id(what, value)


_hard = array(_u64, _u64, _incarnation, integer(), _vote, _known)


class Marks(NamedTuple):
    """Where the log begins and ends; written with every change of it, apart from it, so that a lost row is noticed.

    base.index <= last; `last_term` is the base's where the log is empty.
    """

    base: Base
    last: int
    last_term: int


EMPTY_MARKS = Marks(NO_BASE, 0, 0)


def encode_entry(entry: Entry) -> tuple[bytes, bytes]:
    """(key, value) of an entry."""
    key = slot_key(entry.index)
    return key, encode_row(key, _HEAD.pack(entry.term, entry.kind) + entry.data)


def decode_entry(key: bytes, stored: bytes | memoryview | None) -> Entry:
    """Raises RecordDamaged."""
    index = key_slot(key)
    value = None if stored is None else decode_row(key, stored)
    if value is None or len(value) < _HEAD.size:
        raise RecordDamaged(index)
    term, kind = _HEAD.unpack_from(value)
    try:
        return Entry(index, term, Kind(kind), value[_HEAD.size :])
    except ValueError as error:
        raise RecordDamaged(index) from error


def encode_marks(marks: Marks) -> bytes:
    """Not sealed yet."""
    base = marks.base
    return dumps((base.index, base.term, tuple(map(tuple, base.members)), marks.last, marks.last_term))


def decode_marks(value: bytes) -> Marks:
    """Raises BadFrame."""
    fields = loads(value, VALUE_BYTES_MAX)
    if type(fields) is not tuple or len(fields) != 5:
        bad("marks", fields, "5 fields")
    index, term, members, last, last_term = fields
    for number in (index, term, last, last_term):
        integer()("a mark", number)
    if index > last:
        bad("marks", (index, last), "a base at or below the end")
    return Marks(Base(index, term, read_members(members)), last, last_term)


def encode_hard(hard: HardState) -> bytes:
    """Not sealed yet."""
    known = tuple((storage, tuple(incarnation)) for storage, incarnation in hard.known)
    return dumps((hard.cluster, hard.storage, tuple(hard.incarnation), hard.term, hard.voted_for, known))


def decode_hard(value: bytes) -> HardState:
    """Raises BadFrame."""
    fields = loads(value, VALUE_BYTES_MAX)
    _hard("the hard state", fields)
    cluster, storage, incarnation, term, voted_for, known = fields
    known = tuple((disk, Incarnation(*one)) for disk, one in known)
    return HardState(cluster, storage, Incarnation(*incarnation), term, voted_for, known)
