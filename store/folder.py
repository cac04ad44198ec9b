"""A member's data folder: one process at a time, one member for ever, and the way out when it is damaged."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Final

from store.engine import ENGINE, engine_of
from store.errors import FolderInUse, StoreDamaged, WrongFolder
from store.snapshot import sync_folder

FORMAT: Final = 2
LOCK_NAME: Final = "LOCK"
IDENTITY_NAME: Final = "member.json"
DATA_NAME: Final = "data.mdb"
#: Where a compact copy is made (store/compaction.py).
COPY_NAME: Final = "compacting"


class FolderLock:
    """An flock on `LOCK`, which holds the owner's pid; the kernel lets go of it when the process ends, however it ends.

    Raises FolderInUse.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._descriptor, 20, 0).strip()
            os.close(self._descriptor)
            raise FolderInUse(folder, int(text) if text.isdigit() else None) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


def check_identity(folder: Path, member: int) -> bool:
    """Whether the folder was set up by this member; False: nobody did yet. Raises WrongFolder, StoreDamaged.

    A folder says its engine since there are two; of an older one the data file says it, and so does a foreign file.
    """
    data = folder / DATA_NAME
    engine = engine_of(data) if data.exists() else None
    if engine not in {None, ENGINE}:
        raise WrongFolder(folder, "the storage engine", engine, ENGINE)
    try:
        text = (folder / IDENTITY_NAME).read_bytes()
    except FileNotFoundError:
        return False
    try:
        identity = json.loads(text)
        found_format, found_member = int(identity["format"]), int(identity["member"])
        found_engine = str(identity.get("engine", ENGINE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(folder, f"{IDENTITY_NAME} cannot be read ({error!r})") from error
    if found_format != FORMAT:
        raise WrongFolder(folder, "format", found_format, FORMAT)
    if found_engine != ENGINE:
        raise WrongFolder(folder, "the storage engine", found_engine, ENGINE)
    if found_member != member:
        raise WrongFolder(folder, "the data of member", found_member, member)
    return True


def cluster_in(folder: Path) -> int:
    """The cluster that the folder says it is of; 0 if it says none, or cannot be read."""
    try:
        return int(json.loads((folder / IDENTITY_NAME).read_bytes()).get("cluster", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def write_identity(folder: Path, member: int, cluster: int = 0) -> None:
    """Make the folder this member's, durably. Written last: a folder that has it has whole data files too.

    `cluster`: what its data is of, said again where damage of the data does not reach (D6); 0: of none yet.
    """
    half = folder / f"{IDENTITY_NAME}.tmp"
    with half.open("wb") as file:
        named = {"cluster": cluster} if cluster else {}
        file.write(json.dumps({"format": FORMAT, "member": member, "engine": ENGINE, **named}).encode())
        file.flush()
        os.fsync(file.fileno())
    half.rename(folder / IDENTITY_NAME)
    sync_folder(folder)
    sync_folder(folder.parent)


def drop_copy(folder: Path) -> None:
    """Delete a compact copy that was not finished. The caller holds the folder's lock."""
    shutil.rmtree(folder / COPY_NAME, ignore_errors=True)


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a folder to `<name>.damaged-<n>` and return that; nothing is deleted. Raises FolderInUse."""
    lock = FolderLock(path)
    try:
        number = 1
        while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
            number += 1
        path.rename(aside)
        sync_folder(path.parent)
    finally:
        lock.release()
    return aside
