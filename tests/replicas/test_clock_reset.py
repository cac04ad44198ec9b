"""D7 for operators: the query `reset_clock`, what `ringcast clock` and `ringcast doctor` make of what replicas say."""

from typing import Any

from cli.clock import summary
from replicas.bus.clock_reset import ClockQueries, shown
from replicas.bus.health import clock_trouble
from replicas.doctor import compare
from ringcast.errors import ChangeRefused, NotInQuorum, RingcastError
from ringcast.wire import Answer, Query
from sequencer.clocks import ClockStatus
from sequencer.output import ClockResetAsked, Fact
from sequencer.ring_time import CLOCKS_DISAGREE, CLOCKS_UNKNOWN, NOT_SERVING, NOTHING_TO_RESET, UNTOLD

SECOND = 1_000_000
RIGHT = ClockStatus(
    ring_us=9 * SECOND, quorum_us=9 * SECOND, last_us=9 * SECOND, bound_us=5 * SECOND, offsets_us={1: 0, 2: 3, 3: 0}
)
OFF = ClockStatus(9 * SECOND, 9 * SECOND, 8 * SECOND, 5 * SECOND, {1: 0, 2: 60 * SECOND, 3: 0}, (2,))
AHEAD = ClockStatus(99 * SECOND, 9 * SECOND, 99 * SECOND, 5 * SECOND, {1: 0, 2: 0, 3: 0})


def answers(*facts: Fact) -> list[Any]:
    """What two operators are told who ask before each of these facts."""
    asked: list[ClockResetAsked] = []
    told: list[Any] = []
    trouble: RingcastError = NotInQuorum(replica=1, connected=1, quorum=2)
    queries = ClockQueries(asked.append, lambda: trouble)
    for fact in facts:
        for request in (1, 2):
            queries.take(Query(request, "reset_clock", {}), lambda answer, _: told.append(answer))
        queries.tell(fact)
    assert len(asked) == len(facts)
    queries.take(Query(3, "reset_clock", {}), lambda answer, _: told.append(answer))
    queries.abandon(trouble)
    assert told.pop() is trouble
    return told


def test_both_who_ask_at_once_are_answered() -> None:
    told = answers(Fact("clock_reset_asked", {"seen_us": 5}), Fact("clock_reset_refused", {"why": NOTHING_TO_RESET}))
    assert told == [Answer(one, {"asked": asked}, 0) for asked in (True, False) for one in (1, 2)]


def test_a_refusal_says_what_to_do() -> None:
    for why, advice in (
        (CLOCKS_UNKNOWN, "try again"),
        (CLOCKS_DISAGREE, "ringcast clock"),
        (UNTOLD, "rolling upgrade"),
    ):
        first, _ = answers(Fact("clock_reset_refused", {"why": why}))
        assert isinstance(first, ChangeRefused)
        assert advice in str(first)
        assert first.details["passes"] == (why == CLOCKS_UNKNOWN)
    first, _ = answers(Fact("clock_reset_refused", {"why": NOT_SERVING}))
    assert isinstance(first, NotInQuorum)


def rows(*clocks: ClockStatus | None) -> list[dict[str, Any]]:
    """What replicas 1, 2, ... say."""
    good = {"state": "serving", "version": "1", "durability": "majority", "cluster_name": "a", "members": (1, 2, 3)}
    return [
        {**good, "replica": one, "wall_us": 0, **({"clock": shown(clock)} if clock else {})}
        for one, clock in enumerate(clocks, 1)
    ]


def test_what_the_command_shows() -> None:
    assert not summary(rows(RIGHT, RIGHT, RIGHT))["wrong"]
    found = summary([*rows(OFF, OFF, None), {"replica": 4, "error": "no answer"}])
    assert found["wrong"]
    assert [one["standing"].partition(":")[0] for one in found["replicas"]] == [
        "within the bound",
        "beyond the bound",
        "older version",
        "no answer",
    ]
    assert summary(rows(AHEAD))["ahead_us"] == 90 * SECOND
    assert summary(rows(ClockStatus()))["quorum_us"] is None


def test_what_the_doctor_says() -> None:
    said = {one.what: one.verdict for one in compare(rows(OFF, OFF, AHEAD), 0) if one.check == "clock"}
    assert said["the clock of replica 2 is +60.0 s off what a quorum's say: it orders nothing"] == "failed"
    assert said["replica 1 is +0.000 s off what a quorum's clocks say"] == "ok"
    assert said["the ring's time is ahead of the clocks of a quorum"] == "failed"


def test_what_readyz_says() -> None:
    assert clock_trouble(RIGHT, 2) is None
    assert "+60.0 s off" in (clock_trouble(OFF, 2) or "")
    assert clock_trouble(OFF, 1) is None
    assert "ringcast clock reset" in (clock_trouble(AHEAD, 1) or "")
