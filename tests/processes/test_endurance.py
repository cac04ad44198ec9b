"""Three replicas at a tiny retention for as long as told, with a full disk and a cut link on the way (C2, D5, V4, V9).

`make soak` runs it for SECONDS. A quarter of the time is quiet, in the second quarter the disk of one replica is full,
in the third the link between two replicas is cut, the last quarter heals. The log is sampled each second, and a
subscriber counts every message. The report is printed: `pytest -s` shows it while the test runs.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import ringcast
from replicas.bus.overview import Overview
from tests.processes.agreement import ring_is_whole, same_everywhere
from tests.processes.namespaces import NamespacedCluster, Network
from tests.processes.running import running

SECONDS = float(os.environ.get("RINGCAST_SOAK_SECONDS", "120"))

pytestmark = [pytest.mark.processes, pytest.mark.soak, pytest.mark.timeout(SECONDS + 300)]

MIB = 1 << 20
RETENTION_BYTES = 24 * MIB
SNAPSHOT_BYTES = 8 * MIB
#: What is never trimmed (docs/operations.md, "Disk space"): the tail that a member which lags a little is served from.
KEPT_TAIL_BYTES = 32 * MIB
#: What may be appended between two looks at the log.
SLACK_BYTES = 8 * MIB
DISK_BYTES = 512 * MIB
FULL = 2
CUT = (2, 3)
PAYLOAD = os.urandom(20_000)
#: A fault may cost a few views when it begins and when it ends, and a busy machine one now and then; a ring that flaps
#: makes dozens a minute.
VIEW_CHANGES_MAX = 12 + SECONDS / 30


@dataclass(slots=True)
class Samples:
    """What was seen: peaks over all replicas, and view counters."""

    log_bytes: dict[int, int] = field(default_factory=dict)
    file_bytes: dict[int, int] = field(default_factory=dict)
    views: list[int] = field(default_factory=list)

    def add(self, row: dict[str, Any], data: Path) -> None:
        """One replica's status and the size of its database file."""
        member = row["replica"]
        file = data / "data.mdb"
        self.file_bytes[member] = max(self.file_bytes.get(member, 0), file.stat().st_size)
        if "log_bytes" in row:
            self.log_bytes[member] = max(self.log_bytes.get(member, 0), row["log_bytes"])
            self.views.append(row["view"][0])


class Traffic:
    """One publisher of numbered messages, and one subscriber that checks each of them."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.acknowledged: dict[int, int] = {}  # number -> offset
        self.seen: dict[int, int] = {}
        self.twice = 0
        self._stopping = asyncio.Event()
        self._published = False
        self._everything = asyncio.Event()  # the subscriber has each message that was acknowledged

    async def publish(self) -> None:
        """About a megabyte a second until told to stop."""
        async with ringcast.connect(self.where, timeout=60) as bus:
            number = 0
            while not self._stopping.is_set():
                receipt = await bus.publish("soak", b"%012d" % number + PAYLOAD)
                self.acknowledged[number] = receipt.offset
                number += 1
                await asyncio.sleep(0.015)

    async def subscribe(self) -> None:
        """Until cancelled."""
        async with ringcast.connect(self.where, timeout=60) as bus:
            async for message in bus.subscribe("soak", "earliest"):
                number = int(message.payload[:12])
                self.twice += number in self.seen
                self.seen[number] = message.offset
                self._complete()

    def _complete(self) -> None:
        if self._published and len(self.seen) >= len(self.acknowledged):
            self._everything.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish within the block; at its end, wait until the subscriber has everything."""
        reader, writer = asyncio.create_task(self.subscribe()), asyncio.create_task(self.publish())
        try:
            yield
            self._stopping.set()
            await writer
            self._published = True
            self._complete()
            everything = asyncio.create_task(self._everything.wait())
            await asyncio.wait([reader, everything], timeout=120, return_when=asyncio.FIRST_COMPLETED)
            everything.cancel()
            if reader.done():
                reader.result()
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Iterator[NamespacedCluster]:
    """A replica in each namespace, ready; the data folder of FULL is a file system of its own."""
    settings = {
        "retention_bytes": RETENTION_BYTES,
        "snapshot_bytes": SNAPSHOT_BYTES,
        "check_invariants": True,
    }
    found = NamespacedCluster.create(tmp_path / "cluster", 3, settings, network.hosts)
    found.network = network
    data = Path(found.replicas[FULL].data)
    data.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "ringcast-test", str(data)], check=True, timeout=10
    )
    try:
        with running(found):
            yield found
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


async def _watch(cluster: NamespacedCluster, samples: Samples, seconds: float, phase: str) -> None:
    """Sample each second, and print a line for each tenth."""
    began = time.monotonic()
    printed = 0
    async with Overview(cluster.path) as overview:
        while (spent := time.monotonic() - began) < seconds:
            for row in await overview.look():
                samples.add(row, Path(cluster.replicas[row["replica"]].data))
            if spent * 10 // seconds >= printed:
                printed += 1
                logs = ", ".join(f"{size / MIB:.0f}" for _, size in sorted(samples.log_bytes.items()))
                print(f"{phase}: {spent:.0f} of {seconds:.0f} s, peaks of the logs {logs} MiB", flush=True)
            await asyncio.sleep(1.0)


async def test_disk_and_views_stay_bounded_and_nothing_is_lost(cluster: NamespacedCluster, network: Network) -> None:
    samples, traffic, part = Samples(), Traffic(cluster.path), SECONDS / 4
    data = Path(cluster.replicas[FULL].data)
    async with traffic.running():
        await _watch(cluster, samples, part, "quiet")
        ballast = data / "ballast"
        room = os.statvfs(data)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - 256 * 1024))
        await _watch(cluster, samples, part, f"disk of {FULL} full")
        ballast.unlink()
        await asyncio.to_thread(cluster.wait_ready, None, 60.0)
        network.cut(*CUT)
        network.cut(*reversed(CUT))
        await _watch(cluster, samples, part, f"link {CUT[0]}-{CUT[1]} cut")
        network.heal(*CUT)
        network.heal(*reversed(CUT))
        await _watch(cluster, samples, part, "healed")
    await ring_is_whole(cluster)
    await same_everywhere(cluster.path, 3)
    changes = max(samples.views) - min(samples.views)
    lost = [number for number, offset in traffic.acknowledged.items() if traffic.seen.get(number) != offset]
    print(
        f"{len(traffic.acknowledged)} acknowledged, {len(lost)} lost, {traffic.twice} twice, {changes} view changes; "
        f"peaks of the log {samples.log_bytes}, of the file {samples.file_bytes}",
        flush=True,
    )
    assert lost == []
    assert traffic.twice == 0
    assert changes <= VIEW_CHANGES_MAX
    bound = RETENTION_BYTES + SNAPSHOT_BYTES + KEPT_TAIL_BYTES + SLACK_BYTES
    assert {member: size for member, size in samples.log_bytes.items() if size > bound} == {}
