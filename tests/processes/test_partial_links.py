"""Links between real replicas that stay broken: one stable view of those that can (docs/faults.md, 12; V1, V2, V6, V9).

Needs what tests/processes/test_partitions.py needs; skipped where it is missing.
"""

import asyncio
import json
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from replicas.bus.overview import Overview
from tests.processes.agreement import assert_agreement, ring_is_whole
from tests.processes.load import Load
from tests.processes.namespaces import Cut, NamespacedCluster, Network
from tests.processes.running import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

Link = tuple[int, int]

#: The same member is cut off again and again: with 30 s it would wait as long before it is in the ring again (V9).
BACK_OFF_MAX_MS = 2_000
#: Longer than a joiner's back-off: one that was let in for nothing would come again.
WATCHED_S = 4.0
#: From the cut to the view that stays. Without the rules of V1, V2, V6 and V9 there are five to nine each second.
VIEW_CHANGES_MAX = 8


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Iterator[NamespacedCluster]:
    """A replica in each of them, ready."""
    count = len(network.hosts)
    settings = {"check_invariants": True, "group": {"back_off_max_ms": BACK_OFF_MAX_MS}}
    found = NamespacedCluster.create(tmp_path / "cluster", count, settings, network.hosts)
    found.network = network
    with running(found):
        yield found


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: bytes = answer.read()
    return found


def open_files(pid: int) -> int:
    """How many file descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def both(*pairs: Link) -> list[Link]:
    """Both directions of each."""
    return [link for one, other in pairs for link in ((one, other), (other, one))]


async def look(cluster: NamespacedCluster) -> dict[int, dict[str, Any]]:
    """What each replica says of itself."""
    async with Overview(cluster.path) as overview:
        return {one["replica"]: one for one in await overview.look()}


def is_settled(found: dict[int, dict[str, Any]], broken: Sequence[Link]) -> bool:
    """The members of one ring run it, no link between them is broken, and every other one names a link to it."""
    newest = max((one for one in found.values() if "view" in one), key=lambda one: tuple(one["view"]))
    ring = set(newest["ring"])
    if any(one in ring and other in ring for one, other in broken):
        return False
    for member, one in found.items():
        told = {*one.get("unheard", ()), *one.get("unheard_by", ())}
        if member in ring and (one.get("view") != newest["view"] or one["state"] != "serving"):
            return False
        if member not in ring and not told & ring:
            return False
    return True


async def one_view_stays(cluster: NamespacedCluster, load: Load, broken: Sequence[Link], before: int) -> None:
    """It comes soon, after few others, and while it is watched there is no other; publishes are acknowledged."""
    async with asyncio.timeout(30):
        while not is_settled(found := await look(cluster), broken):  # noqa: ASYNC110 - other processes are asked
            await asyncio.sleep(0.1)
    views = {tuple(one["view"]) for one in found.values() if one["in_ring"]}
    at = len(load.acknowledged)
    await asyncio.sleep(WATCHED_S)  # nothing should happen meanwhile: there is no condition to wait for
    after = await look(cluster)
    assert {tuple(one["view"]) for one in after.values() if one["in_ring"]} == views
    assert is_settled(after, broken)
    assert max(views)[0] - before <= VIEW_CHANGES_MAX
    await load.more(50)
    assert len(load.acknowledged) >= at + 50


async def counter(cluster: NamespacedCluster) -> int:
    """Of the newest view that anyone tells of."""
    async with asyncio.timeout(30):
        while True:
            told = [int(one["view"][0]) for one in (await look(cluster)).values() if "view" in one]
            if told:
                return max(told)


PATTERNS = {
    "2-3": both((2, 3)),
    "1-3": both((1, 3)),
    "1-2": both((1, 2)),
    "1>2": [(1, 2)],
    "2>1": [(2, 1)],
    "1>3": [(1, 3)],
    "3>1": [(3, 1)],
    "2>3": [(2, 3)],
    "3>2": [(3, 2)],
    "2-3, 1>3": [*both((2, 3)), (1, 3)],
    "2-3, 3>1": [*both((2, 3)), (3, 1)],
    "1-2, 1-3": both((1, 2), (1, 3)),
    "1>2, 3>1": [(1, 2), (3, 1)],
    "2>1, 3>1": [(2, 1), (3, 1)],
    "1>2, 1>3": [(1, 2), (1, 3)],
}


async def test_each_pattern_of_broken_links_leaves_one_stable_view(
    cluster: NamespacedCluster, network: Network
) -> None:
    """One after the other, all silent, on one cluster; between them the ring is whole again."""
    load = Load(cluster.path, clients=4)
    await load.start()
    for name, broken in PATTERNS.items():
        before = await counter(cluster)
        for link in broken:
            network.cut(*link)
        try:
            await one_view_stays(cluster, load, broken, before)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{name}: {error!r}: {await look(cluster)}") from error
        for link in broken:
            network.heal(*link)
        await ring_is_whole(cluster)
    await load.stop()
    await assert_agreement(cluster, load)


@pytest.mark.parametrize("how", ["blackhole", "prohibit"], ids=["silent", "refused"])
async def test_who_starts_behind_a_broken_link_waits_and_says_so(
    cluster: NamespacedCluster, network: Network, how: Cut
) -> None:
    """The order of the bug report: the link goes, and the member behind it restarts."""
    load = Load(cluster.path, clients=4)
    await load.start()
    await load.more(50)
    for link in both((2, 3)):
        network.cut(*link, how=how)
    cluster.kill(3)
    before = await counter(cluster)
    cluster.start([3])
    cluster.wait_ready([3])
    await one_view_stays(cluster, load, both((2, 3)), before)
    said = json.loads(await asyncio.to_thread(get, f"{cluster.replicas[3].http}/readyz"))
    assert (said["state"], said["links"]) == ("outside the ring", "does not hear replica 2")
    command = [sys.executable, "-P", "-m", "cli", "health", "--cluster", str(cluster.path)]
    health = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (health.returncode, health.stdout.partition(":")[0]) == (1, "degraded")
    assert "replica 3: outside the ring (does not hear replica 2)" in health.stderr
    for link in both((2, 3)):
        network.heal(*link)
    await ring_is_whole(cluster)
    await load.stop()
    await assert_agreement(cluster, load)


@pytest.mark.parametrize("network", [5], indirect=True)
async def test_five_replicas_without_two_of_the_links_of_one(cluster: NamespacedCluster, network: Network) -> None:
    load = Load(cluster.path, clients=4)
    await load.start()
    broken = both((2, 5), (3, 5))
    before = await counter(cluster)
    for link in broken:
        network.cut(*link)
    await one_view_stays(cluster, load, broken, before)
    for link in broken:
        network.heal(*link)
    await ring_is_whole(cluster)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_a_replica_without_file_descriptors_and_another_that_restarts(
    cluster: NamespacedCluster, network: Network
) -> None:
    """What it has open goes on; who restarts cannot be reached by it, nor reach it."""
    load = Load(cluster.path, clients=2)
    await load.start()
    await load.more(50)
    before = await counter(cluster)
    pid = cluster.replicas[2].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), hard))
    cluster.kill(3)
    cluster.start([3])
    await asyncio.to_thread(cluster.wait_live, [3])
    at = len(load.acknowledged)
    await asyncio.sleep(2 * WATCHED_S)  # what should not happen meanwhile is counted
    assert await counter(cluster) - before <= 2 * VIEW_CHANGES_MAX  # some of its connections come back: it is tried
    assert len(load.acknowledged) > at + 50
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    await ring_is_whole(cluster)
    await load.stop()
    await assert_agreement(cluster, load)
