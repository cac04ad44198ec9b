"""One feed a session: shared by its subscriptions, given back with the last one, no message lost on the way."""

import asyncio
import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringcast
from ringcast import wire
from ringcast.bus import feed, live, prefixes
from ringcast.bus.batch import pack
from ringcast.bus.listener import Listener
from ringcast.bus.live import LiveFeed
from ringcast.bus.session import Session
from ringcast.bus.topics import matches
from ringcast.wire import BatchInfo
from tests.client.doubles import Order, Replica
from tests.client.waiting import until

CLUSTER = 7


def files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def feeds(bus: ringcast.Bus) -> list[LiveFeed]:
    return list(bus._feeds.values())


async def follow(subscription: ringcast.Subscription, found: list[bytes]) -> None:
    async for message in subscription:
        found.append(message.payload)  # noqa: PERF401 - each as it comes


async def test_many_subscriptions_share_one_socket_and_each_gets_everything(replica: Replica) -> None:
    """1,500 topics: more subscriptions than a queue of libzmq's takes, which drops the rest in silence."""
    async with ringcast.connect(replica.endpoint) as bus:
        async with bus.subscribe("t.0", "latest") as first:
            await asyncio.wait({reading := asyncio.ensure_future(anext(first))}, timeout=0.05)
            before = files()
            subscriptions = [bus.subscribe(f"t.{number}", "latest") for number in range(1_500)]
            await asyncio.gather(*(one.begin() for one in subscriptions))
            found: list[list[bytes]] = [[] for _ in subscriptions]
            tasks = [asyncio.create_task(follow(*pair)) for pair in zip(subscriptions, found, strict=True)]
            assert files() == before
            (feed_of_all,) = feeds(bus)
            await until(lambda: len(feed_of_all._fresh) == 0)
            asked = len(replica.seen)
            for number in range(0, 1_500, 100):
                await bus.publish(f"t.{number}", b"%d" % number)
            await until(lambda: all(found[number] for number in range(0, 1_500, 100)))
            assert sum(map(len, found)) == 15
            assert sum(isinstance(one, wire.Fetch) for one in replica.seen[asked:]) == 0
            assert (await reading).payload == b"0"
            for one in subscriptions:
                await one.close()
            await asyncio.gather(*tasks)
        await until(lambda: feed_of_all._socket is None)


async def test_a_loop_that_is_left_by_break_gives_everything_back(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish("a", b"0")
        before = files()
        with pytest.warns(ResourceWarning, match="'a' was forgotten before it was closed"):  # noqa: PT031
            async for _ in bus.subscribe("a"):
                break
            async for _ in bus.subscribe("a").batches():
                break
            gc.collect()
            await until(lambda: not feeds(bus)[0]._groups)
        assert files() == before
        assert feeds(bus)[0].held_bytes == 0


async def test_what_a_task_that_nobody_holds_waits_for_stays(replica: Replica) -> None:
    """The feed is the only one that knows of it."""
    found: list[bytes] = []
    async with ringcast.connect(replica.endpoint) as bus:
        asyncio.create_task(follow(bus.subscribe("a"), found))  # noqa: RUF006 - that is the point
        await until(lambda: bool(feeds(bus)) and len(feeds(bus)[0]._fresh) == 0)
        gc.collect()
        await bus.publish("a", b"0")
        await until(lambda: found == [b"0"])


async def test_those_that_want_the_same_ask_once(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish_many("a", [b"0", b"1"])
        subscriptions = [bus.subscribe("a") for _ in range(50)]
        assert [m.payload for m in await asyncio.gather(*map(anext, subscriptions))] == [b"0"] * 50
        assert sum(isinstance(one, wire.Fetch) for one in replica.seen) == 1
        for one in subscriptions:
            await one.close()


async def test_two_tasks_share_one_subscription(replica: Replica) -> None:
    found: list[bytes] = []
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a") as subscription:
        tasks = [asyncio.create_task(follow(subscription, found)) for _ in range(3)]
        for number in range(30):
            await bus.publish("a", b"%d" % number)
        await until(lambda: len(found) == 30)
        assert found == [b"%d" % number for number in range(30)]
        await subscription.close()
        await asyncio.gather(*tasks)


async def test_a_quiet_topic_moves_up_so_that_retention_does_not_pass_it(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("quiet") as subscription:
        reading = asyncio.ensure_future(anext(subscription))
        for _ in range(20):
            await bus.publish("busy", b"x")
        await until(lambda: subscription.position == 20)
        order.compacted_below = 20
        replica.restart_feed()  # it has to fetch
        await bus.publish("quiet", b"here")
        assert (await reading).payload == b"here"


async def test_closing_the_bus_ends_every_iteration(replica: Replica) -> None:
    found: list[bytes] = []
    bus = await ringcast.connect(replica.endpoint).__aenter__()
    tasks = [asyncio.create_task(follow(bus.subscribe("a"), found)) for _ in range(5)]
    await bus.publish("a", b"0")
    await until(lambda: len(found) == 5)
    await bus.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


# ---- prefixes ----

_WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4).map(".".join)


@given(st.sets(_WORDS | _WORDS.map(lambda one: f"{one}.>") | st.just(">"), max_size=60), st.integers(1, 20))
def test_a_cover_receives_everything_and_is_small(patterns: set[str], most: int) -> None:
    wanted = {feed.prefix(pattern) for pattern in patterns}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "PREFIXES_MAX", most)
        found = prefixes.cover(wanted)
    assert len(found) <= most
    assert all(any(one.startswith(wide) for wide in found) for one in wanted)
    assert len(wanted) > most or found <= wanted


def test_a_cover_keeps_to_the_words_that_topics_share() -> None:
    """So that a key that may read `shop.eu.>` only is still given what it asks for."""
    names = [f"shop.eu.{number}" for number in range(2_000)]
    assert prefixes.cover({feed.prefix(name) for name in [*names, "other"]}) == {b"shop.eu.", b"other\0"}
    assert prefixes.cover({feed.prefix(f"t{number}") for number in range(2_000)} | {b"_x\0"}) == {b"", b"_x\0"}


async def test_a_connection_that_has_sent_its_share_of_subscriptions_is_replaced(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "MESSAGES_MAX", 20)
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("stays") as stays:
        for number in range(60):
            async with bus.subscribe(f"t.{number}") as one:
                await bus.publish(f"t.{number}", b"x")
                assert (await anext(one)).payload == b"x"
            (shared,) = feeds(bus)
            assert shared._messages <= 21
        await bus.publish("stays", b"0")
        assert (await anext(stays)).payload == b"0"


# ---- nothing is lost, whatever the feed loses and whoever is slow ----


class _Session:
    """No connection: frames are handed in, fetches are answered from the order."""

    cluster = CLUSTER
    attached = False

    def __init__(self) -> None:
        self.on_attach: list[Callable[[wire.Welcome], None]] = []
        self.on_end: list[Callable[[], None]] = []

    def check_open(self) -> None:
        """It is."""


class _Consumer:
    """Takes and fetches step by step, as a subscription does between two awaits."""

    def __init__(self, shared: LiveFeed, pattern: str, position: int) -> None:
        self.listener: Listener = shared.listen(pattern, position)
        self.pattern = pattern
        self.found: list[int] = []
        self.asked: int | None = None

    def ask(self) -> None:
        if self.listener.behind and self.listener.fetching is None:
            self.listener.fetching = cast("Any", object())
            self.asked = self.listener.position

    def answer(self, order: list[BatchInfo], end: int) -> None:
        """As of any moment since it was asked."""
        if self.asked is None:
            return
        position, self.asked, self.listener.fetching = self.asked, None, None
        found = [one for one in order if matches(self.pattern, one.topic) and one.first_offset >= position]
        self.found += [one.first_offset for one in found if one.first_offset < end]
        self.listener.advance(end)
        self.listener.behind = False

    def take(self) -> None:
        batch = self.listener.take(None)
        if batch is not None:
            self.found.append(batch.first_offset)


@settings(max_examples=300)
@given(st.integers(0, 1 << 32), st.floats(0, 0.5), st.integers(1, 8))
def test_every_listener_gets_everything_once(seed: int, loss: float, room: int) -> None:
    asyncio.run(_lossy(random.Random(seed), loss, room))


async def _lossy(chance: random.Random, loss: float, room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ringcast.bus.listener.WAITING_MAX", room)
        patch.setattr(live, "HELD_BYTES_MAX", room * 40)
        shared = LiveFeed(cast("Session", _Session()))
        patterns = ["a", "a", "a.>", "a.x", ">", "quiet"]
        consumers = [_Consumer(shared, pattern, 0) for pattern in patterns]
        order: list[BatchInfo] = []
        ends = [0]  # what the replica had delivered, now and before
        last: dict[str, int] = {}
        changed: dict[str, int] = {}
        since = 0
        for step in range(120):
            if step < 100 and chance.random() < 0.5:
                topic = chance.choice(["a", "a.x", "a.y", "b", "_cursors"])
                info = BatchInfo(topic, ends[-1], 1, last.get(topic, -1), 0, bytes(16), step)
                last[topic] = changed[topic] = ends[-1]
                order.append(info)
                ends.append(ends[-1] + 1)
                if chance.random() >= loss:
                    shared._on_frames(feed.encode_batch(CLUSTER, 0, info, pack([b"x" * chance.randrange(40)])))
            if chance.random() < 0.2:
                if chance.random() >= loss:
                    shared._on_frames(feed.encode_control(CLUSTER, 0, ends[-1], since, changed))
                since, changed = ends[-1], {}
            for one in consumers:
                if chance.random() < 0.3:
                    one.ask()
                if chance.random() < 0.3:
                    # The log of a replica may lag behind its feed.
                    one.answer(order, max(one.asked or 0, chance.choice(ends[-3:])))
                if chance.random() < 0.4 and not one.listener.behind:
                    one.take()
        _settle(shared, consumers, order, ends[-1], since, changed)
        for one in consumers:
            assert one.found == [info.first_offset for info in order if matches(one.pattern, info.topic)]
        for one in consumers:
            one.listener.close()
        assert (shared.held_bytes, shared._groups, shared._fresh) == (0, {}, {})


def _settle(
    shared: LiveFeed, consumers: list[_Consumer], order: list[BatchInfo], end: int, since: int, changed: dict[str, int]
) -> None:
    """Two control messages more, and everybody is at the end."""
    for _ in range(2):
        shared._on_frames(feed.encode_control(CLUSTER, 0, end, since, changed))
        since, changed = end, {}
        for one in consumers:
            for _ in range(20):
                one.ask()
                one.answer(order, end)
                one.take()
    assert [one.listener.position for one in consumers] == [end] * len(consumers)
