"""The simulator bites: every mutation is caught within its stated number of seeds; the real core passes that seed."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from sequencer.simulator.run import run_seed
from tests.simulation.mutants import MUTATIONS, Mutation
from tests.simulation.regressions import REGRESSIONS

ALL = {mutation.name: mutation for mutation in (*MUTATIONS, *REGRESSIONS)}
Caught = tuple[int | None, str]


def first_caught(mutation: Mutation) -> int | None:
    """The first seed that shows the mutation: the kept one, or after a change of the core the first from 1 on."""
    options = mutation.options(mutated=True)
    seeds: list[int] = [mutation.kept, *range(1, mutation.seeds + 1)]
    for seed in seeds:
        if run_seed(seed, options).violation:
            return seed
    return None


def trial(name: str) -> Caught:
    """(the seed that shows the mutation, what the real core does wrong in it)."""
    mutation = ALL[name]
    seed = first_caught(mutation)
    return seed, "" if seed is None else run_seed(seed, mutation.options(mutated=False)).violation


@pytest.fixture(scope="module")
def trials() -> Iterator[dict[str, Future[Caught]]]:
    """All trials, over all processors; a test waits for its own."""
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {name: pool.submit(trial, name) for name in ALL}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)  # the kept seed takes a second; a search after a change of the core takes longer
@pytest.mark.parametrize("name", ALL, ids=lambda name: name.replace(" ", "-"))
def test_a_mutation_is_caught(name: str, trials: dict[str, Future[Caught]]) -> None:
    """docs/protocol.md, "Verification": it must bite; each caught within a stated number of seeds, the seed kept."""
    seed, wrong = trials[name].result()
    assert seed is not None, f"{name}: not caught within {ALL[name].seeds} seeds"
    assert not wrong, f"the real core fails seed {seed} of {name}: {wrong}"
