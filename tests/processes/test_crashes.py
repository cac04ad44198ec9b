"""Crashes and pauses of real processes under load from several clients that fail over (docs/faults.md 1-7, 16)."""

import asyncio
import signal

import pytest

from tests.processes.agreement import assert_agreement, ring_is_whole, token_holder, until
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CLIENTS = 4


@pytest.mark.parametrize("victim", ["holder", "another"])
async def test_five_replicas_lose_one_and_take_it_back(start_cluster: Start, victim: str) -> None:
    cluster = start_cluster(5)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(100)
    holder = await token_holder(cluster.path)
    member = holder if victim == "holder" else holder % 5 + 1
    await asyncio.to_thread(cluster.kill, member)
    await load.more(200)
    await asyncio.to_thread(cluster.restart, member)
    await asyncio.to_thread(cluster.wait_ready, [member])
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_five_replicas_go_on_without_two(start_cluster: Start) -> None:
    cluster = start_cluster(5)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(50)
    first = await token_holder(cluster.path)
    await asyncio.to_thread(cluster.kill, first)
    second = next(member for member in cluster.replicas if member != first)
    await asyncio.to_thread(cluster.kill, second)
    await load.more(200)
    await asyncio.to_thread(cluster.start, [first, second])
    await asyncio.to_thread(cluster.wait_ready, [first, second])
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_each_holder_in_turn_is_killed(start_cluster: Start) -> None:
    """A view change after a view change, before the last victim has settled in."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(50)
    for _ in range(4):
        member = await token_holder(cluster.path)
        await asyncio.to_thread(cluster.kill, member)
        await load.more(50)
        await asyncio.to_thread(cluster.restart, member)
        await asyncio.to_thread(cluster.wait_ready, [member])
    await load.stop()
    await assert_agreement(cluster, load)


@pytest.mark.parametrize("count", [3, 5])
async def test_the_whole_cluster_is_killed_and_nothing_acknowledged_is_lost(start_cluster: Start, count: int) -> None:
    """Fault 16: all at once, and the publishers that were in flight end exactly once."""
    cluster = start_cluster(count)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(200)
    for member in cluster.replicas:
        cluster.signal(member, signal.SIGKILL)
    for member in cluster.replicas:
        await asyncio.to_thread(cluster.kill, member)
    before = len(load.acknowledged)
    last = count  # the slowest one starts when the others order already
    await asyncio.to_thread(cluster.start, range(1, last))
    await load.reach(before + 50)
    await asyncio.to_thread(cluster.start, [last])
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_the_holder_sleeps_longer_than_a_view_change_takes(start_cluster: Start) -> None:
    """Fault 6: the woken member meets a higher view, and hands nothing stale to anybody."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(50)
    member = await token_holder(cluster.path)
    cluster.signal(member, signal.SIGSTOP)
    await load.more(300)
    cluster.signal(member, signal.SIGCONT)
    await ring_is_whole(cluster)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_every_replica_sleeps_at_once(start_cluster: Start) -> None:
    """Fault 7: everybody wakes with timers long overdue; the ring must go on with nothing lost."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(50)
    for member in cluster.replicas:
        cluster.signal(member, signal.SIGSTOP)
    before = len(load.acknowledged)
    await asyncio.sleep(1.5)  # the fault itself: five suspect timeouts
    assert len(load.acknowledged) <= before + CLIENTS
    for member in cluster.replicas:
        cluster.signal(member, signal.SIGCONT)
    await load.more(100)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_two_of_three_down_is_no_quorum_and_not_a_fork(start_cluster: Start) -> None:
    """Fault 11: the one that is left acknowledges nothing; what was sent meanwhile is there once, afterwards."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(50)
    for member in (1, 2):
        await asyncio.to_thread(cluster.kill, member)
    before = len(load.acknowledged)
    await until(lambda: not cluster.is_ready(3))
    assert len(load.acknowledged) <= before + CLIENTS
    await asyncio.to_thread(cluster.start, [1, 2])
    await load.more(100)
    await load.stop()
    await asyncio.to_thread(cluster.wait_ready)
    await assert_agreement(cluster, load)
