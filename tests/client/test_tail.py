"""The tail alone: whatever the feed loses, what it takes has no hole and no double."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.bus.feed import Control, FeedBatch
from ringcast.bus.tail import Tail, Verdict, last_changed
from ringcast.bus.topics import matches
from ringcast.wire import BatchInfo

CLIENT = bytes(16)


def batch(topic: str, first: int, messages: int, previous: int) -> FeedBatch:
    return FeedBatch(1, 0, BatchInfo(topic, first, messages, previous, 0, CLIENT, first), b"")


@given(st.integers(0, 1 << 32), st.sampled_from(["a", "a.>", "a.x", ">"]), st.floats(0, 0.6))
def test_taken_and_fetched_together_are_everything_once(seed: int, pattern: str, loss: float) -> None:
    """Any frames are lost, controls too; a hole is fetched as a replica would answer."""
    chance = random.Random(seed)
    order: list[BatchInfo] = []
    last: dict[str, int] = {}
    found: list[int] = []
    next_offset = since = 0
    changed: dict[str, int] = {}
    tail = Tail(pattern, 0)

    def handle(item: FeedBatch | Control) -> None:
        position = tail.position
        if isinstance(item, Control):
            verdict = tail.on_control(item, last_changed(pattern, item.changed))
        else:
            verdict = tail.on_batch(item)
        if verdict is Verdict.HOLE:
            missing = (info for info in order if matches(pattern, info.topic) and info.first_offset >= position)
            found.extend(info.first_offset for info in missing)
            tail.advance(next_offset)
        elif verdict is Verdict.TAKE:
            assert isinstance(item, FeedBatch)
            found.append(item.info.first_offset)

    for _ in range(60):
        topic, messages = chance.choice(["a", "a.x", "a.y", "b", "_cursors"]), chance.randint(1, 3)
        one = batch(topic, next_offset, messages, last.get(topic, -1))
        order.append(one.info)
        next_offset += messages
        last[topic] = changed[topic] = next_offset - 1
        if chance.random() >= loss:
            handle(one)
        if chance.random() < 0.3:
            control = Control(1, 0, next_offset, since, dict(changed))
            since, changed = next_offset, {}
            if chance.random() >= loss:
                handle(control)
    handle(Control(1, 0, next_offset, since, changed))
    assert found == [info.first_offset for info in order if matches(pattern, info.topic)]


@pytest.mark.parametrize(
    ("position", "first", "messages", "previous", "verdict", "after"),
    [
        (5, 5, 2, -1, Verdict.TAKE, 7),
        (5, 9, 1, 4, Verdict.TAKE, 10),
        (5, 9, 1, 5, Verdict.HOLE, 5),
        (5, 4, 3, 2, Verdict.TAKE, 7),
        (5, 3, 2, 2, Verdict.SKIP, 5),
    ],
)
def test_one_topic_by_previous(
    position: int, first: int, messages: int, previous: int, verdict: Verdict, after: int
) -> None:
    tail = Tail("a", position)
    assert tail.on_batch(batch("a", first, messages, previous)) is verdict
    assert tail.position == after


def test_an_old_control_of_a_lagging_replica_moves_nothing_back() -> None:
    tail = Tail("a", 9)
    assert tail.on_control(Control(1, 0, 5, 0, {"a": 4}), 4) is Verdict.SKIP
    tail.advance(3)
    assert tail.position == 9


def test_a_lost_control_is_a_hole() -> None:
    assert Tail("a", 4).on_control(Control(1, 0, 9, 5, {}), -1) is Verdict.HOLE
    tail = Tail("a", 5)
    assert tail.on_control(Control(1, 0, 9, 5, {"b": 8}), -1) is Verdict.SKIP
    assert tail.position == 9
