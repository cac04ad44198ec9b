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
from sequencer.simulator.run import SeedResult, replay


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
