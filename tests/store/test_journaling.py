"""LmdbStore with its journal: records are there at once, LMDB takes them later, and nothing is lost in between (D1)."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest

from store.contract import Operation, PutRow, SaveStable, TrimLog, Truncate
from store.environment import Environment
from store.errors import DiskFailed, DiskFull, StoreDamaged, StoreMisuse
from store.folder import IDENTITY_NAME
from store.journal import BLOCK_BYTES, FRAME_BYTES, FRAMES, JOURNAL_NAME, create_journal, decode_block
from store.log import LmdbStore
from store.transaction import read_marks
from store.writer import Writer
from tests.store.helpers import append, applied, body, link

WAIT_SECONDS = 30


@pytest.fixture
def store(lmdb_store: LmdbStore) -> LmdbStore:
    """Five records in LMDB, three more in the journal alone."""
    lmdb_store.commit([append(slot) for slot in range(5)])
    journal(lmdb_store, 5, 8)
    return lmdb_store


def journal(store: LmdbStore, first: int, end: int) -> None:
    for slot in range(first, end):
        assert store.journal([append(slot)])


def covered(store: LmdbStore) -> tuple[int, int]:
    """What LMDB itself has: the end of its log, and the number of the journal's record that it covers."""
    environment = store._environment
    with environment.read() as transaction:
        marks = read_marks(transaction, environment.databases, store.path)
    return marks.end, marks.journaled


def crash(store: LmdbStore) -> LmdbStore:
    """The folder as a killed process leaves it, opened again."""
    store.close()
    again = LmdbStore(store.path, 1)
    again.recover()
    return again


def check(store: LmdbStore, end: int) -> None:
    """The log is 0 .. end, by every way to read it."""
    assert store.bounds() == (0, end)
    everything = [(slot, body(slot), link(slot)) for slot in range(end)]
    assert store.read_range(0, end, 1 << 20) == everything
    assert [(slot, *(store.read(slot) or ())) for slot in range(end)] == everything
    assert [store.chain(slot) for slot in range(-1, end + 1)] == [*(link(slot) for slot in range(-1, end)), None]
    assert store.verify(0, end) == ()
    assert store.read(end) is None


def test_journaled_records_are_read_like_any_others(store: LmdbStore) -> None:
    assert covered(store) == (5, 0)
    check(store, 8)
    assert [slot for slot, _, _ in store.read_range(4, 7, 1 << 20)] == [4, 5, 6]
    assert store.read_range(6, 8, 0) == [(6, body(6), link(6))]


def test_the_next_commit_brings_them_to_lmdb(store: LmdbStore) -> None:
    """With the number that is covered, in the same transaction: nothing is replayed twice."""
    store.commit([applied(6)])
    assert covered(store) == (8, 3)
    check(store, 8)
    journal(store, 8, 10)
    assert covered(store) == (8, 3)
    again = crash(store)
    assert covered(again) == (10, 5)
    check(again, 10)
    again.close()


def test_a_crash_loses_nothing_however_often(store: LmdbStore) -> None:
    end = 8
    for _ in range(5):
        store = crash(store)
        check(store, end)
        journal(store, end, end + 3)
        end += 3
    store.commit([Truncate(end - 4)])
    store = crash(store)
    check(store, end - 4)
    store.close()


def test_a_snapshot_may_stand_on_a_journaled_record(store: LmdbStore) -> None:
    store.commit([applied(8)])
    journal(store, 8, 9)
    made = store.make_snapshot(1_000)
    assert (made.slot, made.chain) == (8, link(7))


def test_a_trim_and_a_cut_reach_journaled_records(store: LmdbStore) -> None:
    store.commit([TrimLog(6)])
    assert store.bounds() == (6, 8)
    journal(store, 8, 10)
    store.commit([Truncate(7)])
    assert store.bounds() == (6, 7)
    assert store.read(7) is None
    journal(store, 7, 9)
    again = crash(store)
    assert again.bounds() == (6, 9)
    again.close()


def test_a_reader_that_is_overtaken_by_a_cut_sees_the_cut(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took what the journal had, then LMDB's view: what the view covers it must not find in the journal too."""
    read = Environment.read

    def overtaken(self: Environment) -> object:
        monkeypatch.undo()
        store.commit([Truncate(6), append(6, size=100)])
        return read(self)

    monkeypatch.setattr(Environment, "read", overtaken)
    found = store.read_range(5, 8, 1 << 20)
    assert found == [(5, body(5), link(5)), (6, body(6, 100), link(6))]


def test_a_clean_stop_leaves_nothing_in_the_journal(store: LmdbStore, folder: Path) -> None:
    store.mark_clean_stop()
    store.close()
    create_journal(folder)
    assert store.recover().clean_stop
    check(store, 8)


def test_misuse_is_refused_and_the_store_goes_on(store: LmdbStore) -> None:
    for wrong in (append(9), append(7), append(8, below=b"other")):
        with pytest.raises(StoreMisuse):
            store.journal([wrong])
    with pytest.raises(StoreMisuse):
        store.journal([append(8), append(10)])
    with pytest.raises(StoreMisuse):
        store.commit([append(9)])
    check(store, 8)
    journal(store, 8, 9)
    check(crash(store), 9)


def test_what_does_not_fit_is_committed(store: LmdbStore) -> None:
    assert not store.journal([append(8, size=5_000)])
    store.commit([append(8, size=5_000)])
    journal(store, 9, 9 + FRAMES)
    assert not store.journal([append(9 + FRAMES)])
    store.commit([append(9 + FRAMES)])
    assert covered(store) == (10 + FRAMES, 3 + FRAMES)
    journal(store, 10 + FRAMES, 11 + FRAMES)
    assert crash(store).bounds() == (0, 11 + FRAMES)


def test_nothing_is_written_over_that_lmdb_does_not_have(
    lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn write spoils what it writes over; that must never be the only copy of what was acknowledged."""
    write, seen = os.pwrite, set()

    def watched(descriptor: int, data: bytes, offset: int) -> int:
        _, known = covered(lmdb_store)
        for start in range(offset, offset + len(data), BLOCK_BYTES):
            present = os.pread(descriptor, BLOCK_BYTES, start)
            assert decode_block(memoryview(present), known) is None
        seen.add(offset)
        return write(descriptor, data, offset)

    monkeypatch.setattr("store.journal.os.pwrite", watched)
    slot = 0
    for count in (1, 3, 0, 2, FRAMES, 1, FRAMES - 1):
        journal(lmdb_store, slot, slot + count)
        lmdb_store.commit([applied(slot)])
        slot += count
    assert seen == {frame * FRAME_BYTES for frame in range(FRAMES)}


def failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every LMDB write raises `error` until the patch is undone."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Environment, "write", fail)


def test_a_full_disk_leaves_the_journal_as_it_is(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: what was acknowledged is read, survives a restart on the full disk, and is committed once there is space."""
    with monkeypatch.context() as patch:
        failing(DiskFull(store.path, "no space left"), patch)
        with pytest.raises(DiskFull):
            store.commit([applied(8)])
        check(store, 8)
        journal(store, 8, 9)
    with monkeypatch.context() as patch:
        patch.setattr(LmdbStore, "_mend", lambda *_: None)  # it frees no page and needs none
        failing(DiskFull(store.path, "no space left"), patch)
        store = crash(store)
        check(store, 9)
        journal(store, 9, 10)
    assert covered(store) == (5, 0)
    store.commit([applied(9)])
    assert covered(store) == (10, 5)
    check(crash(store), 10)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failed_write_is_never_retried(store: LmdbStore, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: nobody knows what is on the disk, so nothing is written to this folder any more."""

    def fail(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr("store.journal.os.pwrite", fail)
        with pytest.raises(DiskFailed, match="must stop"):
            store.journal([append(8)])
    operations: Sequence[Operation] = [append(8)]
    with pytest.raises(DiskFailed):
        store.journal([append(8)])
    with pytest.raises(DiskFailed):
        store.commit(operations)
    check(store, 8)
    check(crash(store), 8)


def test_no_record_overtakes_what_it_may_depend_on(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While LMDB commits anything but rows the journal takes nothing; rows it may overtake."""
    answers: list[bool] = []
    write = Environment.write

    def during(self: Environment, work: object, size_bytes: int) -> object:
        answers.append(store.journal([append(8)]))
        return write(self, work, size_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(Environment, "write", during)
    store.commit([SaveStable(b"a promise")])
    assert answers == [False]
    store.commit([PutRow("topics", b"t", b"row"), applied(8)])
    assert answers == [False, True]
    assert covered(store) == (8, 3)
    check(store, 9)
    monkeypatch.undo()
    check(crash(store), 9)


@pytest.fixture
def closed(store: LmdbStore) -> LmdbStore:
    """As a killed process leaves it: records 1 to 3 are live."""
    store.close()
    return store


def test_a_damaged_journal_is_damage_of_the_store(closed: LmdbStore, folder: Path) -> None:
    content = bytearray((folder / JOURNAL_NAME).read_bytes())
    for start in (2 * FRAME_BYTES, 2 * FRAME_BYTES + BLOCK_BYTES):
        content[start + 30] ^= 1
    (folder / JOURNAL_NAME).write_bytes(content)
    with pytest.raises(StoreDamaged, match="journal: record 2 is gone, but record 3 after it is whole"):
        closed.recover()
    (folder / JOURNAL_NAME).unlink()
    with pytest.raises(StoreDamaged, match="journal is missing"):
        closed.recover()


def test_the_journal_of_another_folder_is_damage(closed: LmdbStore, folder: Path, tmp_path: Path) -> None:
    """An older journal, or another member's: what it holds does not follow the log."""
    other = LmdbStore(tmp_path / "other", 1)
    other.recover()
    journal(other, 0, 2)
    other.close()
    (tmp_path / "other" / JOURNAL_NAME).rename(folder / JOURNAL_NAME)
    with pytest.raises(StoreDamaged, match="record 1 does not follow: append of slot 0"):
        closed.recover()


def test_an_interrupted_set_up_makes_the_journal_again(folder: Path) -> None:
    """The file that names the member is written last."""
    folder.mkdir()
    (folder / JOURNAL_NAME).write_bytes(b"half")
    store = LmdbStore(folder, 1)
    store.recover()
    assert (folder / IDENTITY_NAME).exists()
    journal(store, 0, 2)
    check(crash(store), 2)


@pytest.fixture
def writer(lmdb_store: LmdbStore) -> Iterator[Writer]:
    failures: list[Exception] = []
    made = Writer(lmdb_store, lambda _: None, failures.append)
    made.start()
    yield made
    assert made.stop(WAIT_SECONDS)
    assert not failures


def test_readers_see_a_whole_log_while_it_moves_to_lmdb(lmdb_store: LmdbStore, writer: Writer) -> None:
    """Three threads: this one journals, the writer commits rows and with them the journal, the third one reads."""
    wrong: list[object] = []
    done = False

    def look() -> None:
        end = 0
        while not done:
            before, end = end, lmdb_store.bounds()[1]
            first = max(0, end - 20)
            found = lmdb_store.read_range(first, end, 1 << 20)
            if end < before or found != [(slot, body(slot), link(slot)) for slot in range(first, end)]:
                wrong.append((before, end, [slot for slot, _, _ in found]))
            if lmdb_store.chain(end - 1) != link(end - 1):
                wrong.append(end)

    reader = Thread(target=look)
    reader.start()
    deadline = time.monotonic() + WAIT_SECONDS
    for slot in range(600):
        while not lmdb_store.journal([append(slot)]):  # it is full until the writer has taken it over
            assert time.monotonic() < deadline
            time.sleep(0.001)
        if slot % 10 == 0:
            writer.submit(slot + 1, [applied(slot)])
        time.sleep(0.0005)  # two threads that never wait keep the interpreter from the writer
    done = True
    reader.join(WAIT_SECONDS)
    assert not wrong
    check(lmdb_store, 600)
