"""What both backends promise (`store.contract.LogStore`), each test on each of them."""

from collections.abc import Callable

import pytest

from store.contract import (
    INDEX_TABLES,
    KEY_BYTES_MAX,
    NO_CHAIN,
    STATE_TABLES,
    TABLES,
    Append,
    DeleteRange,
    DropStaging,
    FoldRange,
    LogStore,
    Operation,
    PutRow,
    ResetLog,
    SaveStable,
    StageChunk,
    Staging,
    TrimLog,
    Truncate,
    UseSnapshot,
    payload_bytes,
)
from store.errors import ChunkDamaged, SnapshotGone, StoreClosed, StoreMisuse
from tests.store.helpers import all_rows, append, appends, applied, body, hand_over, link, prepend, repair

Make = Callable[[], LogStore]


def reopen(store: LogStore) -> None:
    store.close()
    store.recover()


def test_a_new_store_is_empty(store: LogStore) -> None:
    store.close()
    recovered = store.recover()
    assert recovered.stable is None
    assert not recovered.stable_damaged
    assert (recovered.first, recovered.end, recovered.end_chain) == (0, 0, NO_CHAIN)
    assert recovered.damaged == ()
    assert not recovered.clean_stop
    assert store.read(0) is None
    assert store.staging() is None
    assert all_rows(store, TABLES) == {table: [] for table in TABLES}


def test_appended_records_are_read_whole_and_survive(store: LogStore) -> None:
    store.commit(appends(0, 3))
    store.commit([append(3, size=100_000), append(4)])
    for _ in range(2):
        assert store.bounds() == (0, 5)
        assert [store.read(slot) for slot in range(6)] == [
            *((body(slot, 100_000 if slot == 3 else 40), link(slot)) for slot in range(5)),
            None,
        ]
        reopen(store)
    store.close()
    recovered = store.recover()
    assert (recovered.first, recovered.end, recovered.end_chain) == (0, 5, link(4))
    assert recovered.damaged == ()


def test_read_range_gives_at_least_one_record_and_stops_at_the_bounds(store: LogStore) -> None:
    store.commit([*appends(0, 10), TrimLog(2)])
    size = len(body(0))
    assert store.read_range(2, 10, 0) == [(2, body(2), link(2))]
    assert [slot for slot, _, _ in store.read_range(3, 10, 3 * size)] == [3, 4, 5]
    assert [slot for slot, _, _ in store.read_range(8, 99, 1 << 20)] == [8, 9]
    assert [slot for slot, _, _ in store.read_range(4, 6, 1 << 20)] == [4, 5]
    assert store.read_range(1, 10, 1 << 20) == []
    assert store.read_range(10, 12, 1 << 20) == []


def test_chain_is_known_from_below_the_first_slot_to_the_last(store: LogStore) -> None:
    store.commit([*appends(0, 6), TrimLog(3)])
    assert [store.chain(slot) for slot in range(1, 7)] == [None, link(2), link(3), link(4), link(5), None]
    store.commit([ResetLog()])
    assert store.chain(-1) == NO_CHAIN


def test_records_are_put_before_the_first_one(store: LogStore) -> None:
    """C3: downwards, each linked to the one above; also before an empty log that a snapshot has left."""
    store.commit([*appends(0, 6), TrimLog(4)])
    store.commit([prepend(3, size=9_000), prepend(2)])
    for _ in range(2):
        assert store.bounds() == (2, 6)
        assert store.read(3) == (body(3, 9_000), link(3))
        assert [slot for slot, _, _ in store.read_range(2, 6, 1 << 20)] == [2, 3, 4, 5]
        assert (store.chain(1), store.chain(0)) == (link(1), None)
        assert store.verify(0, 6) == ()
        reopen(store)
    store.commit([prepend(1), prepend(0), append(6)])
    assert store.bounds() == (0, 7)
    assert store.chain(-1) == NO_CHAIN
    store.commit([TrimLog(7), prepend(6)])
    assert store.bounds() == (6, 7)


def test_what_does_not_follow_downwards_is_refused(store: LogStore) -> None:
    store.commit([*appends(0, 6), TrimLog(4)])
    for wrong in (prepend(2), prepend(4), prepend(3)._replace(chain=link(7)), prepend(3)._replace(previous=b"short")):
        with pytest.raises(StoreMisuse):
            store.commit([wrong])
    assert store.bounds() == (4, 6)


def test_a_cut_takes_the_end_and_its_chain_back(store: LogStore) -> None:
    """V7: the cut and the records that replace what was cut may stand in one batch."""
    store.commit(appends(0, 6))
    store.commit([Truncate(6), Truncate(99)])
    assert store.bounds() == (0, 6)
    store.commit([append(6), Truncate(4), append(4, salt=b"other", below=b""), append(5, salt=b"other")])
    assert store.bounds() == (0, 6)
    assert store.read(5) == (body(5), link(5, b"other"))
    reopen(store)
    assert store.chain(3) == link(3)
    store.commit([Truncate(0)])
    assert store.bounds() == (0, 0)
    store.commit([append(0)])
    assert store.chain(0) == link(0)


def test_a_trim_keeps_the_chain_below_the_first_slot(store: LogStore) -> None:
    """C2; a trim of everything leaves an empty log that goes on at the same chain."""
    store.commit([*appends(0, 5), TrimLog(3), TrimLog(1)])
    assert store.bounds() == (3, 5)
    assert store.read(2) is None
    store.commit([TrimLog(5)])
    assert store.bounds() == (5, 5)
    reopen(store)
    store.commit([append(5)])
    assert store.read(5) == (body(5), link(5))


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([append(4)], "contiguous"),
        ([append(2)], "contiguous"),
        ([append(3, below=b"other")], "A10"),
        ([Append(3, b"short", link(2), ())], "16"),
        ([repair(3)], "outside"),
        ([repair(1)._replace(chain=link(9))], "D6"),
        ([repair(2)._replace(previous=link(9))], "D6"),
        ([TrimLog(2), Truncate(1)], "snapshot"),
        ([TrimLog(4)], "ends at 3"),
        ([PutRow("clients", b"", b"")], "0 bytes"),
        ([PutRow("clients", b"k" * (KEY_BYTES_MAX + 1), b"")], "512 bytes"),
        ([PutRow("nowhere", b"k", b"")], "'nowhere'"),
        ([DeleteRange("log", b"a", b"b")], "'log'"),
        ([FoldRange("log", b"a", b"b")], "'log'"),
        ([UseSnapshot("none", 3, link(2))], "staged"),
    ],
)
def test_misuse_is_refused_whole(store: LogStore, operations: list[Operation], words: str) -> None:
    store.commit([*appends(0, 3), PutRow("meta", b"k", b"before"), SaveStable(b"before")])
    batch = [append(3), PutRow("meta", b"k", b"after"), SaveStable(b"after"), Truncate(3), *operations]
    with pytest.raises(StoreMisuse, match=words):
        store.commit(batch)
    for _ in range(2):
        assert store.bounds() == (0, 3)
        assert store.row("meta", b"k") == b"before"
        store.close()
        assert store.recover().stable == b"before"
    store.commit([append(3)])


def test_a_whole_record_may_be_repaired_with_itself(store: LogStore) -> None:
    store.commit(appends(0, 3))
    store.commit([repair(2), repair(0), repair(1)])
    assert [store.read(slot) for slot in range(3)] == [(body(slot), link(slot)) for slot in range(3)]


def test_stable_state_survives_everything_but_a_new_one(store: LogStore, another: Make) -> None:
    """D3: what is the member's own is never overwritten by a snapshot or a reset."""
    store.commit([SaveStable(b"first"), SaveStable(b"second"), *appends(0, 2), applied(2)])
    target = another()
    target.commit([SaveStable(b"own")])
    target.commit([hand_over(store, target)])
    target.commit([ResetLog()])
    for member, value in ((store, b"second"), (target, b"own")):
        member.close()
        recovered = member.recover()
        assert (recovered.stable, recovered.stable_damaged) == (value, False)


def test_rows_are_ordered_ranged_and_deleted(store: LogStore) -> None:
    keys = [b"a", b"a\x00", b"ab", b"b", b"\xff"]
    store.commit([PutRow("topics", key, b"1" + key) for key in reversed(keys)])
    store.commit([PutRow("topics", b"b", b"new"), PutRow("cursors", b"b", b""), PutRow("topics", b"none", None)])
    rows = [(key, b"new" if key == b"b" else b"1" + key) for key in keys]
    assert list(store.rows("topics")) == rows
    assert list(store.rows("topics", reverse=True)) == rows[::-1]
    assert list(store.rows("topics", b"a\x00", b"b")) == rows[1:3]
    assert list(store.rows("topics", b"a\x00", b"b", reverse=True)) == rows[2:0:-1]
    assert list(store.rows("topics", b"c", b"d", reverse=True)) == []
    assert list(store.rows("topics", b"", b"zz", reverse=True, limit=1)) == [rows[3]]
    assert list(store.rows("topics", limit=2)) == rows[:2]
    assert list(store.rows("topics", limit=0)) == []
    assert store.row("cursors", b"b") == b""
    assert store.row("cursors", b"a") is None
    store.commit([PutRow("topics", b"a", None), DeleteRange("topics", b"ab", b"\xff"), PutRow("topics", b"ac", b"x")])
    assert [key for key, _ in store.rows("topics")] == [b"a\x00", b"ac", b"\xff"]
    store.commit([DeleteRange("topics", b"b", None), DeleteRange("topics", b"z", b"a")])
    assert [key for key, _ in store.rows("topics")] == [b"a\x00", b"ac"]
    store.commit([DeleteRange("topics", b"", None)])
    assert list(store.rows("topics")) == []


def test_more_rows_than_a_page_are_all_given(store: LogStore) -> None:
    keys = [b"%06d" % number for number in range(1300)]
    store.commit([PutRow("times", key, key) for key in keys])
    assert [key for key, _ in store.rows("times")] == keys
    assert [key for key, _ in store.rows("times", reverse=True)] == keys[::-1]
    assert [key for key, _ in store.rows("times", b"000100", limit=600)] == keys[100:700]
    assert [key for key, _ in store.rows("times", end=b"001200", reverse=True, limit=700)] == keys[1199:499:-1]


def test_operations_on_one_row_take_effect_in_order(store: LogStore) -> None:
    store.commit([PutRow("meta", b"k", b"1"), DeleteRange("meta", b"a", b"z"), PutRow("meta", b"l", b"2")])
    assert list(store.rows("meta")) == [(b"l", b"2")]
    store.commit(
        [PutRow("meta", b"l", None), PutRow("meta", b"l", b"3"), PutRow("meta", b"m", b"4"), PutRow("meta", b"m", None)]
    )
    assert list(store.rows("meta")) == [(b"l", b"3")]


def fill(store: LogStore, slots: int, rows: int) -> None:
    """A log, its index and a state that stands one slot below the end."""
    store.commit(appends(0, slots))
    store.commit([PutRow(table, b"%d" % row, bytes(row)) for table in TABLES for row in range(rows)])
    store.commit([applied(slots - 1)])


def test_a_snapshot_moves_the_state_and_nothing_else(store: LogStore, another: Make) -> None:
    """C1: state tables travel; the index is emptied, the log begins at the snapshot's slot."""
    fill(store, slots=8, rows=30)
    target = another()
    target.commit([*appends(0, 3), PutRow("offsets", b"old", b"1"), PutRow("topics", b"old", b"1"), SaveStable(b"own")])
    switch = hand_over(store, target)
    assert (switch.slot, switch.chain) == (7, link(6))
    staging = target.staging()
    assert staging is not None
    assert staging.snapshot == switch.snapshot
    assert staging.chunks == frozenset(range(len(staging.chunks)))
    assert len(staging.chunks) > 3
    assert target.row("topics", b"old") == b"1"
    target.commit([switch, append(7), PutRow("offsets", b"new", b"2")])
    reopen(target)
    assert target.bounds() == (7, 8)
    assert target.read(7) == (body(7), link(7))
    assert target.staging() is None
    assert all_rows(target, STATE_TABLES) == all_rows(store, STATE_TABLES)
    assert all_rows(target, INDEX_TABLES) == {**{table: [] for table in INDEX_TABLES}, "offsets": [(b"new", b"2")]}


def test_a_half_received_snapshot_is_resumed_and_changes_nothing_before(store: LogStore, another: Make) -> None:
    """Fault 30: what was staged is there after a restart; the switch is refused until it is complete."""
    fill(store, slots=4, rows=20)
    made = store.make_snapshot(100)
    target = another()
    target.commit([*appends(0, 2), PutRow("topics", b"old", b"1")])
    staged = [index for index in range(made.chunks) if index % 2 == 0]
    target.commit([StageChunk(made.name, index, store.read_chunk(made.name, index)) for index in staged])
    reopen(target)
    assert target.staging() == Staging(made.name, frozenset(staged))
    with pytest.raises(ChunkDamaged):
        target.commit([UseSnapshot(made.name, made.slot, made.chain)])
    assert target.bounds() == (0, 2)
    assert target.row("topics", b"old") == b"1"
    missing = [index for index in range(made.chunks) if index % 2]
    target.commit([StageChunk(made.name, index, store.read_chunk(made.name, index)) for index in missing])
    with pytest.raises(StoreMisuse, match="stands at slot 3"):
        target.commit([UseSnapshot(made.name, made.slot + 1, made.chain)])
    target.commit([UseSnapshot(made.name, made.slot, made.chain)])
    assert all_rows(target, STATE_TABLES) == all_rows(store, STATE_TABLES)


def test_a_snapshot_without_its_last_chunk_is_not_used(store: LogStore, another: Make) -> None:
    fill(store, slots=4, rows=20)
    made = store.make_snapshot(100)
    target = another()
    target.commit(
        [StageChunk(made.name, index, store.read_chunk(made.name, index)) for index in range(made.chunks - 1)]
    )
    with pytest.raises(ChunkDamaged, match="not staged"):
        target.commit([UseSnapshot(made.name, made.slot, made.chain)])


def test_a_chunk_of_another_snapshot_drops_the_staging(store: LogStore, another: Make) -> None:
    fill(store, slots=4, rows=20)
    older, newer = store.make_snapshot(100), store.make_snapshot(100)
    target = another()
    target.commit([StageChunk(older.name, 0, store.read_chunk(older.name, 0))])
    target.commit([StageChunk(newer.name, 1, store.read_chunk(newer.name, 1))])
    assert target.staging() == Staging(newer.name, frozenset({1}))
    target.commit([DropStaging()])
    assert target.staging() is None
    target.commit([DropStaging()])


def test_a_damaged_chunk_is_not_staged(store: LogStore, another: Make) -> None:
    fill(store, slots=4, rows=3)
    made = store.make_snapshot(1 << 20)
    data = store.read_chunk(made.name, 0)
    target = another()
    for bad in (data[:-1], data[:50] + b"\x00" + data[51:], b"", data + b"x"):
        with pytest.raises(ChunkDamaged):
            target.commit([append(0), StageChunk(made.name, 0, bad)])
    with pytest.raises(ChunkDamaged, match="chunk 0"):
        target.commit([StageChunk(made.name, 1, data)])
    assert target.staging() is None
    assert target.bounds() == (0, 0)


def test_snapshots_are_listed_newest_first_and_the_last_two_kept(store: LogStore) -> None:
    made = []
    for slot in range(1, 5):
        store.commit([append(slot - 1), applied(slot)])
        made.append(store.make_snapshot(1 << 16))
    assert store.snapshots() == (made[3], made[2])
    assert [file.slot for file in store.snapshots()] == [4, 3]
    reopen(store)
    assert store.snapshots() == (made[3], made[2])
    with pytest.raises(SnapshotGone):
        store.read_chunk(made[0].name, 0)
    with pytest.raises(SnapshotGone):
        store.read_chunk("../member.json", 0)
    with pytest.raises(ChunkDamaged, match="has 1 chunks"):
        store.read_chunk(made[3].name, 1)
    store.commit([ResetLog()])
    assert store.snapshots() == ()


def test_a_new_snapshot_of_the_same_slot_can_be_read(store: LogStore) -> None:
    """Names of one slot do not sort by age: the one just made must never be the one that goes."""
    store.commit([append(0), applied(1)])
    for _ in range(12):
        made = store.make_snapshot(1 << 16)
        assert made in store.snapshots()
        assert len(store.snapshots()) <= 2
        assert store.read_chunk(made.name, 0)


def test_a_snapshot_needs_to_know_where_the_state_stands(store: LogStore) -> None:
    store.commit(appends(0, 4))
    batches: list[list[Operation]] = [[], [applied(5)], [TrimLog(2), applied(1)], [PutRow("meta", b"applied", b"?")]]
    for operations in batches:
        store.commit(operations)
        with pytest.raises(StoreMisuse, match="applied"):
            store.make_snapshot(1 << 20)
    store.commit([applied(2)])
    assert store.make_snapshot(1 << 20).chain == link(1)


def test_a_reset_empties_all_but_the_stable_state(store: LogStore) -> None:
    """V0: a wiped member starts over."""
    fill(store, slots=4, rows=3)
    store.commit([append(4), PutRow("meta", b"k", b"v"), ResetLog(), append(0)])
    reopen(store)
    assert store.bounds() == (0, 1)
    assert all_rows(store, TABLES) == {table: [] for table in TABLES}


def test_the_clean_stop_mark_is_told_once(store: LogStore) -> None:
    """D2: the mark is erased durably at start."""
    store.mark_clean_stop()
    store.close()
    assert store.recover().clean_stop
    store.close()
    assert not store.recover().clean_stop


def test_a_closed_store_says_so(store: LogStore) -> None:
    with pytest.raises(StoreMisuse):
        store.recover()
    store.close()
    store.close()
    for use in (lambda: store.commit([]), lambda: store.read(0), lambda: store.row("meta", b"k"), store.staging):
        with pytest.raises(StoreClosed):
            use()


def test_log_bytes_follow_the_log(store: LogStore) -> None:
    """C2 goes by it."""
    store.commit(appends(0, 50, size=5000))
    full = store.log_bytes()
    assert full >= 50 * 5000
    store.commit([TrimLog(40)])
    assert 10 * 5000 <= store.log_bytes() <= full / 3


@pytest.mark.parametrize("size", [0, 40, 1_900, 2_100, 5_000, 70_001])
def test_record_bytes_say_what_a_trim_frees(store: LogStore, size: int) -> None:
    """Retention adds them up to find out how far to trim (C2)."""
    half = 1_000 if size < 5_000 else 100
    store.commit(appends(0, 2 * half, size=size))
    full, sizes = store.log_bytes(), store.record_bytes(0, half)
    assert len(sizes) == half
    assert store.record_bytes(2 * half - 50, 100) == store.record_bytes(2 * half - 50, 50)
    assert store.record_bytes(2 * half, 100) == []
    store.commit([TrimLog(half)])
    pages = 6 * 4096  # of each table a leaf that is half empty may stay
    assert sum(sizes) == pytest.approx(full - store.log_bytes(), rel=0.1, abs=pages)
    assert len(store.record_bytes(0, 10)) == 10


def test_payload_bytes_counts_what_is_written() -> None:
    assert payload_bytes(append(0, 1000)) - payload_bytes(append(0, 0)) == len(body(0, 1000)) - len(body(0, 0))
    assert payload_bytes(repair(0, 1000)) == payload_bytes(append(0, 1000))
    assert payload_bytes(PutRow("meta", b"12", b"345")) - payload_bytes(PutRow("meta", b"12", None)) == 3
    assert payload_bytes(SaveStable(b"12")) - payload_bytes(SaveStable(b"")) == 2
    assert payload_bytes(StageChunk("s", 0, b"12")) - payload_bytes(StageChunk("s", 0, b"")) == 2
    assert payload_bytes(Truncate(5)) > 0


def test_a_range_is_folded_into_its_first_row(store: LogStore) -> None:
    """After a reset of the ring's time what was ordered with a later time is found at the time of the reset (D7)."""
    store.commit([PutRow("times", b"1a", b"x"), PutRow("times", b"8b", b"y"), PutRow("times", b"9c", b"z")])
    store.commit([PutRow("times", b"9d", b"w"), FoldRange("times", b"3", b"2"), PutRow("times", b"2e", b"v")])
    assert list(store.rows("times")) == [(b"1a", b"x"), (b"2b", b"y"), (b"2e", b"v")]
    store.commit([FoldRange("times", b"3", b"2"), FoldRange("offsets", b"3", b"2")])
    assert len(list(store.rows("times"))) == 3
