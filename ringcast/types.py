"""What the client hands to its users: receipts, records, batches, and what a replica says about itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ringcast.strict import Plain, bad, dumps, loads, plain

#: Message headers: text keys; values are anything plain (docs/wire.md, "Packed batch").
Headers = Mapping[str, Plain]

HEADERS_BYTES_MAX = 1 << 20
CLIENT_ID_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(time_us: int) -> datetime:
    """The aware UTC time of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=time_us)


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 of an aware time; a naive one is local time, as datetime itself takes it."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def pack_headers(headers: Headers | None) -> bytes:
    """msgpack bytes of a message's headers, b"" for none. Raises TypeError or ValueError if they are not plain."""
    if not headers:
        return b""
    packed = dumps(dict(headers))
    unpack_headers(packed)
    return packed


def unpack_headers(packed: bytes) -> dict[str, Plain]:
    """The headers of a message. Raises BadFrame if its publisher wrote something else than a plain map."""
    if not packed:
        return {}
    headers = loads(packed, HEADERS_BYTES_MAX)
    if type(headers) is not dict:
        bad("the message headers", type(headers).__name__, "a map")
    plain("the message headers", headers)
    return headers


@dataclass(slots=True, unsafe_hash=True)  # as good as frozen, which costs three times as much for each message
class Receipt:
    """The place of a published batch in the total order: durable on a quorum of disks, applied exactly once.

    `offset` of the first message; the batch holds `offset .. offset + count - 1`. `slot`: the log position it was
    ordered in. `time_us`: the ring's time, by the clocks of a quorum, in microseconds since 1970 (D7). `answers`: one
    for each message on a topic that a state machine listens to, else none. Not to be changed.
    """

    offset: int
    count: int
    slot: int
    time_us: int
    answers: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def time(self) -> datetime:
        """`time_us` as an aware UTC datetime."""
        return to_datetime(self.time_us)

    def at(self, index: int) -> "Receipt":
        """The receipt of one message of the batch."""
        return Receipt(self.offset + index, 1, self.slot, self.time_us, self.answers[index : index + 1])


@dataclass(slots=True)
class Record:
    """One message as it stands in the order. `client`: the 16-byte id of who published it."""

    topic: str
    payload: bytes
    offset: int
    time_us: int
    client: bytes
    packed_headers: bytes = field(default=b"", repr=False)

    @property
    def headers(self) -> dict[str, Plain]:
        """The publisher's headers, decoded on each use. Raises BadFrame if they are not a plain map."""
        return unpack_headers(self.packed_headers)

    @property
    def time(self) -> datetime:
        """When the message was ordered, by the ring's clock, aware UTC."""
        return to_datetime(self.time_us)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic: how many messages were published on it (trimmed ones included) and the offset of the last one."""

    name: str
    messages: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class CursorInfo:
    """A durable cursor: everything that `pattern` matches below `offset` is done."""

    name: str
    pattern: str
    offset: int


class Status(NamedTuple):
    """What a replica says about itself and its ring. `more` holds whatever else it said (docs/wire.md, "Queries").

    `view`: (counter, proposer). `ring`: the members that take turns, in order. `token_holder`: as far as this replica
    knows, None = unknown. `end`: slots stored here; `committed`: slots stored on a quorum. `next_offset`: everything
    below it is delivered; `compacted_below`: the oldest offset kept.
    """

    replica: int
    state: str
    view: tuple[int, int]
    members: tuple[int, ...]
    ring: tuple[int, ...]
    token_holder: int | None
    end: int
    committed: int
    next_offset: int
    compacted_below: int
    more: dict[str, Plain]
