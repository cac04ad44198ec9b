"""Bytes on disk: log records, chain rows, marks, table rows. Everything stands behind a checksum of its own (D6).

| what | layout |
|---|---|
| log record, key u64be slot | crc32 over (slot, rest), u32be · chain 16 · previous 16 · body |
| chain row, key u64be slot | chain 16 · blake2b-8 over (slot, chain) |
| sealed value (stable state, marks) | blake2b-8 over (name, value) · value |
| table row | crc32 over (key, value), u32be · value |

Checksums find what the disk changed by itself; they are no defence against someone who can write the files. What is
large or many has a CRC: it costs a fifth of the hash, and each payload is under a digest of its request too (A10).
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import groupby
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from store.contract import CHAIN_BYTES, NO_CHAIN, DamagedRun
from store.errors import RecordDamaged

CHECKSUM_BYTES = 8
CRC_BYTES = 4
HEADER_BYTES = CRC_BYTES + 2 * CHAIN_BYTES

_SLOT = Struct(">Q")
_CRC = Struct(">I")
_MARKS = Struct(f">QQ{CHAIN_BYTES}s{CHAIN_BYTES}s?Q")


def slot_key(slot: int) -> bytes:
    """Big-endian, so that the order of keys is the order of slots."""
    return _SLOT.pack(slot)


def key_slot(key: bytes | memoryview) -> int:
    """The slot of a key of the log or of the chain rows."""
    return int(_SLOT.unpack(key)[0])


def checksum(*parts: bytes | memoryview) -> bytes:
    """blake2b, 8 bytes, over the joined parts."""
    hasher = blake2b(digest_size=CHECKSUM_BYTES)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


class Record(NamedTuple):
    """A log record that fitted its checksum."""

    chain: bytes
    previous: bytes
    body: bytes


def encode_record(slot: int, chain: bytes, previous: bytes, parts: Iterable[bytes]) -> bytes:
    """A log record's value on disk; the parts are copied once."""
    rest = (chain, previous, *parts)
    return b"".join((_record_crc(slot, rest), *rest))


def decode_record(slot: int, value: bytes | memoryview | None) -> Record:
    """Raises RecordDamaged if the value is missing, short, or does not fit its checksum or its slot."""
    if value is None or len(value) < HEADER_BYTES:
        raise RecordDamaged(slot)
    view = memoryview(value)
    if view[:CRC_BYTES] != _record_crc(slot, (view[CRC_BYTES:],)):
        raise RecordDamaged(slot)
    links = CRC_BYTES + CHAIN_BYTES
    return Record(bytes(view[CRC_BYTES:links]), bytes(view[links:HEADER_BYTES]), bytes(view[HEADER_BYTES:]))


def _record_crc(slot: int, parts: Iterable[bytes | memoryview]) -> bytes:
    crc = crc32(slot_key(slot))
    for part in parts:
        crc = crc32(part, crc)
    return _CRC.pack(crc)


def encode_chain(slot: int, chain: bytes) -> bytes:
    """A chain row's value on disk."""
    return chain + checksum(slot_key(slot), chain)


def decode_chain(slot: int, value: bytes | memoryview | None) -> bytes | None:
    """The chain of a slot; None if the row is missing or does not fit its checksum."""
    if value is None:
        return None
    chain = bytes(value[:CHAIN_BYTES])
    return chain if value[CHAIN_BYTES:] == checksum(slot_key(slot), chain) else None


def seal(name: bytes, value: bytes) -> bytes:
    """A value behind a checksum over its name and itself."""
    return checksum(name, value) + value


def unseal(name: bytes, sealed: bytes | memoryview) -> bytes | None:
    """The value, or None if it does not fit its checksum."""
    value = bytes(sealed[CHECKSUM_BYTES:])
    return value if sealed[:CHECKSUM_BYTES] == checksum(name, value) else None


def encode_row(key: bytes, value: bytes) -> bytes:
    """A table row's value on disk. Rows are many and small, hence a CRC."""
    return _CRC.pack(crc32(value, crc32(key))) + value


def decode_row(key: bytes, stored: bytes | memoryview) -> bytes | None:
    """The value of a row; None if it does not fit its checksum."""
    value = bytes(stored[CRC_BYTES:])
    return value if stored[:CRC_BYTES] == _CRC.pack(crc32(value, crc32(key))) else None


class Marks(NamedTuple):
    """Where the log begins and ends. Stands apart from the log, and is written with every change of it (D6).

    0 <= first <= end; `before` = chain(first - 1); `chain` = chain(end - 1), so both are equal when the log is empty.
    `stable_saved`: a stable state was saved once, so a missing one is damage. `journaled`: the number of the newest
    record of the journal that is in the log; always 0 in memory.
    """

    first: int
    end: int
    before: bytes
    chain: bytes
    stable_saved: bool
    journaled: int


EMPTY_MARKS = Marks(0, 0, NO_CHAIN, NO_CHAIN, stable_saved=False, journaled=0)


def encode_marks(marks: Marks) -> bytes:
    """Not sealed yet."""
    return _MARKS.pack(*marks)


def decode_marks(value: bytes) -> Marks | None:
    """None if it cannot be one."""
    if len(value) != _MARKS.size:
        return None
    marks = Marks(*_MARKS.unpack(value))
    return marks if marks.first <= marks.end else None


def damaged_runs(slots: Iterable[int], known_chain: Callable[[int], bytes | None]) -> tuple[DamagedRun, ...]:
    """Ascending damaged slots as runs with both their links (D6).

    Where a link is not known the neighbour is damaged too, so it belongs to the run.
    """
    runs = []
    for _, group in groupby(enumerate(slots), key=lambda pair: pair[1] - pair[0]):
        neighbours = [slot for _, slot in group]
        low, high = neighbours[0], neighbours[-1]
        while (before := known_chain(low - 1)) is None:
            low -= 1
        while (after := known_chain(high)) is None:
            high += 1
        runs.append(DamagedRun(low, high, before, after))
    return tuple(runs)
