"""D6 on LMDB: whatever the disk changed is found, named by slot, repaired by chain; nothing visible is cut."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from store.contract import DamagedRun, PutRow, SaveStable, StageChunk, Staging, TrimLog, Truncate
from store.errors import ChunkDamaged, RecordDamaged, RowDamaged, StoreDamaged, StoreMisuse
from store.log import LmdbStore
from store.records import encode_chain, encode_marks, encode_record
from tests.store.helpers import DATA, append, appends, applied, body, flip, hand_over, link, repair

SLOTS = 12


@pytest.fixture
def damaged(folder: Path) -> LmdbStore:
    """A closed store of twelve records."""
    store = LmdbStore(folder, 1)
    store.recover()
    store.commit(
        [*appends(0, SLOTS), SaveStable(b"the stable state"), applied(SLOTS), PutRow("topics", b"t", b"row of t")]
    )
    store.close()
    return store


def run(first: int, last: int) -> DamagedRun:
    return DamagedRun(first, last, link(first - 1), link(last))


def test_flipped_records_are_reported_as_runs_and_not_cut(damaged: LmdbStore) -> None:
    for slot in (0, 4, 5, 6, 11):
        flip(damaged.path / DATA, body(slot))
    recovered = damaged.recover()
    assert recovered.damaged == (run(0, 0), run(4, 6), run(11, 11))
    assert (recovered.first, recovered.end, recovered.end_chain) == (0, SLOTS, link(11))
    assert recovered.stable == b"the stable state"
    for slot in (0, 5, 11):
        with pytest.raises(RecordDamaged, match=f"slot {slot} "):
            damaged.read(slot)
    assert [slot for slot, _, _ in damaged.read_range(1, SLOTS, 1 << 20)] == [1, 2, 3]
    with pytest.raises(RecordDamaged):
        damaged.read_range(4, SLOTS, 1 << 20)
    assert damaged.chain(5) == link(5)
    assert damaged.verify(3, 6) == (run(4, 5),)
    damaged.close()


def test_a_repair_needs_the_chain_that_is_known(damaged: LmdbStore) -> None:
    flip(damaged.path / DATA, body(5))
    damaged.recover()
    with pytest.raises(StoreMisuse, match="chain\\(5\\)"):
        damaged.commit([repair(5)._replace(chain=link(5, b"other"))])
    with pytest.raises(StoreMisuse, match="chain\\(4\\)"):
        damaged.commit([repair(5)._replace(previous=link(4, b"other"))])
    damaged.commit([repair(5)])
    assert damaged.read(5) == (body(5), link(5))
    damaged.close()
    assert damaged.recover().damaged == ()
    damaged.close()


@pytest.mark.parametrize("flipped", ["chain row", "record", "both"])
def test_chain_rows_and_records_back_each_other(damaged: LmdbStore, flipped: str) -> None:
    """A bad chain row beside a whole record is written again at start; a bad record's chain is still known."""
    if flipped != "record":
        flip(damaged.path / DATA, encode_chain(5, link(5)))
    if flipped != "chain row":
        flip(damaged.path / DATA, body(5))
    recovered = damaged.recover()
    assert recovered.damaged == (() if flipped == "chain row" else (run(5, 5),))
    assert damaged.chain(5) == link(5)
    damaged.close()
    if flipped == "chain row":
        assert encode_chain(5, link(5)) in (damaged.path / DATA).read_bytes()


def test_neighbours_without_any_known_chain_are_repaired_from_above(damaged: LmdbStore) -> None:
    for slot in (5, 6, 7):
        flip(damaged.path / DATA, body(slot))
        flip(damaged.path / DATA, encode_chain(slot, link(slot)))
    assert damaged.recover().damaged == (run(5, 7),)
    assert damaged.chain(5) is None
    assert damaged.verify(5, 6) == (run(5, 7),)
    for operation in (repair(5), Truncate(6), TrimLog(6)):
        with pytest.raises(StoreMisuse, match="known"):
            damaged.commit([operation])
    damaged.commit([repair(slot) for slot in (7, 6, 5)])
    damaged.close()
    assert damaged.recover().damaged == ()
    damaged.close()


def test_a_cut_replaces_what_no_peer_can_repair(damaged: LmdbStore) -> None:
    """D6: the install of a newer view, made without this member's promise, may cut damaged slots (V7)."""
    for slot in (8, 11):
        flip(damaged.path / DATA, body(slot))
    damaged.recover()
    damaged.commit([Truncate(8), append(8)])
    assert damaged.verify(0, 9) == ()
    damaged.close()


def test_a_whole_record_of_another_history_is_damage(damaged: LmdbStore) -> None:
    """A10: checksums alone are not enough; previous and chain must link."""
    stale = encode_record(5, link(5, b"other"), link(4), (body(5),))
    whole = encode_record(5, link(5), link(4), (body(5),))
    data = damaged.path / DATA
    assert whole in data.read_bytes()
    data.write_bytes(data.read_bytes().replace(whole, stale))
    assert damaged.recover().damaged == (run(5, 5),)
    damaged.close()


def test_a_damaged_stable_state_makes_the_member_wiped(damaged: LmdbStore) -> None:
    flip(damaged.path / DATA, b"the stable state")
    recovered = damaged.recover()
    assert (recovered.stable, recovered.stable_damaged) == (None, True)
    damaged.commit([SaveStable(b"new")])
    damaged.close()
    assert damaged.recover().stable == b"new"
    damaged.close()


def test_damaged_marks_are_damage_of_the_whole_store(damaged: LmdbStore) -> None:
    flip(damaged.path / DATA, encode_marks(damaged._marks))
    with pytest.raises(StoreDamaged, match="marks"):
        damaged.recover()


@pytest.mark.parametrize("table", ["offsets", "topics"], ids=["index", "state"])
def test_a_damaged_row_is_found_at_start(damaged: LmdbStore, table: str) -> None:
    damaged.recover()
    damaged.commit([PutRow(table, b"r", b"the row")])
    damaged.close()
    flip(damaged.path / DATA, b"the row")
    with pytest.raises(RowDamaged, match=table):
        damaged.recover()


def test_an_index_row_beside_a_large_log_is_found_when_it_is_read(damaged: LmdbStore) -> None:
    """A10: the start must not take as long as the log is large."""
    damaged.recover()
    damaged.commit([PutRow("offsets", b"o", b"row of o")])
    damaged.make_snapshot(1_000)
    damaged.close()
    flip(damaged.path / DATA, b"row of o")
    large = LmdbStore(damaged.path, 1, verify_all_bytes=0)
    large.recover()
    with pytest.raises(RowDamaged, match="offsets"):
        large.row("offsets", b"o")
    with pytest.raises(RowDamaged, match="offsets"):
        list(large.rows("offsets"))
    large.close()


def test_rows_outside_the_marks_are_damage(damaged: LmdbStore) -> None:
    """A flipped key: the row is missing where it was, and lies where none can be."""
    data = damaged.path / DATA
    key, moved = b"\x00" * 7 + b"\x0b" + encode_chain(11, link(11)), b"\x00" * 7 + b"\x4b" + encode_chain(11, link(11))
    assert key in data.read_bytes()
    data.write_bytes(data.read_bytes().replace(key, moved))
    with pytest.raises(StoreDamaged, match="outside slots"):
        damaged.recover()


def test_a_damaged_staged_chunk_is_fetched_again(damaged: LmdbStore, tmp_path: Path) -> None:
    target = LmdbStore(tmp_path / "target", 2)
    target.recover()
    damaged.recover()
    damaged.commit([PutRow("topics", b"%02d" % row, b"%d." % row * 40) for row in range(30)])
    switch = hand_over(damaged, target, chunk_bytes=500)
    before = target.staging()
    target.close()
    flip(tmp_path / "target" / DATA, b"7." * 40)
    target.recover()
    after = target.staging()
    assert before is not None
    assert after is not None
    (lost,) = before.chunks - after.chunks
    assert after == Staging(switch.snapshot, before.chunks - {lost})
    with pytest.raises(ChunkDamaged):
        target.commit([switch])
    target.commit([StageChunk(switch.snapshot, lost, damaged.read_chunk(switch.snapshot, lost)), switch])
    assert list(target.rows("topics")) == list(damaged.rows("topics"))
    target.close()
    damaged.close()


def test_a_large_log_is_checked_from_the_newest_snapshot_on(folder: Path) -> None:
    """A10: the rest is left to the background."""
    store = LmdbStore(folder, 1, verify_all_bytes=0)
    store.recover()
    store.commit([*appends(0, 20), applied(10)])
    store.make_snapshot(1 << 20)
    store.close()
    for slot in (3, 15):
        flip(folder / DATA, body(slot))
    recovered = store.recover()
    assert recovered.verified_from == 10
    assert recovered.damaged == (run(15, 15),)
    assert store.verify(0, recovered.verified_from) == (run(3, 3),)
    store.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_no_flipped_bit_is_ever_read_as_data(folder: Path, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.flips", str(folder), str(seed), "120"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert sum(seen.values()) == 120
    assert seen["damaged runs"] > 5
    assert seen["store damaged"] > 5
    assert seen["row damaged"] > 0
