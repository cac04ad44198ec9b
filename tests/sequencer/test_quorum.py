"""Arithmetic of quorums, against a count by hand."""

from hypothesis import given
from hypothesis import strategies as st

from sequencer.quorum import bits, half, quorum_end
from tests.sequencer.builders import config

ENDS = st.dictionaries(st.integers(1, 9), st.integers(0, 20), max_size=9)


@given(ENDS, st.integers(1, 7))
def test_the_quorum_end_is_the_largest_that_a_quorum_has_stored(stored: dict[int, int], size: int) -> None:
    """A5: members that are not configured are not counted."""
    members = range(1, size + 1)
    quorum = size // 2 + 1
    end = quorum_end(stored, members, quorum)
    assert sum(stored.get(member, 0) >= end for member in members) >= quorum
    assert sum(stored.get(member, 0) >= end + 1 for member in members) < quorum


@given(st.sets(st.integers(1, 63)))
def test_bits_hold_a_set(members: set[int]) -> None:
    """Bit i = member i."""
    assert {member for member in range(64) if bits(members) >> member & 1} == members


def test_two_quorums_share_a_member() -> None:
    """Q = floor(n/2)+1 for every size that is right (1 to 7)."""
    for size in range(1, 8):
        quorum = config(size).quorum
        assert 2 * quorum > size >= quorum


def test_half_of_an_even_number_and_a_quorum_of_an_odd_one() -> None:
    assert [half(range(count)) for count in range(1, 8)] == [1, 1, 2, 2, 3, 3, 4]
