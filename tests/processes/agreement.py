"""What must hold after every fault: all replicas have the same log, and every acknowledged message exactly once."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import ringcast
from replicas.bus.overview import Overview
from replicas.bus.verification import verify
from replicas.local.cluster import LocalCluster
from tests.processes.load import Load

CONVERGED_TIMEOUT_S = 30.0


async def until(condition: Callable[[], bool], timeout_s: float = CONVERGED_TIMEOUT_S) -> None:
    """Wait until it holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.02)


async def token_holder(path: Path) -> int:
    """The member that holds the token now, as it says itself."""
    async with Overview(path) as overview, asyncio.timeout(10):
        while True:
            for one in await overview.look():
                if one.get("token_holder") == one["replica"]:
                    return int(one["replica"])
            await asyncio.sleep(0.005)


async def ring_is_whole(cluster: LocalCluster) -> None:
    """Wait until every member takes turns in one view."""
    members = tuple(cluster.replicas)
    async with Overview(cluster.path) as overview, asyncio.timeout(CONVERGED_TIMEOUT_S):
        while True:
            found = await overview.look()
            if all(one.get("ring") == members and one.get("state") == "serving" for one in found):
                return
            await asyncio.sleep(0.02)


async def same_everywhere(path: Path, count: int) -> None:
    """Wait until all replicas have delivered the same slots, and compare their chains."""
    async with asyncio.timeout(CONVERGED_TIMEOUT_S):
        while True:
            found = await verify(path)
            assert found.identical, found
            if len(found.ends) == count and len(set(found.ends.values())) == 1 and not found.unreachable:
                return
            await asyncio.sleep(0.05)


async def assert_agreement(cluster: LocalCluster, load: Load) -> None:
    """Chains and contents: the whole topic, as each replica alone serves it, is what was acknowledged, once each."""
    await same_everywhere(cluster.path, len(cluster.replicas))
    expected = sorted((offset, payload) for payload, offset in load.acknowledged.items())
    assert len({offset for offset, _ in expected}) == len(expected)
    async with ringcast.connect(cluster.path, timeout=30) as bus:
        (topic,) = await bus.topics(load.topic)
    for member in cluster.replicas:
        order = await read_all(cluster.path, member, load.topic, topic.last_offset + 1)
        assert order == expected, f"replica {member}: {difference(order, expected)}"


async def read_all(where: Path, member: int, topic: str, end: int) -> list[tuple[int, bytes]]:
    """(offset, payload) of everything below offset `end`, through a subscriber of one replica alone."""
    found: list[tuple[int, bytes]] = []
    async with (
        asyncio.timeout(CONVERGED_TIMEOUT_S),
        ringcast.connect(where, replica=member, timeout=30) as bus,
        bus.subscribe(topic, "earliest") as subscription,
    ):
        async for message in subscription:
            found.append((message.offset, message.payload))
            if message.offset + 1 >= end:
                break
    return found


def difference(order: list[tuple[int, bytes]], expected: list[tuple[int, bytes]]) -> str:
    """What a failure should show of two long lists."""
    lost, extra = sorted(set(expected) - set(order)), sorted(set(order) - set(expected))
    return f"{len(order)} read, {len(expected)} acknowledged, lost {lost[:5]}, extra {extra[:5]}"
