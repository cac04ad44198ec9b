"""Links between real replicas that drop everything, in both directions or in one (docs/faults.md 8-12; V1, V4, V6, V9).

Needs root (CAP_SYS_ADMIN), a kernel with network namespaces, and `ip`; `make netns` installs what Debian calls
iproute2. Where one is missing the tests are skipped and say which.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import ringcast
from replicas.bus.overview import Overview
from tests.processes.agreement import assert_agreement, ring_is_whole, token_holder, until
from tests.processes.load import Load
from tests.processes.namespaces import NamespacedCluster, Network
from tests.processes.running import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

#: Long enough for the back-off of a member that was put out to end several times (V9: 1 s, 2 s ...).
WATCHED_S = 4.0
#: One puts it out; others may be under way then, or come from a machine that is busy. A ring that flaps makes dozens.
VIEW_CHANGES_MAX = 6
#: It takes half a second; TCP's own retry would take as long as the cut.
HEALED_WITHIN_S = 4.0


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Iterator[NamespacedCluster]:
    """A replica in each of them, ready."""
    found = NamespacedCluster.create(tmp_path / "cluster", 3, {"check_invariants": True}, network.hosts)
    found.network = network
    with running(found):
        yield found


async def _views(cluster: NamespacedCluster, members: Iterable[int]) -> set[tuple[int, ...]]:
    """(counter, proposer, ring ...) of the views that these members run."""
    async with Overview(cluster.path) as overview:
        found = {one["replica"]: one for one in await overview.look()}
    return {(*found[member]["view"], *found[member]["ring"]) for member in members}


async def test_the_minority_blocks_and_the_majority_goes_on(cluster: NamespacedCluster, network: Network) -> None:
    """Fault 8: the token holder alone on one side; it answers with a typed error and never forks."""
    load = Load(cluster.path, clients=4)
    await load.start()
    await load.more(100)
    alone = await token_holder(cluster.path)
    others = [member for member in cluster.replicas if member != alone]
    for other in others:
        network.cut(alone, other)
        network.cut(other, alone)
    async with ringcast.connect(cluster.path, replica=alone, timeout=10) as bus:
        await until(lambda: not cluster.is_ready(alone))
        began = time.monotonic()
        with pytest.raises(ringcast.NotInQuorum, match=f"replica {alone} is connected to 1 members and needs 2"):
            await bus.publish("minority", b"refused", timeout=1.0)
        with pytest.raises(ringcast.NotInQuorum):
            await bus.fetch("load", 0, 1, timeout=1.0)
        assert time.monotonic() - began < 3.0
    await load.more(300)
    assert load.gap_s < 5.0
    assert not cluster.is_ready(alone)
    for other in others:
        network.heal(alone, other)
        network.heal(other, alone)
    await asyncio.to_thread(cluster.wait_ready, [alone], HEALED_WITHIN_S)
    await ring_is_whole(cluster)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


@pytest.mark.parametrize("deaf", [(2,), (2, 3)], ids=["to_one", "to_all"])
async def test_a_member_that_is_not_heard_leaves_one_stable_view(
    cluster: NamespacedCluster, network: Network, deaf: tuple[int, ...]
) -> None:
    """Faults 9, 10: what member 1 sends is lost on the way to others, what they send arrives."""
    load = Load(cluster.path, clients=4)
    await load.start()
    await load.more(100)
    (before,) = await _views(cluster, cluster.replicas)
    for other in deaf:
        network.cut(1, other)
    await until(lambda: not all(cluster.is_ready(member) for member in cluster.replicas) or len(deaf) == 1)
    await load.more(200)
    ring = await _settled(cluster)
    at = len(load.acknowledged)
    await asyncio.sleep(WATCHED_S)  # nothing should happen meanwhile: there is no condition to wait for
    after = await _settled(cluster)
    assert after[2:] == ring[2:]
    assert after[0] - before[0] <= VIEW_CHANGES_MAX
    assert not any(1 in ring[2:] and other in ring[2:] for other in deaf)
    assert len(load.acknowledged) > at + 50
    for other in deaf:
        network.heal(1, other)
    await asyncio.to_thread(cluster.wait_ready)
    await ring_is_whole(cluster)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def _settled(cluster: NamespacedCluster) -> tuple[int, ...]:
    """(counter, proposer, ring ...) once all members of a ring of two run it."""
    async with Overview(cluster.path) as overview, asyncio.timeout(20):
        while True:
            for one in await overview.look():
                ring = one.get("ring", ())
                if len(ring) == 2 and len(found := await _views(cluster, ring)) == 1:
                    return found.pop()
            await asyncio.sleep(0.05)
