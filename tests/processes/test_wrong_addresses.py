"""Files that name other members at wrong addresses: who knows better says so (docs/operations.md, "Files of old")."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.bus.addresses import free_ports
from replicas.local.cluster import LocalCluster
from replicas.local.files import HOST
from tests.processes.agreement import assert_agreement, ring_is_whole
from tests.processes.load import Load

#: Some seconds for each place that is tried, on a busy machine.
FOUND_WITHIN_S = 60.0

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three replicas; nothing runs yet."""
    found = LocalCluster.create(tmp_path / "cluster", 3, {"check_invariants": True})
    yield found
    for member in found.running():
        found.kill(member)


def misname(cluster: LocalCluster, member: int, other: int, taken_for: int | None = None) -> None:
    """In the file of `member`, put `other` where nobody listens, or where another member does."""
    file = Path(cluster.replicas[member].config)
    text = file.read_text(encoding="utf-8")
    lines = dict(re.findall(r'^(\d) = "(.*)"$', text, re.MULTILINE))
    peer, pub = free_ports(2, HOST)
    wrong = f"{HOST}:{peer}:{pub}" if taken_for is None else lines[str(taken_for)]
    file.write_text(text.replace(lines[str(other)], wrong), encoding="utf-8")


async def _all_find_all(cluster: LocalCluster) -> None:
    await asyncio.to_thread(cluster.wait_ready, None, FOUND_WITHIN_S)
    await ring_is_whole(cluster)
    load = Load(cluster.path, clients=2)
    await load.start()
    await load.reach(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_a_new_cluster_is_born_though_two_members_do_not_know_each_other(cluster: LocalCluster) -> None:
    """V0: a genesis needs all of them to hear each other; member 1 hears both, and says where they are."""
    misname(cluster, 2, 3)
    misname(cluster, 3, 2)
    await asyncio.to_thread(cluster.start)
    await _all_find_all(cluster)


async def test_a_member_that_is_sought_where_another_one_answers_is_found(cluster: LocalCluster) -> None:
    """The connection stands, but what it brings is of another member."""
    misname(cluster, 2, 3, taken_for=1)
    misname(cluster, 3, 2, taken_for=1)
    await asyncio.to_thread(cluster.start)
    await _all_find_all(cluster)


async def test_members_that_restart_with_wrong_files_find_each_other(cluster: LocalCluster) -> None:
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    await asyncio.to_thread(cluster.stop)
    misname(cluster, 2, 3)
    misname(cluster, 3, 2)
    await asyncio.to_thread(cluster.start)
    await _all_find_all(cluster)
