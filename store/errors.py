"""What can go wrong with a data folder.

StoreError
├── StoreMisuse          our own mistake: an operation that breaks the contract; nothing was written
├── StoreClosed          used before `recover()` or after `close()`
├── FolderInUse          another process holds the folder
├── WrongFolder          the folder of another member, of another format, or of another storage engine
├── EngineMissing        this build of py-lmdb cannot open what our folders are of
├── StoreDamaged         the files cannot be trusted; the member starts as wiped (D6, V0)
│   └── RowDamaged       one row of a table
├── RecordDamaged        one log record is bad or missing; repaired from a peer (D6)
├── ChunkDamaged         a snapshot chunk is bad, or missing from the staging
├── SnapshotGone         no snapshot file of that name
├── BackupDamaged        a backup file is not whole; nothing was made of it
├── ForeignBackup        a backup of another cluster
├── DiskFull             no space: nothing was written, the store goes on when there is space (D5)
├── NoRoomForCopy        compaction needs more space than there is; nothing was changed
├── DiskFailed           a write or sync failed: nothing is written any more (D5)
└── WriterStopped        the writer takes no more tickets
"""

from pathlib import Path


class StoreError(Exception):
    """Anything that a store raises."""


class StoreMisuse(StoreError):
    """An operation that breaks the contract: our own mistake. The whole batch was refused, nothing was written."""


class StoreClosed(StoreError):
    """The store was used before `recover()` or after `close()`."""


class FolderInUse(StoreError):
    """Another process holds the data folder. `pid` is None while that process has not written it yet."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        super().__init__(f"data folder {path} is in use by {who}: stop that one first, or name another folder")
        self.path = path
        self.pid = pid


class WrongFolder(StoreError):
    """The folder belongs to another member or was written in another format."""

    def __init__(self, path: Path, what: str, found: object, wanted: object) -> None:
        super().__init__(
            f"data folder {path} has {what} {found}, this process wants {wanted}: "
            f"name the right folder, or an empty one"
        )
        self.path = path
        self.found = found
        self.wanted = wanted


class EngineMissing(StoreError):
    """py-lmdb was built against a system library of another data format."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(
            f"this build of py-lmdb has LMDB {found} alone, data folders are of {wanted}: install py-lmdb 3 from its "
            f"wheel (`pip install --force-reinstall 'lmdb>=3,<4'`, without LMDB_FORCE_SYSTEM)"
        )
        self.wanted = wanted
        self.found = found


class StoreDamaged(StoreError):
    """The files of the folder cannot be trusted as a whole; `set_aside(path)` and start as a wiped member (D6, V0)."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"data folder {path} is damaged: {why}; move it aside (`set_aside`) and start this member as wiped, it "
            f"fetches everything from its peers; look at the disk before you trust it again"
        )
        self.path = path
        self.why = why


class RowDamaged(StoreDamaged):
    """A row of a table does not fit its checksum."""

    def __init__(self, path: Path, table: str, key: bytes) -> None:
        super().__init__(path, f"row {key.hex()} of table {table!r} does not fit its checksum")
        self.table = table
        self.key = key


class RecordDamaged(StoreError):
    """A record inside [first, end) is bad or missing: fetch the one with the same chain from a peer (D6)."""

    def __init__(self, slot: int) -> None:
        super().__init__(f"log record of slot {slot} is bad or missing: to be repaired from a peer (D6)")
        self.slot = slot


class ChunkDamaged(StoreError):
    """A snapshot chunk is not what it should be, or not there."""

    def __init__(self, snapshot: str, index: int, why: str) -> None:
        super().__init__(f"chunk {index} of snapshot {snapshot!r}: {why}; fetch it again")
        self.snapshot = snapshot
        self.index = index


class SnapshotGone(StoreError):
    """No such snapshot file (any more): take the newest one."""

    def __init__(self, snapshot: str) -> None:
        super().__init__(f"there is no snapshot {snapshot!r} here: ask for the newest one")
        self.snapshot = snapshot


class BackupDamaged(StoreError):
    """A backup file that cannot be trusted."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} is no whole backup: {why}; nothing was changed, take another copy of it, or another one"
        )
        self.path = path


class ForeignBackup(StoreError):
    """A backup of another cluster than the one that it was to bring back."""

    def __init__(self, path: Path, found: int, wanted: int) -> None:
        super().__init__(
            f"{path} is a backup of cluster {found:016x}, this is cluster {wanted:016x}: nothing was changed, name a "
            f"backup of this one, or a new folder for a copy of that one"
        )
        self.path = path


class DiskFull(StoreError):
    """No space left. The transaction was aborted whole; the store works again as soon as there is space (D5)."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"no space for data folder {path} ({cause}): free some, nothing was lost")
        self.path = path


class NoRoomForCopy(StoreError):
    """The file system does not hold a compact copy beside the file; nothing was changed."""

    def __init__(self, path: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"a compact copy of data folder {path} needs {needed_bytes / 1e6:.0f} MB beside it, {free_bytes / 1e6:.0f} "
            "MB are free: free some, or start this replica with an empty folder and let the others fill it"
        )
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class DiskFailed(StoreError):
    """A write or sync failed for another reason than space. Never retried: restart from the disk (D5)."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"writing to data folder {path} failed ({cause}): this member must stop; look at the disk")
        self.path = path


class WriterStopped(StoreError):
    """The writer takes no more tickets: it was stopped, it failed, or its backlog reached its bound."""
