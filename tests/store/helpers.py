"""Makers of records, batches and folders for the store's tests."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from store.contract import (
    APPLIED_KEY,
    NO_CHAIN,
    Append,
    LogStore,
    Operation,
    Prepend,
    PutRow,
    Repair,
    StageChunk,
    UseSnapshot,
)
from store.log import LmdbStore
from store.snapshot import encode_slot

DATA = "data.mdb"


class JournalingStore(LmdbStore):
    """Records by themselves go to the journal as long as there is room; anything else is committed."""

    def commit(self, operations: Sequence[Operation]) -> None:
        appends = [operation for operation in operations if isinstance(operation, Append)]
        if not appends or len(appends) < len(operations) or not self.journal(appends):
            super().commit(operations)


def body(slot: int, size: int = 40) -> bytes:
    """A record that can be found in a data file: no other slot has these bytes."""
    return blake2b(b"body %d" % slot, digest_size=32).digest() * (size // 32 + 1)


def link(slot: int, salt: bytes = b"") -> bytes:
    """A chain value for a slot; another salt is another history."""
    return NO_CHAIN if slot < 0 else blake2b(b"%d" % slot, key=salt, digest_size=16).digest()


def append(slot: int, size: int = 40, salt: bytes = b"", below: bytes | None = None) -> Append:
    """The record of a slot, in two parts. `below`: salt of the slot below."""
    record = body(slot, size)
    previous = link(slot - 1, salt if below is None else below)
    return Append(slot, link(slot, salt), previous, (record[:7], record[7:]))


def appends(first: int, end: int, size: int = 40) -> list[Operation]:
    """Records of [first, end)."""
    return [append(slot, size) for slot in range(first, end)]


def prepend(slot: int, size: int = 40) -> Prepend:
    """The same, to be put before the log."""
    return Prepend(*append(slot, size))


def repair(slot: int, size: int = 40) -> Repair:
    """The record that `append` made."""
    return Repair(*append(slot, size))


def applied(slot: int) -> PutRow:
    """The state tables stand at `slot`."""
    return PutRow("meta", APPLIED_KEY, encode_slot(slot))


def all_rows(store: LogStore, tables: Sequence[str]) -> dict[str, list[tuple[bytes, bytes]]]:
    """Content of some tables."""
    return {table: list(store.rows(table)) for table in tables}


def hand_over(source: LogStore, target: LogStore, chunk_bytes: int = 200) -> UseSnapshot:
    """Stage a new snapshot of `source` at `target`; returns the switch that is left to do."""
    made = source.make_snapshot(chunk_bytes)
    for index in range(made.chunks):
        target.commit([StageChunk(made.name, index, source.read_chunk(made.name, index))])
    return UseSnapshot(made.name, made.slot, made.chain)


def flip(path: Path, needle: bytes, offset: int = 0) -> None:
    """Flip one bit in every copy of `needle` in a file; there must be one."""
    content = bytearray(path.read_bytes())
    at = content.find(needle)
    assert at >= 0, f"{needle.hex()} is not in {path.name}"
    while at >= 0:
        content[at + offset] ^= 0x10
        at = content.find(needle, at + 1)
    path.write_bytes(content)
