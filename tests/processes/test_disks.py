"""One member's disk is new, old or damaged: it must come back clean, and nobody may lose anything (V0, D6)."""

import asyncio
import mmap
import random
import shutil
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

import ringcast
from replicas.local.cluster import LocalCluster, MemoryLost
from replicas.local.files import HOST
from store.contract import NO_CHAIN, Append
from store.folder import DATA_NAME, cluster_in
from store.journal import FRAME_BYTES, FRAMES, JOURNAL_NAME, encode_block
from tests.processes.agreement import assert_agreement, ring_is_whole, until
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CLIENTS = 4
VICTIM = 2


async def _come_back(cluster: LocalCluster, load: Load) -> None:
    """The victim starts again, takes turns again, and then all is compared."""
    await asyncio.to_thread(cluster.start, [VICTIM])
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    await ring_is_whole(cluster)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


def _said(cluster: LocalCluster, event: str) -> bool:
    return event in cluster.log_path(VICTIM).read_text(encoding="utf-8")


async def test_a_wiped_disk_is_noticed_and_filled_again(start_cluster: Start) -> None:
    """Fault 18: the same name on an empty disk must not vote or acknowledge as its old self."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(200)
    await asyncio.to_thread(cluster.kill, VICTIM)
    shutil.rmtree(cluster.replicas[VICTIM].data)
    await load.more(50)
    await _come_back(cluster, load)
    assert _said(cluster, "member_wiped")


async def test_an_old_copy_of_a_disk_is_found_by_its_incarnation(start_cluster: Start) -> None:
    """Fault 33: the copy is older than what the member acknowledged since; a peer knows a newer incarnation (V0)."""
    cluster = start_cluster(3)
    data = Path(cluster.replicas[VICTIM].data)
    backup = data.with_name("backup")
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(100)
    await asyncio.to_thread(cluster.stop, [VICTIM])
    shutil.copytree(data, backup)
    await asyncio.to_thread(cluster.start, [VICTIM])
    await asyncio.to_thread(cluster.wait_ready, [VICTIM])
    await load.more(200)
    await asyncio.to_thread(cluster.kill, VICTIM)
    shutil.rmtree(data)
    backup.rename(data)
    await _come_back(cluster, load)
    assert _said(cluster, "member_wiped")


async def test_a_flipped_bit_in_a_payload_is_never_delivered(start_cluster: Start) -> None:
    """Fault 28: the checksum of the record finds it, and a peer's record with the same chain mends it (D6)."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(300)
    await asyncio.to_thread(cluster.kill, VICTIM)
    data = Path(cluster.replicas[VICTIM].data) / DATA_NAME
    content = bytearray(data.read_bytes())
    oldest = min(load.acknowledged, key=load.acknowledged.__getitem__)
    places = _places(bytes(content), oldest)
    assert places
    for place in places:
        content[place] ^= 0x01
    data.write_bytes(content)
    await load.more(50)
    await _come_back(cluster, load)
    assert _said(cluster, "records_repaired") or _said(cluster, "data_set_aside")


async def test_bytes_flipped_anywhere_in_the_data_file(start_cluster: Start) -> None:
    """Fault 28: whatever was hit, the member repairs it or starts over; it never votes with it."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(200)
    await asyncio.to_thread(cluster.kill, VICTIM)
    data = Path(cluster.replicas[VICTIM].data) / DATA_NAME
    content = bytearray(data.read_bytes())
    used = [place for place, byte in enumerate(content) if byte]
    for place in random.Random(1).sample(used, 40):
        content[place] ^= 0xFF
    data.write_bytes(content)
    await _come_back(cluster, load)


async def test_one_flipped_byte_of_each_journaled_record_loses_nothing(start_cluster: Start) -> None:
    """Fault 28, after a power cut of all: what was acknowledged last stands in the journals alone, twice in each."""
    cluster = start_cluster(3)
    load = Load(cluster.path, clients=1)
    await load.start()
    await load.reach(200)
    await asyncio.gather(*(asyncio.to_thread(cluster.kill, member) for member in cluster.replicas))
    draw = random.Random(1)
    for replica in cluster.replicas.values():
        journal = Path(replica.data) / JOURNAL_NAME
        content = bytearray(journal.read_bytes())
        assert any(content)
        for frame in range(0, len(content), FRAME_BYTES):
            content[frame + draw.randrange(FRAME_BYTES)] ^= 1 << draw.randrange(8)
        journal.write_bytes(content)
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)
    assert not _said(cluster, "data_set_aside")


async def test_a_journal_that_lost_a_record_is_set_aside(start_cluster: Start) -> None:
    """Fault 28: both copies of what was acknowledged are gone, so the member may not vote with the rest (V0)."""
    cluster = start_cluster(3)
    load = Load(cluster.path, clients=1)
    await load.start()
    await load.reach(100)
    await asyncio.to_thread(cluster.kill, VICTIM)
    journal = Path(cluster.replicas[VICTIM].data) / JOURNAL_NAME
    content = bytearray(journal.read_bytes())
    newest = max(range(0, len(content), FRAME_BYTES), key=lambda frame: bytes(content[frame + 4 : frame + 12]))
    number = int.from_bytes(content[newest + 4 : newest + 12], "big")
    later = encode_block(number + 2, [Append(0, NO_CHAIN, NO_CHAIN, ())])
    assert later is not None
    place = (number + 2) % FRAMES * FRAME_BYTES
    content[place : place + FRAME_BYTES] = 2 * later
    journal.write_bytes(content)
    await _come_back(cluster, load)
    assert _said(cluster, "data_set_aside")


async def test_a_truncated_data_file_is_set_aside(start_cluster: Start) -> None:
    """Fault 29: what cannot be trusted as a whole is kept for the operator, and the member starts over."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(200)
    await asyncio.to_thread(cluster.kill, VICTIM)
    data = Path(cluster.replicas[VICTIM].data)
    with (data / DATA_NAME).open("r+b") as file:
        file.truncate(6_000)
    await _come_back(cluster, load)
    assert _said(cluster, "data_set_aside")
    assert list(data.parent.glob(f"{data.name}.damaged-*"))


async def test_a_wiped_member_is_no_quorum_for_the_last_one(start_cluster: Start) -> None:
    """V0: one of three is down and one is new, so nobody may acknowledge; afterwards nothing is missing."""
    cluster = start_cluster(3)
    load = Load(cluster.path, CLIENTS)
    await load.start()
    await load.reach(100)
    await asyncio.to_thread(cluster.kill, VICTIM)
    await asyncio.to_thread(cluster.kill, 3)
    shutil.rmtree(cluster.replicas[VICTIM].data)
    await asyncio.to_thread(cluster.start, [VICTIM])
    before = len(load.acknowledged)
    await until(lambda: _is_up(cluster, VICTIM))
    for _ in range(50):  # a second in which a wrong quorum would have formed: it takes some 50 ms
        assert not cluster.is_ready(1)
        assert not cluster.is_ready(VICTIM)
        await asyncio.sleep(0.02)
    assert len(load.acknowledged) <= before + CLIENTS
    await asyncio.to_thread(cluster.start, [3])
    await asyncio.to_thread(cluster.wait_ready)
    await load.more(50)
    await load.stop()
    await assert_agreement(cluster, load)


async def test_all_folders_that_are_damaged_at_one_start_wait_for_an_operator(start_cluster: Start) -> None:
    """D6: n members on empty disks are no new cluster; every output names the folders and the way out."""
    cluster = start_cluster(3)
    load = Load(cluster.path, clients=1)
    await load.start()
    await load.reach(50)
    await until(lambda: all(cluster_in(Path(one.data)) for one in cluster.replicas.values()))
    await load.stop()
    await asyncio.to_thread(cluster.stop)
    for replica in cluster.replicas.values():
        with (Path(replica.data) / DATA_NAME).open("r+b") as file:
            file.write(b"\xff" * 2 * mmap.PAGESIZE)
    await asyncio.to_thread(cluster.start)
    with pytest.raises(MemoryLost) as caught:
        await asyncio.to_thread(cluster.wait_ready)
    for replica in cluster.replicas.values():
        assert f"{replica.data}.damaged-1" in str(caught.value)
    for command in (["status"], ["health"], ["doctor"]):
        found = await _said_by(cluster, *command)
        assert all(f"{replica.data}.damaged-1" in found for replica in cluster.replicas.values()), found
        assert "recover --accept-loss" in found
    assert "again from view" in await _said_by(cluster, "recover", "--accept-loss")
    await asyncio.to_thread(cluster.wait_ready)
    async with ringcast.connect(cluster.path) as bus:
        status = await bus.status()
    assert status.more["possible_loss"]


async def _said_by(cluster: LocalCluster, *command: str) -> str:
    """What a command prints, in one line, however wide."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", "--cluster", str(cluster.path), *command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return said.decode().replace("\n", "")


async def test_a_folder_that_was_set_aside_is_named_until_it_is_moved_away(start_cluster: Start) -> None:
    """D6: the member comes back through its peers, and says what happened."""
    cluster = start_cluster(3)
    load = Load(cluster.path, clients=1)
    await load.start()
    await load.reach(50)
    await asyncio.to_thread(cluster.kill, VICTIM)
    data = Path(cluster.replicas[VICTIM].data)
    (data / DATA_NAME).write_bytes(b"\xff" * 100_000)
    await _come_back(cluster, load)
    aside = data.with_name(f"{data.name}.damaged-1")
    assert f"a damaged folder was set aside: {aside}" in await _said_by(cluster, "status")
    aside.rename(aside.with_name("looked-at"))
    await until(lambda: not cluster.advice(VICTIM) and not _asides(cluster))


def _asides(cluster: LocalCluster) -> float:
    """As /metrics says it."""
    with urllib.request.urlopen(f"{cluster.replicas[VICTIM].http}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return float(next(line for line in text.splitlines() if line.startswith("ringcast_folders_set_aside{")).split()[1])


def _is_up(cluster: LocalCluster, member: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, int(cluster.replicas[member].http.rpartition(":")[2]))) == 0


def _places(content: bytes, wanted: bytes) -> list[int]:
    """Where `wanted` stands as a whole payload (the packed batch ends with it), in every copy LMDB has kept."""
    found, place = [], content.find(wanted)
    while place >= 0:
        if not content[place + len(wanted) : place + len(wanted) + 1].isdigit():
            found.append(place)
        place = content.find(wanted, place + 1)
    return found
