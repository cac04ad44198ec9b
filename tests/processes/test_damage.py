"""Damage that comes while replicas run, in what no start check reads again (docs/faults.md 28): scrub and repair."""

import asyncio
import shutil
import urllib.request
from pathlib import Path

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from store.engine import open_engine
from store.folder import DATA_NAME, cluster_in
from tests.processes.agreement import assert_agreement, ring_is_whole, until
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

VICTIM = 2


def metric(cluster: LocalCluster, member: int, name: str, part: str) -> float:
    """As /metrics says it; 0 while the replica does not."""
    try:
        with urllib.request.urlopen(f"{cluster.replicas[member].http}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    found = [line for line in lines if line.startswith(f"ringcast_{name}{{") and f'"{part}"' in line]
    return sum(float(line.split()[-1]) for line in found)


def stored(folder: Path, table: bytes, key: bytes) -> bytes:
    """A row as it stands in the file of a running replica; nothing is locked or written."""
    with (
        open_engine(folder, max_dbs=20, readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        return bytes(transaction.get(key, db=environment.open_db(table, txn=transaction, create=False)) or b"")


def flip(path: Path, content: bytes) -> None:
    """One bit of each copy."""
    whole = path.read_bytes()
    place = whole.find(content)
    assert content
    assert place >= 0
    with path.open("r+b") as file:
        while place >= 0:
            file.seek(place + len(content) // 2)
            file.write(bytes([whole[place + len(content) // 2] ^ 0x04]))
            place = whole.find(content, place + 1)


async def test_a_row_that_is_damaged_while_the_replica_runs(start_cluster: Start) -> None:
    """D6: the scrub finds it, the member starts over, the ring goes on, and nothing is lost."""
    cluster = start_cluster(3, scrub_bytes_per_second=1 << 30, scrub_pause=1)
    async with ringcast.connect(cluster.path) as bus:
        await bus.publish("quiet", b"once")
    load = Load(cluster.path, clients=2)
    await load.start()
    await load.reach(100)
    data = Path(cluster.replicas[VICTIM].data)
    await until(lambda: cluster_in(data) != 0)
    flip(data / DATA_NAME, await asyncio.to_thread(stored, data, b"topics", b"quiet"))
    await until(lambda: data.with_name(f"{data.name}.damaged-1").exists())
    await load.more(50)
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    await ring_is_whole(cluster)
    await until(lambda: metric(cluster, VICTIM, "scrub_damaged", "rows") == 0)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)
    assert metric(cluster, VICTIM, "folders_set_aside", str(VICTIM)) == 1
    assert set(cluster.running()) == {1, 2, 3}


async def test_damaged_snapshot_files_on_all_sources_keep_nobody_out(start_cluster: Start) -> None:
    """C1: a bad chunk is never served; each source makes a new file, and the wiped member comes back."""
    cluster = start_cluster(3, retention_bytes=1 << 20, snapshot_bytes=1 << 16, scrub_bytes_per_second=0)
    async with ringcast.connect(cluster.path) as bus:
        for _ in range(64):
            await bus.publish("large", bytes(64 << 10))
    load = Load(cluster.path, clients=1)
    await load.start()
    await load.reach(50)
    sources = [member for member in cluster.replicas if member != VICTIM]
    await until(lambda: all(metric(cluster, one, "log_first_slot", str(one)) > 0 for one in sources))
    await load.stop()
    await asyncio.to_thread(cluster.kill, VICTIM)
    shutil.rmtree(cluster.replicas[VICTIM].data)
    damaged = []
    for member in sources:
        files = sorted((Path(cluster.replicas[member].data) / "snapshots").glob("*.snapshot"))
        assert files
        for path in files:
            content = bytearray(path.read_bytes())
            content[64] ^= 0x10
            path.write_bytes(content)
        damaged += files
    await asyncio.to_thread(cluster.start, [VICTIM])
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    await ring_is_whole(cluster)
    assert not all(path.exists() for path in damaged)
