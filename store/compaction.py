"""A compact copy of a stopped member's database file in the place of the file, which never shrinks while it is used.

LMDB copies what its trees refer to into a file beside the old one. The copy is synced, its structure is checked, and
it is compared with the old file row by row; only then does a rename put it in the old one's place. Until the rename the
old file is untouched, and the rename is whole or absent: a crash at any moment leaves a folder that holds everything. A
copy that was left behind goes at the next start or compaction. Snapshots and the journal stay as they are.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from store.engine import open_engine
from store.environment import check_structure, disk_error, pages_used
from store.errors import NoRoomForCopy, StoreDamaged, StoreMisuse
from store.folder import COPY_NAME, DATA_NAME, FolderLock, check_identity, drop_copy
from store.snapshot import sync_folder

_ROOM_MARGIN_BYTES: Final = 16 << 20
_DATABASES_MAX: Final = 64


class Compacted(NamedTuple):
    """The size of the database file before and after."""

    before_bytes: int
    after_bytes: int


def compact_folder(folder: Path, member: int) -> Compacted:
    """Rewrite the database file of a member that does not run.

    Raises FolderInUse, WrongFolder, StoreDamaged, StoreMisuse (no folder of a member), NoRoomForCopy, DiskFull,
    DiskFailed. After an error the folder is as it was.
    """
    data = folder / DATA_NAME
    if not folder.is_dir() or not check_identity(folder, member) or not data.exists():
        raise StoreMisuse(f"{folder} is no data folder of replica {member}: name the right one")
    lock = FolderLock(folder)
    try:
        drop_copy(folder)
        check_structure(folder)
        before = data.stat().st_size
        _check_room(folder)
        made = folder / COPY_NAME
        made.mkdir()
        _copy(folder, made)
        check_structure(made)
        _compare(folder, made)
        shutil.copymode(data, made / DATA_NAME)
        (made / DATA_NAME).rename(data)
        sync_folder(folder)
        return Compacted(before, data.stat().st_size)
    except OSError as error:
        raise disk_error(folder, error, 0) from error
    finally:
        drop_copy(folder)
        lock.release()


@contextmanager
def _opened(folder: Path) -> Iterator[lmdb.Environment]:
    """To read alone; the caller holds the folder's lock."""
    environment = open_engine(folder, readonly=True, lock=False, max_dbs=_DATABASES_MAX)
    try:
        yield environment
    finally:
        environment.close()


def _names(environment: lmdb.Environment) -> list[bytes]:
    with environment.begin() as transaction, transaction.cursor() as cursor:
        return [bytes(name) for name in cursor.iternext(values=False)]


def _check_room(folder: Path) -> None:
    with _opened(folder) as environment:
        databases = [environment.open_db(name, create=False) for name in _names(environment)]
        with environment.begin() as transaction:
            used = pages_used([environment.stat(), *map(transaction.stat, databases)])
        needed = used * environment.stat()["psize"] + _ROOM_MARGIN_BYTES
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise NoRoomForCopy(folder, needed, free)


def _copy(folder: Path, made: Path) -> None:
    try:
        with _opened(folder) as environment:
            environment.copy(str(made), compact=True)
    except lmdb.Error as error:
        raise disk_error(folder, error, 0) from error
    descriptor = os.open(made / DATA_NAME, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(made)


def _compare(folder: Path, made: Path) -> None:
    """Every row of every table, so that chains and digests are what they were. Raises StoreDamaged."""
    with _opened(folder) as old, _opened(made) as new:
        names = _names(old)
        if _names(new) != names:
            raise StoreDamaged(folder, f"a compact copy has the tables {_names(new)} instead of {names}")
        for name in names:
            ours, copied = (one.open_db(name, create=False) for one in (old, new))
            with (
                old.begin(db=ours, buffers=True) as before,
                new.begin(db=copied, buffers=True) as after,
                before.cursor() as rows,
                after.cursor() as others,
            ):
                if any(row != other for row, other in zip_longest(rows, others)):
                    raise StoreDamaged(folder, f"a compact copy differs in table {name!r}; nothing was changed")
