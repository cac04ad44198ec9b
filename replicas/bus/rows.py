"""Rows of the topics state machine: keys and values of the state tables and of the index tables (store/contract.py).

| table | key | value |
|---|---|---|
| clients | client id | last sequence, slot of the last use, remembered batches (K1) |
| topics | name | first and last offset, messages, batches, bytes, time of the last batch |
| cursors | name | msgpack [pattern, offset, slot, time] |
| customers | as customers_tables.py says | the state machine of the marketplace |
| meta | `applied` | next slot to apply |
| meta | `position` | horizon and next offset of the client table, last slot's time, its chain, the running digest |
| meta | `members` | msgpack [members, slot, info]: the configuration, once a change took effect (V12) |
| meta | `senders` | msgpack [[member, counter, bits, last lsn], ...]: the A2 table |
| offsets | first offset of a slot | slot, time |
| batches | slot | for each batch of the slot, in order: verdict, first offset, messages, previous offset |
| topic_index | topic, zero byte, first offset of a batch | slot |
| times | time, slot | first offset of the slot |

Numbers are 64 bit; big-endian in keys, so that their order is the order of the bytes. State tables travel in snapshots
(C1); index tables are derived from the log, hold applied batches' slots only, and go where the log goes.
"""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from ringcast.errors import BadFrame
from ringcast.strict import dumps, loads
from sequencer.clients import ClientRow
from sequencer.types import Configuration, Incarnation, Ordered
from store.contract import APPLIED_KEY

__all__ = ["APPLIED_KEY", "MEMBERS_KEY", "POSITION_KEY", "SENDERS_KEY"]

POSITION_KEY = b"position"
SENDERS_KEY = b"senders"
MEMBERS_KEY = b"members"

_U64 = struct.Struct(">Q")
_TWO = struct.Struct(">QQ")
_CLIENT = struct.Struct(">QQ")
_TOPIC = struct.Struct(">6Q")
_POSITION = struct.Struct(">qQQ16s16s")
_VERDICT = struct.Struct(">BqIq")
_ROW_BYTES_MAX = 1 << 20

VERDICT_BYTES = _VERDICT.size


class RowError(Exception):
    """A row of a state or index table that this version can't have written: the disk or the version is wrong."""

    def __init__(self, table: str, key: bytes, reason: object) -> None:
        super().__init__(
            f"row {key!r} of table {table!r} can't be read ({reason}): the data folder is of another version or "
            "damaged; restore it, or wipe this member so that it fetches the state from its peers"
        )


class TopicRow(NamedTuple):
    """What is kept of a topic; offsets and counts include what retention has removed."""

    first_offset: int
    last_offset: int
    messages: int
    batches: int
    size_bytes: int
    time_us: int


class CursorRow(NamedTuple):
    """A durable cursor: everything of `pattern` below `offset` is done; `slot` and `time_us` of its last change."""

    pattern: str
    offset: int
    slot: int
    time_us: int


class Position(NamedTuple):
    """Where the state stands: values after the last applied slot."""

    horizon: int
    next_offset: int
    time_us: int
    chain: bytes
    digest: bytes


class BatchVerdict(NamedTuple):
    """The verdict of one batch as the `batches` table holds it.

    `first_offset` is -1 where the batch has none, and the last applied sequence for GAP. `previous`: the last offset
    of the same topic before it, -1 = none (and for batches that were not applied now).
    """

    verdict: int
    first_offset: int
    messages: int
    previous: int


#: The values of `BatchVerdict.verdict`; given once and never used again.
APPLIED, REPEATED, ALREADY_APPLIED, ID_REUSED, GAP, SESSION_EXPIRED, REFUSED = range(1, 8)


def number_key(value: int) -> bytes:
    """A number as a key."""
    return _U64.pack(value)


def key_number(key: bytes) -> int:
    """The number of a key."""
    return int(_U64.unpack(key)[0])


def topic_key(topic: str, first_offset: int = 0) -> bytes:
    """Key of `topic_index`."""
    return topic.encode() + b"\x00" + _U64.pack(first_offset)


def time_key(time_us: int, slot: int = 0) -> bytes:
    """Key of `times`."""
    return _TWO.pack(time_us, slot)


def pack_pair(first: int, second: int) -> bytes:
    """Value of `offsets`: slot and time."""
    return _TWO.pack(first, second)


def read_pair(value: bytes) -> tuple[int, int]:
    """Slot and time of an `offsets` row."""
    first, second = _TWO.unpack(value)
    return first, second


pack_verdict = _VERDICT.pack


def read_verdicts(value: bytes) -> list[BatchVerdict]:
    """The value of a `batches` row."""
    return list(map(BatchVerdict._make, _VERDICT.iter_unpack(value)))


def pack_client(row: ClientRow) -> bytes:
    """Value of a `clients` row."""
    last, used, batches = row
    return _CLIENT.pack(last, used) + batches


def read_client(key: bytes, value: bytes) -> ClientRow:
    """Value of a `clients` row."""
    try:
        last, used = _CLIENT.unpack_from(value)
    except struct.error as error:
        raise RowError("clients", key, error) from None
    return last, used, value[_CLIENT.size :]


def pack_topic(row: TopicRow) -> bytes:
    """Value of a `topics` row."""
    return _TOPIC.pack(*row)


def read_topic(key: bytes, value: bytes) -> TopicRow:
    """Value of a `topics` row."""
    try:
        return TopicRow._make(_TOPIC.unpack(value))
    except struct.error as error:
        raise RowError("topics", key, error) from None


def pack_cursor(row: CursorRow) -> bytes:
    """Value of a `cursors` row."""
    return dumps(tuple(row))


def read_cursor(key: bytes, value: bytes) -> CursorRow:
    """Value of a `cursors` row."""
    fields = _plain("cursors", key, value)
    if type(fields) is not tuple or list(map(type, fields)) != [str, int, int, int]:
        raise RowError("cursors", key, "not [pattern, offset, slot, time]")
    return CursorRow._make(fields)


def pack_position(position: Position) -> bytes:
    """Value of `meta`, `position`."""
    return _POSITION.pack(*position)


def read_position(value: bytes) -> Position:
    """Value of `meta`, `position`."""
    try:
        return Position._make(_POSITION.unpack(value))
    except struct.error as error:
        raise RowError("meta", POSITION_KEY, error) from None


def pack_senders(senders: Mapping[int, Ordered]) -> bytes:
    """Value of `meta`, `senders`, in the order of members."""
    return dumps([(member, *senders[member].incarnation, senders[member].last_lsn) for member in sorted(senders)])


def read_senders(value: bytes) -> dict[int, Ordered]:
    """Value of `meta`, `senders`."""
    rows = _plain("meta", SENDERS_KEY, value)
    try:
        return {member: Ordered(Incarnation(counter, bits), lsn) for member, counter, bits, lsn in rows}
    except (TypeError, ValueError) as error:
        raise RowError("meta", SENDERS_KEY, error) from None


def pack_members(configuration: Configuration) -> bytes:
    """Value of `meta`, `members`."""
    return dumps(tuple(configuration))


def read_members(value: bytes) -> Configuration:
    """Value of `meta`, `members`."""
    fields = _plain("meta", MEMBERS_KEY, value)
    if type(fields) is not tuple or list(map(type, fields)) != [tuple, int, bytes]:
        raise RowError("meta", MEMBERS_KEY, "not [members, slot, info]")
    return Configuration._make(fields)


def _plain(table: str, key: bytes, value: bytes) -> Any:
    try:
        return loads(value, _ROW_BYTES_MAX)
    except BadFrame as error:
        raise RowError(table, key, error) from None
