"""Failover (K2): resent in order, applied exactly once, moved on for each kind of trouble."""

import asyncio
import json
import random
from pathlib import Path

import pytest
import uvloop

import ringcast
from ringcast import wire
from ringcast.errors import IdReused, NotReady, TooLarge, WindowExceeded
from tests.client.doubles import Order, Replica
from tests.client.waiting import until


def connected(replicas: list[Replica], bus: ringcast.Bus) -> Replica:
    return next(one for one in replicas if one.replica == bus.replica)


async def test_a_killed_replica_is_noticed_at_once_and_everything_is_resent(
    replicas: list[Replica], order: Order
) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        first = connected(replicas, bus)
        first.holding = True
        publishing = [asyncio.create_task(bus.publish_many("a", [b"%d" % number])) for number in range(10)]
        await until(lambda: len(first.held) == 10)
        loop = asyncio.get_running_loop()
        killed = loop.time()
        first.kill()
        receipts = await asyncio.gather(*publishing)
        assert loop.time() - killed < 0.2
        assert [receipt.offset for receipt in receipts] == list(range(10))
        assert order.payloads() == [b"%d" % number for number in range(10)]
        assert bus.failovers == 1


async def test_receipts_that_were_lost_do_not_make_doubles(replicas: list[Replica], order: Order) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        first = connected(replicas, bus)
        first.mute = True
        publishing = [asyncio.create_task(bus.publish_many("a", [b"%d" % number])) for number in range(10)]
        await until(lambda: order.next_offset == 10)
        first.kill()
        receipts = await asyncio.gather(*publishing)
        assert [receipt.offset for receipt in receipts] == list(range(10))
        assert len(order.payloads()) == 10


async def test_a_stopped_replica_is_left_after_silence(replicas: list[Replica], order: Order) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        connected(replicas, bus).stopped = True
        receipt = await bus.publish("a", b"x", timeout=5)
        assert receipt.offset == 0
        assert order.payloads() == [b"x"]


async def test_a_replica_without_quorum_is_left(replicas: list[Replica]) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        first = connected(replicas, bus)
        first.serving, first.holding = False, True
        assert (await bus.publish("a", b"x", timeout=5)).offset == 0
        assert bus.replica != first.replica


async def test_a_replica_that_leaves_hands_its_clients_on(replicas: list[Replica]) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        first = connected(replicas, bus)
        first.holding = True
        publishing = asyncio.create_task(bus.publish("a", b"x", timeout=5))
        await until(lambda: len(first.held) == 1)
        first.say_goodbye()
        assert (await publishing).offset == 0
        assert bus.replica != first.replica


@pytest.mark.parametrize("how", ["by WELCOME", "while connected"])
async def test_a_client_outlives_every_replica_that_it_was_given(order: Order, how: str) -> None:
    """V12: members come and go; who was given the first one goes on with the last one."""
    with Replica(order, 1) as first, Replica(order, 2) as second, Replica(order, 3) as third:
        if how == "by WELCOME":
            first.tell_members(first, second)
        async with ringcast.connect([first.endpoint], timeout=5) as bus:
            if how == "while connected":
                first.tell_members(first, second)
            await bus.publish("a", b"1")
            first.kill()
            assert (await bus.publish("a", b"2")).offset == 1
            assert bus.replica == 2
            second.tell_members(third)
            await bus.publish("a", b"3")
            second.kill()
            assert (await bus.publish("a", b"4")).offset == 3
            assert bus.replica == 3
        assert order.payloads() == [b"1", b"2", b"3", b"4"]


async def test_a_replica_that_was_not_given_is_found_by_its_id(order: Order) -> None:
    with Replica(order, 1) as first, Replica(order, 2) as second:
        first.tell_members(first, second)
        async with ringcast.connect([first.endpoint], replica=2, timeout=5) as bus:
            assert bus.replica == 2


async def test_a_member_that_tells_an_address_of_elsewhere_is_reached_where_the_file_says(
    order: Order, tmp_path: Path
) -> None:
    """Replicas in containers tell of names that only containers know; the file says where their ports are published."""
    with Replica(order, 1) as first, Replica(order, 2) as second:
        rows = [
            {"role": "bus", "id": one.replica, "client": one.endpoint, "feed": f"tcp://127.0.0.1:{one.feed_port}"}
            for one in (first, second)
        ]
        document = {"cluster": 0, "published": True, "replicas": [rows[0], rows[1] | {"spare": True}]}
        path = tmp_path / "cluster.json"
        path.write_text(json.dumps(document))
        first.members = second.members = tuple(wire.Endpoint(one, f"tcp://bus-{one}.invalid:7103") for one in (1, 2))
        async with ringcast.connect(path, timeout=5) as bus:
            await bus.publish("a", b"1")
            assert bus.replica == 1
            first.kill()
            assert (await bus.publish("a", b"2")).offset == 1
            assert bus.replica == 2


async def test_a_replica_that_is_not_ready_refuses_and_is_left(replicas: list[Replica], order: Order) -> None:
    refused: list[int] = []

    def once(publish: wire.Publish) -> ringcast.RingcastError | None:
        refused.append(publish.sequence)
        return NotReady(replica=1, state="read-only") if len(refused) == 1 else None

    order.judge = once
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        before = bus.replica
        assert (await bus.publish("a", b"x", timeout=5)).offset == 0
        assert bus.replica != before


@pytest.mark.parametrize("error", [WindowExceeded(outstanding=9, credit=1), None])
async def test_from_the_refused_batch_on_everything_is_resent(
    replica: Replica, order: Order, error: WindowExceeded | None
) -> None:
    """One batch is lost or refused in the middle; all behind it are gaps, then all arrive in order."""
    lost: list[int] = []

    def lose_the_third(publish: wire.Publish) -> ringcast.RingcastError | None:
        if publish.sequence == 3 and not lost:
            lost.append(3)
            return error or ringcast.SequenceGap(sequence=3, last=2)
        return None

    order.judge = lose_the_third
    async with ringcast.connect(replica.endpoint) as bus:
        receipts = await asyncio.gather(*(bus.publish_many("a", [b"%d" % number]) for number in range(8)))
        assert [receipt.offset for receipt in receipts] == list(range(8))
        assert order.payloads() == [b"%d" % number for number in range(8)]
        assert replica.published() == [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8]


async def test_what_is_refused_for_good_leaves_its_number_to_a_filler(replica: Replica, order: Order) -> None:
    order.judge = lambda publish: TooLarge(what="x", size=1, limit=0, unit="y") if publish.topic == "bad" else None
    async with ringcast.connect(replica.endpoint) as bus:
        outcomes = await asyncio.gather(
            bus.publish("a", b"1"), bus.publish("bad", b"2"), bus.publish("a", b"3"), return_exceptions=True
        )
        assert isinstance(outcomes[1], ringcast.TooLarge)
        assert order.payloads() == [b"1", b"3"]
        assert [info.topic for info, _ in order.batches] == ["a", "_cursors", "a"]


async def test_an_id_that_others_use_is_left(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        before = bus.client
        order.judge = lambda publish: IdReused(sequence=1) if publish.client == before else None
        with pytest.raises(ringcast.IdReused):
            await bus.publish("a", b"x")
        assert (await bus.publish("a", b"y", timeout=5)).offset == 0
        assert bus.client != before


async def test_a_forgotten_idle_client_goes_on_with_a_new_id(replica: Replica, order: Order) -> None:
    """Sent once and refused as expired is certainly not applied: it moves to the new id, in order."""
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish("a", b"0")
        before = bus.client
        order.forget_clients()
        order.batches.append(order.batches[0])  # the log went on
        receipts = await asyncio.gather(*(bus.publish("b", b"%d" % number) for number in range(5)))
        assert [receipt.count for receipt in receipts] == [1] * 5
        assert order.payloads("b") == [b"%d" % number for number in range(5)]
        assert bus.client != before


async def test_what_was_sent_twice_and_then_forgotten_is_unknown(replicas: list[Replica], order: Order) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus:
        first = connected(replicas, bus)
        first.mute = True
        publishing = asyncio.create_task(bus.publish("a", b"x"))
        await until(lambda: order.next_offset == 1)
        order.forget_clients()
        first.kill()
        with pytest.raises(ringcast.PublishUnknown, match="'a'"):
            await publishing
        assert order.payloads() == [b"x"]


async def test_exactly_once_through_a_storm(order: Order) -> None:
    """Replicas die, stop answering and come back on other ports; each message is applied once, in order."""
    chance = random.Random(7)
    replicas = [Replica(order, number) for number in (1, 2, 3)]
    try:
        async with ringcast.connect([one.endpoint for one in replicas]) as bus:
            publisher = bus.publisher("a", batch_messages=7)

            async def publish_all() -> list[ringcast.Receipt]:
                tickets = []
                for number in range(2_000):
                    tickets.append(await publisher.send(b"%d" % number))
                    if number % 50 == 0:
                        await asyncio.sleep(0.002)
                await publisher.close()
                return [await ticket for ticket in tickets]

            publishing = asyncio.create_task(publish_all())
            while not publishing.done():
                victim = connected(replicas, bus)
                victim.mute = True
                await asyncio.sleep(chance.uniform(0.001, 0.02))
                victim.kill()
                victim.mute = False
                await victim.restart()
                await asyncio.sleep(chance.uniform(0.001, 0.05))
            receipts = await publishing
            assert bus.failovers > 3
        assert order.payloads() == [b"%d" % number for number in range(2_000)]
        assert [receipt.offset for receipt in receipts] == list(range(2_000))
    finally:
        for one in replicas:
            one.close()


def test_another_event_loop_does_as_well() -> None:
    """uvloop, which replicas use: the descriptor of a ZeroMQ socket is watched the same way."""

    async def work() -> None:
        order = Order()
        with Replica(order, 1) as one, Replica(order, 2) as two:
            async with ringcast.connect([one.endpoint, two.endpoint]) as bus, bus.subscribe("a") as subscription:
                async with bus.publisher("a", batch_messages=5) as publisher:
                    for number in range(100):
                        await publisher.send(b"%d" % number)
                connected([one, two], bus).kill()
                await bus.publish("a", b"100")
                found = [await anext(subscription) for _ in range(101)]
                assert [int(message.payload) for message in found] == list(range(101))

    uvloop.run(work())
