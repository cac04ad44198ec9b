"""What only the memory twin can do: fail and crash at the caller's command."""

from pathlib import Path

import pytest

from store.contract import TABLES, DamagedRun, PutRow, ResetLog, SaveStable, TrimLog, Truncate
from store.errors import DiskFull, RecordDamaged, StoreClosed
from store.memory import MemoryStore
from tests.store.helpers import all_rows, append, appends, applied, body, hand_over, link, repair


@pytest.fixture
def unsynced() -> MemoryStore:
    store = MemoryStore(auto_sync=False)
    store.recover()
    store.commit([*appends(0, 5), SaveStable(b"old"), PutRow("meta", b"k", b"old"), applied(4)])
    store.sync()
    return store


def test_a_crash_drops_what_was_not_synced(unsynced: MemoryStore) -> None:
    """D2: visible is not durable."""
    before = all_rows(unsynced, TABLES)
    unsynced.commit([append(5), SaveStable(b"new"), PutRow("meta", b"k", None), PutRow("times", b"t", b"1")])
    unsynced.commit([Truncate(3), TrimLog(2), append(3), PutRow("meta", b"k", b"new")])
    assert unsynced.bounds() == (2, 4)
    unsynced.crash()
    with pytest.raises(StoreClosed):
        unsynced.read(0)
    recovered = unsynced.recover()
    assert (recovered.stable, recovered.first, recovered.end, recovered.end_chain) == (b"old", 0, 5, link(4))
    assert all_rows(unsynced, TABLES) == before
    assert [unsynced.read(slot) for slot in range(5)] == [(body(slot), link(slot)) for slot in range(5)]


def test_a_crash_takes_a_switch_to_a_snapshot_back(unsynced: MemoryStore) -> None:
    source = MemoryStore()
    source.recover()
    source.commit([*appends(0, 9), applied(8), PutRow("topics", b"t", b"1")])
    switch = hand_over(source, unsynced, chunk_bytes=10)
    made = unsynced.make_snapshot(100)
    unsynced.sync()
    staged, before = unsynced.staging(), all_rows(unsynced, TABLES)
    unsynced.commit([switch])
    assert unsynced.bounds() == (8, 8)
    unsynced.commit([ResetLog()])
    unsynced.crash()
    unsynced.recover()
    assert unsynced.bounds() == (0, 5)
    assert unsynced.staging() == staged
    assert unsynced.snapshots() == (made,)
    assert all_rows(unsynced, TABLES) == before
    unsynced.commit([switch])
    unsynced.sync()
    unsynced.crash()
    assert unsynced.recover().first == 8


def test_what_was_synced_survives_any_number_of_crashes(unsynced: MemoryStore) -> None:
    unsynced.commit([append(5)])
    unsynced.sync()
    for _ in range(3):
        unsynced.crash()
        assert unsynced.recover().end == 6


def test_a_process_that_ends_in_order_loses_nothing(unsynced: MemoryStore) -> None:
    unsynced.commit([append(5)])
    unsynced.close()
    assert unsynced.recover().end == 6


def test_an_ordered_failure_changes_nothing(unsynced: MemoryStore) -> None:
    unsynced.fail_next = DiskFull(Path("memory"), "ordered")
    with pytest.raises(DiskFull):
        unsynced.commit([append(5)])
    assert unsynced.bounds() == (0, 5)
    unsynced.commit([append(5)])


def test_damage_is_reported_and_repaired_as_on_a_disk(unsynced: MemoryStore) -> None:
    """D6."""
    for slot in (1, 2, 4):
        unsynced.damage(slot, chain_too=slot < 4)
    unsynced.crash()
    recovered = unsynced.recover()
    runs = (DamagedRun(1, 2, link(0), link(2)), DamagedRun(4, 4, link(3), link(4)))
    assert recovered.damaged == runs
    assert (unsynced.verify(2, 3), unsynced.chain(1)) == (runs[:1], None)
    assert [slot for slot, _, _ in unsynced.read_range(0, 9, 1 << 20)] == [0]
    for read in (lambda: unsynced.read(4), lambda: unsynced.read_range(4, 5, 1)):
        with pytest.raises(RecordDamaged):
            read()
    unsynced.commit([repair(slot) for slot in (4, 2, 1)])
    assert unsynced.verify(0, 5) == ()


def test_damage_of_the_stable_state(unsynced: MemoryStore) -> None:
    unsynced.damage_stable()
    unsynced.crash()
    recovered = unsynced.recover()
    assert (recovered.stable, recovered.stable_damaged) == (None, True)
