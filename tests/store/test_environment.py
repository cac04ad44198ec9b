"""The environment under LMDB's own faults: short files, full maps, full disks, failing disks (D5, faults 24-26, 29)."""

import errno
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import lmdb
import pytest

from store.contract import DeleteRange, PutRow, SaveStable, TrimLog
from store.environment import Environment, check_structure, disk_error
from store.errors import DiskFailed, DiskFull, StoreClosed, StoreDamaged
from store.log import LmdbStore
from tests.store.helpers import DATA, append, appends, applied, body, link

SMALL_MAP = 1 << 20


@pytest.mark.parametrize("kept", [100, 4096, 8192, 30_000, -4096])
def test_a_truncated_file_is_refused_before_lmdb_maps_it(folder: Path, kept: int) -> None:
    """Fault 29: through the map a short file would be a SIGBUS."""
    store = LmdbStore(folder, 1)
    store.recover()
    store.commit(appends(0, 30, size=5000))
    store.close()
    size = (folder / DATA).stat().st_size
    with (folder / DATA).open("r+b") as data:
        data.truncate(kept if kept > 0 else size + kept)
    with pytest.raises(StoreDamaged, match=DATA) as caught:
        store.recover()
    assert str(folder) in str(caught.value)
    assert "set_aside" in str(caught.value)


@pytest.mark.parametrize("content", [b"not a data file " * 1000, bytes(20_000)])
def test_a_foreign_file_is_refused(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / DATA).write_bytes(content)
    with pytest.raises(StoreDamaged, match=DATA):
        LmdbStore(folder, 1).recover()


def test_a_damaged_or_lost_lock_table_of_lmdb_does_not_matter(folder: Path) -> None:
    for damage in (b"\xff" * 8192, None):
        store = LmdbStore(folder, 1)
        store.recover()
        store.commit([SaveStable(b"1")])
        store.close()
        if damage is None:
            (folder / "lock.mdb").unlink()
        else:
            (folder / "lock.mdb").write_bytes(damage)
        assert store.recover().stable == b"1"
        store.close()


def test_the_map_grows_by_itself_and_the_batch_is_written_once(folder: Path) -> None:
    """Fault 25."""
    store = LmdbStore(folder, 1, map_bytes=SMALL_MAP)
    store.recover()
    for first in range(0, 60, 10):
        store.commit([*appends(first, first + 10, size=100_000), PutRow("meta", b"%d" % first, b"1")])
    assert store.bounds() == (0, 60)
    assert store._environment.map_bytes == 8 * SMALL_MAP
    assert [store.read(slot) for slot in (0, 59)] == [(body(slot, 100_000), link(slot)) for slot in (0, 59)]
    store.close()
    assert store.recover().damaged == ()
    assert store._environment.map_bytes == 16 * SMALL_MAP  # room for as much again from the start
    store.close()


def test_the_map_grows_only_when_no_read_is_open(folder: Path) -> None:
    folder.mkdir()
    environment = Environment(folder, SMALL_MAP, new=True)
    grown = Event()

    def write() -> None:
        environment.write(lambda transaction: transaction.put(b"k", bytes(4 * SMALL_MAP)), 0)
        grown.set()

    writer = Thread(target=write)
    with environment.read() as transaction:
        writer.start()
        assert transaction.get(b"k") is None
        assert not grown.wait(0.2)
        assert environment.map_bytes == SMALL_MAP
        with environment.read():  # a read may start while the writer waits: no deadlock
            pass
    assert grown.wait(10)
    writer.join()
    assert environment.map_bytes > 4 * SMALL_MAP
    environment.close()
    with pytest.raises(StoreClosed), environment.read():
        pass
    with pytest.raises(StoreClosed):
        environment.write(lambda _: None, 0)
    environment.close()


def fill_up(store: LmdbStore, error: type[Exception]) -> int:
    """Append until it fails; returns the first slot that did not fit."""
    slot = store.bounds()[1]
    while True:
        try:
            store.commit([append(slot, size=50_000), SaveStable(b"%d" % slot), applied(slot)])
        except error:
            return slot
        slot += 1


def check_survived(store: LmdbStore, end: int) -> None:
    """Everything before the failure is there and nothing of it."""
    for _ in range(2):
        assert store.bounds() == (0, end)
        assert store.read(end - 1) == (body(end - 1, 50_000), link(end - 1))
        assert store.row("meta", b"applied") == (end - 1).to_bytes(8, "big")
        store.close()
        recovered = store.recover()
        assert (recovered.stable, recovered.damaged, recovered.end) == (b"%d" % (end - 1), (), end)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB, half of it the journal's. Needs the right to mount; the limit below runs everywhere."""
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode().strip()}")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_survived(small_disk: Path) -> None:
    """Fault 24, on a real ENOSPC: refused whole, typed, and it goes on when there is space again."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    store = LmdbStore(small_disk / "data", 1)
    store.recover()
    end = fill_up(store, DiskFull)
    assert end > 5
    check_survived(store, end)
    with pytest.raises(DiskFull, match="free some"):
        store.commit([append(end, size=50_000)])
    ballast.unlink()
    store.commit([append(end, size=50_000), SaveStable(b"%d" % end), applied(end)])
    check_survived(store, end + 1)
    store.close()


LIMITED = """
import resource, sys
from pathlib import Path
from store.contract import SaveStable
from store.errors import DiskFull
from store.log import LmdbStore
from tests.store.helpers import append, applied
from tests.store.test_environment import check_survived, fill_up

store = LmdbStore(Path(sys.argv[1]), 1)
store.recover()
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
end = fill_up(store, DiskFull)
check_survived(store, end)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert end > 5, end
store.commit([append(end, size=50_000), SaveStable(b"%d" % end), applied(end)])
check_survived(store, end + 1)
"""


def test_a_file_size_limit_is_no_space_too(folder: Path) -> None:
    """A short write: liblmdb reports it as EIO, which would stop the member for good."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr


class FailingTransaction:
    """What `begin` gives when the disk fails at the commit."""

    def __init__(self, transaction: Any, error: Exception) -> None:
        self.transaction = transaction
        self.error = error

    def __enter__(self) -> Any:
        return self.transaction.__enter__()

    def __exit__(self, *exc: object) -> None:
        self.transaction.abort()
        raise self.error


class FailingEnvironment:
    """A double around LMDB's environment whose next write transactions fail at the commit: an injected fault."""

    def __init__(self, real: Any, error: Exception) -> None:
        self.real = real
        self.errors = [error]

    def begin(self, *, write: bool = False, buffers: bool = True) -> Any:
        transaction = self.real.begin(write=write, buffers=buffers)
        return FailingTransaction(transaction, self.errors.pop()) if write and self.errors else transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class CodedError(lmdb.Error):
    """As py-lmdb raises it: liblmdb's code is set from C."""

    def __init__(self, code: int) -> None:
        super().__init__("mdb_txn_commit")
        self.__dict__["code"] = code


def injected(store: LmdbStore, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = store._environment
    monkeypatch.setattr(environment, "_lmdb", FailingEnvironment(environment._lmdb, error))


@pytest.mark.parametrize("error", [CodedError(errno.EIO), OSError(errno.EIO, "sync"), CodedError(-30795)])
def test_a_failed_sync_is_never_retried(
    lmdb_store: LmdbStore, folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D5, fault 26 (injected): every commit after it is refused, reads go on, the disk has what was synced."""
    lmdb_store.commit(appends(0, 3))
    injected(lmdb_store, error, monkeypatch)
    for _ in range(2):
        with pytest.raises(DiskFailed, match="must stop"):
            lmdb_store.commit([append(3)])
    assert lmdb_store.read(2) == (body(2), link(2))
    with pytest.raises(DiskFailed):
        lmdb_store.mark_clean_stop()
    lmdb_store.close()
    recovered = lmdb_store.recover()
    assert (recovered.end, recovered.clean_stop) == (3, False)


def test_no_space_at_the_commit_is_not_final(lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    injected(lmdb_store, lmdb.DiskError("mdb_txn_commit"), monkeypatch)
    with pytest.raises(DiskFull):
        lmdb_store.commit([append(0)])
    assert lmdb_store.bounds() == (0, 0)
    lmdb_store.commit([append(0)])
    assert lmdb_store.bounds() == (0, 1)


def test_what_an_error_means(tmp_path: Path) -> None:
    (tmp_path / DATA).touch()
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        kind = DiskFailed if number in {errno.EROFS, errno.EACCES} else DiskFull
        assert type(disk_error(tmp_path, OSError(number, "x"), 0)) is kind
        assert type(disk_error(tmp_path, CodedError(number), 0)) is kind
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert type(disk_error(tmp_path, OSError(errno.EIO, "x"), 0)) is DiskFailed
    assert type(disk_error(tmp_path, OSError(errno.EIO, "x"), 1 << 60)) is DiskFull


def test_the_structure_stays_sound_while_the_log_comes_and_goes(folder: Path) -> None:
    """The structural check must not refuse what LMDB itself leaves behind."""
    store = LmdbStore(folder, 1, map_bytes=SMALL_MAP)
    for turn in range(4):
        store.recover()
        first, end = store.bounds()
        store.commit([*appends(end, end + 60, size=8000 * (turn + 1)), applied(end)])
        store.commit([PutRow("clients", b"%d" % row, bytes(row)) for row in range(300)])
        store.commit([TrimLog((first + end) // 2 + 20), DeleteRange("clients", b"1", b"2")])
        store.close()
        check_structure(folder)


def entry(data: bytes, table: str) -> list[int]:
    """Where the names of a table's entry in the main tree stand, old copies of the page too; the record follows."""
    found, at = [], data.find(table.encode())
    while at >= 0:
        found.append(at)
        at = data.find(table.encode(), at + 1)
    return found


@pytest.mark.parametrize(
    ("offset", "what"),
    [(len("cursors") - 1, "its tables are"), (len("cursors") + 4, "the entry of table")],
    ids=["name", "flags"],
)
def test_a_damaged_entry_hides_no_table(folder: Path, offset: int, what: str) -> None:
    """D6: LMDB would make a new, empty table under the right name, or end the process over a flag."""
    store = LmdbStore(folder, 1)
    store.recover()
    store.commit([*appends(0, 3), PutRow("cursors", b"c", b"v")])
    store.close()
    data = bytearray((folder / DATA).read_bytes())
    for at in entry(bytes(data), "cursors"):
        data[at + offset] ^= 0x02
    (folder / DATA).write_bytes(data)
    with pytest.raises(StoreDamaged, match=what):
        store.recover()


def test_flags_of_the_main_tree_are_checked(folder: Path) -> None:
    """In both metas: 24 bytes after the magic stands the free list's record, then the main tree's."""
    store = LmdbStore(folder, 1)
    store.recover()
    store.close()
    whole = (folder / DATA).read_bytes()
    magic = (0xBEEFC0DE).to_bytes(4, sys.byteorder)
    for offset, name in ((24, "free"), (72, "main")):
        data = bytearray(whole)
        data[data.index(magic) + offset + 4] ^= 0x20
        (folder / DATA).write_bytes(data)
        with pytest.raises(StoreDamaged, match=f"{name} tree has flags|{DATA}"):
            store.recover()
