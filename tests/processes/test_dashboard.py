"""The dashboard beside real replicas: a kill shows in its stream, the cluster goes and comes back, keys are used."""

import asyncio
import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from tests.dashboard.serving import COMMAND, dashboard, reading
from tests.processes.agreement import token_holder
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


async def test_a_kill_of_the_holder_is_seen_and_its_return(start_cluster: Start) -> None:
    cluster = start_cluster(3)
    load = Load(cluster.path)
    await load.start()
    with dashboard("--cluster", str(cluster.path)) as url:
        async with reading(url) as stream:
            await stream.until("healthy")
            await load.reach(50)
            victim = await token_holder(cluster.path)
            await asyncio.to_thread(cluster.kill, victim)
            lost = await stream.event("lost", f"replica {victim}")
            without = await stream.told("view", f"without {victim}")
            assert without["subject"] == "view"
            assert stream.state["health"] == "degraded"
            await load.more(50)
            await asyncio.to_thread(cluster.restart, victim)
            await stream.event("found", f"replica {victim}", after=lost["number"])
            await stream.until("healthy")
            await load.more(50)
            assert any(point[1] for point in stream.points), "throughput"
            assert any(point[3] for point in stream.points), "latency"
            assert any(point[5] for point in stream.points), "rotation"
        # A page that is opened late has all of it at once.
        async with reading(url) as late:
            await late.until("healthy")
            assert late.events[0]["number"] == 1
            assert len(late.points) >= len(stream.points)
    await load.stop()


async def test_the_whole_cluster_goes_and_comes_back(start_cluster: Start) -> None:
    cluster = start_cluster(3)
    with dashboard("--cluster", str(cluster.path)) as url:
        async with reading(url) as stream:
            await stream.until("healthy")
            for member in cluster.replicas:
                cluster.signal(member, signal.SIGKILL)
            for member in cluster.replicas:
                await asyncio.to_thread(cluster.kill, member)
            await stream.until("unreachable")
            assert {one["id"] for one in stream.state["replicas"]} == {1, 2, 3}
            await asyncio.to_thread(cluster.start)
            await stream.until("healthy")


async def test_a_cluster_with_keys(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "data", 1, secure=True)
    cluster.start()
    try:
        cluster.wait_ready()
        with dashboard("--cluster", str(cluster.folder)) as url:
            async with reading(url) as stream:
                await stream.until("healthy")
    finally:
        cluster.stop()


def ended(*arguments: str, code: int) -> str:
    """What it says on stderr when it cannot start."""
    run = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (code, ""), run
    assert run.stderr.startswith("ringcast: ")
    assert run.stderr.count("\n") == 1
    return run.stderr


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "check that the cluster runs" in ended("--cluster", f"tcp://127.0.0.1:{port}", "--timeout", "0.5", code=3)
    assert "name a cluster.json" in ended("--cluster", str(tmp_path / "none"), code=4)
    broken = tmp_path / "cluster.json"
    broken.write_text(json.dumps({"replicas": 1}))
    assert "lacks or garbles" in ended("--cluster", str(broken), code=4)


def test_a_taken_port_and_a_wrong_host_are_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "--port 0" in ended("--cluster", "tcp://127.0.0.1:1", "--port", port, code=7)
    assert "is no address" in ended("--cluster", "tcp://127.0.0.1:1", "--host", "not an address", code=2)
