"""A replica that crashes is started again by its supervisor: nothing is lost, and everything that tells of it does."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from tests.processes.agreement import assert_agreement, token_holder
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


async def crash(cluster: LocalCluster, member: int, number: signal.Signals) -> None:
    """End a replica as an assertion in a library does, and wait until the next worker is listed and ready."""
    before = cluster.replicas[member].pid
    assert cluster.signal(member, number)
    async with asyncio.timeout(60):
        while LocalCluster.open(cluster.folder, cluster.role).replicas[member].pid == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process says it
    cluster.reload()
    await asyncio.to_thread(cluster.wait_ready, [member], 60)


def supervisors(cluster: LocalCluster) -> object:
    """As cluster.json names them."""
    return json.loads(cluster.path.read_text(encoding="utf-8"))["supervisors"]


def metrics(cluster: LocalCluster, member: int) -> str:
    """All of one replica."""
    with urllib.request.urlopen(cluster.replicas[member].http + "/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.crashes
async def test_the_holder_crashes_and_comes_back_with_nothing_lost(start_cluster: Start) -> None:
    cluster = start_cluster(3)
    load = Load(cluster.path, 4)
    await load.start()
    await load.reach(50)
    for times, number in enumerate((signal.SIGABRT, signal.SIGSEGV), 1):
        member = await token_holder(cluster.path)
        parents = supervisors(cluster)
        already = restarts(cluster, member)
        await crash(cluster, member, number)
        await load.more(50)
        assert supervisors(cluster) == parents
        assert restarts(cluster, member) == already + 1
        told = rf'^ringcast_last_restart_timestamp_seconds{{reason="{number.name}"}} 1\.'
        assert re.search(told, metrics(cluster, member), re.MULTILINE)
        assert sum(restarts(cluster, one) for one in cluster.replicas) == times
        async with ringcast.connect(cluster.path, replica=member) as bus:
            assert (await bus.status()).more["last_restart"] == number.name
    await load.stop()
    await assert_agreement(cluster, load)
    found = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli", "--cluster", str(cluster.path), "status"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"replica {member}: its supervisor has restarted it" in found.stderr
    assert "last after SIGSEGV at" in found.stderr


def restarts(cluster: LocalCluster, member: int) -> int:
    """As /readyz says, whether it is ready or not."""
    try:
        with urllib.request.urlopen(cluster.replicas[member].http + "/readyz", timeout=10) as answer:
            return int(json.load(answer)["restarts"])
    except urllib.error.HTTPError as not_ready:
        with not_ready:
            return int(json.load(not_ready)["restarts"])


@pytest.mark.crashes
async def test_a_crashed_leader_of_the_product_store_comes_back(start_products: Start) -> None:
    cluster = start_products(3)
    async with ringcast.products(cluster.path, timeout=30) as store:
        leader = (await store.status())["leader"]
        assert isinstance(leader, int)
        await crash(cluster, leader, signal.SIGABRT)
        assert restarts(cluster, leader) == 1
        assert (await store.status())["leader"]


def test_kill_9_of_the_listed_pid_ends_the_replica_and_its_supervisor(start_cluster: Start) -> None:
    """As an operator and every test means it; `up` starts it again."""
    cluster = start_cluster(1)
    cluster.kill(1)
    assert not cluster.running()
    cluster.restart(1)
    cluster.wait_ready()
    assert restarts(cluster, 1) == 0


@pytest.mark.crashes
def test_another_process_stops_a_replica_that_has_crashed_since(start_cluster: Start) -> None:
    """`down` beside `up`: the pid that it read is another one by now."""
    cluster = start_cluster(1)
    other = LocalCluster.open(cluster.folder)
    asyncio.run(crash(cluster, 1, signal.SIGABRT))
    assert other.running() == [1]
    assert other.stop() == [1]
    assert not cluster.wait_gone([1], 10)
    assert not cluster.running()
