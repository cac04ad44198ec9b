"""One process, one member, one format per folder; and the way out of a damaged one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.contract import SaveStable
from store.errors import FolderInUse, StoreDamaged, WrongFolder
from store.folder import IDENTITY_NAME, LOCK_NAME, FolderLock, set_aside
from store.log import LmdbStore
from tests.store.helpers import DATA, appends

HOLD = """
import sys
from pathlib import Path
from store.log import LmdbStore
LmdbStore(Path(sys.argv[1]), 1).recover()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_pid_of_the_first(folder: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        for attempt in (LmdbStore(folder, 1).recover, lambda: set_aside(folder)):
            with pytest.raises(FolderInUse, match=f"process {child.pid}") as caught:
                attempt()
            assert caught.value.pid == child.pid
    finally:
        child.kill()
        child.communicate()
    store = LmdbStore(folder, 1)
    store.recover()
    store.close()


def test_the_same_process_is_refused_too(lmdb_store: LmdbStore, folder: Path) -> None:
    with pytest.raises(FolderInUse) as caught:
        LmdbStore(folder, 1).recover()
    assert caught.value.pid == os.getpid()


def test_an_owner_that_has_not_said_its_pid_is_refused_all_the_same(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    (tmp_path / LOCK_NAME).write_bytes(b"")
    with pytest.raises(FolderInUse, match="another process") as caught:
        FolderLock(tmp_path)
    assert caught.value.pid is None
    lock.release()
    FolderLock(tmp_path).release()


def test_a_stale_pid_of_a_longer_number_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"99999999999999\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    lock.release()


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ('{"format": 2, "member": 2}', "the data of member 2, this process wants 1"),
        ('{"format": 9, "member": 1}', "format 9, this process wants 2"),
        ('{"format": 1, "member": 1}', "format 1, this process wants 2"),
    ],
)
def test_the_folder_of_another_member_or_format_is_refused(folder: Path, identity: str, words: str) -> None:
    store = LmdbStore(folder, 1)
    store.recover()
    store.close()
    (folder / IDENTITY_NAME).write_text(identity)
    with pytest.raises(WrongFolder, match=words):
        store.recover()
    (folder / IDENTITY_NAME).write_text('{"format": 2, "member": 1}')
    store.recover()
    store.close()


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x"}', '{"format": 1}', "\x00"])
def test_an_unreadable_identity_is_damage(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / IDENTITY_NAME).write_text(text)
    with pytest.raises(StoreDamaged, match=IDENTITY_NAME):
        LmdbStore(folder, 1).recover()


def test_data_whose_member_nobody_knows_is_damage(folder: Path) -> None:
    store = LmdbStore(folder, 1)
    store.recover()
    store.close()
    (folder / IDENTITY_NAME).unlink()
    with pytest.raises(StoreDamaged, match="names its member"):
        store.recover()


@pytest.mark.parametrize("loss", ["missing", "empty"])
def test_a_lost_data_file_is_damage(folder: Path, loss: str) -> None:
    """Not a new disk in silence: the member must know that it is wiped (V0)."""
    store = LmdbStore(folder, 1)
    store.recover()
    store.close()
    (folder / DATA).unlink()
    if loss == "empty":
        (folder / DATA).touch()
    with pytest.raises(StoreDamaged, match="missing or empty"):
        store.recover()


def test_a_set_up_that_was_interrupted_is_finished(folder: Path) -> None:
    """The identity is written last: without it, and without data, the folder is new."""
    store = LmdbStore(folder, 1)
    folder.mkdir()
    (folder / DATA).touch()
    (folder / f"{IDENTITY_NAME}.tmp").write_text("{")
    store.recover()
    store.commit([SaveStable(b"1")])
    store.close()
    assert store.recover().stable == b"1"
    store.close()


def test_a_damaged_folder_is_set_aside_whole(folder: Path) -> None:
    for number in (1, 2):
        store = LmdbStore(folder, 1)
        store.recover()
        store.commit(appends(0, 3))
        store.close()
        with (folder / DATA).open("r+b") as data:
            data.truncate(20_000)
        with pytest.raises(StoreDamaged, match="set_aside") as caught:
            store.recover()
        assert str(folder) in str(caught.value)
        aside = set_aside(folder)
        assert aside == folder.with_name(f"data.damaged-{number}")
        assert (aside / DATA).stat().st_size == 20_000
        assert not folder.exists()
    store.recover()
    assert store.bounds() == (0, 0)
    store.close()
