"""V0: which of two runs of a member is the newer one. Counters decide; random bits only tell runs apart."""

import pytest

from sequencer.rules import Rules
from sequencer.types import Identity, Incarnation, StableState

KNOWN = Identity(Incarnation(3, 500), 1)


@pytest.mark.parametrize("nonce", [499, 501])
def test_the_same_counter_with_other_bits_is_a_disk_that_went_back(nonce: int) -> None:
    """V0: the bits of the second start of one disk may be higher or lower; either is found, neither promise counts."""
    again = Incarnation(3, nonce)
    assert Rules().is_rolled_back(KNOWN, StableState(1, 1, again))
    assert not Rules().counts_promise(again, KNOWN)


@pytest.mark.parametrize("incarnation", [Incarnation(3, 500), Incarnation(4, 1)])
def test_the_same_run_and_a_later_start_are_no_rollback(incarnation: Incarnation) -> None:
    """V0: an ordinary restart raises the counter and is never a wipe."""
    assert not Rules().is_rolled_back(KNOWN, StableState(1, 1, incarnation))
    assert Rules().counts_promise(incarnation, KNOWN)


def test_an_older_run_is_found_and_does_not_count() -> None:
    """V0: a promise of an incarnation older than any collected vector says is not counted."""
    assert Rules().is_rolled_back(KNOWN, StableState(1, 1, Incarnation(2, 900)))
    assert not Rules().counts_promise(Incarnation(2, 900), KNOWN)


def test_nobody_knows_a_newcomer() -> None:
    """V0: without an identity to compare with there is nothing to find."""
    assert not Rules().is_rolled_back(None, StableState(1, 1, Incarnation(0, 1)))
    assert Rules().counts_promise(Incarnation(0, 1), None)
