"""durability=memory, and disks that are gone: who comes back alone, who needs an operator, what is lost (D2, V0)."""

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ringcast
from cli.app import app
from replicas.local.cluster import LocalCluster, MemoryLost
from tests.processes.agreement import assert_agreement
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

COMMAND = "ringcast recover --accept-loss"


async def _ringcast(cluster: LocalCluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a command with --json, as an operator's script sees it."""
    command = [*arguments, "--cluster", str(cluster.path), "--json"]
    found = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert found.stdout, found.output
    return found.exit_code, json.loads(found.stdout)


async def _kill_all(cluster: LocalCluster) -> None:
    """A power cut: all at the same moment."""
    for member in cluster.replicas:
        cluster.signal(member, signal.SIGKILL)
    for member in cluster.replicas:
        await asyncio.to_thread(cluster.kill, member)


async def _assert_stays_down(cluster: LocalCluster) -> None:
    """Nobody orders anything, and everything that an operator looks at names the command."""
    with pytest.raises(MemoryLost, match=COMMAND):
        await asyncio.to_thread(cluster.wait_ready)
    assert [member for member in cluster.replicas if cluster.is_ready(member)] == []
    code, health = await _ringcast(cluster, "health", "--timeout", "1")
    assert (code, health["health"], health["serving"]) == (3, "down", 0)
    assert COMMAND in health["advice"]
    _, status = await _ringcast(cluster, "status", "--timeout", "1")
    assert any(COMMAND in (one.get("advice") or "") for one in status["replicas"])
    assert not any(one.get("possible_loss") for one in status["replicas"])
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        with pytest.raises(ringcast.Timeout, match=COMMAND):
            await bus.publish("load", b"never acknowledged", timeout=0.5)


async def _recover(cluster: LocalCluster) -> dict[str, Any]:
    """Accept the loss, once on purpose and once too often."""
    code, explained = await _ringcast(cluster, "recover")
    assert (code, explained["recovered"]) == (2, False)
    assert "--accept-loss" in explained["why"]
    code, found = await _ringcast(cluster, "recover", "--accept-loss")
    assert (code, found["recovered"], found["possible_loss"]) == (0, True, True)
    await asyncio.to_thread(cluster.wait_ready)
    code, refused = await _ringcast(cluster, "recover", "--accept-loss")
    assert (code, refused["recovered"], refused["healthy"]) == (1, False, True)
    _, status = await _ringcast(cluster, "status")
    assert [one["possible_loss"] for one in status["replicas"]] == [True, True, True]
    return found


async def test_one_member_forgets_then_all_stop_in_order(start_cluster: Start) -> None:
    """D2: a start without the clean-stop mark is a wipe, one with it is none; neither loses what was acknowledged."""
    cluster = start_cluster(3, durability="memory")
    load = Load(cluster.path)
    await load.start()
    await load.reach(200)
    await asyncio.to_thread(cluster.kill, 2)
    await load.more(100)
    await asyncio.to_thread(cluster.start, [2])
    await asyncio.to_thread(cluster.wait_ready, [2])
    assert '"wiped": true' in cluster.log_path(2).read_text(encoding="utf-8")
    await load.more(100)
    await load.stop()
    await assert_agreement(cluster, load)
    _, status = await _ringcast(cluster, "status")
    assert {(one["durability"], one["possible_loss"], one["wiped"]) for one in status["replicas"]} == {
        ("memory", False, False)
    }
    await asyncio.to_thread(cluster.stop)
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    for member in (1, 3):
        assert '"wiped": true' not in cluster.log_path(member).read_text(encoding="utf-8")
    await assert_agreement(cluster, load)


async def test_all_forget_and_an_operator_accepts_the_loss(start_cluster: Start) -> None:
    cluster = start_cluster(3, durability="memory")
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        for number in range(50):
            await bus.publish("load", b"%d" % number)
    await _kill_all(cluster)
    await asyncio.to_thread(cluster.start)
    await _assert_stays_down(cluster)
    found = await _recover(cluster)
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        receipt = await bus.publish("load", b"after")
        kept = [message.payload for message in await bus.fetch("load", 0, 100)]
    # Whatever was lost is lost from the end on: the order has no hole, and goes on behind it.
    assert kept == [b"%d" % number for number in range(len(kept) - 1)] + [b"after"]
    assert receipt.offset == found["next_offset"] == len(kept) - 1


async def test_two_of_three_disks_are_gone(start_cluster: Start) -> None:
    """V0 in the other durability: the third one's log is everybody's, and a member that is down is named."""
    cluster = start_cluster(3)
    load = Load(cluster.path)
    await load.start()
    await load.reach(200)
    await load.stop()
    await asyncio.to_thread(cluster.wait_ready)
    await _kill_all(cluster)
    for member in (2, 3):
        shutil.rmtree(Path(cluster.replicas[member].data))
    await asyncio.to_thread(cluster.start, [1, 2])
    await asyncio.to_thread(cluster.wait_live, [1, 2])
    code, refused = await _ringcast(cluster, "recover", "--accept-loss")
    assert (code, refused["healthy"], refused["missing"]) == (3, False, [3])
    assert "replica 3 is not heard" in refused["why"]
    await asyncio.to_thread(cluster.start, [3])
    await _assert_stays_down(cluster)
    await _recover(cluster)
    await assert_agreement(cluster, load)
