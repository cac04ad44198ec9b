"""Clocks that drift, jump and come back, a ring that sleeps, accidents and resets (D7): --faults clocks."""

from collections import Counter

from sequencer.core import Core
from sequencer.simulator.clocks import ClockFaults
from sequencer.simulator.cluster import Cluster, Options
from sequencer.simulator.run import run_seed

CLOCKS = frozenset({"clocks"})


def test_slot_times_are_right_whatever_clocks_do() -> None:
    """And the runs are hard: clocks went wrong, a ring slept, accidents happened, and operators reset the time."""
    happened: Counter[str] = Counter()
    for seed in range(1, 26):
        cluster = Cluster(seed, Options(Core, extra=CLOCKS, member_changes=0.0))
        cluster.run()
        (faults,) = cluster.extras
        assert isinstance(faults, ClockFaults)
        happened.update(faults.counts)
    assert min(happened[name] for name in ("wrong", "sleeps", "accidents", "resets", "checked_late")) >= 1, happened


def test_members_that_change_have_clocks_too() -> None:
    assert run_seed(4, Options(Core, members=5, extra=CLOCKS, member_changes=1.0)).violation == ""


def test_a_slot_is_late_by_when_it_was_sequenced() -> None:
    """One that waits for a view change long after it was sequenced, and is delivered in fair weather, is not late."""
    assert run_seed(1215, Options(Core, extra=frozenset({"clocks", "partial"}))).violation == ""
