"""D5 on a disk that really fills up: a small tmpfs under one replica's data folder (docs/faults.md 24)."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.bus.overview import Overview
from replicas.local.cluster import LocalCluster
from tests.processes.agreement import assert_agreement, ring_is_whole
from tests.processes.load import Load
from tests.processes.running import small_disk

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

VICTIM = 2
DISK_BYTES = 8 << 20
#: Room that is left to the log; a slot of a few messages takes a few pages of 4 KiB.
ROOM_BYTES = 256 << 10


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three replicas that are not started; the data folder of VICTIM is a file system of its own."""
    found = LocalCluster.create(tmp_path / "cluster", 3, {"check_invariants": True})
    data = Path(found.replicas[VICTIM].data)
    with small_disk(data, DISK_BYTES):
        yield found
        for member in found.running():
            found.kill(member)


def fill(data: Path) -> Path:
    """Take all space but ROOM_BYTES; the file to delete for it to come back."""
    ballast = data / "ballast"
    room = os.statvfs(data)
    ballast.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - ROOM_BYTES)))
    return ballast


async def _is_read_only(cluster: LocalCluster) -> None:
    """Wait until VICTIM says so, and is out of the ring."""
    async with Overview(cluster.path) as overview, asyncio.timeout(20):
        while True:
            found = {one["replica"]: one for one in await overview.look()}
            if found[VICTIM].get("state") == "read-only: disk full" and VICTIM not in found[1].get("ring", ()):
                break
            await asyncio.sleep(0.02)
    assert not found[VICTIM]["in_quorum"]
    assert not cluster.is_ready(VICTIM)


async def test_a_full_disk_makes_one_replica_read_only_until_there_is_space(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    load = Load(cluster.path, clients=4)
    await load.start()
    await load.more(50)
    ballast = fill(Path(cluster.replicas[VICTIM].data))
    await _is_read_only(cluster)
    await load.more(200)  # the two others acknowledge without it
    assert cluster.running() == [1, 2, 3]
    await asyncio.to_thread(cluster.kill, VICTIM)  # and a restart finds the disk as full as it was
    await asyncio.to_thread(cluster.start, [VICTIM])
    await asyncio.to_thread(cluster.wait_live, [VICTIM])
    await _is_read_only(cluster)
    ballast.unlink()
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    await ring_is_whole(cluster)
    await load.more(50)
    await load.stop()
    assert load.gap_s < 5.0
    await assert_agreement(cluster, load)
