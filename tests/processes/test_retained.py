"""C3 in real processes: retained messages stay on a quorum of disks while members, disks and records are replaced."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ringcast
from cli.app import app
from replicas.bus.overview import Overview
from replicas.local.cluster import LocalCluster
from tests.processes.agreement import read_all, ring_is_whole, until
from tests.processes.conftest import Start
from tests.processes.test_members import command, enter, leave

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

#: Snapshots come often, and the log is trimmed: nobody can be filled from its beginning.
SMALL: dict[str, object] = {
    "snapshot_slots": 60,
    "retention_bytes": 1 << 20,
    "group": {"window_slots": 16, "retention_grace_ms": 1_000},
}
#: The newcomer asks for the first piece after 80 s.
SLOW_FILL = {"backfill_interval_ms": 4_000_000, "retention_grace_ms": 1_000}
PAYLOAD = bytes(4_000)
#: A record of that size takes two pages: `retention_bytes` holds 128.
RETAINED_AT_LEAST = 100


async def rows(cluster: LocalCluster) -> dict[int, dict[str, Any]]:
    """What each member says of itself."""
    async with Overview(cluster.path) as overview:
        return {row["replica"]: row for row in await overview.look()}


async def all_whole(cluster: LocalCluster) -> None:
    """Wait until every member says that it holds what is retained."""
    async with asyncio.timeout(60):
        while True:
            found = await rows(cluster)
            if len(found) == len(cluster.replicas) and all(row.get("whole") for row in found.values()):
                return
            await asyncio.sleep(0.05)


async def fill_and_trim(cluster: LocalCluster, count: int = 700) -> list[tuple[int, bytes]]:
    """Publish one message a slot until retention has trimmed on every member; what was acknowledged."""
    published = []
    async with ringcast.connect(cluster.path, timeout=30) as bus:
        for number in range(count):
            payload = b"%06d" % number + PAYLOAD
            published.append(((await bus.publish("kept", payload)).offset, payload))
        async with asyncio.timeout(60):
            while not all(row.get("first", 0) > 0 for row in (await rows(cluster)).values()):
                payload = b"%06d" % len(published) + PAYLOAD
                published.append(((await bus.publish("kept", payload)).offset, payload))
    return published


async def assert_retained_everywhere(cluster: LocalCluster, published: list[tuple[int, bytes]]) -> None:
    """Each member alone serves all that retention has left, which is not only what came since some snapshot."""
    await all_whole(cluster)
    found = {
        member: set(await read_all(cluster.path, member, "kept", published[-1][0] + 1)) for member in cluster.replicas
    }
    below = max(row["compacted_below"] for row in (await rows(cluster)).values())  # it may have moved meanwhile
    wanted = {one for one in published if one[0] >= below}
    assert len(wanted) >= RETAINED_AT_LEAST
    lacking = {member: len(wanted - held) for member, held in found.items() if wanted - held}
    assert not lacking, f"of {len(wanted)} retained messages these members lack so many: {lacking}"


async def test_three_members_replaced_one_after_the_other_keep_all_that_is_retained(start_cluster: Start) -> None:
    """Item 17: 204 of 204 were on no member any more."""
    cluster = start_cluster(3, **SMALL)
    published = await fill_and_trim(cluster)
    for member in (1, 2, 3):
        await enter(cluster, member + 10)
        await all_whole(cluster)
        await leave(cluster, member)
    await assert_retained_everywhere(cluster, published)


async def test_three_disks_replaced_one_after_the_other_keep_all_that_is_retained(start_cluster: Start) -> None:
    cluster = start_cluster(3, **SMALL)
    published = await fill_and_trim(cluster)
    for member in (1, 2, 3):
        await asyncio.to_thread(cluster.stop, [member])
        shutil.rmtree(Path(cluster.replicas[member].data))
        await asyncio.to_thread(cluster.start, [member])
        await asyncio.to_thread(cluster.wait_ready, [member])
        await ring_is_whole(cluster)
        await all_whole(cluster)
    await assert_retained_everywhere(cluster, published)


async def test_a_removal_waits_for_whole_copies_by_name(start_cluster: Start) -> None:
    """C3: what only the removed one holds would be lost; an operator can say so."""
    cluster = start_cluster(3, **{**SMALL, "group": {**SLOW_FILL, "window_slots": 16}})
    published = await fill_and_trim(cluster)
    await enter(cluster, 4)
    async with asyncio.timeout(30):
        while (await command(cluster, "list"))["not_whole"] != [4]:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.1)
    await leave(cluster, 1)  # 2 and 3 stay, and are a quorum of whole copies
    refused = await command(cluster, "remove", "2", code=4)
    assert "wait until member 4 is whole" in refused
    health = await asyncio.to_thread(CliRunner().invoke, app, ["health", "--cluster", str(cluster.path)])
    assert health.exit_code == 1
    assert "replica 4 is not whole" in health.output
    child = cluster._children[2]
    assert (await command(cluster, "remove", "2", "--accept-loss"))["members"] == [3, 4]
    await until(lambda: child.poll() is not None)
    cluster.forget(2)
    async with ringcast.connect(cluster.path, timeout=30) as bus:
        assert (await bus.publish("kept", b"on")).offset > published[-1][0]
