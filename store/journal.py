"""The journal: small records are durable with one flush of a file that never grows, and LMDB takes them later (D1).

An LMDB commit flushes twice, its pages and then its meta; here one write with O_DSYNC is all. The file `journal` is a
ring of FRAMES frames, filled with zeros when the folder is made, so that a flush has no metadata of a file to write.

| bytes | of a record |
|---|---|
| 4 | crc32 over the rest, big-endian as all numbers |
| 8 | number: 1, 2, 3 ... without end in the life of a folder |
| 2 | length of the content |
| | the content, for each log record: u64 slot · chain 16 · previous 16 · u16 length · body |

A record lies in one block of BLOCK_BYTES, and again in the next one, both written at once: a *frame*. The number says
which. Nothing that was acknowledged is ever written over before LMDB has it, so a torn write can only hit what nobody
was told of.

The log's marks say up to which number LMDB has the records; they are written in the transaction that brings them there,
so nothing is replayed twice or left out. What has a number that LMDB covers is a leftover. So at start:

- the numbers above have no hole, or the store is damaged: records are written one by one, so those before a whole one
  were acknowledged;
- a frame without a whole copy behind the last one is one whose write was torn, and was never acknowledged;
- a flipped byte spoils one copy, and the other one serves. With a single copy a damaged last record could not be told
  from a torn write.

The layout has no version of its own: it goes with the format of the folder (`store.folder.FORMAT`).
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from store.contract import CHAIN_BYTES, Append
from store.errors import StoreDamaged
from store.snapshot import sync_folder

JOURNAL_NAME: Final = "journal"
BLOCK_BYTES: Final = 4096
FRAME_BYTES: Final = 2 * BLOCK_BYTES
FRAMES: Final = 256

_CRC: Final = Struct(">I")
_HEAD: Final = Struct(">QH")
_RECORD: Final = Struct(f">Q{CHAIN_BYTES}s{CHAIN_BYTES}sH")
_CONTENT_BYTES_MAX: Final = BLOCK_BYTES - _CRC.size - _HEAD.size


class Journaled(NamedTuple):
    """A log record that is durable in the journal's record of this number."""

    number: int
    append: Append


def encode_block(number: int, appends: Sequence[Append]) -> bytes | None:
    """One copy of a record; None if it is larger than a block."""
    parts = [b""]
    for slot, chain, previous, body in appends:
        size = sum(map(len, body))
        if size > _CONTENT_BYTES_MAX:
            return None
        parts.append(_RECORD.pack(slot, chain, previous, size))
        parts += body
    length = sum(map(len, parts))
    if length > _CONTENT_BYTES_MAX:
        return None
    parts[0] = _HEAD.pack(number, length)
    whole = b"".join(parts)
    return (_CRC.pack(crc32(whole)) + whole).ljust(BLOCK_BYTES, b"\0")


def decode_block(block: memoryview, covered: int) -> tuple[Journaled, ...] | None:
    """The log records of one copy; None if it is torn, damaged, never written, or LMDB has it (number <= `covered`)."""
    number, length = _HEAD.unpack_from(block, _CRC.size)
    start = _CRC.size + _HEAD.size
    if number <= covered or length > _CONTENT_BYTES_MAX:
        return None
    end = start + length
    if _CRC.unpack_from(block)[0] != crc32(block[_CRC.size : end]):
        return None
    found = []
    while start < end:
        slot, chain, previous, size = _RECORD.unpack_from(block, start)
        start += _RECORD.size + size
        found.append(Journaled(number, Append(slot, chain, previous, (bytes(block[start - size : start]),))))
    return tuple(found)


def create_journal(folder: Path) -> None:
    """An empty journal, durably; one that is there is overwritten. Raises OSError."""
    with (folder / JOURNAL_NAME).open("wb") as file:
        file.write(bytes(FRAMES * FRAME_BYTES))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


class Journal:
    """The journal of a folder. `replay` comes first. One call at a time, from any thread."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreDamaged if the file is not there or not whole, OSError."""
        self._folder = folder
        self._number = 0  # of the newest record; covered <= number <= covered + FRAMES
        self._covered = 0  # LMDB has the records up to this number
        try:
            self._descriptor = os.open(folder / JOURNAL_NAME, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StoreDamaged(folder, f"{JOURNAL_NAME} is missing") from error
        size = os.fstat(self._descriptor).st_size
        if size != FRAMES * FRAME_BYTES:
            self.close()
            raise StoreDamaged(folder, f"{JOURNAL_NAME} has {size} bytes instead of {FRAMES * FRAME_BYTES}")

    def replay(self, covered: int) -> tuple[Journaled, ...]:
        """The log records, in order, that LMDB does not have, since it has the journal's up to number `covered`.

        They are durable. Raises StoreDamaged if one that was acknowledged is gone, OSError.
        """
        content = memoryview(os.pread(self._descriptor, FRAMES * FRAME_BYTES, 0))
        found: dict[int, tuple[Journaled, ...]] = {}
        for start in range(0, FRAMES * FRAME_BYTES, BLOCK_BYTES):
            records = decode_block(content[start : start + BLOCK_BYTES], covered)
            if records is not None:
                found[records[0].number] = records
        for wanted, number in enumerate(sorted(found), start=covered + 1):
            if number != wanted:
                raise StoreDamaged(
                    self._folder, f"{JOURNAL_NAME}: record {wanted} is gone, but record {number} after it is whole"
                )
        self._covered, self._number = covered, covered + len(found)
        if found:  # the kernel may have what a killed process wrote, and the disk not yet
            os.fsync(self._descriptor)
        return tuple(record for number in sorted(found) for record in found[number])

    def write(self, appends: Sequence[Append]) -> int | None:
        """Make log records durable; returns their record's number, or None if they do not fit or there is no room.

        Raises OSError: then nothing may be written any more, since nobody knows what is on the disk (D5).
        """
        number = self._number + 1
        block = encode_block(number, appends) if number <= self._covered + FRAMES else None
        if block is None:
            return None
        written = os.pwrite(self._descriptor, block + block, number % FRAMES * FRAME_BYTES)
        if written != FRAME_BYTES:
            raise OSError(errno.EIO, f"{written} of {FRAME_BYTES} bytes of {JOURNAL_NAME} were written")
        self._number = number
        return number

    def cover(self, number: int) -> None:
        """LMDB has the records up to this number, durably: their frames may be written over."""
        self._covered = number

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)
