"""What operators do to the product store in real processes: handing over, members, backup, restore (R15, R16, V0)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ringcast
from cli.app import app
from replicas.hosting import REMOVED
from replicas.local.cluster import LocalCluster
from ringcast.product_store.admin import MakeSnapshot, ReadChunk, RemoveMember, Transfer
from tests.processes.conftest import Start
from tests.processes.products_load import SELLER, ProductsLoad, all_hold_the_same, leader_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]


async def command(cluster: LocalCluster, *arguments: str, code: int = 0) -> Any:
    """`ringcast products ... --json`; what it printed, or its error where another exit code is expected."""
    call = ["products", *arguments, "--cluster", str(cluster.path), "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, app, call)
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout) if result.stdout else result.stderr


async def test_the_leadership_is_handed_over_and_no_change_waits_for_an_election(start_products: Start) -> None:
    cluster = start_products(3)
    load = ProductsLoad(cluster)
    await load.start()
    before = await leader_of(cluster)
    to = before % 3 + 1
    assert await command(cluster, "transfer-leader", "--to", str(to)) == {"from": before, "leader": to}
    status = await command(cluster, "status")
    assert (status["leader"], [one["replica"] for one in status["replicas"]]) == (to, [1, 2, 3])
    assert "member 9 is no voter" in await command(cluster, "transfer-leader", "--to", "9", code=4)
    async with ringcast.products(cluster.path, timeout=10) as store:
        # As if it had been sent again by a client that lost the answer: it is done, and nothing is done twice.
        assert await store.instruct(Transfer(before, 0)) == to
    await load.more(10)
    await load.stop()
    assert await leader_of(cluster) == to


async def test_members_come_and_go_under_load(start_products: Start) -> None:
    """The newcomer is sent a snapshot, a follower and then the leader are removed and find out by themselves."""
    cluster = start_products(3, raft={"log_entries_kept": 10})
    load = ProductsLoad(cluster)
    await load.start()
    await load.more(30)
    assert "say where it is reached" in await command(cluster, "members", "add", "9", code=2)
    assert "say host:peer port" in await command(cluster, "members", "add", "9", "nowhere", code=4)
    late = await command(cluster, "members", "add", "9", "127.0.0.1:1", "--timeout", "1", code=3)
    assert "members remove 9` takes a newcomer back out" in late
    await command(cluster, "members", "remove", "9")
    await _enter(cluster, 4)
    await load.more(10)
    listed = (await command(cluster, "members", "list"))["members"]
    assert [(one["member"], one["voter"]) for one in listed] == [(1, True), (2, True), (3, True), (4, True)]
    leader = await leader_of(cluster)
    for victim in (next(one for one in (1, 2, 3) if one != leader), leader):
        child = cluster._children[victim]
        members = (await command(cluster, "members", "remove", str(victim)))["members"]
        assert victim not in [one["member"] for one in members]
        assert await asyncio.to_thread(child.wait, 5) == REMOVED
        cluster.reload()
        await load.more(10)
    assert len(cluster.replicas) == 2
    await command(cluster, "members", "remove", str(leader))  # again: it is none
    await load.stop()
    await all_hold_the_same(cluster, "item-0")


async def _enter(cluster: LocalCluster, member: int) -> None:
    """`members add --start`, with this process as the parent."""
    cluster.add(member, {one: (replica.peer, replica.client) for one, replica in cluster.replicas.items()})
    await asyncio.to_thread(cluster.start, [member])
    await asyncio.to_thread(cluster.wait_live, [member])
    members = (await command(cluster, "members", "add", str(member)))["members"]
    assert member in [one["member"] for one in members]


async def test_a_lost_cluster_is_restored_from_a_backup_made_under_load(start_products: Start, tmp_path: Path) -> None:
    cluster = start_products(3)
    load = ProductsLoad(cluster)
    await load.start()
    await load.more(20)
    acknowledged = load.taken[0]
    path = tmp_path / "products.backup"
    made = await command(cluster, "backup", str(path))
    assert "is there: name another file" in await command(cluster, "backup", str(path), code=2)
    await load.more(20)
    later = load.taken[0]
    await load.stop()
    assert "a restore replaces the whole cluster" in await command(cluster, "restore", str(path), code=7)
    await asyncio.to_thread(cluster.stop)

    damaged = tmp_path / "damaged.backup"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert "no whole backup" in await command(cluster, "restore", str(damaged), code=4)
    foreign = start_products(1)
    other = tmp_path / "other.backup"
    await command(foreign, "backup", str(other))
    assert "is a backup of cluster" in await command(cluster, "restore", str(other), code=4)
    assert not list(cluster.folder.glob("*.replaced-*")), "nothing was touched"

    restored = await command(cluster, "restore", str(path), "--only", "2")
    assert (restored["replica"], restored["applied"], restored["others"]) == (2, made["applied"], [1, 3])
    assert restored["cluster"] != made["cluster"]
    assert len(restored["aside"]) == 3
    cluster.reload()
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    async with ringcast.products(cluster.path, timeout=10) as store:
        stock = await store.stock("item-0")
        assert stock is not None
        assert acknowledged <= 1_000_000 - stock.left <= later
    await _all_vote(cluster)
    async with ringcast.products(cluster.path, timeout=10) as store:
        await store.change_quantity("item-0", SELLER, -1)
    await all_hold_the_same(cluster, "item-0")


async def _all_vote(cluster: LocalCluster) -> None:
    """The restored one was the only voter; the others follow as they catch up."""
    async with asyncio.timeout(20):
        while not all(one["voter"] for one in (await command(cluster, "members", "list"))["members"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_snapshot_is_made_and_read_by_whoever_asks(start_products: Start) -> None:
    cluster = start_products(1)
    made = await command(cluster, "snapshot")
    assert (await command(cluster, "status"))["replicas"][0]["snapshot"]["name"] == made["name"]
    async with ringcast.products(cluster.path, timeout=10) as store:
        assert isinstance(await store.instruct(ReadChunk(made["name"], 0)), bytes)
        for name, number in ((made["name"], 9), ("0" * 20 + "-00000000", 0)):
            with pytest.raises(ringcast.UnknownQuery, match="snapshot chunk"):
                await store.instruct(ReadChunk(name, number))
        both = await asyncio.gather(store.instruct(MakeSnapshot()), store.instruct(MakeSnapshot()))
        assert all(isinstance(one, dict) and one["chunks"] == 1 for one in both)
        with pytest.raises(ringcast.ChangeRefused, match="member 1 is the only voter"):
            await store.instruct(RemoveMember(1))
        with pytest.raises(ringcast.Refused, match="is the only voter"):
            await store.instruct(Transfer(1, 0))
