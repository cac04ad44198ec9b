"""The synchronous client is the asynchronous one, waiting."""

import asyncio
import inspect
import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

import ringcast
import ringcast.sync
from tests.client.doubles import Order, Replica

R = TypeVar("R")


@pytest.fixture
async def endpoint(replica: Replica) -> str:
    return replica.endpoint


async def in_thread(work: Callable[[], R]) -> R:
    """The replica lives in this loop, so the blocking client has to live in another thread."""
    async with asyncio.timeout(20):
        return await asyncio.to_thread(work)


async def test_publish_subscribe_and_ask(endpoint: str, order: Order) -> None:
    def work() -> None:
        with ringcast.sync.connect(endpoint, timeout=10) as bus:
            assert bus.publish("a", b"0", {"k": 1}).offset == 0
            assert bus.publish_many("a", [b"1", b"2"]).count == 2
            with bus.publisher("a") as publisher:
                tickets = [publisher.send(b"%d" % number) for number in range(3, 100)]
            assert [ticket.result().offset for ticket in tickets] == list(range(3, 100))
            with bus.subscribe("a", cursor="c") as subscription:
                found = list(itertools.islice(subscription, 100))
                assert [message.payload for message in found] == [b"%d" % number for number in range(100)]
                assert found[0].headers == {"k": 1}
                found[9].done()
                assert subscription.position is not None
            assert bus.cursor("c") == ringcast.CursorInfo("c", "a", 10)
            with bus.subscribe("a") as again:
                assert [batch.count for batch in itertools.islice(again.batches(), 2)] == [1, 2]
            assert [message.offset for message in bus.fetch("a", 5, 2)] == [5, 6]
            assert bus.status().replica == bus.replica == 1
            assert (bus.cluster, len(bus.client)) == (0xC0FFEE, 16)
            with pytest.raises(ringcast.IllegalTopic):
                bus.publish("a b", b"")
        with pytest.raises(ringcast.Closed):
            bus.publish("a", b"")

    await in_thread(work)
    assert "ringcast" not in {thread.name for thread in threading.enumerate()}


async def test_closing_from_another_thread_ends_the_iteration(endpoint: str) -> None:
    def work() -> list[bytes]:
        with ringcast.sync.connect(endpoint, timeout=10) as bus:
            bus.publish("a", b"0")
            subscription = bus.subscribe("a")
            found = []
            for message in subscription:
                found.append(message.payload)
                threading.Timer(0.05, subscription.close).start()
            return found

    assert await in_thread(work) == [b"0"]


async def test_a_cluster_that_is_not_there_is_said_and_leaves_no_thread() -> None:
    def work() -> None:
        with pytest.raises(ringcast.Unreachable), ringcast.sync.connect("tcp://127.0.0.1:9", timeout=0.2):
            pass

    await in_thread(work)
    assert "ringcast" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("name", ["Bus", "Publisher", "Subscription", "Ticket", "Message"])
def test_both_have_the_same_methods(name: str) -> None:
    """Whatever the asynchronous class offers, the synchronous one does too, under the same arguments."""
    ours, theirs = getattr(ringcast.sync, name), getattr(ringcast, name)
    skipped = {"next_batch", "failovers"}
    public = {key for key in dir(theirs) if not key.startswith("_")} - skipped
    if name == "Subscription":
        public = {key for key in public if callable(getattr(theirs, key))}
    instance_only = {"cursor"} if name == "Message" else set()
    assert public - instance_only <= set(dir(ours))
    for key in public - instance_only:
        method = getattr(theirs, key)
        if inspect.iscoroutinefunction(method):
            assert inspect.signature(getattr(ours, key)) == inspect.signature(method) or name == "Publisher"


async def test_a_call_that_waits_while_another_thread_closes_raises(endpoint: str, replica: Replica) -> None:
    replica.holding = True

    def work() -> None:
        with ringcast.sync.connect(endpoint, timeout=30) as bus:
            threading.Timer(0.05, bus.close).start()
            with pytest.raises((ringcast.PublishUnknown, ringcast.Closed)):
                bus.publish("a", b"x")
            with pytest.raises(ringcast.Closed):
                bus.status()

    await in_thread(work)
