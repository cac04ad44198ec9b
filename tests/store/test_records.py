"""Bytes on disk: what goes in comes out, and what the disk changed is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.contract import DamagedRun
from store.errors import RecordDamaged
from store.records import (
    EMPTY_MARKS,
    Marks,
    Record,
    damaged_runs,
    decode_chain,
    decode_marks,
    decode_record,
    decode_row,
    encode_chain,
    encode_marks,
    encode_record,
    encode_row,
    key_slot,
    seal,
    slot_key,
    unseal,
)
from tests.store.helpers import link

SLOTS = st.integers(0, 2**64 - 1)


def flipped(value: bytes, at: int) -> bytes:
    changed = bytearray(value)
    changed[at % len(value)] ^= 1 << (at // len(value) % 8)
    return bytes(changed)


@given(slots=st.lists(SLOTS, min_size=2, max_size=2))
def test_keys_order_as_slots_do(slots: list[int]) -> None:
    keys = [slot_key(slot) for slot in slots]
    assert sorted(keys) == [slot_key(slot) for slot in sorted(slots)]
    assert [key_slot(key) for key in keys] == slots


@given(slot=SLOTS, parts=st.lists(st.binary(max_size=50), max_size=4), at=st.integers(0))
def test_a_record_comes_back_or_is_found_damaged(slot: int, parts: list[bytes], at: int) -> None:
    value = encode_record(slot, link(2), link(1), parts)
    assert decode_record(slot, value) == Record(link(2), link(1), b"".join(parts))
    for bad in (flipped(value, at), value[: at % len(value)], None):
        with pytest.raises(RecordDamaged):
            decode_record(slot, bad)
    with pytest.raises(RecordDamaged):  # a whole record under the key of another slot
        decode_record((slot + 1) % 2**64, value)


@given(slot=SLOTS, value=st.binary(max_size=50), key=st.binary(min_size=1, max_size=20), at=st.integers(0))
def test_small_values_come_back_or_are_found_damaged(slot: int, value: bytes, key: bytes, at: int) -> None:
    chain, sealed, row = encode_chain(slot, link(1)), seal(b"name", value), encode_row(key, value)
    assert decode_chain(slot, chain) == link(1)
    assert unseal(b"name", sealed) == value
    assert decode_row(key, row) == value
    assert decode_chain(slot, flipped(chain, at)) is None
    assert decode_chain(slot, None) is None
    assert unseal(b"name", flipped(sealed, at)) is None
    assert unseal(b"other", sealed) is None
    assert decode_row(key, flipped(row, at)) is None
    assert decode_row(key + b"x", row) is None


def test_marks_come_back_if_they_can_be() -> None:
    marks = Marks(3, 9, link(2), link(8), stable_saved=True, journaled=7)
    assert decode_marks(encode_marks(marks)) == marks
    assert decode_marks(encode_marks(EMPTY_MARKS)) == EMPTY_MARKS
    assert decode_marks(encode_marks(marks._replace(first=10))) is None
    assert decode_marks(encode_marks(marks) + b"x") is None


def test_runs_reach_to_where_a_chain_is_known() -> None:
    known = {slot: link(slot) for slot in (-1, 0, 3, 5, 6, 9)}
    assert damaged_runs([], known.get) == ()
    assert damaged_runs([0, 6], known.get) == (
        DamagedRun(0, 0, link(-1), link(0)),
        DamagedRun(6, 6, link(5), link(6)),
    )
    assert damaged_runs([2, 8], known.get) == (
        DamagedRun(1, 3, link(0), link(3)),
        DamagedRun(7, 9, link(6), link(9)),
    )
