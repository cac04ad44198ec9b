"""Snapshots of the state tables (C1): chunks that travel and check themselves, and the files they are kept in.

A chunk is what `read_chunk` gives, what a peer receives and what it stages:
checksum 8 · magic 4 · index u32 · last u8 · slot u64 · chain 16 · length of the name u8 · name · rows, each:
number of the table u8 · length of the key u16 · length of the value u32 · key · value. All integers big-endian.

A file is written under a temporary name, synced, then renamed: it is there whole or not at all (fault 30).
magic 4 · per chunk: length u32, chunk · offsets of the chunks, u64 each · tail (count, slot, chain, checksum, magic).
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import BinaryIO, NamedTuple

from store.contract import CHAIN_BYTES, STATE_TABLES, SnapshotFile
from store.errors import ChunkDamaged, SnapshotGone
from store.records import CHECKSUM_BYTES, checksum

Row = tuple[str, bytes, bytes]  # table, key, value

SNAPSHOTS_KEPT = 2  # a peer in the middle of the last but one can finish it

_CHUNK_MAGIC = b"RCC1"
_FILE_MAGIC = b"RCS1"
_HEAD = Struct(f">4sIBQ{CHAIN_BYTES}sB")
_ROW = Struct(">BHI")
_LENGTH = Struct(">I")
_OFFSET = Struct(">Q")
_TAIL = Struct(f">IQ{CHAIN_BYTES}s{CHECKSUM_BYTES}s4s")
_NAME = re.compile(r"[0-9]{20}-[0-9a-f]{8}")  # also keeps a peer's word for a snapshot inside its folder
_SUFFIX = ".snapshot"


def encode_slot(slot: int) -> bytes:
    """The value of `APPLIED_KEY`."""
    return _OFFSET.pack(slot)


def decode_slot(value: bytes) -> int | None:
    """The slot that the value of `APPLIED_KEY` says; None if it is none."""
    return int(_OFFSET.unpack(value)[0]) if len(value) == _OFFSET.size else None


def snapshot_name(slot: int, nonce: bytes) -> str:
    """Names sort by slot; `nonce` (4 random bytes) tells two snapshots of one slot apart."""
    return f"{slot:020d}-{nonce.hex()}"


def kept_names(names: Iterable[str], made: str) -> set[str]:
    """Which snapshots stay when `made` is there: itself, and the newest of the others."""
    others = sorted((name for name in names if name != made), reverse=True)
    return {made, *others[: SNAPSHOTS_KEPT - 1]}


# ------------------------------------------------------------------ chunks


class Chunk(NamedTuple):
    """A chunk that fitted its checksum."""

    last: bool
    slot: int
    chain: bytes
    rows: tuple[Row, ...]

    def tables(self) -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
        """(table, rows) in the order of the snapshot: tables as in `STATE_TABLES`, keys ascending."""
        for table, rows in groupby(self.rows, key=itemgetter(0)):
            yield table, [(key, value) for _, key, value in rows]


def encode_chunks(
    name: str, slot: int, chain: bytes, rows: Iterable[Row], chunk_bytes: int, tables: Sequence[str] = STATE_TABLES
) -> Iterator[bytes]:
    """At least one chunk; each holds as many rows as fit in `chunk_bytes`, but at least one: rows are not split."""
    index = 0
    body = bytearray()
    for table, key, value in rows:
        if body and len(body) + _ROW.size + len(key) + len(value) > chunk_bytes:
            yield _encode_chunk(name, index, last=False, slot=slot, chain=chain, body=body)
            index += 1
            body.clear()
        body += _ROW.pack(tables.index(table), len(key), len(value))
        body += key
        body += value
    yield _encode_chunk(name, index, last=True, slot=slot, chain=chain, body=body)


def _encode_chunk(name: str, index: int, *, last: bool, slot: int, chain: bytes, body: bytearray) -> bytes:
    named = name.encode("ascii")
    rest = b"".join((_HEAD.pack(_CHUNK_MAGIC, index, last, slot, chain, len(named)), named, body))
    return checksum(rest) + rest


def check_chunk(snapshot: str, index: int, data: bytes) -> None:
    """Raises ChunkDamaged unless `data` is chunk `index` of that snapshot, untouched. For whoever receives one."""
    _open_chunk(snapshot, index, data)


def chunk_place(snapshot: str, index: int, data: bytes) -> tuple[bool, int]:
    """(whether it is the last one, slot) of a chunk. Raises ChunkDamaged, as `check_chunk`."""
    return _open_chunk(snapshot, index, data)[:2]


def _open_chunk(snapshot: str, index: int, data: bytes) -> tuple[bool, int, bytes, int]:
    """(last, slot, chain, where the rows begin)."""
    if len(data) < CHECKSUM_BYTES + _HEAD.size:
        raise ChunkDamaged(snapshot, index, f"{len(data)} bytes are too few")
    if data[:CHECKSUM_BYTES] != checksum(memoryview(data)[CHECKSUM_BYTES:]):
        raise ChunkDamaged(snapshot, index, "it does not fit its checksum")
    magic, said_index, last, slot, chain, name_bytes = _HEAD.unpack_from(data, CHECKSUM_BYTES)
    start = CHECKSUM_BYTES + _HEAD.size
    said_name = data[start : start + name_bytes]
    if magic != _CHUNK_MAGIC:
        raise ChunkDamaged(snapshot, index, f"format {magic!r}, this process reads {_CHUNK_MAGIC!r}")
    if (said_name, said_index) != (snapshot.encode(), index):
        raise ChunkDamaged(snapshot, index, f"it says it is chunk {said_index} of {said_name!r}")
    return bool(last), slot, chain, start + name_bytes


def decode_chunk(snapshot: str, index: int, data: bytes, tables: Sequence[str] = STATE_TABLES) -> Chunk:
    """Raises ChunkDamaged."""
    last, slot, chain, start = _open_chunk(snapshot, index, data)
    rows: list[Row] = []
    try:
        while start < len(data):
            table, key_bytes, value_bytes = _ROW.unpack_from(data, start)
            start += _ROW.size
            end = start + key_bytes + value_bytes
            if end > len(data):
                raise ChunkDamaged(snapshot, index, "its last row is cut off")
            rows.append((tables[table], data[start : start + key_bytes], data[start + key_bytes : end]))
            start = end
    except (struct.error, IndexError) as error:
        raise ChunkDamaged(snapshot, index, f"its rows cannot be read ({error})") from error
    return Chunk(last, slot, chain, tuple(rows))


# ------------------------------------------------------------------ files


class _Opened(NamedTuple):
    file: SnapshotFile
    offsets: tuple[int, ...]


class SnapshotFolder:
    """The snapshot files of one member. Any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._opened: dict[str, _Opened] = {}

    def load(self) -> None:
        """Find the files, drop half-written ones; one whose tail is bad is not served, and goes with the next one."""
        self.path.mkdir(exist_ok=True)
        for half in self.path.glob("*.tmp"):
            half.unlink(missing_ok=True)
        found = {}
        for path in self.path.glob(f"*{_SUFFIX}"):
            opened = _read_tail(path)
            if opened is not None:
                found[path.stem] = opened
        with self._lock:
            self._opened = found

    def list(self) -> tuple[SnapshotFile, ...]:
        """Newest first."""
        with self._lock:
            return tuple(self._opened[name].file for name in sorted(self._opened, reverse=True))

    def write(self, name: str, slot: int, chain: bytes, chunks: Iterable[bytes]) -> SnapshotFile:
        """Write, sync, rename, sync the folder; then drop all but the newest. Raises OSError: the old ones are kept."""
        half = self.path / f"{name}.tmp"
        whole = self.path / f"{name}{_SUFFIX}"
        try:
            with half.open("wb") as file:
                offsets = _write_file(file, slot, chain, chunks)
                file.flush()
                os.fsync(file.fileno())
            size_bytes = half.stat().st_size
            half.rename(whole)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        sync_folder(self.path)
        made = SnapshotFile(name, slot, chain, len(offsets), size_bytes)
        with self._lock:
            self._opened[name] = _Opened(made, offsets)
            kept = kept_names(self._opened, name)
        self._keep(lambda file: file.name in kept)
        return made

    def drop_older(self) -> bool:
        """Delete all but the newest; False if there is nothing older."""
        older = self.list()[1:]
        self.drop(lambda file: file in older)
        return bool(older)

    def drop(self, unwanted: Callable[[SnapshotFile], bool]) -> None:
        """Delete the snapshots that `unwanted` names."""
        self._keep(lambda file: not unwanted(file))

    def _keep(self, wanted: Callable[[SnapshotFile], bool]) -> None:
        with self._lock:
            self._opened = {name: opened for name, opened in self._opened.items() if wanted(opened.file)}
            kept = set(self._opened)
        for path in self.path.glob(f"*{_SUFFIX}"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def read_chunk(self, name: str, index: int) -> bytes:
        """Raises SnapshotGone, ChunkDamaged."""
        with self._lock:
            opened = self._opened.get(name) if _NAME.fullmatch(name) else None
        if opened is None:
            raise SnapshotGone(name)
        if not 0 <= index < len(opened.offsets):
            raise ChunkDamaged(name, index, f"the snapshot has {len(opened.offsets)} chunks")
        try:
            with (self.path / f"{name}{_SUFFIX}").open("rb") as file:
                file.seek(opened.offsets[index])
                head = file.read(_LENGTH.size)
                data = file.read(min(int.from_bytes(head, "big"), opened.file.size_bytes))
        except FileNotFoundError as error:
            raise SnapshotGone(name) from error
        check_chunk(name, index, data)
        return data


def _write_file(file: BinaryIO, slot: int, chain: bytes, chunks: Iterable[bytes]) -> tuple[int, ...]:
    file.write(_FILE_MAGIC)
    offsets = []
    for chunk in chunks:
        offsets.append(file.tell())
        file.write(_LENGTH.pack(len(chunk)))
        file.write(chunk)
    table = b"".join(map(_OFFSET.pack, offsets))
    file.write(table)
    seal = checksum(table, _LENGTH.pack(len(offsets)), _OFFSET.pack(slot), chain)
    file.write(_TAIL.pack(len(offsets), slot, chain, seal, _FILE_MAGIC))
    return tuple(offsets)


def _read_tail(path: Path) -> _Opened | None:
    """None if this is not a whole snapshot file."""
    if not _NAME.fullmatch(path.stem):
        return None
    size = path.stat().st_size
    with suppress(struct.error, OSError), path.open("rb") as file:
        file.seek(max(0, size - _TAIL.size))
        count, slot, chain, seal, magic = _TAIL.unpack(file.read(_TAIL.size))
        file.seek(max(0, size - _TAIL.size - count * _OFFSET.size))
        table = file.read(count * _OFFSET.size)
        if magic == _FILE_MAGIC and seal == checksum(table, _LENGTH.pack(count), _OFFSET.pack(slot), chain):
            offsets = tuple(offset for (offset,) in _OFFSET.iter_unpack(table))
            return _Opened(SnapshotFile(path.stem, slot, chain, count, size), offsets)
    return None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
