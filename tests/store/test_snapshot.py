"""Snapshot chunks and files on their own (C1, faults 28 and 30)."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.contract import STATE_TABLES, PutRow, StageChunk, UseSnapshot
from store.errors import ChunkDamaged, DiskFull, SnapshotGone, StoreMisuse
from store.log import LmdbStore
from store.records import checksum
from store.reserve import RESERVE_BYTES, RESERVE_NAME
from store.snapshot import (
    Row,
    SnapshotFolder,
    check_chunk,
    decode_chunk,
    decode_slot,
    encode_chunks,
    encode_slot,
    snapshot_name,
)
from tests.store.helpers import appends, applied, flip, link

NAME = snapshot_name(7, b"\x01\x02\x03\x04")
ROWS: list[Row] = [(table, b"%02d" % number, bytes([number]) * 50) for table in STATE_TABLES for number in range(10)]


def chunks(chunk_bytes: int = 300) -> list[bytes]:
    return list(encode_chunks(NAME, 7, link(6), ROWS, chunk_bytes))


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(STATE_TABLES), st.binary(min_size=1, max_size=40), st.binary(max_size=300)),
        max_size=30,
    ),
    chunk_bytes=st.integers(1, 500),
)
def test_rows_come_back_from_their_chunks(rows: list[Row], chunk_bytes: int) -> None:
    encoded = list(encode_chunks(NAME, 7, link(6), rows, chunk_bytes))
    decoded = [decode_chunk(NAME, index, data) for index, data in enumerate(encoded)]
    assert [row for chunk in decoded for row in chunk.rows] == rows
    assert [chunk.last for chunk in decoded] == [False] * (len(decoded) - 1) + [True]
    assert {(chunk.slot, chunk.chain) for chunk in decoded} == {(7, link(6))}
    assert all(len(chunk.rows) == 1 or sum(7 + len(key) + len(value) for _, key, value in chunk.rows) <= chunk_bytes
               for chunk in decoded if chunk.rows)  # fmt: skip


def test_an_empty_state_is_one_chunk() -> None:
    (only,) = encode_chunks(NAME, 7, link(6), [], 100)
    assert decode_chunk(NAME, 0, only) == (True, 7, link(6), ())


@given(at=st.integers(0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_chunk_is_found(at: int, bit: int) -> None:
    data = bytearray(chunks()[1])
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(ChunkDamaged):
        check_chunk(NAME, 1, bytes(data))


def resealed(data: bytes, start: int, replacement: bytes) -> bytes:
    """A chunk changed on purpose, with a checksum that fits."""
    rest = bytearray(data[8:])
    rest[start - 8 : start - 8 + len(replacement)] = replacement
    return checksum(bytes(rest)) + bytes(rest)


def test_a_chunk_that_lies_is_refused() -> None:
    """Checksums fit, the content does not: another snapshot's, another place, another format, rows that cannot be."""
    whole = chunks()[1]
    rows_start = whole.index(NAME.encode()) + len(NAME)
    assert resealed(whole, 8, b"RCC1") == whole
    for bad, words in (
        (resealed(whole, 8, b"RCC9"), "format"),
        (resealed(whole, 12, pack(">I", 2)), "chunk 2"),
        (resealed(whole, rows_start, b"\x09"), "rows"),
        (resealed(whole, rows_start + 3, pack(">I", 1 << 31)), "cut off"),
        (checksum(whole[8:-60]) + whole[8:-60], "rows|cut off"),
        (whole[:20], "too few"),
    ):
        with pytest.raises(ChunkDamaged, match=words):
            decode_chunk(NAME, 1, bad)
    with pytest.raises(ChunkDamaged, match="it says"):
        check_chunk(snapshot_name(8, b"\x01\x02\x03\x04"), 1, whole)


def test_names_sort_by_slot_and_slots_come_back() -> None:
    names = [snapshot_name(slot, b"abcd") for slot in (0, 9, 10, 1 << 40)]
    assert names == sorted(names)
    assert decode_slot(encode_slot(1 << 60)) == 1 << 60
    assert decode_slot(b"short") is None


def test_a_file_gives_its_chunks_back_also_after_a_restart(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    folder.load()
    made = folder.write(NAME, 7, link(6), chunks())
    again = SnapshotFolder(tmp_path)
    again.load()
    assert folder.list() == again.list() == (made,)
    assert [again.read_chunk(NAME, index) for index in range(made.chunks)] == chunks()
    assert made.size_bytes == (tmp_path / f"{NAME}.snapshot").stat().st_size


def failing(error: OSError) -> Iterator[bytes]:
    yield chunks()[0]
    raise error


def test_a_snapshot_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    """Fault 30: temporary name, sync, rename."""
    folder = SnapshotFolder(tmp_path)
    folder.load()
    made = folder.write(NAME, 7, link(6), chunks())
    with pytest.raises(OSError, match="no space"):
        folder.write(snapshot_name(9, b"abcd"), 9, link(8), failing(OSError(errno.ENOSPC, "no space")))
    assert folder.list() == (made,)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.snapshot"]


def test_half_written_damaged_and_foreign_files_are_not_served(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    folder.load()
    made = folder.write(NAME, 7, link(6), chunks())
    other = snapshot_name(9, b"abcd")
    folder.write(other, 9, link(8), encode_chunks(other, 9, link(8), ROWS, 300))
    whole = (tmp_path / f"{other}.snapshot").read_bytes()
    (tmp_path / f"{snapshot_name(11, b'abcd')}.tmp").write_bytes(whole[:500])
    (tmp_path / "notes.snapshot").write_bytes(whole)
    (tmp_path / f"{other}.snapshot").write_bytes(whole[:-1])
    again = SnapshotFolder(tmp_path)
    again.load()
    assert again.list() == (made,)
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(SnapshotGone):
        again.read_chunk(other, 0)
    for damage in (b"", b"\x00" * 100, whole[-60:]):
        (tmp_path / f"{other}.snapshot").write_bytes(damage)
        again.load()
        assert again.list() == (made,)


def test_a_flipped_bit_in_a_file_is_found_when_the_chunk_is_read(tmp_path: Path) -> None:
    """Fault 28: never sent."""
    folder = SnapshotFolder(tmp_path)
    folder.load()
    folder.write(NAME, 7, link(6), chunks())
    flip(tmp_path / f"{NAME}.snapshot", ROWS[5][2])
    results = []
    for index in range(len(chunks())):
        try:
            results.append(folder.read_chunk(NAME, index) == chunks()[index])
        except ChunkDamaged:
            results.append(False)
    assert results.count(False) == len(STATE_TABLES)  # the row's bytes stand once in each
    (tmp_path / f"{NAME}.snapshot").unlink()
    with pytest.raises(SnapshotGone):
        folder.read_chunk(NAME, 0)


def test_a_snapshot_is_of_one_instant(lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: commits that land while it is written do not show in it."""
    lmdb_store.commit([*appends(0, 4), applied(2), *(PutRow("topics", b"%03d" % row, b"old") for row in range(200))])
    real = lmdb_store._snapshots.write

    def write(name: str, slot: int, chain: bytes, data: Iterator[bytes]) -> object:
        first = next(data)
        lmdb_store.commit([applied(4), *(PutRow("topics", b"%03d" % row, b"new") for row in range(300))])
        return real(name, slot, chain, iter([first, *data]))

    monkeypatch.setattr(lmdb_store._snapshots, "write", write)
    made = lmdb_store.make_snapshot(100)
    chunks_made = [lmdb_store.read_chunk(made.name, index) for index in range(made.chunks)]
    rows = [row for index, data in enumerate(chunks_made) for row in decode_chunk(made.name, index, data).rows]
    assert made.slot == 2
    assert rows == [*(("topics", b"%03d" % row, b"old") for row in range(200)), ("meta", b"applied", encode_slot(2))]
    assert lmdb_store.row("topics", b"000") == b"new"


def test_no_space_for_a_snapshot_does_not_stop_the_store(
    lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmdb_store.commit([*appends(0, 2), applied(2)])

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("store.snapshot.os.fsync", refuse)
    with pytest.raises(DiskFull):
        lmdb_store.make_snapshot(1 << 20)
    monkeypatch.undo()
    lmdb_store.commit(appends(2, 3))
    assert lmdb_store.make_snapshot(1 << 20).slot == 2


def test_an_older_snapshot_makes_room_for_one_that_a_trim_needs(
    lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmdb_store.commit([*appends(0, 3), applied(1)])
    for slot in (1, 2):
        lmdb_store.commit([applied(slot)])
        lmdb_store.make_snapshot(1 << 20)
    lmdb_store.commit([applied(3)])
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if len(list((lmdb_store.path / "snapshots").iterdir())) > 2:  # two whole ones, and the new one under way
            raise OSError(errno.ENOSPC, "no space left")
        sync(descriptor)

    monkeypatch.setattr("store.snapshot.os.fsync", refuse)
    assert lmdb_store.make_snapshot(1 << 20).slot == 3
    assert [made.slot for made in lmdb_store.snapshots()] == [3, 2]


def test_the_reserve_is_kept_where_there_is_plenty(lmdb_store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lmdb_store.path / RESERVE_NAME
    for _ in range(2):
        lmdb_store.keep_reserve()
        assert path.stat().st_blocks * 512 >= RESERVE_BYTES
    for _ in range(2):
        lmdb_store.release_reserve()
        assert not path.exists()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("store.reserve.os.posix_fallocate", refuse)
    lmdb_store.keep_reserve()
    assert not path.exists()
    monkeypatch.undo()

    class Room:
        f_bavail, f_frsize = 2 * RESERVE_BYTES // 4096, 4096

    monkeypatch.setattr("store.reserve.os.statvfs", lambda _: Room)
    lmdb_store.keep_reserve()
    assert not path.exists()


def test_rows_out_of_order_are_refused_and_not_lost(lmdb_store: LmdbStore) -> None:
    """Of a peer with a fault: LMDB's append mode would leave them out in silence."""
    rows: list[Row] = [("topics", b"b", b""), ("topics", b"a", b""), ("meta", b"applied", encode_slot(7))]
    (chunk,) = encode_chunks(NAME, 7, link(6), rows, 1000)
    lmdb_store.commit([StageChunk(NAME, 0, chunk)])
    with pytest.raises(StoreMisuse, match="'topics'"):
        lmdb_store.commit([UseSnapshot(NAME, 7, link(6))])
    assert lmdb_store.bounds() == (0, 0)
