"""Publishing: receipts, limits, the window, pipelining, time limits, cancellation."""

import asyncio

import pytest

import ringcast
from ringcast import wire
from ringcast.bus.joining import IN_FLIGHT_MAX
from tests.client.doubles import LIMITS, TIME_US, Order, Replica
from tests.client.waiting import until


async def test_publish_returns_the_place_in_the_order(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        first = await bus.publish("a.b", b"one", {"kind": "x", "n": 3})
        second = await bus.publish_many("a.c", [b"two", b"three"])
        assert (first.offset, first.count, first.slot, first.time_us) == (0, 1, 0, TIME_US)
        assert (second.offset, second.count, second.slot) == (1, 2, 1)
        assert first.time < second.time
        assert order.payloads() == [b"one", b"two", b"three"]
        assert (await bus.fetch("a.b", 0, 1))[0].headers == {"kind": "x", "n": 3}


@pytest.mark.parametrize("topic", ["", ".", "a.", "a..b", "a b", "_cursors", "_x.y", "a.>", ">", "ä", "x" * 256])
async def test_illegal_topics_never_leave_the_client(replica: Replica, topic: str) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        with pytest.raises(ringcast.IllegalTopic, match="at most 255 bytes"):
            await bus.publish(topic, b"x")
        with pytest.raises(ringcast.IllegalTopic):
            bus.publisher(topic)
        assert replica.published() == []


async def test_what_is_too_large_is_refused_with_size_and_limit(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        limit = LIMITS.batch_bytes_max
        with pytest.raises(ringcast.TooLarge, match=f"{limit + 1} bytes, the limit is {limit}"):
            await bus.publish("a", b"x" * (limit - 12 + 1))
        await bus.publish("a", b"x" * (limit - 12))
        with pytest.raises(ringcast.TooLarge, match="the limit is 1 to 4096"):
            await bus.publish_many("a", [b""] * 4_097)
        with pytest.raises(ringcast.TooLarge, match="0 messages"):
            await bus.publish_many("a", [])
        with pytest.raises(TypeError, match="bytes, not str"):
            await bus.publish("a", "text")  # type: ignore[arg-type]
        async with bus.publisher("a") as publisher:
            with pytest.raises(ringcast.TooLarge, match=f"the limit is {limit - 12}"):
                await publisher.send(b"x" * (limit - 11))
        assert replica.published() == [1]


async def test_a_publisher_makes_batches_and_keeps_order(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        async with bus.publisher("a", batch_messages=10) as publisher:
            tickets = [await publisher.send(b"%d" % number) for number in range(95)]
        receipts = [await ticket for ticket in tickets]
    assert [receipt.offset for receipt in receipts] == list(range(95))
    assert order.payloads() == [b"%d" % number for number in range(95)]
    assert [info.messages for info, _ in order.batches] == [10] * 9 + [5]


async def test_a_publisher_splits_by_bytes_and_mixes_headers(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        async with bus.publisher("a", batch_bytes=1_000) as publisher:
            for number in range(10):
                await publisher.send(b"x" * 300, {"n": number} if number % 2 else None)
        assert max(len(packed) for _, packed in order.batches) <= 1_000
        found = await bus.fetch("a", 0, 10)
    assert [message.headers for message in found] == [{"n": n} if n % 2 else {} for n in range(10)]


async def test_a_lone_message_does_not_linger(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.publisher("a", linger_ms=60_000) as publisher:
        ticket = await publisher.send(b"x")
        async with asyncio.timeout(5):
            assert (await ticket).offset == 0
        assert ticket.done()


async def test_send_waits_at_the_window_and_goes_on_with_receipts(replica: Replica, order: Order) -> None:
    replica.credit, replica.holding = 1_000, True
    async with ringcast.connect(replica.endpoint) as bus:
        publisher = bus.publisher("a", batch_bytes=200)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for number in range(50):
                await publisher.send(b"%03d" % number + b"x" * 97)
                sent += 1

        sending = asyncio.create_task(send_all())
        await until(lambda: len(replica.held) >= 4)
        await asyncio.sleep(0.05)  # would be enough for all fifty
        assert sent < 20
        assert sum(len(packed) for _, _, packed in replica.held) <= 1_000
        replica.release()
        await sending
        await publisher.close()
        assert [payload[:3] for payload in order.payloads()] == [b"%03d" % number for number in range(50)]


async def test_publishes_of_one_turn_leave_together_and_in_order(replica: Replica, order: Order) -> None:
    """Each gets a place of its own; another topic, or a batch of the caller's, ends what is open."""
    async with ringcast.connect(replica.endpoint) as bus:
        receipts = await asyncio.gather(
            bus.publish("a", b"0"),
            bus.publish("a", b"1", {"kind": "x"}),
            bus.publish("b", b"2"),
            bus.publish("a", b"3"),
            bus.publish_many("a", [b"4", b"5"]),
            bus.publish("a", b"6"),
        )
        assert [(receipt.offset, receipt.count) for receipt in receipts] == [
            (0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (6, 1)
        ]  # fmt: skip
        assert order.payloads() == [b"%d" % number for number in range(7)]
        assert replica.published() == [1, 2, 3, 4, 5]
        assert [message.headers for message in await bus.fetch("a", 0, 2)] == [{}, {"kind": "x"}]


async def test_what_comes_while_much_is_in_flight_joins_one_batch(replica: Replica, order: Order) -> None:
    replica.holding = True
    async with ringcast.connect(replica.endpoint) as bus:
        publishing = []
        for number in range(20):
            publishing.append(asyncio.create_task(bus.publish("a", b"%d" % number)))
            await asyncio.sleep(0.005)
        assert len(replica.held) == IN_FLIGHT_MAX
        replica.release()
        receipts = await asyncio.gather(*publishing)
        assert [receipt.offset for receipt in receipts] == list(range(20))
        assert replica.published() == [1, 2, 3, 4, 5]


async def test_what_is_open_at_the_end_was_never_published(replica: Replica) -> None:
    replica.holding = True
    bus = await ringcast.connect(replica.endpoint).__aenter__()
    publishing = [asyncio.create_task(bus.publish("a", b"x")) for _ in range(3)]
    await asyncio.sleep(0)
    await bus.close()
    for outcome in await asyncio.gather(*publishing, return_exceptions=True):
        assert isinstance(outcome, ringcast.PublishUnknown | ringcast.Closed)


async def test_one_batch_may_always_be_outstanding(replica: Replica) -> None:
    replica.credit = 10
    async with ringcast.connect(replica.endpoint) as bus:
        receipts = await asyncio.gather(*(bus.publish("a", b"x" * 100) for _ in range(5)))
        assert sorted(receipt.offset for receipt in receipts) == [0, 1, 2, 3, 4]


async def test_a_time_limit_leaves_the_batch_pending_and_it_arrives_once(replica: Replica, order: Order) -> None:
    replica.holding = True
    async with ringcast.connect(replica.endpoint) as bus:
        with pytest.raises(ringcast.Timeout, match=r"the publish on a .* 0\.05 s") as caught:
            await bus.publish("a", b"late", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        replica.release()
        await bus.publish("a", b"next")
        assert order.payloads() == [b"late", b"next"]


async def test_without_a_quorum_the_time_limit_says_so(replica: Replica, order: Order) -> None:
    replica.serving, replica.holding = False, True
    async with ringcast.connect(replica.endpoint) as bus:
        await until(lambda: any(isinstance(message, wire.Ping) for message in replica.seen))
        with pytest.raises(ringcast.NotInQuorum, match="replica 1"):
            await bus.publish("a", b"x", timeout=0.6)
        replica.serving = True
        replica.release()
        await bus.publish("a", b"y")
        assert order.payloads() == [b"x", b"y"]


async def test_a_cancelled_publish_is_still_sent_exactly_once(replica: Replica, order: Order) -> None:
    replica.holding = True
    async with ringcast.connect(replica.endpoint) as bus:
        publishing = asyncio.create_task(bus.publish("a", b"x"))
        await until(lambda: len(replica.held) == 1)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        replica.release()
        await bus.publish("a", b"y")
        assert order.payloads() == [b"x", b"y"]


async def test_a_cancelled_wait_at_the_window_gives_its_turn_on(replica: Replica, order: Order) -> None:
    replica.credit, replica.holding = 100, True
    async with ringcast.connect(replica.endpoint) as bus:
        first = asyncio.create_task(bus.publish("a", b"1" * 80))
        await until(lambda: len(replica.held) == 1)
        second = asyncio.create_task(bus.publish("a", b"2" * 80))
        third = asyncio.create_task(bus.publish("a", b"3" * 80))
        await asyncio.sleep(0)
        second.cancel()
        replica.release()
        await asyncio.gather(first, third)
        assert [payload[:1] for payload in order.payloads()] == [b"1", b"3"]


async def test_a_cancelled_ticket_does_not_cancel_its_batch(replica: Replica) -> None:
    replica.holding = True
    async with ringcast.connect(replica.endpoint) as bus, bus.publisher("a") as publisher:
        one, two = await publisher.send(b"1"), await publisher.send(b"2")

        async def wait() -> ringcast.Receipt:
            return await one

        waiting = asyncio.create_task(wait())
        await until(lambda: len(replica.held) == 1)
        waiting.cancel()
        replica.release()
        assert (await two).offset == 1
        assert (await one).offset == 0


async def test_closing_with_a_batch_outstanding_says_unknown(replica: Replica) -> None:
    replica.holding = True
    async with ringcast.connect(replica.endpoint) as bus:
        publishing = asyncio.create_task(bus.publish("a", b"x"))
        await until(lambda: len(replica.held) == 1)
    with pytest.raises(ringcast.PublishUnknown, match="in the order once or not"):
        await publishing
    with pytest.raises(ringcast.Closed):
        await bus.publish("a", b"x")


async def test_flush_raises_what_nobody_awaited(replica: Replica, order: Order) -> None:
    order.judge = lambda publish: ringcast.Refused(reason="no") if publish.topic == "bad" else None
    async with ringcast.connect(replica.endpoint) as bus:
        publisher = bus.publisher("bad")
        await publisher.send(b"x")
        with pytest.raises(ringcast.Refused, match="no"):
            await publisher.flush()
        await publisher.close()
