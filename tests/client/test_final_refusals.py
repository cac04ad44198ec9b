"""Reasons that do not pass reach what waits: iterations, publishes, requests. What passes ends nothing."""

import asyncio
from typing import Any

import pytest

import ringcast
from ringcast import failover
from ringcast.errors import RingcastError, UnsupportedVersion
from tests.client.doubles import CLUSTER, Order, Replica
from tests.client.waiting import until

OTHER = CLUSTER + 1


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "REFUSED_BY_ALL_S", 0.1)
    monkeypatch.setattr(failover, "REFUSED_BY_MOST_S", 0.3)


async def replaced(replica: Replica) -> Replica:
    """A replica of another cluster at the same address."""
    replica.kill()
    stranger = Replica(Order(), cluster=OTHER)
    stranger.kill()
    stranger.port = replica.port
    await stranger.restart()
    return stranger


async def ended(task: "asyncio.Future[Any]") -> RingcastError:
    """What a task raised."""
    async with asyncio.timeout(10):
        with pytest.raises(RingcastError) as raised:
            await task
    return raised.value


async def test_a_cluster_that_was_replaced_is_told_to_all_that_wait(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish("a", b"0")
        subscription, idle = bus.subscribe("a"), bus.subscribe("a")
        await anext(subscription)
        await idle.begin()
        replica.holding = True
        sent = asyncio.create_task(bus.publish("a", b"1"))
        await until(lambda: len(replica.held) == 1)
        publisher = bus.publisher("b")
        ticket = await publisher.send(b"x")
        reading = asyncio.create_task(anext(subscription))
        stranger = await replaced(replica)
        try:
            assert isinstance(await ended(reading), ringcast.WrongCluster)
            assert isinstance(await ended(sent), ringcast.PublishUnknown)
            for call in (bus.publish("a", b"2"), bus.status(), anext(idle), publisher.send(b"y"), bus.topics()):
                assert isinstance(await ended(asyncio.ensure_future(call)), ringcast.WrongCluster)
            assert isinstance(await ended(asyncio.ensure_future(publisher.flush())), ringcast.PublishUnknown)
            with pytest.raises(ringcast.PublishUnknown):
                await ticket
        finally:
            stranger.close()


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedVersion(version=9, supported=1),
        ringcast.HandshakeRefused(endpoint="x", why="revoked", next="ask", certain=True),
    ],
)
async def test_a_refusal_by_name_that_lasts(replica: Replica, error: RingcastError) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        reading = asyncio.create_task(anext(subscription))
        replica.refuse_hello = error
        replica.say_goodbye()
        assert type(await ended(reading)) is type(error)


async def test_most_of_the_replicas_and_the_others_are_gone(replicas: list[Replica]) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus, bus.subscribe("a") as subscription:
        reading = asyncio.create_task(anext(subscription))
        strangers = [await replaced(one) for one in replicas[:2]]
        replicas[2].kill()
        try:
            assert isinstance(await ended(reading), ringcast.WrongCluster)
        finally:
            for one in strangers:
                one.close()


async def test_one_of_three_that_refuses_ends_nothing(replicas: list[Replica]) -> None:
    async with ringcast.connect([one.endpoint for one in replicas]) as bus, bus.subscribe("a") as subscription:
        stranger = await replaced(replicas[0])
        replicas[1].kill()
        await until(lambda: bus.replica == 3)
        replicas[2].kill()
        reading = asyncio.create_task(anext(subscription))
        await until(lambda: len(stranger.seen) > 5)  # again and again, and two may be down only
        await asyncio.wait({reading}, timeout=3 * failover.REFUSED_BY_MOST_S)
        assert not reading.done()
        await replicas[1].restart()
        await bus.publish("a", b"on")
        assert (await reading).payload == b"on"
        stranger.close()


async def test_a_refusal_that_passes_ends_nothing(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "REFUSED_BY_ALL_S", 1_000.0)
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        reading = asyncio.create_task(anext(subscription))
        replica.refuse_hello = UnsupportedVersion(version=9, supported=1)
        replica.say_goodbye()
        with pytest.raises(UnsupportedVersion):  # the reason, and not a Timeout; the batch stays pending
            await bus.publish("a", b"0", timeout=1)
        replica.refuse_hello = None
        assert (await reading).payload == b"0"
