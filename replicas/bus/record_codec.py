"""Log records and the stable state as bytes on disk (D1, D3).

A record is `u32be length of the header · header · frames`; the header is msgpack `[sequence, request heads]` and each
head names the sizes of its frames, so the payloads are written and read without msgpack around them. The store keeps
a checksum over the whole (D6), hence a record is read back without hashing its payloads again: the digests are those
that the entries name, and a record that does not fit its entries is BadFrame.
"""

from struct import Struct
from types import MappingProxyType
from typing import Any, NamedTuple

from replicas.bus.parts import (
    MEMBER_ID_MAX,
    REQUESTS_MAX,
    array,
    each,
    flag,
    member_id,
    number,
    pack_head,
    pack_sequence,
    pack_view,
    read_head,
    read_identity,
    read_incarnation,
    read_number,
    read_sequence,
    read_view,
)
from ringcast.strict import U64_MAX, bad, dumps, loads
from sequencer import chain
from sequencer.types import Entry, Identity, Incarnation, Request, SlotRecord, StableState, View

_LENGTH = Struct(">I")
HEADER_BYTES_MAX = 64 << 20
STATE_BYTES_MAX = 1 << 20
STATE_VERSION = 2
STATE_FIELDS = 12
MARKS_MAX = 1_024


def encode_record(record: SlotRecord) -> tuple[bytes, ...]:
    """The parts of a record's body; the store joins them."""
    header = dumps((pack_sequence(record.sequence), tuple(map(pack_head, record.requests))))
    parts = [_LENGTH.pack(len(header)) + header]
    for request in record.requests:
        parts.extend(request.frames)
    return tuple(parts)


def decode_record(body: bytes, *, hashed: bool = True) -> SlotRecord:
    """Raises BadFrame if the bytes are no record, or its requests are not those that its entries name.

    `hashed=False`: they came over a wire without the store's checksum, so each payload is hashed and compared.
    """
    if len(body) < _LENGTH.size:
        bad("a record", f"{len(body)} bytes", f"at least {_LENGTH.size}")
    start = _LENGTH.size + int(_LENGTH.unpack_from(body)[0])
    if start > len(body):
        bad("a record's header", start, f"within the {len(body)} bytes of the record")
    packed, heads = array("a record", loads(memoryview(body)[_LENGTH.size : start], HEADER_BYTES_MAX), 2)
    sequence = read_sequence(packed)
    requests: list[Request] = []
    listed = each("the requests", heads, REQUESTS_MAX, read_head)
    named = [_name for entry in sequence.entries for _name in _names(entry)]
    if len(named) != len(listed):
        bad("a record's requests", len(listed), f"the {len(named)} that its entries name")
    for (sender, incarnation, lsn, sizes, change), (digest, *name) in zip(listed, named, strict=True):
        if [sender, incarnation, lsn] != name:
            bad("a record's request", (sender, incarnation, lsn), f"{name} as its entry says")
        frames = []
        for size in sizes:
            frames.append(body[start : start + size])
            start += size
        if not hashed and chain.digest(frames, change) != digest:
            bad("a record's request", (sender, lsn), "the payload that its entry's digest names (A10)")
        requests.append(Request(sender, incarnation, lsn, tuple(frames), digest, change))
    if start != len(body):
        bad("a record", f"{len(body)} bytes", f"{start} bytes as its header says")
    return SlotRecord(sequence, tuple(requests))


def _names(entry: Entry) -> list[tuple[bytes, int, Incarnation, int]]:
    return [
        (digest, entry.sender, entry.incarnation, lsn)
        for lsn, digest in enumerate(entry.digests, start=entry.first_lsn)
    ]


# ------------------------------------------------------------------ the stable state (D3)


class SavedState(NamedTuple):
    """The stable state and the commit point written with it, a lower bound for the next start."""

    state: StableState
    commit: int


def encode_state(state: StableState, commit: int) -> bytes:
    """The stable state whole. `whole` stands in it only where it is no: older versions read what is usual."""
    missing = () if state.whole else (state.whole,)
    return dumps(
        (
            STATE_VERSION,
            state.member,
            state.storage,
            state.incarnation,
            state.cluster,
            tuple(sorted(state.marks)),
            state.wiped,
            state.promised,
            None if state.announced is None else pack_view(state.announced),
            None if state.view is None else pack_view(state.view),
            tuple(sorted(state.known.items())),
            commit,
            *missing,
        )
    )


class ForeignState(Exception):
    """Another release of ours wrote this stable state; `version` is its."""

    def __init__(self, version: int) -> None:
        super().__init__(f"a stable state of version {version}, this process reads {STATE_VERSION}")
        self.version = version


def decode_state(value: bytes) -> SavedState:
    """Raises ForeignState; BadFrame: then the state is damaged and the member is wiped (D6)."""
    found = loads(value, STATE_BYTES_MAX)
    if type(found) is tuple and found and type(found[0]) is int and found[0] != STATE_VERSION:
        raise ForeignState(found[0])
    whole = True
    if type(found) is tuple and len(found) == STATE_FIELDS + 1:
        whole, found = flag("whole", found[-1]), found[:-1]
    fields = array("the stable state", found, STATE_FIELDS)
    _, member, storage, incarnation, cluster, marks, wiped, promised, announced, view, known, commit = fields
    state = StableState(
        member=member_id(member),
        storage=_bits("a storage id", storage),
        incarnation=read_incarnation(incarnation),
        cluster=_bits("a cluster id", cluster),
        marks=frozenset(each("the marks", marks, MARKS_MAX, _mark)),
        wiped=flag("wiped", wiped),
        promised=read_number(promised),
        announced=_optional_view(announced),
        view=_optional_view(view),
        known=MappingProxyType(dict(each("the known identities", known, MEMBER_ID_MAX, _known))),
        whole=whole,
    )
    return SavedState(state, number("a commit point", commit))


def _bits(what: str, value: Any) -> int:
    return number(what, value, 0, U64_MAX)


def _mark(value: Any) -> int:
    return _bits("a mark", value)


def _optional_view(value: Any) -> View | None:
    return None if value is None else read_view(value)


def _known(value: Any) -> tuple[int, Identity]:
    member, identity = array("a known identity", value, 2)
    return member_id(member), read_identity(identity)
