"""The journal's file: what was acknowledged is read back whole, a torn write is not, and damage is never silent."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from store.contract import Append
from store.errors import StoreDamaged
from store.journal import BLOCK_BYTES, FRAME_BYTES, FRAMES, JOURNAL_NAME, Journal, Journaled, create_journal
from tests.store.helpers import append

LARGEST = 4_040  # body bytes of a single record that still fits; one more would not


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Empty, and nothing is covered."""
    create_journal(tmp_path)
    opened = Journal(tmp_path)
    assert opened.replay(0) == ()
    yield opened
    opened.close()


def small(slot: int, size: int = 40) -> Append:
    """As it is read back: its body is one part."""
    made = append(slot, size)
    return made._replace(parts=(b"".join(made.parts),))


def write(journal: Journal, first: int, end: int) -> None:
    """Records number first + 1 .. end, of one slot each."""
    for slot in range(first, end):
        assert journal.write([append(slot)]) == slot + 1


def expected(first: int, end: int) -> tuple[Journaled, ...]:
    return tuple(Journaled(slot + 1, small(slot)) for slot in range(first, end))


def read_back(folder: Path, covered: int = 0) -> tuple[Journaled, ...]:
    """What a new process finds."""
    again = Journal(folder)
    try:
        return again.replay(covered)
    finally:
        again.close()


def content(folder: Path) -> bytearray:
    return bytearray((folder / JOURNAL_NAME).read_bytes())


def put(folder: Path, changed: bytes | bytearray) -> None:
    (folder / JOURNAL_NAME).write_bytes(changed)


def frame_of(slot: int) -> int:
    """Where the record of a slot stands."""
    return (slot + 1) % FRAMES


def copies(frame: int) -> tuple[int, int]:
    """Where both copies of a frame begin."""
    return frame * FRAME_BYTES, frame * FRAME_BYTES + BLOCK_BYTES


def test_records_are_read_back_in_order_with_their_numbers(journal: Journal, tmp_path: Path) -> None:
    write(journal, 0, 3)
    assert journal.write([append(3), append(4, 1_000)]) == 4
    found = read_back(tmp_path)
    assert found == (*expected(0, 3), Journaled(4, small(3)), Journaled(4, small(4, 1_000)))
    assert read_back(tmp_path, covered=2) == found[2:]
    assert read_back(tmp_path, covered=4) == ()


def test_a_record_fits_into_one_block_or_not_at_all(journal: Journal, tmp_path: Path) -> None:
    def sized(size: int) -> Append:
        return append(0)._replace(parts=(b"x" * (size - 3), b"end"))

    assert journal.write([sized(LARGEST + 1)]) is None
    assert journal.write([sized(1_500), sized(1_500), sized(1_500)]) is None
    assert journal.write([sized(1 << 20)]) is None
    assert read_back(tmp_path) == ()
    assert journal.write([sized(LARGEST)]) == 1
    assert read_back(tmp_path)[0].append.parts == (b"x" * (LARGEST - 3) + b"end",)


def test_a_full_journal_takes_nothing_until_lmdb_has_some_of_it(journal: Journal, tmp_path: Path) -> None:
    write(journal, 0, FRAMES)
    assert journal.write([append(FRAMES)]) is None
    assert read_back(tmp_path) == expected(0, FRAMES)
    journal.cover(3)
    write(journal, FRAMES, FRAMES + 3)
    assert journal.write([append(FRAMES + 3)]) is None
    assert read_back(tmp_path, covered=3) == expected(3, FRAMES + 3)


def test_the_next_process_goes_on_behind_what_it_found(journal: Journal, tmp_path: Path) -> None:
    write(journal, 0, 5)
    again = Journal(tmp_path)
    assert again.replay(3) == expected(3, 5)
    assert again.write([append(5)]) == 6
    assert read_back(tmp_path, covered=3) == expected(3, 6)
    again.close()


@pytest.mark.parametrize("leftovers", [False, True], ids=["over zeros", "over an older record"])
def test_a_torn_write_is_the_record_or_nothing(journal: Journal, tmp_path: Path, leftovers: bool) -> None:
    """Whatever part of the last write reached the disk, in whichever order its blocks did."""
    covered = 0
    if leftovers:
        write(journal, 0, FRAMES)
        journal.cover(FRAMES)
        covered = FRAMES
    write(journal, covered, covered + 2)
    before = content(tmp_path)
    write(journal, covered + 2, covered + 3)
    after = content(tmp_path)
    start = frame_of(covered + 2) * FRAME_BYTES
    end = start + FRAME_BYTES
    assert before[:start] + before[end:] == after[:start] + after[end:], "nothing else was written"
    kept = expected(covered, covered + 2)
    whole = expected(covered, covered + 3)
    record_end = 14 + 42 + len(small(0).parts[0])
    copy, outcomes = bytes(after[start : start + record_end]), []
    cuts = [*range(0, record_end, 7), record_end - 1, *range(512, FRAME_BYTES + 1, 512), BLOCK_BYTES + record_end - 1]
    for cut in cuts:
        head = bytes(after[start : start + cut] + before[start + cut : end])
        tail = bytes(before[start : start + cut] + after[start + cut : end])
        for torn in (head, tail):
            put(tmp_path, bytes(before[:start]) + torn + bytes(before[end:]))
            has_copy = torn.startswith(copy) or torn[BLOCK_BYTES:].startswith(copy)
            outcomes.append(has_copy)
            assert read_back(tmp_path, covered) == (whole if has_copy else kept), cut
    assert set(outcomes) == {False, True}


def test_no_flipped_byte_loses_a_record(journal: Journal, tmp_path: Path) -> None:
    """In either copy of the first, a middle and the last record: the other copy serves."""
    write(journal, 0, 3)
    whole = content(tmp_path)
    places = [
        start + at
        for frame in map(frame_of, range(3))
        for start in copies(frame)
        for at in (*range(14), *range(14, 14 + 42 + 64, 5), BLOCK_BYTES - 1)
    ]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        put(tmp_path, changed)
        assert read_back(tmp_path) == expected(0, 3), place


@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1)])
def test_an_acknowledged_record_that_is_gone_is_damage(journal: Journal, tmp_path: Path, lost: Sequence[int]) -> None:
    """Both copies, and a later record is whole: so it was acknowledged, since they are written one by one."""
    write(journal, 0, 3)
    changed = content(tmp_path)
    for frame in map(frame_of, lost):
        for start in copies(frame):
            changed[start + 20] ^= 0x10
    put(tmp_path, changed)
    with pytest.raises(StoreDamaged, match=f"{JOURNAL_NAME}: record {lost[0] + 1} is gone"):
        read_back(tmp_path)
    assert read_back(tmp_path, covered=lost[-1] + 1) == expected(lost[-1] + 1, 3), "LMDB has it"


def test_a_leftover_is_never_read_again(journal: Journal, tmp_path: Path) -> None:
    """Not either where it lies behind the newest records, whole or damaged."""
    write(journal, 0, FRAMES)
    journal.cover(FRAMES - 1)
    write(journal, FRAMES, FRAMES + 2)
    assert read_back(tmp_path, covered=FRAMES - 1) == expected(FRAMES - 1, FRAMES + 2)
    changed = content(tmp_path)
    for start in copies(frame_of(FRAMES + 2)):
        changed[start + 6] ^= 0xFF  # its number is a large one now
    put(tmp_path, changed)
    assert read_back(tmp_path, covered=FRAMES - 1) == expected(FRAMES - 1, FRAMES + 2)


def test_a_lost_or_short_file_is_damage(journal: Journal, tmp_path: Path) -> None:
    """Not an empty journal in silence: nobody knows what was in it."""
    write(journal, 0, 1)
    put(tmp_path, content(tmp_path)[:-1])
    with pytest.raises(StoreDamaged, match=f"{JOURNAL_NAME} has {FRAMES * FRAME_BYTES - 1} bytes"):
        Journal(tmp_path)
    (tmp_path / JOURNAL_NAME).unlink()
    with pytest.raises(StoreDamaged, match=f"{JOURNAL_NAME} is missing"):
        Journal(tmp_path)


def test_a_short_write_is_an_error(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: BLOCK_BYTES)
    with pytest.raises(OSError, match=f"{BLOCK_BYTES} of {FRAME_BYTES}"):
        journal.write([append(0)])
