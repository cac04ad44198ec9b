"""The packed batch: round trips, and no bytes that are none pass the check."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.bus.batch import COUNT_MAX, check, count_of, digest, pack, table_bytes, unpack
from ringcast.errors import BadFrame, TooLarge

PAIRS = st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=20)), min_size=1, max_size=40)


@given(PAIRS)
def test_what_is_packed_is_unpacked(pairs: list[tuple[bytes, bytes]]) -> None:
    packed = pack([payload for payload, _ in pairs], [headers for _, headers in pairs])
    check(packed, len(pairs))
    assert count_of(packed) == len(pairs)
    assert unpack(packed, len(pairs)) == pairs
    assert len(packed) == table_bytes(len(pairs)) + sum(len(payload) + len(headers) for payload, headers in pairs)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40))
def test_no_headers_and_empty_headers_are_the_same_bytes(payloads: list[bytes]) -> None:
    assert pack(payloads) == pack(payloads, [b""] * len(payloads))


@given(PAIRS, st.integers(-3, 3).filter(bool))
def test_another_count_or_another_length_is_refused(pairs: list[tuple[bytes, bytes]], change: int) -> None:
    """Offsets cannot be forged: count and sum are both bound to the frame's size."""
    packed = pack([payload for payload, _ in pairs], [headers for _, headers in pairs])
    with pytest.raises(BadFrame):
        check(packed, len(pairs) + change)
    with pytest.raises(BadFrame):
        check(packed + b"x" if change > 0 else packed[:change], len(pairs))


@given(st.binary(max_size=200), st.integers(0, 1 << 20))
def test_random_bytes_raise_bad_frame_or_are_a_batch(data: bytes, count: int) -> None:
    try:
        messages = unpack(data, count)
    except BadFrame:
        return
    assert pack([payload for payload, _ in messages], [headers for _, headers in messages]) == data


@given(PAIRS, st.data())
def test_a_changed_table_is_refused_or_adds_up(pairs: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    packed = bytearray(pack([payload for payload, _ in pairs], [headers for _, headers in pairs]))
    index = data.draw(st.integers(0, 2 * len(pairs)))
    before = struct.unpack_from("<I", packed, 4 * index)[0]
    value = data.draw(st.integers(0, (1 << 32) - 1).filter(lambda one: one != before))
    struct.pack_into("<I", packed, 4 * index, value)
    with pytest.raises(BadFrame):
        check(packed, len(pairs))


def test_the_bounds_of_the_format() -> None:
    with pytest.raises(TooLarge, match="0 messages"):
        pack([])
    with pytest.raises(TooLarge, match=f"{COUNT_MAX + 1} messages"):
        pack([b""] * (COUNT_MAX + 1))
    with pytest.raises(ValueError, match="1 headers for 2 payloads"):
        pack([b"", b""], [b""])
    check(pack([b""] * COUNT_MAX), COUNT_MAX)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_the_digest_tells_contents_apart(one: bytes, two: bytes) -> None:
    assert len(digest(one)) == 8
    assert (digest(one) == digest(two)) == (one == two)
