"""Retention on real disks: bounds that change while replicas run, a member that is stuck, files made small again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ringcast
from replicas.bus.overview import Overview
from replicas.local.cluster import LocalCluster
from tests.processes.agreement import ring_is_whole, same_everywhere, until
from tests.processes.conftest import Start
from tests.processes.load import Load
from tests.processes.running import running, small_disk

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

MIB = 1 << 20
LINE = "retention_bytes = 50000000"


async def _fill(cluster: LocalCluster, size: int) -> None:
    payload = os.urandom(50_000)
    async with ringcast.connect(str(cluster.path), timeout=30) as bus, bus.publisher("fill") as publisher:
        for _ in range(size // len(payload)):
            await publisher.send(payload)


async def _rows(cluster: LocalCluster) -> dict[int, dict[str, Any]]:
    async with Overview(cluster.path) as overview:
        return {one["replica"]: one for one in await overview.look()}


async def _logs_within(cluster: LocalCluster, size: int, members: tuple[int, ...] = (1, 2, 3)) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = await _rows(cluster)
            if all(rows[one].get("log_bytes", size + 1) <= size for one in members):
                return
            await asyncio.sleep(0.1)


def _set(cluster: LocalCluster, line: str) -> None:
    for replica in cluster.replicas.values():
        path, half = Path(replica.config), Path(replica.config + ".half")
        half.write_text(path.read_text().replace(LINE, line))
        half.replace(path)


def _compact(cluster: LocalCluster, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "cli", "compact", "--data", str(cluster.folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def _ended(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, bytes]:
    out, error = await asyncio.to_thread(process.communicate)
    return process.returncode, out, error


async def test_an_age_is_met_on_a_quiet_bus(start_cluster: Start) -> None:
    cluster = start_cluster(retention_age=8)
    async with ringcast.connect(str(cluster.path), timeout=30) as bus:
        await bus.publish("people", b"record 0")
        async with asyncio.timeout(60):
            while True:
                if (await bus.status()).compacted_below == 1:
                    break
                await asyncio.sleep(0.1)
    for member in cluster.replicas:  # a start of all with logs that are empty, and do not begin at 0
        cluster.kill(member)
    cluster.start()
    await asyncio.to_thread(cluster.wait_ready)
    async with ringcast.connect(str(cluster.path), timeout=30) as bus:
        offset = (await bus.publish("people", b"record 1")).offset
        (found,) = await bus.fetch("people", offset, 1)
        assert found.payload == b"record 1"


async def test_a_lowered_bound_and_small_files_under_load(start_cluster: Start) -> None:
    """Nothing is restarted for the one, and nothing that was acknowledged is lost by the other, killed or not."""
    cluster = start_cluster(retention_bytes=50_000_000, snapshot_bytes=8 * MIB)
    await _fill(cluster, 45_000_000)
    files = {member: one["file_bytes"] for member, one in (await _rows(cluster)).items()}
    assert min(files.values()) > 45_000_000
    _set(cluster, "retention_bytes = 4000000")
    await _logs_within(cluster, 4_000_000)
    load = Load(cluster.path)
    await load.start()
    # Killed with a replica stopped: its folder is whole, and it starts.
    killed = _compact(cluster)
    await until(lambda: len(_running(cluster)) < 3 or killed.poll() is not None)
    killed.send_signal(signal.SIGKILL)
    await _ended(killed)
    cluster.reload()
    cluster.start()
    await asyncio.to_thread(cluster.wait_ready)
    await ring_is_whole(cluster)
    code, out, error = await _ended(_compact(cluster, "--json"))
    assert code == 0, error
    done = json.loads(out)["compacted"]
    assert [(one["role"], one["replica"]) for one in done] == [("bus", 1), ("bus", 2), ("bus", 3)]
    await ring_is_whole(cluster)
    await load.more(20)
    await load.stop()
    rows = await _rows(cluster)
    assert max(one["file_bytes"] for one in rows.values()) < 20_000_000 < min(files.values())
    await same_everywhere(cluster.path, 3)
    async with ringcast.connect(str(cluster.path), timeout=30) as bus:
        below = (await bus.status()).compacted_below
        for payload, offset in load.acknowledged.items():
            if offset >= below:
                assert (await bus.fetch(load.topic, offset, 1))[0].payload == payload


async def test_a_quorum_is_not_stopped(start_cluster: Start) -> None:
    cluster = start_cluster()
    cluster.kill(2)
    code, _, error = await _ended(_compact(cluster))
    assert code == 7
    assert b"without it and 2, which does not serve" in error
    assert await asyncio.to_thread(_running, cluster) == [1, 3]


async def test_a_member_that_is_stuck_holds_nobody_and_gets_a_snapshot(start_cluster: Start) -> None:
    """C2: it is stopped in the middle (SIGSTOP), less than `retention_grace` ago."""
    group = {"window_bytes": MIB, "retention_grace_ms": 3_600_000}
    cluster = start_cluster(retention_bytes=4 * MIB, snapshot_bytes=4 * MIB, group=group)
    await _fill(cluster, 1_000_000)
    cluster.signal(3, signal.SIGSTOP)
    held = asyncio.create_task(_held(cluster))
    await _fill(cluster, 40_000_000)
    await _logs_within(cluster, 9 * MIB, (1, 2))
    assert await held
    cluster.signal(3, signal.SIGCONT)
    await ring_is_whole(cluster)
    await same_everywhere(cluster.path, 3)


async def test_a_full_disk_comes_back_when_the_bound_is_lowered(tmp_path: Path) -> None:
    """D5: nothing is deleted by hand, nothing is restarted, and nothing acknowledged above the bound is lost."""
    cluster = LocalCluster.create(tmp_path / "cluster", 1, {"retention_bytes": 50_000_000})
    data = Path(cluster.replicas[1].data)
    with small_disk(data, 40 * MIB), running(cluster):
        payload = os.urandom(50_000)
        async with ringcast.connect(str(cluster.path), timeout=120) as bus:
            publishing = asyncio.create_task(_publish(bus, payload, 50_000_000))
            await _is(cluster, "read-only: disk full")
            _set(cluster, "retention_bytes = 8000000")
            last = await publishing
            assert (await bus.fetch("fill", last, 1))[0].payload == payload
            await _is(cluster, "serving")


async def _is(cluster: LocalCluster, state: str) -> None:
    """Wait until the only replica says so."""
    async with asyncio.timeout(60):
        while True:
            if (await _rows(cluster))[1].get("state") == state:
                return
            await asyncio.sleep(0.05)


async def _publish(bus: ringcast.Bus, payload: bytes, size: int) -> int:
    for _ in range(size // len(payload)):
        receipt = await bus.publish("fill", payload)
    return receipt.offset


def _running(cluster: LocalCluster) -> list[int]:
    cluster.reload()
    return cluster.running()


async def _held(cluster: LocalCluster) -> bool:
    """Wait until a status says that member 3 holds the log."""
    async with asyncio.timeout(60):
        while True:
            rows = await _rows(cluster)
            if any(3 in one.get("log_held_by", ()) for one in rows.values()):
                return True
            await asyncio.sleep(0.05)
