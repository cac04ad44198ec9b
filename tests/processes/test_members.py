"""V12 in real processes: members come and go under load, dead ones are replaced, and who is removed finds out."""

import asyncio
import json
import signal
from typing import Any

import pytest
from typer.testing import CliRunner

import ringcast
from cli.app import app
from replicas.hosting import REMOVED
from replicas.local.cluster import LocalCluster
from tests.processes.agreement import assert_agreement, token_holder, until
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


async def command(cluster: LocalCluster, *arguments: str, code: int = 0) -> Any:
    """`ringcast members ... --json`; what it printed, or its error where another exit code is expected."""
    call = ["members", *arguments, "--cluster", str(cluster.path), "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, app, call)
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout) if code == 0 else result.stderr


async def enter(cluster: LocalCluster, member: int) -> None:
    """`members add --start`, as an operator does, with this process as the parent: start it, wait, and add it."""
    found = await command(cluster, "list")
    where = {one: (at["peer"], at["pub"]) for one, at in found["addresses"].items() if int(one) in found["members"]}
    cluster.add(member, {int(one): at for one, at in where.items()})
    await asyncio.to_thread(cluster.start, [member])
    await asyncio.to_thread(cluster.wait_ready, [member])
    assert member in (await command(cluster, "add", str(member)))["ring"]


async def leave(cluster: LocalCluster, member: int) -> None:
    """`members remove`: the others go on, and the process ends by itself, unless it was dead."""
    child = cluster._children[member]
    dead = child.poll() is not None
    assert member not in (await command(cluster, "remove", str(member)))["members"]
    if not dead:
        await until(lambda: child.poll() is not None)
        assert child.returncode == REMOVED
    cluster.forget(member)


def clients_of(cluster: LocalCluster) -> list[str]:
    """The client addresses, as a program started today would be given them."""
    return [replica.client for replica in cluster.replicas.values()]


async def test_from_three_to_five_and_to_three_others_under_load(start_cluster: Start) -> None:
    """Clients that were given the first three addresses publish all the time; at the end none of these is left."""
    cluster = start_cluster()
    load = Load(clients_of(cluster), clients=3)
    await load.start()
    await load.reach(50)
    for member in (4, 5):
        await enter(cluster, member)
        await load.more(20)
    for member in (await token_holder(cluster.path), *cluster.replicas):
        if member in cluster.replicas and len(cluster.replicas) > 3:
            await leave(cluster, member)
            await load.more(20)
    for member in (one for one in (1, 2, 3) if one in cluster.replicas):
        await enter(cluster, member + 10)
        await leave(cluster, member)
        await load.more(20)
    await load.stop()
    assert load.gap_s < 3.0
    assert len(cluster.replicas) == 3
    await assert_agreement(cluster, load)
    present = next(iter(cluster.replicas))
    assert (await command(cluster, "add", str(present)))["changed"] is False
    assert (await command(cluster, "remove", "1"))["changed"] is False


async def test_a_dead_member_is_replaced_under_load(start_cluster: Start) -> None:
    """It is removed first, since a newcomer counts for nobody yet (V12), and finds out when it comes back."""
    cluster = start_cluster()
    load = Load(cluster.path)
    await load.start()
    await load.reach(50)
    dead = await token_holder(cluster.path)
    replica = cluster.replicas[dead]
    await asyncio.to_thread(cluster.kill, dead)
    await leave(cluster, dead)
    await load.more(20)
    await enter(cluster, 4)
    await load.more(20)
    cluster.replicas[dead] = replica
    await asyncio.to_thread(cluster.start, [dead])
    await until(lambda: cluster._children[dead].poll() == REMOVED, timeout_s=10)
    cluster.forget(dead)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_a_replica_that_slept_or_restarts_with_the_file_of_old_comes_up_in_the_present_members(
    start_cluster: Start,
) -> None:
    """The log decides (V12): its file names 1, 2 and 3, and of these only itself is left."""
    cluster = start_cluster()
    load = Load(cluster.path)
    await load.start()
    await load.reach(20)
    await enter(cluster, 4)
    await enter(cluster, 5)
    await leave(cluster, 1)
    await asyncio.to_thread(cluster.stop, [3])
    await leave(cluster, 2)
    await load.more(20)
    await asyncio.to_thread(cluster.restart, 3)
    await asyncio.to_thread(cluster.wait_ready, [3])
    log = cluster.log_path(3).read_text()
    assert '"members_differ"' in log
    assert (await command(cluster, "list"))["members"] == [3, 4, 5]
    for member in cluster.replicas:  # nobody is left who could tell: each has its own log, and its old file
        cluster.signal(member, signal.SIGKILL)
    for member in cluster.replicas:
        await asyncio.to_thread(cluster.kill, member)
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(20)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_what_is_refused_says_why_and_what_to_do(start_cluster: Start) -> None:
    cluster = start_cluster()
    error = await command(cluster, "add", "9", code=4)
    assert "the new member is not heard; start it first" in error
    await asyncio.to_thread(cluster.kill, 3)
    found = await command(cluster, "list")
    where = {int(one): (at["peer"], at["pub"]) for one, at in found["addresses"].items()}
    cluster.add(4, where)
    await asyncio.to_thread(cluster.start, [4])
    error = await command(cluster, "add", "4", code=4)
    assert "start member 3, or remove it first" in error
    assert (await command(cluster, "list"))["waiting"] == [4]
    await asyncio.to_thread(cluster.wait_ready, [4], 5.0)  # `up` does not wait for what only an operator can do
    assert not cluster.is_ready(4)
    assert "not within 0.5 s: adding member 4" in await command(cluster, "add", "4", "--timeout", "0.5", code=3)
    async with ringcast.connect(cluster.path, timeout=5) as bus:
        with pytest.raises(ringcast.Refused, match="expected add or remove"):
            await bus.query("change_members", {"add": 0})
    await leave(cluster, 3)
    assert (await command(cluster, "add", "4"))["members"] == [1, 2, 4]
