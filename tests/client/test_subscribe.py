"""Subscribing: order, no holes and no doubles, whatever the feed loses and whichever replica dies."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

import ringcast
from ringcast import wire
from tests.client.doubles import TIME_US, Order, Replica
from tests.client.waiting import until


async def take(subscription: ringcast.Subscription, count: int, seconds: float = 10) -> list[ringcast.Message]:
    """The next `count` messages."""
    async with asyncio.timeout(seconds):
        return [await anext(subscription) for _ in range(count)]


async def read(subscription: ringcast.Subscription, count: int) -> list[ringcast.Message]:
    """The first messages, and close it."""
    async with subscription:
        return await take(subscription, count)


def payloads(messages: list[ringcast.Message]) -> list[bytes]:
    return [message.payload for message in messages]


async def fill(bus: ringcast.Bus, topic: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        await bus.publish(topic, b"%d" % number)


def numbers(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def fetches(replica: Replica) -> int:
    return sum(isinstance(message, wire.Fetch) for message in replica.seen)


async def test_old_then_live_in_one_order(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish_many("a", numbers(0, 5))
        await bus.publish("b", b"other")
        async with bus.subscribe("a") as subscription:
            assert payloads(await take(subscription, 5)) == numbers(0, 5)
            await fill(bus, "a", 5, 5)
            live = await take(subscription, 5)
        assert payloads(live) == numbers(5, 5)
        assert [message.offset for message in live] == [6, 7, 8, 9, 10]
        assert live[0].topic == "a"
        assert live[0].client == bus.client
        assert live[0].time == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=TIME_US + 2)


async def test_the_tail_is_live_and_does_not_poll(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        await bus.publish("a", b"0")
        await take(subscription, 1)
        await settled(subscription, bus)
        before = fetches(replica)
        await fill(bus, "a", 100, 50)
        assert payloads(await take(subscription, 50)) == numbers(100, 50)
        assert fetches(replica) == before


async def settled(subscription: ringcast.Subscription, bus: ringcast.Bus, topic: str = "a") -> None:
    """Return once the live feed is connected: one more message came over it."""
    waiting = asyncio.ensure_future(anext(subscription))
    while not waiting.done():
        await bus.publish(topic, b"settle")
        await asyncio.sleep(0.05)
    await waiting
    while True:
        try:
            async with asyncio.timeout(0.3):
                await anext(subscription)
        except TimeoutError:
            return


async def test_start_positions(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish_many("a", numbers(0, 4))
        await bus.publish_many("a", numbers(4, 4))
        assert payloads(await read(bus.subscribe("a", start=2), 3)) == numbers(2, 3)
        assert payloads(await read(bus.subscribe("a", start=6), 2)) == numbers(6, 2)
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=TIME_US + 1)
        assert payloads(await read(bus.subscribe("a", start=at), 1)) == [b"4"]
        async with bus.subscribe("a", start="latest") as latest:
            await bus.publish("a", b"new")
            assert payloads(await take(latest, 1)) == [b"new"]
        with pytest.raises(ValueError, match="offsets begin at 0"):
            bus.subscribe("a", start=-1)
        with pytest.raises(ValueError, match="'earliest', 'latest'"):
            bus.subscribe("a", start="newest")  # type: ignore[arg-type]
        with pytest.raises(ringcast.IllegalTopic):
            bus.subscribe("a.>.b")


async def test_a_start_in_the_future_waits_for_its_offset(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a", start=3) as subscription:
        await fill(bus, "a", 0, 5)
        assert payloads(await take(subscription, 2)) == numbers(3, 2)


@pytest.mark.parametrize("pattern", ["a.x", "a.>", ">"])
async def test_lost_feed_frames_are_fetched(replica: Replica, order: Order, pattern: str) -> None:
    chance = random.Random(1)
    replica.drop_feed = lambda info: chance.random() < 0.3
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe(pattern) as subscription:
        for number in range(150):
            await bus.publish(("a.x", "a.y", "b")[number % 3], b"%d" % number)
        expected = order.payloads(pattern)
        assert payloads(await take(subscription, len(expected))) == expected


async def test_a_lost_tail_is_found_by_the_control_topic(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        await bus.publish("a", b"0")
        await take(subscription, 1)
        await settled(subscription, bus)
        replica.drop_feed = lambda info: True
        await bus.publish("a", b"lost")
        assert payloads(await take(subscription, 1, seconds=0.9)) == [b"lost"]


async def test_a_feed_that_is_silent_is_not_trusted(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        replica.drop_feed, replica.control_enabled = lambda info: True, False
        await bus.publish("a", b"0")
        await take(subscription, 1)
        await bus.publish("a", b"1")
        assert payloads(await take(subscription, 1, seconds=3)) == [b"1"]


async def test_a_pattern_keeps_the_whole_order(replica: Replica, order: Order) -> None:
    """Only one topic's frame is lost: the other topic's next frame must not overtake it."""
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a.>") as subscription:
        await bus.publish("a.x", b"0")
        await take(subscription, 1)
        await settled(subscription, bus, "a.x")
        replica.drop_feed = lambda info: info.topic == "a.x"
        await asyncio.gather(*(bus.publish(topic, topic.encode()) for topic in ("a.x", "a.y", "a.x", "a.y")))
        assert payloads(await take(subscription, 4)) == [b"a.x", b"a.y", b"a.x", b"a.y"]


async def test_a_slow_consumer_goes_back_to_fetching_with_bounded_memory(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        await bus.publish("a", b"first")
        assert payloads(await take(subscription, 1)) == [b"first"]
        await settled(subscription, bus)
        waiting = []
        async with bus.publisher("a", batch_messages=1) as publisher:
            for number in range(300):
                await (await publisher.send(b"%d" % number + b" " * 60_000))
                waiting.append(subscription.parked_bytes)
        assert 1 << 20 < max(waiting) <= 4 << 20
        await until(lambda: subscription.parked_bytes == 0)
        rest = await take(subscription, 300)
        assert [int(message.payload) for message in rest] == list(range(300))


async def test_failover_has_no_hole_and_no_double(order: Order) -> None:
    replicas = [Replica(order, number) for number in (1, 2, 3)]
    endpoints = [one.endpoint for one in replicas]
    try:
        async with ringcast.connect(endpoints) as publishing, ringcast.connect(endpoints) as bus:
            subscription = bus.subscribe("a")
            reading = asyncio.create_task(take(subscription, 600, seconds=30))
            for number in range(600):
                await publishing.publish("a", b"%d" % number)
                if number % 100 == 50:
                    victim = replicas[bus.replica - 1]
                    victim.kill()
                    await until(lambda victim=victim: bus.replica != victim.replica)  # type: ignore[misc]
                    await victim.restart()
            assert payloads(await reading) == numbers(0, 600)
    finally:
        for one in replicas:
            one.close()


async def test_a_feed_that_breaks_alone_is_connected_again(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        await bus.publish("a", b"0")
        await take(subscription, 1)
        replica.restart_feed()
        await fill(bus, "a", 1, 5)
        assert payloads(await take(subscription, 5)) == numbers(1, 5)


async def test_garbage_on_the_feed_is_dropped_and_counted(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        await bus.publish("a", b"0")
        await take(subscription, 1)
        await settled(subscription, bus)
        for frames in ([b"a\x00"], [b"a\x00", b"\xc1", b""], [b"a\x00", b"\x90", b""], [b"a\x00", b"", b"", b""]):
            replica.send_feed(frames)
        await bus.publish("a", b"1")
        assert payloads(await take(subscription, 1)) == [b"1"]
        assert subscription.dropped == 4


async def test_batches_come_as_they_were_published(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish_many("a", numbers(0, 3))
        await bus.publish_many("a", numbers(3, 2))
        found = []
        async with bus.subscribe("a", start=1) as subscription:
            async for batch in subscription.batches():
                found.append((batch.first_offset, len(batch), batch.payloads()))
                if len(found) == 2:
                    break
        assert found == [(1, 2, [b"1", b"2"]), (3, 2, [b"3", b"4"])]


async def test_a_cancelled_iteration_loses_and_repeats_nothing(replica: Replica) -> None:
    chance = random.Random(3)
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        publishing = asyncio.create_task(fill(bus, "a", 0, 400))
        found: list[ringcast.Message] = []
        while len(found) < 400:
            reading = asyncio.ensure_future(anext(subscription))
            await asyncio.wait({reading}, timeout=chance.uniform(0, 0.002))
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                found.append(reading.result())
        await publishing
        assert payloads(found) == numbers(0, 400)


async def test_compacted_is_said_unless_earliest_was_asked_for(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await fill(bus, "a", 0, 10)
        order.compacted_below = 4
        assert payloads(await read(bus.subscribe("a"), 1)) == [b"4"]
        with pytest.raises(ringcast.Compacted, match="the oldest kept is 4"):
            await read(bus.subscribe("a", start=3), 1)
        with pytest.raises(ringcast.Compacted):
            await bus.fetch("a", 0, 1)


async def test_one_replica_alone(replicas: list[Replica], order: Order) -> None:
    endpoints = [one.endpoint for one in replicas]
    async with ringcast.connect(endpoints) as bus:
        await fill(bus, "a", 0, 3)
        for one in replicas:
            one.seen.clear()
        for number in (1, 2, 3):
            assert payloads(await read(bus.subscribe("a", replica=number), 3)) == numbers(0, 3)
        assert [fetches(one) > 0 for one in replicas] == [True] * 3
        with pytest.raises(ringcast.Unreachable, match="not 9"):
            async with ringcast.connect(endpoints, replica=9, timeout=0.3):
                pass


async def test_closing_ends_the_iteration(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        subscription = bus.subscribe("a")
        found: list[bytes] = []

        async def read() -> None:
            found.extend([message.payload async for message in subscription])

        reading = asyncio.create_task(read())
        await bus.publish("a", b"0")
        await until(lambda: subscription.position == 1)
        await subscription.close()
        async with asyncio.timeout(5):
            await reading
        assert found == [b"0"]


# ---- cursors ----


async def test_a_cursor_resumes_behind_what_is_done(replicas: list[Replica], order: Order) -> None:
    endpoints = [one.endpoint for one in replicas]
    async with ringcast.connect(endpoints) as bus:
        await fill(bus, "a", 0, 10)
        messages = await read(bus.subscribe("a", cursor="billing"), 4)
        await messages[2].done()
    async with ringcast.connect(endpoints) as bus:
        again = await read(bus.subscribe("a", start="latest", cursor="billing"), 2)
        assert payloads(again) == numbers(3, 2)
        assert await bus.cursor("billing") == ringcast.CursorInfo("billing", "a", 3)


async def test_commits_that_overlap_share_one_record(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await fill(bus, "a", 0, 50)
        messages = await read(bus.subscribe("a", cursor="c"), 50)
        await asyncio.gather(*(message.done() for message in messages))
        assert order.cursors["c"] == ("a", 50)
        assert sum(info.topic == "_cursors" for info, _ in order.batches) <= 3


async def test_done_needs_a_cursor_and_a_late_one_moves_nothing_back(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await fill(bus, "a", 0, 5)
        with pytest.raises(ringcast.Refused, match="subscribe with cursor='name'"):
            await (await read(bus.subscribe("a"), 1))[0].done()
        messages = await read(bus.subscribe("a", cursor="c"), 5)
        await messages[4].done()
        await messages[1].done()
        assert order.cursors["c"][1] == 5
        async with bus.subscribe("a", cursor="d") as subscription:
            await (await subscription.next_batch()).done()
        assert order.cursors["d"][1] == 1


async def test_cursors_are_listed_reset_and_deleted(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.reset_cursor("b", "a", 7)
        await bus.reset_cursor("a", "a.>", 9)
        await bus.reset_cursor("b", "a", 3)
        assert await bus.cursors() == [ringcast.CursorInfo("a", "a.>", 9), ringcast.CursorInfo("b", "a", 3)]
        await bus.delete_cursor("b")
        assert await bus.cursor("b") is None
        with pytest.raises(ringcast.IllegalTopic, match="name of a cursor"):
            await bus.cursor("_b")
