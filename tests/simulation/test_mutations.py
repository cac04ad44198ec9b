"""The simulator bites: every mutation is caught within its stated number of seeds; the real core passes that seed."""

import pytest

from sequencer.simulator.run import run_seed
from tests.simulation.mutants import MUTATIONS, Mutation
from tests.simulation.regressions import REGRESSIONS


def first_caught(mutation: Mutation) -> int | None:
    """The first seed that shows the mutation: the kept one, or after a change of the core the first from 1 on."""
    options = mutation.options(mutated=True)
    seeds: list[int] = [mutation.kept, *range(1, mutation.seeds + 1)]
    for seed in seeds:
        if run_seed(seed, options).violation:
            return seed
    return None


@pytest.mark.timeout(600)  # the kept seed takes a second; a search after a change of the core takes longer
@pytest.mark.parametrize("mutation", [*MUTATIONS, *REGRESSIONS], ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_mutation_is_caught(mutation: Mutation) -> None:
    """docs/protocol.md, "Verification": it must bite; each caught within a stated number of seeds, the seed kept."""
    seed = first_caught(mutation)
    assert seed is not None, f"{mutation.name}: not caught within {mutation.seeds} seeds"
    right = run_seed(seed, mutation.options(mutated=False))
    assert not right.violation, f"the real core fails seed {seed} of {mutation.name}: {right.violation}"
