"""Disks replaced one after the other, and records that rot: no retained slot vanishes (C3)."""

import pytest

from sequencer.core import Core
from sequencer.simulator.cluster import Options
from sequencer.simulator.run import run_seed

SEEDS = range(1, 13)
FOUND = {
    13: "C3: a hole that every other member had trimmed could never be mended",
    60: "C3: a hole within the window waited for peers that had trimmed it",
}


def options() -> Options:
    """With the faults of this kind."""
    return Options(Core, extra=frozenset({"replacements"}))


@pytest.mark.parametrize("seed", sorted({*SEEDS, *FOUND}))
def test_no_retained_slot_vanishes(seed: int) -> None:
    assert run_seed(seed, options()).violation == ""


def test_the_seeds_are_hard() -> None:
    results = [run_seed(seed, options()) for seed in SEEDS]
    assert sum(result.counts["disks_replaced"] for result in results) >= len(SEEDS)
    assert sum("C3" in result.rules for result in results) >= len(SEEDS) // 3
