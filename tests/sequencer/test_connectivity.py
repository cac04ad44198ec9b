"""V2, V6: sets of members that all hear each other."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sequencer.connectivity import connected_sets, hear_each_other
from sequencer.quorum import bits


def test_both_directions_count() -> None:
    heard = {1: bits((1, 2, 3)), 2: bits((1, 2)), 3: bits((3,))}
    assert hear_each_other(heard, 1, 2)
    assert not hear_each_other(heard, 1, 3)
    assert connected_sets(heard) == [(1,), (1, 2), (2,), (3,)]


@given(st.dictionaries(st.integers(1, 6), st.integers(0, 127), max_size=6))
def test_every_such_set_is_found_once(heard: dict[int, int]) -> None:
    expected = [
        some
        for size in range(1, len(heard) + 1)
        for some in combinations(sorted(heard), size)
        if all(hear_each_other(heard, *pair) for pair in combinations(some, 2))
    ]
    assert sorted(connected_sets(heard)) == sorted(expected)
