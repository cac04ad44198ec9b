"""Links between real replicas of the product store that drop everything, both ways or one (faults 8-12; R14, R18).

Needs what test_partitions.py needs; without it the tests are skipped.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import ringcast
from replicas.local.files import PRODUCTS
from tests.processes.namespaces import NamespacedCluster, Network
from tests.processes.products_load import ProductsLoad, all_hold_the_same, leader_of
from tests.processes.running import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

#: What a leader that is cut off needs to know that it is one no more, and to refuse.
STEPS_DOWN_WITHIN_S = 2.0


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Iterator[NamespacedCluster]:
    """A replica in each of them, ready."""
    found = NamespacedCluster.create(tmp_path / "cluster", 3, {}, network.hosts, PRODUCTS)
    found.network = network
    with running(found):
        yield found


async def _not_ready(cluster: NamespacedCluster, member: int) -> None:
    async with asyncio.timeout(STEPS_DOWN_WITHIN_S):
        while await asyncio.to_thread(cluster.is_ready, member):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_a_leader_alone_answers_nothing_and_the_majority_goes_on(
    cluster: NamespacedCluster, network: Network
) -> None:
    """Everybody's first address is the leader's: who stays with it is refused, never told something old."""
    leader = await leader_of(cluster)
    others = [member for member in cluster.replicas if member != leader]
    load = ProductsLoad(cluster, at=(leader, *others))
    await load.start()
    await load.more(20)
    for other in others:
        network.cut(leader, other)
        network.cut(other, leader)
    await load.more(30)
    await _not_ready(cluster, leader)
    assert await leader_of(cluster, but=leader) in others
    async with ringcast.products(cluster.replicas[leader].client, timeout=1.0) as store:
        # It fails over, for the client was told of the others; the one that is alone serves local reads only.
        assert await store.get("item-0") is not None
    for other in others:
        network.heal(leader, other)
        network.heal(other, leader)
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(20)
    await load.stop()
    await all_hold_the_same(cluster, "item-0")


@pytest.mark.parametrize("heard", [True, False], ids=["is_heard", "hears"])
async def test_a_leader_is_cut_in_one_direction(cluster: NamespacedCluster, network: Network, heard: bool) -> None:
    """It is heard and hears nothing (R18: it steps down), or it hears and is not heard (the others elect)."""
    leader = await leader_of(cluster)
    others = [member for member in cluster.replicas if member != leader]
    load = ProductsLoad(cluster, at=(leader, *others))
    await load.start()
    await load.more(20)
    pairs = [(other, leader) if heard else (leader, other) for other in others]
    for pair in pairs:
        network.cut(*pair)
    await load.more(30)
    assert await leader_of(cluster, but=leader) in others
    for pair in pairs:
        network.heal(*pair)
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(20)
    await load.stop()
    await all_hold_the_same(cluster, "item-0")


async def test_a_follower_that_comes_back_deposes_nobody(cluster: NamespacedCluster, network: Network) -> None:
    """R18, pre-vote: alone it raises no term, so the leader is the same afterwards, in the same term."""
    leader = await leader_of(cluster)
    alone = leader % 3 + 1
    load = ProductsLoad(cluster)
    await load.start()
    async with ringcast.products(cluster.replicas[leader].client, timeout=5.0) as store:
        term = (await store.status())["term"]
        for other in cluster.replicas:
            if other != alone:
                network.cut(alone, other)
                network.cut(other, alone)
        await load.more(20)
        await _not_ready(cluster, alone)
        for other in cluster.replicas:
            if other != alone:
                network.heal(alone, other)
                network.heal(other, alone)
        await asyncio.to_thread(cluster.wait_ready)
        await load.more(20)
        assert await leader_of(cluster) == leader
        assert (await store.status())["term"] == term
    await load.stop()
    await all_hold_the_same(cluster, "item-0")
