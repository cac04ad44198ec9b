"""sequencer/configuration.py: which change takes effect, and at which slot (V12)."""

import pytest

from sequencer.configuration import after, is_one_step, takes_effect
from sequencer.types import FOUNDED, FOUNDERS, GENESIS_CHAIN, Configuration, MembersChange
from tests.sequencer.builders import FIRST_VIEW, change_request, record, request

THREE, FOUR = (1, 2, 3), (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        (THREE, FOUR, True),
        (FOUR, (1, 2, 4), True),
        (THREE, THREE, False),
        (THREE, (1, 2, 4), False),
        (THREE, (1, 2, 3, 4, 5), False),
        (THREE, (1, 3, 2, 4), False),
        (THREE, (1, 2, 2, 3, 4), False),
        ((1,), (), False),
        (tuple(range(1, 8)), tuple(range(1, 9)), False),
    ],
)
def test_one_member_is_added_or_removed(old: tuple[int, ...], new: tuple[int, ...], step: bool) -> None:
    """V12: one at a time, 1 to 7 of them, ids ascending."""
    assert is_one_step(old, new) == step


@pytest.mark.parametrize(
    ("at", "old", "since", "effect"),
    [
        (FOUNDERS, THREE, FOUNDED, True),
        (FOUNDERS, THREE, 5, False),
        (Configuration(THREE, 5), THREE, 5, True),
        (Configuration(THREE, 5), THREE, FOUNDED, False),  # the same members again, but it was asked of the founders
        (Configuration((2, 3, 4), 5), THREE, 5, False),
    ],
)
def test_it_takes_effect_on_the_configuration_it_was_asked_of(
    at: Configuration, old: tuple[int, ...], since: int, effect: bool
) -> None:
    """V12: a compare-and-set on the members and on the slot that made them."""
    assert takes_effect(MembersChange(old, FOUR, since, b""), at) == effect


def test_at_most_one_change_of_a_slot_takes_effect() -> None:
    """The second was asked of the configuration before; one that claims this very slot does nothing either."""
    requests = [
        request(2, 1),
        change_request(2, 2, THREE, FOUR, info=b"where"),
        change_request(3, 1, THREE, (1, 2)),
        change_request(4, 1, FOUR, THREE, since=0),
    ]
    made = record(0, GENESIS_CHAIN, requests, FIRST_VIEW)
    assert after(FOUNDERS, made) == Configuration(FOUR, 0, b"where")
    assert after(FOUNDERS, record(0, GENESIS_CHAIN, requests[:1], FIRST_VIEW)) is FOUNDERS
