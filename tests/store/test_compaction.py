"""A compact copy in the place of the database file: smaller, the same in every row, and never half of either."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from store import compaction
from store.compaction import compact_folder
from store.contract import PutRow, SaveStable, TrimLog
from store.environment import check_structure
from store.errors import DiskFull, FolderInUse, NoRoomForCopy, StoreDamaged, StoreMisuse, WrongFolder
from store.folder import COPY_NAME, DATA_NAME
from store.log import LmdbStore
from tests.store.helpers import appends, body, link

FIRST, END = 400, 450
#: Where a crash may strike: before and after the copy is synced, before the rename, before the folder is synced.
STEPS = ("_copy", "check_structure", "_compare", "sync_folder", "drop_copy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A member's folder whose log was trimmed: most of its file holds nothing."""
    path = tmp_path / "data"
    store = LmdbStore(path, 1)
    store.recover()
    store.commit([*appends(0, END, size=30_000), SaveStable(b"stable"), PutRow("meta", b"k", b"v")])
    store.commit([TrimLog(FIRST)])
    store.commit([])
    store.mark_clean_stop()
    store.close()
    return path


def same(path: Path) -> None:
    """Nothing is missing and nothing else is there."""
    store = LmdbStore(path, 1)
    found = store.recover()
    assert (found.stable, found.first, found.end, found.end_chain) == (b"stable", FIRST, END, link(END - 1))
    assert (found.damaged, found.clean_stop) == ((), True)
    assert [store.read(slot) for slot in range(FIRST, END)] == [
        (body(slot, 30_000), link(slot)) for slot in range(FIRST, END)
    ]
    assert store.row("meta", b"k") == b"v"
    store.commit(appends(END, END + 5))
    store.mark_clean_stop()
    store.close()
    assert not (path / COPY_NAME).exists()


def test_a_file_that_holds_little_becomes_small(folder: Path) -> None:
    store = LmdbStore(folder, 1)
    store.recover()
    before = store.file_size()
    assert before.free_bytes > before.size_bytes // 2
    store.mark_clean_stop()
    store.close()
    mode = (folder / DATA_NAME).stat().st_mode
    compacted = compact_folder(folder, 1)
    assert compacted.before_bytes == before.size_bytes
    assert compacted.after_bytes == (folder / DATA_NAME).stat().st_size < before.size_bytes // 4
    assert compacted.after_bytes == pytest.approx(before.size_bytes - before.free_bytes, rel=0.05)
    assert (folder / DATA_NAME).stat().st_mode == mode
    same(folder)
    compact_folder(folder, 1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_kill_9_in_the_middle_loses_nothing(folder: Path, step: str, after: bool) -> None:
    program = f"""
import os
from pathlib import Path
from store import compaction
real, calls = compaction.{step}, []
def die(*arguments):
    if {after}:
        real(*arguments)
    if {step!r} != "drop_copy" or calls:  # the first one clears what an earlier run left
        os.kill(os.getpid(), 9)
    calls.append(real(*arguments))
compaction.{step} = die
compaction.compact_folder(Path({str(folder)!r}), 1)
"""
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert died.returncode == -9, died.stderr
    again = folder.with_name("again")
    shutil.copytree(folder, again)
    compact_folder(again, 1)
    same(again)
    same(folder)


def test_a_copy_that_differs_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By row: a bit that flipped on the way leaves the structure whole."""

    def flip(path: Path) -> None:
        check_structure(path)
        if path.name == COPY_NAME:
            data = path / DATA_NAME
            content = bytearray(data.read_bytes())
            content[content.index(body(FIRST + 7, 30_000)[:64]) + 10] ^= 1
            data.write_bytes(content)

    monkeypatch.setattr(compaction, "check_structure", flip)
    with pytest.raises(StoreDamaged, match="differs in table b'log'"):
        compact_folder(folder, 1)
    same(folder)


def test_without_room_nothing_is_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Room:
        f_bavail, f_frsize = 4, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Room)
    with pytest.raises(NoRoomForCopy, match=r"needs \d+ MB beside it, 0 MB are free"):
        compact_folder(folder, 1)
    monkeypatch.undo()
    same(folder)


def test_a_disk_that_fills_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compaction, "sync_folder", full)
    with pytest.raises(DiskFull):
        compact_folder(folder, 1)
    monkeypatch.undo()
    same(folder)


def test_who_may_not_be_compacted(folder: Path, tmp_path: Path) -> None:
    store = LmdbStore(folder, 1)
    store.recover()
    with pytest.raises(FolderInUse):
        compact_folder(folder, 1)
    store.mark_clean_stop()
    store.close()
    with pytest.raises(WrongFolder):
        compact_folder(folder, 2)
    for nothing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreMisuse, match="no data folder of replica 1"):
            compact_folder(nothing, 1)
    with (folder / DATA_NAME).open("r+b") as file:
        file.truncate(64 << 10)
    with pytest.raises(StoreDamaged):
        compact_folder(folder, 1)
