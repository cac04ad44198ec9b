"""Who runs, in which order, and what may be asked for."""

import pytest

from bench.errors import BenchError
from bench.options import Options
from bench.plan import systems_of, turned


def test_each_repetition_begins_with_another_system() -> None:
    systems = ["a", "b", "c"]
    assert [turned(systems, repetition)[0] for repetition in range(4)] == ["a", "b", "c", "a"]
    assert turned(systems, 1) == ["b", "c", "a"]
    assert all(sorted(turned(systems, repetition)) == systems for repetition in range(7))
    assert turned([], 2) == []


def test_against_picks_the_peers() -> None:
    names = [system.name for system in systems_of(Options(against=("redis", "nats"), extras=False))]
    assert names == ["ringcast", "redis", "nats", "nats-default"]
    assert [system.name for system in systems_of(Options(against=()))] == ["ringcast", "ringcast-5"]
    assert [system.name for system in systems_of(Options(replicas=5, against=()))] == ["ringcast"]


def test_names_are_keys_of_the_results() -> None:
    names = [system.name for system in systems_of(Options())]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"against": ("nats", "kafka")}, "kafka"),
        ({"durability": "disk"}, "majority or memory"),
        ({"replicas": 8}, "1 to 7"),
        ({"payload": 0}, "at least 1"),
        ({"windows": ()}, "at least one window"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(BenchError, match=text):
        Options(**changes)  # type: ignore[arg-type]


def test_quick_keeps_what_was_chosen() -> None:
    quick = Options(replicas=5, payload=7, against=("etcd",), kills=0).quick
    assert (quick.replicas, quick.payload, quick.against, quick.kills) == (5, 7, ("etcd",), 0)
    assert quick.count < Options().count
