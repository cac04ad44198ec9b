"""D6 and C3 in real processes: a record below the newest snapshot rots on a replica that serves, and is mended."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import ringcast
from replicas.bus.overview import Overview
from replicas.bus.verification import verify
from replicas.local.cluster import LocalCluster
from store.folder import DATA_NAME
from tests.processes.agreement import read_all, ring_is_whole
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

VICTIM = 2
COUNT = 300
PAYLOAD = bytes(4_000)


async def row(cluster: LocalCluster, member: int) -> dict[str, Any]:
    """What a member says of itself."""
    async with Overview(cluster.path) as overview:
        return next(one for one in await overview.look() if one["replica"] == member)


async def published(cluster: LocalCluster) -> list[tuple[int, bytes]]:
    """COUNT messages, each in a slot of its own, and snapshots above most of them."""
    found = []
    async with ringcast.connect(cluster.path, timeout=30) as bus:
        for number in range(COUNT):
            payload = b"rot-%06d-" % number + PAYLOAD
            found.append(((await bus.publish("kept", payload)).offset, payload))
    return found


def rot(data: Path, payload: bytes) -> None:
    """Change one byte of a payload wherever the file holds it, while the replica runs: its pages are mapped."""
    content = data.read_bytes()
    needle, place, found = payload[:11], 0, 0
    with data.open("r+b") as file:
        while (place := content.find(needle, place)) >= 0:
            file.seek(place + 4)
            file.write(b"X")
            found += 1
            place += 1
    assert found


async def whole_again(cluster: LocalCluster, mended: int) -> None:
    """Wait until the victim says that so many damaged places were mended, and nothing is damaged."""
    async with asyncio.timeout(60):
        while True:
            found = await row(cluster, VICTIM)
            log = found.get("scrub", {}).get("log", {})
            if found.get("whole") and log.get("mended", 0) >= mended and not log["damaged_count"]:
                return
            await asyncio.sleep(0.05)


async def test_the_scrub_finds_what_rots_and_a_peer_mends_it(start_cluster: Start) -> None:
    cluster = start_cluster(3, snapshot_slots=50, scrub_bytes_per_second=1 << 30, scrub_pause=1)
    wanted = await published(cluster)
    for offset in (20, 21, 150):
        rot(Path(cluster.replicas[VICTIM].data) / DATA_NAME, wanted[offset][1])
    await whole_again(cluster, 2)
    assert await read_all(cluster.path, VICTIM, "kept", wanted[-1][0] + 1) == wanted
    log = cluster.log_path(VICTIM).read_text(encoding="utf-8")
    assert '"scrub_damage_found"' in log
    assert '"records_repaired"' in log
    await ring_is_whole(cluster)


async def test_a_reader_meets_the_damage_first_and_is_served_after_the_repair(start_cluster: Start) -> None:
    cluster = start_cluster(3, snapshot_slots=50, scrub_bytes_per_second=0, group={"window_slots": 16})
    wanted = await published(cluster)
    await asyncio.to_thread(cluster.stop, [VICTIM])
    await asyncio.to_thread(cluster.start, [VICTIM])  # what a reader asks for comes from the log, not from memory
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    rot(Path(cluster.replicas[VICTIM].data) / DATA_NAME, wanted[100][1])
    assert await read_all(cluster.path, VICTIM, "kept", wanted[-1][0] + 1) == wanted
    assert '"records_repaired"' in cluster.log_path(VICTIM).read_text(encoding="utf-8")


async def test_verify_reads_every_record_that_it_answers_for(start_cluster: Start) -> None:
    """The chain of a record stands in a row of its own: chains alone compare well while a payload has rotted."""
    cluster = start_cluster(3, snapshot_slots=50, scrub_bytes_per_second=0)
    wanted = await published(cluster)
    rot(Path(cluster.replicas[VICTIM].data) / DATA_NAME, wanted[100][1])
    assert (await verify(cluster.path)).identical
    found = await verify(cluster.path, read=True)
    assert not found.identical
    assert {member: len(slots) for member, slots in found.damaged.items()} == {1: 0, VICTIM: 1, 3: 0}
    async with asyncio.timeout(60):
        while not (await verify(cluster.path, read=True)).identical:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.05)
