"""What the page is told: the state of now, and of history what is new to it, never more than is kept."""

import asyncio
import math

import pytest

from replicas.dashboard.board import EVENTS_MAX, POINTS_MAX, Board, Seen
from replicas.dashboard.measures import PUBLISH, ROTATION, Buckets
from tests.dashboard.nouns import gone, product, row, snapshot

US = 1_000_000


def new_board() -> Board:
    return Board("cluster.json", "")


def counts(fast: float, slow: float) -> Buckets:
    return Buckets({0.001: fast, 0.002: fast + slow, math.inf: fast + slow}, fast * 0.0005 + slow * 0.0015)


def test_a_page_that_comes_late_has_history_and_then_only_what_is_new() -> None:
    board = new_board()
    board.look(snapshot(), US)
    board.look(snapshot(gone(3)), 2 * US)
    board.measure({}, 1.0, 2 * US)
    first, seen = board.news(Seen())
    assert first["first"]
    assert [event["kind"] for event in first["events"]] == ["lost", "health"]
    assert len(first["points"]) == 1
    again, seen = board.news(seen)
    assert (again["first"], again["events"], again["points"]) == (False, [], [])
    board.look(snapshot(), 3 * US)
    assert [event["kind"] for event in board.news(seen)[0]["events"]] == ["found", "health"]


def test_history_is_bounded() -> None:
    board = new_board()
    for second in range(POINTS_MAX + 50):
        board.look(snapshot(gone(3)) if second % 2 else snapshot(), second)
        board.measure({}, float(second), second)
    found, _ = board.news(Seen())
    assert (len(found["points"]), len(found["events"])) == (POINTS_MAX, EVENTS_MAX)
    assert found["points"][-1].at_us == POINTS_MAX + 49


def test_throughput_is_the_way_of_the_offsets() -> None:
    board = new_board()
    rates = []
    for second, looked in enumerate(
        (snapshot(), snapshot(row(1, next_offset=350)), snapshot(gone(1), gone(2), gone(3)))
    ):
        board.look(looked, second)
        board.measure({}, second * 0.5, second)
        rates.append(board.news(Seen())[0]["points"][-1].messages_per_s)
    assert rates == [None, 500.0, None]


def test_latency_is_of_what_was_added_by_all() -> None:
    board = new_board()
    board.look(snapshot(), 0)
    board.measure({1: {PUBLISH: counts(100, 0), ROTATION: counts(7, 0)}, 2: {PUBLISH: counts(0, 0)}}, 0.0, 0)
    board.measure({1: {PUBLISH: counts(100, 10), ROTATION: counts(27, 0)}, 2: {PUBLISH: counts(30, 0)}}, 2.0, US)
    point = board.news(Seen())[0]["points"][-1]
    assert point.p50_ms == pytest.approx(20 / 30)
    assert point.p99_ms == pytest.approx(1 + (39.6 - 30) / 10)
    for _ in range(5):
        board.measure({}, 3.0, US)
    assert board.news(Seen())[0]["points"][-1].p50_ms is None
    assert (point.turns_per_s, point.rotation_ms) == (10.0, pytest.approx(0.5))


def test_the_holder_is_who_had_the_token_last() -> None:
    board = new_board()
    holders = []
    for looked in (snapshot(row(3, token_holder=3)), snapshot(), snapshot(row(2, token_holder=2))):
        board.look(looked, 0)
        holders.append(board.news(Seen())[0]["holder"])
    board.look(snapshot(row(1, view=(4, 1), ring=(1, 3)), gone(2)), 0)
    assert [*holders, board.news(Seen())[0]["holder"]] == [3, 3, 2, None]


def test_who_leads_the_product_store_is_told() -> None:
    board = new_board()
    board.look(snapshot(products=[product(1), product(2), gone(3)]), 0)
    found, _ = board.news(Seen())
    assert (found["products_leader"], len(found["products"])) == (1, 3)


def test_nobody_answers_is_said() -> None:
    board = new_board()
    assert board.news(Seen())[0]["health"] == "unknown"
    board.look(snapshot(gone(1), gone(2), gone(3)), 0)
    found, _ = board.news(Seen())
    assert (found["health"], found["next_offset"], found["view"]) == ("unreachable", None, None)


async def test_readers_wait_for_news_and_for_the_end() -> None:
    board = new_board()
    board.look(snapshot(), 0)
    _, seen = board.news(Seen())
    waiting = asyncio.create_task(board.newer(seen))
    await asyncio.sleep(0)
    assert not waiting.done()
    board.look(snapshot(), 1)
    await waiting
    await board.newer(seen)  # what came meanwhile counts
    board.close()
    await board.newer(board.news(Seen())[1])
