"""Faults that are off by default: their names, their own random numbers, and how a failing seed is replayed."""

from argparse import ArgumentTypeError
from collections import Counter
from random import Random

import pytest

from replicas.raft.simulator import cluster as raft
from replicas.raft.simulator.run import SeedResult as RaftResult
from replicas.raft.simulator.run import replay as replay_raft
from sequencer.core import Core
from sequencer.simulator.cluster import EXTRAS, Cluster, Options
from sequencer.simulator.extras import parse_names
from sequencer.simulator.run import SeedResult, replay, run_seed


def test_an_unknown_name_is_refused_by_name() -> None:
    assert parse_names("partial,clocks", EXTRAS) == {"partial", "clocks"}
    with pytest.raises(ArgumentTypeError, match="storms: no such faults here; known: bursts, clocks"):
        parse_names("storms,clocks", raft.EXTRAS)


def test_what_a_kind_draws_leaves_all_other_draws_as_they_were() -> None:
    plain = Cluster(7, Options(Core))
    faulty = Cluster(7, Options(Core, extra=frozenset(EXTRAS)))
    assert plain.random.getstate() == faulty.random.getstate()
    assert [extra.random.random() for extra in faulty.extras] == [
        Random(f"7/{name}").random() for name in sorted(EXTRAS)
    ]


def test_the_replay_command_names_the_faults() -> None:
    result = SeedResult(7, 3, "broken", 0, {}, (), frozenset({"partial", "clocks"}))
    assert replay(result) == "python -m sequencer.simulator --members 3 --faults clocks,partial --trace 7"
    raft_result = RaftResult(7, "broken", Counter(), frozenset({"clocks"}))
    assert replay_raft(raft_result) == "python -m replicas.raft.simulator --faults clocks --trace 7"


def test_a_member_that_is_stuck_is_trimmed_past_and_comes_back() -> None:
    """C2: the checker of "stuck" had something to look at, and the liveness phase found every member whole again."""
    past: set[int] = set()

    class Noting(Core):
        def tell(self, name: str, **fields: object) -> None:
            if name == "trimmed_past":
                past.add(seed)
            super().tell(name, **fields)

    options = Options(Noting, extra=frozenset({"stuck"}), config={"retention_grace_ms": 3_600_000})
    for seed in range(1, 13):
        assert not run_seed(seed, options).violation
    assert len(past) > 6
