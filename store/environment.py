"""One LMDB environment: opened only when its structure is sound, grown by itself, and honest about failures.

- LMDB trusts the pages it maps: a flipped pointer or a short file ends the process. So the file is walked by py-lmdb's
  offline verifier before LMDB sees it (D6).
- `sync=True, metasync=True`: without metasync a power cut can undo the last transaction (D1).
- The map may only be replaced while no transaction is open in the process: reads pass a gate that growing closes.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any, Final, TypeAlias, TypeVar

import lmdb
from lmdb import verify as lmdb_verify

from store.contract import TABLES, FileSize
from store.engine import open_engine
from store.errors import DiskFailed, DiskFull, StoreClosed, StoreDamaged, StoreError
from store.folder import DATA_NAME, check_identity, drop_copy

T = TypeVar("T")
WriteTransaction: TypeAlias = "lmdb.Transaction[memoryview]"

STABLE: Final = "stable"
LOG: Final = "log"
CHAINS: Final = "chains"
STAGING: Final = "staging"
DATABASES: Final = (STABLE, LOG, CHAINS, STAGING, *TABLES)

MAP_BYTES_START: Final = 256 << 20
READERS_MAX: Final = 126
# Pages that nothing refers to are lost space, not lost data.
_HARMLESS = "neither reachable nor in the freeDB"
# A record of the main tree that names a database: 48 bytes, its flags at 4 (struct MDB_db of liblmdb). None of ours has
# any; LMDB's own assertions end the process where a flag says what the pages are not.
_DATABASE_BYTES: Final = 48
_DATABASE_FLAGS: Final = struct.Struct("=4xH")
# Offsets inside a meta, from its magic on; the host's byte order.
_META_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, sys.byteorder)
_META_PAGE_BYTES: Final = 24
_META_FLAGS: Final = ((24, "free", 0x08), (24 + _DATABASE_BYTES, "main", 0))  # 0x08: integer keys
_META_TRANSACTION: Final = 24 + 2 * _DATABASE_BYTES + 8
# A node: its head and its place in the page's table (struct MDB_node of liblmdb). A page's header.
_NODE_BYTES: Final = 10
_PAGE_HEADER_BYTES: Final = 16
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SPACE_MARGIN_BYTES: Final = 1 << 20


def check_structure(folder: Path) -> None:
    """Walk the data file without LMDB: metas, trees, free list, length. Raises StoreDamaged.

    Known limit: metas have no checksum, and one bit of the file (the second lowest of the newer transaction number,
    when it is set) can flip so that both numbers still look right; then the last transaction is missing unnoticed.
    """
    data = folder / DATA_NAME
    try:
        found: list[str] = lmdb_verify.verify(str(data))  # type: ignore[no-untyped-call]
    except lmdb_verify.VerifyError as error:
        raise StoreDamaged(folder, f"{DATA_NAME}: {error}") from error
    problems = [problem for problem in found if _HARMLESS not in problem]
    metas = _metas(data)
    older, newer = sorted(
        int.from_bytes(meta[_META_TRANSACTION : _META_TRANSACTION + 8], sys.byteorder) for meta in metas
    )
    for offset, name, wanted in _META_FLAGS:
        for meta in metas:
            (flags,) = _DATABASE_FLAGS.unpack_from(meta, offset)
            if flags != wanted:
                problems.append(f"the {name} tree has flags {flags:#x} instead of {wanted:#x}")
    if newer - older != (newer > 0):
        problems.append(f"its meta pages are of transactions {older} and {newer}, so the newest one is lost")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreDamaged(folder, f"{DATA_NAME}: {problems[0]}{more}")


def disk_error(folder: Path, error: lmdb.Error | OSError, size_bytes: int) -> DiskFull | DiskFailed:
    """What a failed write of about `size_bytes` means (D5)."""
    number = error.errno if isinstance(error, OSError) else _code(error)
    full = (
        isinstance(error, lmdb.DiskError)
        or number in _NO_SPACE
        or (number == errno.EIO and _is_full(folder, size_bytes))
    )
    return (DiskFull if full else DiskFailed)(folder, str(error))


def _code(error: lmdb.Error) -> int:
    """errno, or one of LMDB's own, which are negative; an error that py-lmdb raises by itself has none."""
    return int(getattr(error, "code", 0))


def _is_full(folder: Path, size_bytes: int) -> bool:
    """liblmdb reports a short write as EIO ("short write, filesystem full?" says its source), so look at the space."""
    room = os.statvfs(folder)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    needed = size_bytes + _SPACE_MARGIN_BYTES
    over_limit = limit != resource.RLIM_INFINITY and (folder / DATA_NAME).stat().st_size + needed > limit
    return over_limit or room.f_bavail * room.f_frsize < needed


def value_bytes(size: int, page_bytes: int) -> int:
    """What a row with a key of 8 bytes takes: in a leaf, or in pages of its own where LMDB puts a large value."""
    node = _NODE_BYTES + 8
    if node + size <= (page_bytes - _PAGE_HEADER_BYTES) // 2:
        return node + size + (size & 1)
    return node + 8 - (-(_PAGE_HEADER_BYTES + size) // page_bytes) * page_bytes


def _metas(data: Path) -> list[bytes]:
    """The two metas, from their magic on, which the verifier has found readable.

    LMDB takes the one with the higher transaction number: a flipped bit there would bring the last but one transaction
    back, whole and unnoticed.
    """
    with data.open("rb") as file:
        head = file.read(64)
        start = head.index(_META_MAGIC)
        (page_bytes,) = struct.unpack_from("=I", head, start + _META_PAGE_BYTES)
        metas = []
        for page in range(2):
            file.seek(page * page_bytes + start)
            metas.append(file.read(_META_TRANSACTION + 8))
    return metas


def pages_used(stats: Iterable[Any]) -> int:
    """Pages of all these trees, the main one among them, and the two metas; the free list is not counted."""
    return 2 + sum(int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) for stat in stats)


def open_folder(folder: Path, member: int, map_bytes: int, names: Sequence[str]) -> tuple[Environment, bool]:
    """The environment of a member's folder, and whether it is new: then fill it, and `write_identity` last.

    The caller holds the folder's lock. Raises WrongFolder, StoreDamaged, DiskFull, DiskFailed.
    """
    data = folder / DATA_NAME
    ours = check_identity(folder, member)
    drop_copy(folder)
    if ours and not (data.exists() and data.stat().st_size):
        raise StoreDamaged(folder, f"{DATA_NAME} is missing or empty")
    if data.exists() and data.stat().st_size:
        check_structure(folder)
    return Environment(folder, map_bytes, new=not ours, names=names), not ours


class Environment:
    """The databases of one folder. `read` from any thread, `write` from one thread at a time."""

    def __init__(self, folder: Path, map_bytes: int, *, new: bool, names: Sequence[str] = DATABASES) -> None:
        """Raises StoreDamaged, DiskFull, DiskFailed. The caller holds the folder's lock; only a `new` one is filled."""
        self.folder = folder
        self._names = names
        self._gate = Condition()
        self._readers = 0
        self._closed = False
        self._failure: str | None = None
        # Ours alone under the folder's lock: readers of a killed process, or damage in this file, must not outlive it.
        (folder / "lock.mdb").unlink(missing_ok=True)
        data = folder / DATA_NAME
        used = data.stat().st_size if data.exists() else 0
        while map_bytes < 2 * used:
            map_bytes *= 2
        self.map_bytes = map_bytes
        self.databases: dict[str, lmdb._Database] = {}
        try:
            self._lmdb = self._open(new=new)
        except OSError as error:
            raise self._failed(error, 0) from error
        except lmdb.Error as error:
            raise self._damaged_or_failed(error) from error

    def _open(self, *, new: bool) -> lmdb.Environment:
        environment = open_engine(
            self.folder,
            map_size=self.map_bytes,
            sync=True,
            metasync=True,
            max_dbs=len(self._names),
            max_readers=READERS_MAX,
            max_spare_txns=4,
            mode=0o644,
        )
        try:
            if not new:
                self._check_databases(environment)
            with environment.begin(write=True) as transaction:  # handles last only if a write transaction made them
                for name in self._names:
                    self.databases[name] = environment.open_db(name.encode(), txn=transaction, create=new)
        except BaseException:
            environment.close()
            raise
        return environment

    def _check_databases(self, environment: lmdb.Environment) -> None:
        """All of them and no other, or a damaged name would hide a whole table behind a new, empty one (D6)."""
        with environment.begin() as transaction, transaction.cursor() as cursor:
            found = {bytes(name): bytes(record) for name, record in cursor}
        if found.keys() != {name.encode() for name in self._names}:
            raise StoreDamaged(
                self.folder, f"{DATA_NAME}: its tables are {sorted(found)} instead of {sorted(self._names)}"
            )
        for name, record in found.items():
            if len(record) != _DATABASE_BYTES or _DATABASE_FLAGS.unpack_from(record) != (0,):
                raise StoreDamaged(self.folder, f"{DATA_NAME}: the entry of table {name!r} is {record.hex()}")

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction[memoryview]]:
        """One consistent view. Values are memoryviews into the map: copy them out before it ends."""
        with self._gate:
            if self._closed:
                raise StoreClosed(f"data folder {self.folder} is closed")
            self._readers += 1
        try:
            with self._lmdb.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise self._damaged_or_failed(error) from error
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()

    def write(self, work: Callable[[WriteTransaction], T], size_bytes: int) -> T:
        """Run `work` in one transaction and sync it; again from the start each time the map had to grow.

        `size_bytes`: about what it writes. Raises DiskFull; DiskFailed, and from then on only that (D5); and what
        `work` raises. In each case nothing was written.
        """
        self.check_writable()
        while True:
            try:
                with self._lmdb.begin(write=True, buffers=True) as transaction:
                    return work(transaction)
            except lmdb.MapFullError:
                self._grow()
            except (lmdb.Error, OSError) as error:
                raise self._failed(error, size_bytes) from error

    def check_writable(self) -> None:
        """Raises StoreClosed; DiskFailed once a write has failed (D5)."""
        with self._gate:
            if self._closed:
                raise StoreClosed(f"data folder {self.folder} is closed")
        if self._failure is not None:
            raise DiskFailed(self.folder, self._failure)

    def fail(self, error: OSError) -> DiskFailed:
        """A write beside LMDB failed: nothing is written to this folder any more (D5)."""
        self._failure = str(error)
        return DiskFailed(self.folder, self._failure)

    def _grow(self) -> None:
        """Double the map. Waits for the reads that are open; none starts meanwhile."""
        with self._gate:
            self._gate.wait_for(lambda: self._readers == 0)
            try:
                self._lmdb.set_mapsize(2 * self.map_bytes)
            except (lmdb.Error, OSError) as error:
                raise self._failed(error, 0) from error
            self.map_bytes *= 2

    def _failed(self, error: lmdb.Error | OSError, size_bytes: int) -> StoreError:
        found = disk_error(self.folder, error, size_bytes)
        if isinstance(found, DiskFailed):
            self._failure = str(error)
        return found

    def _damaged_or_failed(self, error: lmdb.Error) -> StoreError:
        if _code(error) < 0 or _code(error) == errno.EINVAL:  # it read what cannot be
            return StoreDamaged(self.folder, str(error))
        return self._failed(error, 0)

    def file_size(self) -> FileSize:
        """The data file, and how much of it is pages without content; the list of those counts as such."""
        with self.read() as transaction:
            stats = [transaction.stat(database) for database in self.databases.values()]
            last = self._lmdb.info()["last_pgno"]
        used = pages_used([self._lmdb.stat(), *stats])
        size = (self.folder / DATA_NAME).stat().st_size
        return FileSize(size, max(0, last + 1 - used) * self.page_bytes)

    @property
    def page_bytes(self) -> int:
        """The size of a page of the file."""
        return int(self._lmdb.stat()["psize"])

    def used_bytes(self, database: str) -> int:
        """Bytes of the pages of one database."""
        with self.read() as transaction:
            stat = transaction.stat(self.databases[database])
        return stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])

    def close(self) -> None:
        """Wait for open reads, then unmap."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._gate.wait_for(lambda: self._readers == 0)
            self._lmdb.close()
