"""A backup of a Raft state machine: one file, which checks itself, and a new disk made of it.

magic 4 · length of the head u32 · head · for each chunk of the snapshot: length u32 · chunk. Big-endian. The head is
sealed (raft_rows.py); a chunk has its checksum, its place and its snapshot's name in it, and the last one says so. So
whatever is cut off, added, flipped or taken from another file is found before anything is made of it.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

from ringcast.errors import BadFrame
from ringcast.strict import U64_MAX, array, dumps, integer, loads, text
from store.errors import BackupDamaged, ChunkDamaged, ForeignBackup
from store.folder import FolderLock
from store.raft_contract import Base, HardState, Incarnation, Install, Member, Members, Staged, Write
from store.raft_log import RaftStore
from store.records import CHECKSUM_BYTES, seal, unseal
from store.snapshot import chunk_place, sync_folder

MAGIC: Final = b"RCB1"
HEAD_BYTES_MAX: Final = 1_024
#: A chunk holds at least one row, whatever its size; none of ours comes near.
CHUNK_BYTES_MAX: Final = 16 << 20
_HEAD_NAME: Final = b"backup"
_LENGTH: Final = Struct(">I")
_head = array(integer(1, U64_MAX), text(64), integer(1), integer(1), integer(1, 1 << 31))
#: The lower half of a cluster's id is drawn anew by each restore; the upper half stays, and tells its backups.
_LINEAGE_SHIFT: Final = 32


class Head(NamedTuple):
    """Whose state it is, and as of which entry of the log."""

    cluster: int
    snapshot: str
    applied: int
    term: int
    chunks: int


def lineage(cluster: int) -> int:
    """What a cluster has in common with those that were restored from its backups."""
    return cluster >> _LINEAGE_SHIFT


class BackupWriter:
    """`with BackupWriter(path, head) as backup: backup.add(chunk) ...`: there whole and synced afterwards, or not."""

    def __init__(self, path: Path, head: Head) -> None:
        """Raises OSError."""
        self.path = path
        self.head = head
        self.size_bytes = 0
        self._count = 0
        self._half = path.with_name(f"{path.name}.part")
        self._file: BinaryIO = self._half.open("wb")
        packed = seal(_HEAD_NAME, dumps(tuple(head)))
        self._write(MAGIC, _LENGTH.pack(len(packed)), packed)

    def _write(self, *parts: bytes) -> None:
        for part in parts:
            self._file.write(part)
            self.size_bytes += len(part)

    def add(self, chunk: bytes) -> None:
        """The next one. Raises ChunkDamaged, OSError."""
        _check_chunk(self.head, self._count, chunk)
        self._write(_LENGTH.pack(len(chunk)), chunk)
        self._count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if error is not None or self._count != self.head.chunks:
            self._half.unlink(missing_ok=True)
            if error is None:
                raise BackupDamaged(self.path, f"{self._count} of {self.head.chunks} chunks came")
            return
        self._half.replace(self.path)
        sync_folder(self.path.absolute().parent)


def _check_chunk(head: Head, number: int, data: bytes) -> None:
    """Raises ChunkDamaged unless this is that chunk of the backup's snapshot, and the last one where it should be."""
    last, applied = chunk_place(head.snapshot, number, data)
    if (applied, last) != (head.applied, number == head.chunks - 1):
        why = f"it is of entry {applied}, {'the last' if last else 'not the last'} of {head.chunks}"
        raise ChunkDamaged(head.snapshot, number, why)


class Backup:
    """A backup that was read to its end once, and is whole. Raises BackupDamaged, OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.head = self._read_head(file)
            for _ in self._read_chunks(file):
                pass

    def _read_head(self, file: BinaryIO) -> Head:
        if file.read(len(MAGIC)) != MAGIC:
            raise BackupDamaged(self.path, "it does not begin as a backup of the product store does")
        packed = self._read_sized(file, HEAD_BYTES_MAX, "head")
        value = unseal(_HEAD_NAME, packed) if len(packed) > CHECKSUM_BYTES else None
        try:
            if value is not None:
                fields: Any = loads(value, HEAD_BYTES_MAX)
                _head("the head of a backup", fields)
                return Head(*fields)
        except BadFrame as error:
            raise BackupDamaged(self.path, str(error)) from error
        raise BackupDamaged(self.path, "its head does not fit its checksum")

    def _read_sized(self, file: BinaryIO, size_max: int, what: str) -> bytes:
        size = file.read(_LENGTH.size)
        length = _LENGTH.unpack(size)[0] if len(size) == _LENGTH.size else 0
        data = file.read(length) if 0 < length <= size_max else b""
        if not data or len(data) != length:
            raise BackupDamaged(self.path, f"its {what} is cut off, or no {what}")
        return data

    def _read_chunks(self, file: BinaryIO) -> Iterator[bytes]:
        for number in range(self.head.chunks):
            data = self._read_sized(file, CHUNK_BYTES_MAX, f"chunk {number}")
            try:
                _check_chunk(self.head, number, data)
            except ChunkDamaged as error:
                raise BackupDamaged(self.path, str(error)) from error
            yield data
        if file.read(1):
            raise BackupDamaged(self.path, f"more follows its {self.head.chunks} chunks")

    def chunks(self) -> Iterator[bytes]:
        """All of them, checked again."""
        with self.path.open("rb") as file:
            self._read_head(file)
            yield from self._read_chunks(file)

    def check_lineage(self, cluster: int) -> None:
        """Raises ForeignBackup unless it is a backup of that cluster, or of one that was restored to or from it."""
        if lineage(cluster) != lineage(self.head.cluster):
            raise ForeignBackup(self.path, self.head.cluster, cluster)

    def restore(
        self,
        folder: Path,
        member: int,
        addresses: Mapping[int, str],
        tables: Sequence[str],
        machine: Callable[..., Any],
        loop: Any,
    ) -> int:
        """Make a new disk of `member` in `folder`, which must not exist; returns the id of the new cluster.

        It is a cluster of its own, of one voter on a disk with a new name, so that no disk of before can take part; the
        others of `addresses` are learners until they have everything. There whole and synced, or not at all.
        Raises FolderInUse, DiskFull, DiskFailed, BackupDamaged.
        """
        half = folder.with_name(f"{folder.name}.restoring")
        if half.exists():  # of a restore that was cut off, if nobody is at it
            lock = FolderLock(half)
            shutil.rmtree(half)
            lock.release()
        store = RaftStore(half, member, tables, machine, loop)
        store.recover(NoObserver())
        try:
            head = self.head
            count = 0
            for number, data in enumerate(self.chunks()):
                count += 1
                store.commit([Write(count, staged=[Staged(head.snapshot, number, data)])])
            members, hard = self._founding(member, addresses)
            install = Install(head.snapshot, Base(head.applied, head.term, members))
            store.commit([Write(count + 1, hard=hard, install=install)])
        finally:
            store.close()
        half.replace(folder)
        sync_folder(folder.absolute().parent)
        return hard.cluster

    def _founding(self, member: int, addresses: Mapping[int, str]) -> tuple[Members, HardState]:
        storage = secrets.randbits(64)
        members = Members(
            Member(one, storage if one == member else 0, voter=one == member, address=address)
            for one, address in sorted(addresses.items())
        )
        cluster = lineage(self.head.cluster) << _LINEAGE_SHIFT | secrets.randbits(_LINEAGE_SHIFT) | 1
        while cluster == self.head.cluster:
            cluster = lineage(cluster) << _LINEAGE_SHIFT | secrets.randbits(_LINEAGE_SHIFT) | 1
        return members, HardState(cluster, storage, Incarnation(0, 0), self.head.term, None, ())


class NoObserver:
    """An observer that waits for nothing: `commit` returns when it is synced."""

    def on_applied(self, applied: int, results: Mapping[int, bytes]) -> None:
        """Nothing is applied."""

    def on_durable(self, ticket: int) -> None:
        """The caller knows."""

    def on_state_damaged(self, why: str, *, distrusted: bool) -> None:
        """Nothing is applied."""

    def on_failure(self, error: Exception, *, full: bool) -> None:
        """`commit` raises it."""
