"""Goals against a document made by hand."""

import pytest

from bench.goals import AT_LEAST, AT_MOST, GOALS, at, evaluate, ratio
from tests.bench.documents import results

outcomes = {outcome.name: outcome for outcome in evaluate(results().as_dict())}


@pytest.mark.parametrize(
    ("name", "reached", "met"),
    [
        ("send, pipelined : NATS single, sync always", 10.0, True),
        ("publish_many of 256 : NATS single, sync always", 30.0, True),
        ("concurrent publish : NATS single, sync always", 1.0, False),
        ("one outstanding, p50 : best synced peer", 0.5, True),
        ("gap, kill -9 of the holder, median", 50.0, True),
        ("gap, SIGSTOP of the holder, worst", 700.0, False),
        ("gap, client on the killed replica : on a survivor", 1.5, True),
        ("CPU of all processes for 100 k messages", 0.3, True),
        ("subscriber, async for", 400_000.0, True),
        ("subscriber, batches", 900_000.0, False),
        ("send, pipelined : etcd transactions of 128", None, None),
        ("5 replicas : 3 replicas, send pipelined", None, None),
        ("idle, busiest replica", None, None),
    ],
)
def test_a_goal_is_met_missed_or_not_measured(name: str, reached: float | None, met: bool | None) -> None:
    assert (outcomes[name].reached, outcomes[name].met) == (reached, met)


def test_every_goal_has_an_outcome_and_a_name_of_its_own() -> None:
    assert list(outcomes) == [goal.name for goal in GOALS]
    assert {goal.relation for goal in GOALS} == {AT_LEAST, AT_MOST}


def test_an_empty_document_meets_and_misses_nothing() -> None:
    assert {outcome.met for outcome in evaluate({})} == {None}


def test_paths_and_ratios_of_nothing_are_nothing() -> None:
    assert at({"a": {"b": 2}}, "a", "b") == 2
    assert at({"a": {"b": None}}, "a", "b") is None
    assert at({"a": 1}, "a", "b") is None
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 1.0) is None
