"""ringcast/product_store/lanes.py by itself: what leaves together, and what goes again under the number it had."""

import asyncio

import pytest

from ringcast.errors import Closed
from ringcast.product_store.lanes import IN_FLIGHT_MAX, PENDING_BYTES_MAX, Lane, Request
from ringcast.product_store.wire import ITEM_BYTES, OPERATIONS_MAX, REQUEST_BYTES_MAX, WINDOW


@pytest.fixture
async def lane() -> Lane:
    return Lane()


def taken(lane: Lane) -> Request:
    request = lane.take()
    assert request is not None
    return request


async def test_what_waits_together_leaves_together(lane: Lane) -> None:
    waiters = [lane.add(b"%d" % number) for number in range(3)]
    request = taken(lane)
    assert (request.number, request.items, lane.size) == (1, [b"0", b"1", b"2"], ITEM_BYTES + 3 * (ITEM_BYTES + 1))
    assert (lane.take(), lane.acknowledged) == (None, 0)
    assert lane.finish(1) is request
    request.settle([b"a", b"b", b"c"])
    assert [await waiter for waiter in waiters] == [b"a", b"b", b"c"]
    assert (lane.size, lane.acknowledged, lane.finish(1)) == (0, 1, None)


async def test_requests_are_bounded(lane: Lane) -> None:
    for _ in range(OPERATIONS_MAX + 1):
        lane.add(b"x")
    lane.add(b"y" * (REQUEST_BYTES_MAX - 3 * ITEM_BYTES))
    lane.add(b"z", alone=True)
    lane.add(b"z", alone=True)
    sizes = []
    while (request := lane.take()) is not None:
        sizes.append(len(request.items))
    assert sizes == [OPERATIONS_MAX, 1, 1, 1, 1]
    assert not lane.full
    for _ in range(PENDING_BYTES_MAX // REQUEST_BYTES_MAX):
        lane.add(b"x" * REQUEST_BYTES_MAX)
    assert lane.full


async def test_as_many_are_under_way_as_may_be_and_the_rest_joins(lane: Lane) -> None:
    for number in range(IN_FLIGHT_MAX):
        lane.add(b"%d" % number)
        taken(lane)
    lane.add(b"a")
    lane.add(b"b")
    assert lane.take() is None
    lane.finish(3)
    assert taken(lane).items == [b"a", b"b"]
    assert lane.acknowledged == 0


async def test_all_goes_again_in_order_and_unchanged(lane: Lane) -> None:
    for number in range(4):
        lane.add(b"%d" % number)
        taken(lane)
    lane.finish(2)
    lane.add(b"later")
    lane.again(4)
    lane.disconnected()
    assert [(one.number, one.items, one.attempts) for one in (taken(lane) for _ in range(4))] == [
        (1, [b"0"], 2),
        (3, [b"2"], 2),
        (4, [b"3"], 2),
        (5, [b"later"], 1),
    ]
    assert lane.acknowledged == 0


async def test_what_was_given_up_is_left_out_before_it_is_sent_and_kept_after(lane: Lane) -> None:
    gone, kept = lane.add(b"gone"), lane.add(b"kept")
    gone.cancel()
    request = taken(lane)
    assert (request.items, lane.size) == ([b"kept"], 2 * ITEM_BYTES + 4)
    lane.add(b"other").cancel()
    assert (lane.take(), lane.size) == (None, 2 * ITEM_BYTES + 4)
    lane.disconnected()
    assert taken(lane).items == [b"kept"]
    kept.cancel()
    lane.disconnected()
    assert (lane.take(), lane.size) == (None, 0)


async def test_no_request_is_sent_beyond_the_window_of_the_store(lane: Lane) -> None:
    lane.add(b"slow")
    taken(lane)
    for number in range(2, WINDOW + 1):
        lane.add(b"x")
        assert taken(lane).number == number
        lane.finish(number)
    lane.add(b"x")
    assert (lane.take(), lane.acknowledged) == (None, 0)
    lane.finish(1)
    assert taken(lane).number == WINDOW + 1


async def test_numbers_begin_anew(lane: Lane) -> None:
    first = lane.add(b"first")
    taken(lane)
    second = lane.add(b"second")
    requests = lane.drain()
    assert ([one.items for one in requests], lane.size) == ([[b"first"], [b"second"]], 0)
    lane.restart(requests)
    assert [(one.number, one.attempts) for one in (taken(lane), taken(lane))] == [(1, 1), (2, 1)]
    for request in lane.drain():
        request.fail(Closed(what="product store"))
    assert all(isinstance(outcome, Closed) for outcome in await asyncio.gather(first, second, return_exceptions=True))
