"""The packed batch: opaque bytes on their whole way from the publishing client to the consuming one.

Layout, all integers little-endian unsigned 32 bit (docs/wire.md, "Packed batch"):

    count | count payload lengths | count headers lengths | headers, back to back | payloads, back to back

A headers length of 0 means: no headers; otherwise the bytes are one msgpack map. `check` is all that the broker path
ever looks at: count and sum against the frame's size, so that nobody can forge offsets.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ringcast.errors import BadFrame, TooLarge

Buffer: TypeAlias = bytes | bytearray | memoryview

DIGEST_BYTES = 8
#: Bounds of the format itself; a cluster's own limits (WELCOME) are lower.
COUNT_MAX = 1 << 16
BATCH_BYTES_MAX = 64 << 20

_WORD = struct.Struct("<I")


def table_bytes(count: int) -> int:
    """Bytes in front of the first header or payload of a batch of `count` messages."""
    return 4 + 8 * count


def pack(payloads: Sequence[bytes], headers: Sequence[bytes] | None = None) -> bytes:
    """Pack payloads, and for each its headers as msgpack bytes (b"" = none; None = none at all).

    Raises TooLarge for no message, more than COUNT_MAX messages, or more than BATCH_BYTES_MAX bytes.
    """
    count = len(payloads)
    if not 1 <= count <= COUNT_MAX:
        raise TooLarge(what="the batch", size=count, limit=f"1 to {COUNT_MAX}", unit="messages")
    if headers is None:
        body, lengths = b"".join(payloads), [*map(len, payloads), *(0,) * count]
    else:
        if len(headers) != count:
            raise ValueError(f"{len(headers)} headers for {count} payloads: give one for each, b'' for none")
        body, lengths = b"".join((*headers, *payloads)), [*map(len, payloads), *map(len, headers)]
    size = table_bytes(count) + len(body)
    if size > BATCH_BYTES_MAX:
        raise TooLarge(what="the packed batch", size=size, limit=BATCH_BYTES_MAX, unit="bytes")
    return struct.pack(f"<{1 + 2 * count}I", count, *lengths) + body


#: The payload and the packed headers of a message.
Pair: TypeAlias = tuple[bytes, bytes]


def check(packed: Buffer, count: int) -> None:
    """Raise BadFrame unless `packed` is a batch of exactly `count` messages; one C-level sum, no per-message work."""
    _lengths(packed, count)


def count_of(packed: Buffer) -> int:
    """The number of messages that a packed batch claims to hold. Raises BadFrame if it is too short to say."""
    if len(packed) < 4:
        raise BadFrame(what="the packed batch", value=f"{len(packed)} bytes", limit="at least 4")
    return int(_WORD.unpack_from(packed)[0])


def _lengths(packed: Buffer, count: int) -> tuple[int, ...]:
    size = len(packed)
    claimed = count_of(packed)
    if claimed != count or not 1 <= count <= COUNT_MAX:
        raise BadFrame(what="the batch's message count", value=claimed, limit=f"{count}, within 1 to {COUNT_MAX}")
    table = table_bytes(count)
    if size < table:
        raise BadFrame(what="the packed batch", value=f"{size} bytes", limit=f"at least {table} for {count} messages")
    lengths = struct.unpack_from(f"<{2 * count}I", packed, 4)
    total = sum(lengths)
    if table + total != size:
        raise BadFrame(what="the packed batch", value=f"{size} bytes", limit=f"{table + total}, as its table says")
    return lengths


def unpack(packed: bytes, count: int) -> list[Pair]:
    """The (payload, headers bytes) pairs of a batch of `count` messages. Raises BadFrame as `check` does.

    Headers stay packed: a consumer that never looks at them never pays, and broken ones of a foreign publisher hurt
    only who reads them.
    """
    lengths = _lengths(packed, count)
    start = table_bytes(count)
    if not any(lengths[count:]):
        return [(payload, b"") for payload in _slices(packed, start, lengths[:count])]
    headers = list(_slices(packed, start, lengths[count:]))
    payloads = _slices(packed, start + sum(lengths[count:]), lengths[:count])
    return list(zip(payloads, headers, strict=True))


def _slices(packed: bytes, start: int, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for length in lengths:
        end = start + length
        yield packed[start:end]
        start = end


def digest(packed: Buffer) -> bytes:
    """The 8 bytes by which the client table (K1) tells a repeated batch from a reused number."""
    return hashlib.blake2b(packed, digest_size=DIGEST_BYTES).digest()
