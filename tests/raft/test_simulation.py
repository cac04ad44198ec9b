"""Seeds of real nodes: no violation, hard enough, the same each time; and each rule taken away is noticed."""

import pytest

from replicas.raft.simulator.cluster import Options
from replicas.raft.simulator.run import Report, run_seed, simulate
from tests.raft.mutants import BURSTS, MUTATIONS, Mutation

SEEDS = 120
#: Fewer: they are beside those above.
BURST_SEEDS = 40
FOUND_WITH_BURSTS = {
    # Seeds of `--faults bursts` that found something: the least of what must stay quiet.
    27: "the founding and the first entries came in one turn, and the disk refused the entries (issue 13, item 14)",
    242: "the simulator's own: a disk that was put back started twice before anyone met it, which nobody can find",
}

pytestmark = pytest.mark.timeout(240)  # half a minute of CPU, and the machine may be busy


@pytest.fixture(scope="module")
def report() -> Report:
    return simulate(range(1, SEEDS + 1))


def test_no_seed_breaks_a_promise(report: Report) -> None:
    assert not report.failing, report.as_text()


def test_the_seeds_are_hard(report: Report) -> None:
    """Every fault and every change was met, and the clusters worked all the while.

    A disk that is put back where every other member can tell is rare: the seed of its mutation is steered to it.
    """
    counts = report.counts
    put_back = next(mutation for mutation in MUTATIONS if mutation.name == "a disk put back takes part")
    assert run_seed(put_back.seed, put_back.run_options(mutated=False)).counts["put_back"] > 0
    for name in ("leader_crashes", "pauses", "partitions", "wipes", "adds", "removes", "transfers"):
        assert counts[name] > 0, counts
    assert counts["elections"] > 3 * SEEDS
    assert counts["answers"] > 100 * SEEDS


def test_no_seed_breaks_a_promise_where_frames_come_in_bursts() -> None:
    report = simulate(range(1, BURST_SEEDS + 1), Options(extra=BURSTS))
    assert not report.failing, report.as_text()
    assert report.counts["answers"] > 80 * BURST_SEEDS


@pytest.mark.parametrize("seed", FOUND_WITH_BURSTS)
def test_a_seed_that_found_something(seed: int) -> None:
    """Kept: see FOUND_WITH_BURSTS."""
    assert run_seed(seed, Options(extra=BURSTS)).violation == ""


def test_a_seed_replays() -> None:
    assert run_seed(3, Options()) == run_seed(3, Options())
    bursts = Options(extra=BURSTS)
    assert run_seed(3, bursts) == run_seed(3, bursts)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_rule_taken_away_is_noticed(mutation: Mutation) -> None:
    """And the same seed is quiet with the rule in place."""
    assert run_seed(mutation.seed, mutation.run_options(mutated=True)).violation
    assert not run_seed(mutation.seed, mutation.run_options(mutated=False)).violation
