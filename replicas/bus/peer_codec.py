"""Frames between members: the sequencer's messages <-> msgpack header + payload frames (protocol.md, "Messages").

The header is one msgpack array `[version, cluster id, ring id, sender, incarnation counter, incarnation bits, type,
fields...]`; the payload frames follow as they are, in the order in which the header names their sizes, so nothing large
is copied on the way out. Many small ones are joined into one frame: each frame of ZeroMQ costs more than the copy of a
few KiB, and a message may have 4,096 of them at most. A request's digest does not travel: the receiver makes it
from the frames it got, so that a damaged frame can never pass as the one that a SEQUENCE names (A3, A10).

Decoding is strict and raises BadFrame or WrongCluster only; the transport drops such a frame and counts it.
"""

from collections.abc import Callable
from collections.abc import Sequence as Frames
from typing import Any, NamedTuple, TypeAlias

from replicas.bus.backfill_codec import (
    StoredBackfilled,
    StoredMessage,
    StoredRecords,
    StoredRetransmit,
    pack_backfilled,
    pack_stored_backfilled,
    read_backfill,
    read_backfilled,
    read_holdings,
)
from replicas.bus.directory import Addresses, Introduced, Relayed, pack_told, read_addresses, read_told
from replicas.bus.parts import (
    FRAMES_MAX,
    MEMBER_ID_MAX,
    REQUESTS_MAX,
    SEQUENCES_MAX,
    array,
    binary,
    each,
    flag,
    integers,
    member_id,
    number,
    numbers,
    pack_sequence,
    pack_view,
    read_identity,
    read_incarnation,
    read_members,
    read_number,
    read_optional_identity,
    read_sequence,
    read_view,
    text,
)
from replicas.bus.payloads import (
    RECORDS_MAX,
    Payload,
    PayloadReader,
    frames_of,
    pack_bodies,
    pack_records,
    pack_requests,
)
from ringcast.errors import UnsupportedVersion, WrongCluster
from ringcast.strict import U63_MAX, U64_MAX, Plain, bad, dumps, loads
from sequencer import messages as m
from sequencer.output import Received
from sequencer.types import Incarnation, ViewNumber

VERSION = 2
HEADER_BYTES_MAX = 16 << 20
CHUNK_BYTES_MAX = 16 << 20
_BITS_MAX = 1 << (MEMBER_ID_MAX + 1)


class Envelope(NamedTuple):
    """Whose frame it is; the same for every frame of one run of a process but for the cluster id (0 while blank)."""

    ring: int
    sender: int
    incarnation: Incarnation


# ------------------------------------------------------------------ out


def _plain_fields(message: Any, _payload: Payload) -> tuple[Plain, ...]:
    """Messages whose fields are plain values or named tuples of such: the array of them."""
    return tuple(getattr(message, name) for name in message.__dataclass_fields__)


def _pack_broadcast(message: m.Broadcast, payload: Payload) -> tuple[Plain, ...]:
    s = message.status
    status = (
        *s.view,
        *s.promised,
        s.stored,
        s.commit,
        s.accepted_hop,
        s.newest_lsn,
        s.heard,
        s.runs | s.wiped << 1 | s.leaving << 2,
    )
    return (status, pack_requests(message.requests, payload), tuple(map(pack_sequence, message.sequences)))


def _pack_token(message: m.Token, _payload: Payload) -> tuple[Plain, ...]:
    counts = (*message.view, message.hop, message.slot, message.commit)
    return (counts, tuple(map(pack_sequence, message.sequences)))


def _pack_retransmit(message: m.Retransmit, payload: Payload) -> tuple[Plain, ...]:
    return (message.view, pack_requests(message.requests, payload), pack_records(message.records, payload))


def _records_head(message: m.Records | StoredRecords) -> tuple[Plain, ...]:
    return (message.view, message.first, message.repair, message.more, message.committed)


def _pack_records(message: m.Records, payload: Payload) -> tuple[Plain, ...]:
    return (*_records_head(message), pack_records(message.records, payload))


def _pack_stored_records(message: StoredRecords, payload: Payload) -> tuple[Plain, ...]:
    return (*_records_head(message), pack_bodies(message.bodies, payload))


def _pack_stored_retransmit(message: StoredRetransmit, payload: Payload) -> tuple[Plain, ...]:
    return (message.view, (), pack_bodies(message.bodies, payload))


def _pack_chunk(message: m.SnapshotChunk, payload: Payload) -> tuple[Plain, ...]:
    payload.append(message.data)
    return (message.view, message.snapshot, message.slot, message.chain, message.index, message.count)


def _pack_view_message(message: m.NewView, _payload: Payload) -> tuple[Plain, ...]:
    return (pack_view(message.view),)


# ------------------------------------------------------------------ in


def _bits(what: str, value: Any) -> int:
    """A set of members as bits 1..63."""
    return number(what, value, 0, _BITS_MAX - 1)


def _sequences(value: Any) -> tuple[Any, ...]:
    return each("the sequences", value, SEQUENCES_MAX, read_sequence)


def _read_status(value: Any) -> m.Status:
    integers("a status", value, 10, -1, U64_MAX)
    view_counter, view_proposer, counter, proposer, stored, commit, hop, lsn, heard, flags = value
    if min(view_counter, view_proposer, counter, proposer, stored, commit, lsn, heard, flags) < 0:
        bad("a status", value, "no negative number but the hop")
    if max(view_counter, counter, stored, commit, hop, lsn) > U63_MAX:
        bad("a status", value, "integers up to 2^63-1")
    if flags > 7 or heard >= _BITS_MAX or max(view_proposer, proposer) > MEMBER_ID_MAX:
        bad("a status", value, f"flags in 0..7, member ids in 0..{MEMBER_ID_MAX}")
    view, promised = ViewNumber(view_counter, view_proposer), ViewNumber(counter, proposer)
    return m.Status(view, bool(flags & 1), promised, stored, commit, hop, lsn, heard, bool(flags & 2), bool(flags & 4))


def _read_broadcast(fields: tuple[Any, ...], frames: PayloadReader) -> m.Broadcast:
    status, requests, sequences = array("BROADCAST", fields, 3)
    return m.Broadcast(_read_status(status), frames.published(requests), _sequences(sequences))


def _read_token(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Token:
    counts, sequences = array("TOKEN", fields, 2)
    numbers("a token", counts, 5)
    counter, proposer, hop, slot, commit = counts
    return m.Token(read_number((counter, proposer)), hop, slot, commit, _sequences(sequences))


def _read_range(value: Any) -> m.LsnRange:
    sender, incarnation, first, last = array("a range of requests", value, 4)
    found = m.LsnRange(
        member_id(sender), read_incarnation(incarnation), number("an lsn", first, 1), number("an lsn", last)
    )
    if found.last < found.first:
        bad("a range of requests", (first, last), "first <= last")
    return found


def _read_nack(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Nack:
    view, first, end, requests = array("NACK", fields, 4)
    numbers("a NACK's slots", (first, end), 2)
    if end < first:
        bad("a NACK's slots", (first, end), "first <= end")
    return m.Nack(read_number(view), first, end, each("the ranges", requests, REQUESTS_MAX, _read_range))


def _read_retransmit(fields: tuple[Any, ...], frames: PayloadReader) -> m.Retransmit:
    view, requests, records = array("RETRANSMIT", fields, 3)
    return m.Retransmit(read_number(view), frames.requests(requests), frames.records(records))


def _read_known(value: Any) -> m.Known:
    member, identity = array("a row of the vector", value, 2)
    return m.Known(member_id(member), read_identity(identity))


def _read_vector(value: Any) -> m.Vector:
    return each("the vector", value, MEMBER_ID_MAX, _read_known)


def _read_prepare(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Prepare:
    whole, genesis, vector, accept_loss, log_view = array("PREPARE", fields, 5)
    return m.Prepare(
        read_number(whole),
        number("a cluster id", genesis, 0, U64_MAX),
        _read_vector(vector),
        flag("accept_loss", accept_loss),
        read_number(log_view),
    )


def _read_promise(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Promise:
    whole, log_view, first, end, chain, commit, vector, heard, *configurations = array("PROMISE", fields, 11)
    numbers("a promise", (first, end, commit), 3)
    return m.Promise(
        read_number(whole),
        read_number(log_view),
        first,
        end,
        binary("a chain", chain),
        commit,
        _read_vector(vector),
        _bits("heard", heard),
        *map(read_members, configurations),
    )


def _read_refused(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Refused:
    whole, promised = array("REFUSED", fields, 2)
    return m.Refused(read_number(whole), read_number(promised))


def _read_healthy(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Healthy:
    whole, view = array("HEALTHY", fields, 2)
    return m.Healthy(read_number(whole), read_view(view))


def _read_new_view(fields: tuple[Any, ...], _frames: PayloadReader) -> m.NewView:
    (view,) = array("NEW_VIEW", fields, 1)
    return m.NewView(read_view(view))


def _read_installed(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Installed:
    (whole,) = array("INSTALLED", fields, 1)
    return m.Installed(read_number(whole))


def _read_fetch(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Fetch:
    view, first, end, chain, repair, snapshot, chunk = array("FETCH", fields, 7)
    numbers("a fetch", (first, end, chunk), 3)
    return m.Fetch(
        read_number(view),
        first,
        end,
        binary("a chain", chain),
        flag("repair", repair),
        text("a snapshot's name", snapshot),
        chunk,
    )


def _read_records(fields: tuple[Any, ...], frames: PayloadReader) -> m.Records:
    view, first, repair, more, committed, records = array("RECORDS", fields, 6)
    return m.Records(
        read_number(view),
        number("a slot", first),
        frames.records(records),
        flag("repair", repair),
        flag("more", more),
        number("committed", committed),
    )


def _read_clock(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Clock:
    integers("CLOCK", fields, 2, 0)
    return m.Clock(*fields)


def _pack_clock(message: m.Clock, _payload: Payload) -> tuple[Plain, ...]:
    return tuple(message)


def _read_chain(value: Any) -> bytes:
    return binary("a chain", value)


def _read_chains(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Chains:
    view, first, chains = array("CHAINS", fields, 3)
    return m.Chains(read_number(view), number("a slot", first), each("the chains", chains, RECORDS_MAX, _read_chain))


def _read_chunk(fields: tuple[Any, ...], frames: PayloadReader) -> m.SnapshotChunk:
    view, snapshot, slot, chain, index, count = array("SNAPSHOT", fields, 6)
    numbers("a snapshot's chunk", (slot, index, count), 3)
    if index >= count:
        bad("a snapshot's chunk", (index, count), "index < count")
    data = frames.rest()
    if len(data) > CHUNK_BYTES_MAX:
        bad("a snapshot's chunk", f"{len(data)} bytes", f"at most {CHUNK_BYTES_MAX}")
    name = text("a snapshot's name", snapshot)
    return m.SnapshotChunk(read_number(view), name, slot, binary("a chain", chain), index, count, data)


def _read_read(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Read:
    (nonce,) = array("READ", fields, 1)
    return m.Read(number("a nonce", nonce, 0, U64_MAX))


def _read_read_ok(fields: tuple[Any, ...], _frames: PayloadReader) -> m.ReadOk:
    nonce, view, stored = array("READ_OK", fields, 3)
    return m.ReadOk(number("a nonce", nonce, 0, U64_MAX), read_number(view), number("stored", stored))


def _read_join(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Join:
    storage, wiped, end, promised, heard = array("JOIN", fields, 5)
    return m.Join(
        number("a storage id", storage, 0, U64_MAX),
        flag("wiped", wiped),
        number("an end", end),
        read_number(promised),
        _bits("heard", heard),
    )


def _read_joined(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Joined:
    view, known = array("JOINED", fields, 2)
    return m.Joined(read_view(view), read_optional_identity(known))


def _read_leave(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Leave:
    array("LEAVE", fields, 0)
    return m.Leave()


#: What leaves a replica: messages of the core, some of them as they stand on disk, and addresses.
Outgoing: TypeAlias = m.Message | StoredMessage | Addresses | Relayed


class _Kind(NamedTuple):
    pack: Callable[[Any, Payload], tuple[Plain, ...]]
    read: Callable[[tuple[Any, ...], PayloadReader], m.Message | Addresses | Relayed]


#: Type on the wire -> message. Numbers are given once and never used again.
_KINDS: dict[int, tuple[type[m.Message | Addresses | Relayed], _Kind]] = {
    1: (m.Broadcast, _Kind(_pack_broadcast, _read_broadcast)),
    2: (m.Token, _Kind(_pack_token, _read_token)),
    3: (m.Nack, _Kind(_plain_fields, _read_nack)),
    4: (m.Retransmit, _Kind(_pack_retransmit, _read_retransmit)),
    5: (m.Prepare, _Kind(_plain_fields, _read_prepare)),
    6: (m.Promise, _Kind(_plain_fields, _read_promise)),
    7: (m.Refused, _Kind(_plain_fields, _read_refused)),
    8: (m.Healthy, _Kind(_plain_fields, _read_healthy)),
    9: (m.NewView, _Kind(_pack_view_message, _read_new_view)),
    10: (m.Installed, _Kind(_plain_fields, _read_installed)),
    11: (m.Fetch, _Kind(_plain_fields, _read_fetch)),
    12: (m.Records, _Kind(_pack_records, _read_records)),
    13: (m.Chains, _Kind(_plain_fields, _read_chains)),
    14: (m.SnapshotChunk, _Kind(_pack_chunk, _read_chunk)),
    15: (m.Read, _Kind(_plain_fields, _read_read)),
    16: (m.ReadOk, _Kind(_plain_fields, _read_read_ok)),
    17: (m.Join, _Kind(_plain_fields, _read_join)),
    18: (m.Joined, _Kind(_plain_fields, _read_joined)),
    19: (m.Leave, _Kind(_plain_fields, _read_leave)),
    20: (Addresses, _Kind(_plain_fields, lambda fields, _: read_addresses(fields))),
    21: (m.Clock, _Kind(_pack_clock, _read_clock)),  # older members drop and count it
    22: (m.Holdings, _Kind(_plain_fields, read_holdings)),
    23: (m.Backfill, _Kind(_plain_fields, read_backfill)),
    24: (m.Backfilled, _Kind(pack_backfilled, read_backfilled)),
    25: (Relayed, _Kind(lambda frame, _: pack_told(frame.told), lambda fields, _: Relayed(read_told(fields)))),
}
_PACKERS: dict[type[Outgoing], tuple[int, Callable[[Any, Payload], tuple[Plain, ...]]]] = {
    **{kind: (number, how.pack) for number, (kind, how) in _KINDS.items()},
    StoredRetransmit: (4, _pack_stored_retransmit),
    StoredRecords: (12, _pack_stored_records),
    StoredBackfilled: (24, pack_stored_backfilled),
}


def encode(envelope: Envelope, cluster: int, message: Outgoing) -> list[bytes]:
    """The frames of a message: header first, then the payload frames themselves (not copied)."""
    number_, pack = _PACKERS[type(message)]
    payload: Payload = []
    fields = pack(message, payload)
    header = dumps((VERSION, cluster, envelope.ring, envelope.sender, *envelope.incarnation, number_, *fields))
    return [header, *frames_of(payload)]


class PeerCodec:
    """Frames <-> messages of one member; the transport calls it and counts what it raises.

    `wants_requests`: while it says no, those of a BROADCAST are left out, and their payloads are not hashed.
    """

    def __init__(self, ring: int, member: int, wants_requests: Callable[[], bool] = lambda: True) -> None:
        self._wants_requests = wants_requests
        self._ring = ring
        self._member = member

    def decode(self, frames: Frames[bytes]) -> Received | Introduced | None:
        """The event of a frame; None for our own (a PUB heard by our own SUB after a mistake in the addresses).

        Raises BadFrame, UnsupportedVersion or WrongCluster: drop the frame and count it. The cluster id and the sender
        are judged by the core, which alone knows whether it is blank (V0) and who is a member (V12).
        """
        if not frames or len(frames) > FRAMES_MAX:
            bad("the number of frames", len(frames), f"1..{FRAMES_MAX}")
        fields = loads(frames[0], HEADER_BYTES_MAX)
        if type(fields) is not tuple or len(fields) < 7:
            bad("the header", type(fields).__name__, "an array of at least 7")
        version, cluster, ring, sender, counter, nonce, type_number = fields[:7]
        if version != VERSION or type(version) is not int:
            raise UnsupportedVersion(version=repr(version)[:20], supported=VERSION)
        integers("the envelope", fields[1:7], 6, 0, U64_MAX)
        if ring != self._ring:
            raise WrongCluster(cluster=cluster, expected=cluster, ring=ring, expected_ring=self._ring)
        if not 1 <= sender <= MEMBER_ID_MAX or counter > U63_MAX:
            bad("the envelope", (sender, counter), f"a member id in 1..{MEMBER_ID_MAX}, a counter in 0..2^63-1")
        if sender == self._member:
            return None
        incarnation = Incarnation(counter, nonce)
        known = _KINDS.get(type_number)
        if known is None:
            bad("the frame type", type_number, f"1..{len(_KINDS)}")
        reader = PayloadReader(frames, wants_published=self._wants_requests())
        message = known[1].read(fields[7:], reader)
        reader.close()
        if isinstance(message, Addresses):
            return Introduced(cluster, sender, ((sender, message),))
        if isinstance(message, Relayed):
            return Introduced(cluster, sender, message.told)
        return Received(cluster, sender, incarnation, message)
