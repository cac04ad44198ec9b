"""K3 on real replicas: what clients of different replicas publish and read is one linearizable history of the log."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from tests.processes.conftest import Start
from tests.processes.log_history import Published, Read, violations
from tests.processes.running import running
from tests.processes.slow_disk import SlowCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

READS, PUBLISHES = 1_500, 100
PUBLISHERS_AT = (1, 3)
TOPIC = "history"


class History:
    """Publishers, and readers at these replicas, until enough of both was done; `operations` is what they saw."""

    def __init__(self, cluster: LocalCluster, readers_at: Sequence[int], reads: int) -> None:
        self.operations: list[Published | Read] = []
        self._cluster = cluster
        self._readers_at = readers_at
        self._reads = reads
        self._publishes = PUBLISHES
        self._acknowledged = 0
        self._clock = asyncio.get_running_loop().time

    @property
    def _goes_on(self) -> bool:
        return self._reads > 0 or self._publishes > 0

    async def run(self) -> None:
        """Raises what a client met."""
        async with asyncio.TaskGroup() as clients:
            for replica in PUBLISHERS_AT:
                clients.create_task(self._publish(replica))
            for replica in self._readers_at:
                clients.create_task(self._read(replica))

    async def _publish(self, replica: int) -> None:
        async with ringcast.connect(self._cluster.path, replica=replica, timeout=30) as bus:
            while self._goes_on:
                self._publishes -= 1
                invoked = self._clock()
                receipt = await bus.publish(TOPIC, b"x")
                self.operations.append(Published(receipt.offset, invoked, self._clock()))
                self._acknowledged = max(self._acknowledged, receipt.offset + 1)

    async def _read(self, replica: int) -> None:
        """Each kind of read, and local ones between: a client's frames are taken in more than one place of a turn."""
        connected = ringcast.connect(self._cluster.path, replica=replica, timeout=30)
        async with connected as bus, asyncio.TaskGroup() as kinds:
            for what in ("fetch", "topics", "status"):
                kinds.create_task(self._read_one_kind(bus, what, replica))
            kinds.create_task(self._look(bus))

    async def _read_one_kind(self, bus: ringcast.Bus, what: str, replica: int) -> None:
        while self._goes_on:
            self._reads -= 1
            invoked, known = self._clock(), self._acknowledged
            if what == "fetch":
                found = await bus.fetch(TOPIC, max(0, known - 1), 1_000)
                end = found[-1].offset + 1 if found else 0
            elif what == "topics":
                end = max((topic.last_offset + 1 for topic in await bus.topics(TOPIC)), default=0)
            else:
                end = int(str((await bus.query("status"))["next_offset"]))
            self.operations.append(Read(end, invoked, self._clock(), what, replica))
            await asyncio.sleep(0)

    async def _look(self, bus: ringcast.Bus) -> None:
        while self._goes_on:
            await bus.status()
            await asyncio.sleep(0)


async def _check(cluster: LocalCluster, *readers_at: int) -> None:
    history = History(cluster, readers_at, READS)
    await history.run()
    assert violations(history.operations) == []


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[LocalCluster]:
    """Replica 2 takes 2 to 16 ms for a sync, on its loop while it journals (D1)."""
    with running(SlowCluster.create(tmp_path / "slow", 3)) as cluster:
        yield cluster


async def test_reads_and_publishes_are_one_history(start_cluster: Start) -> None:
    await _check(start_cluster(3), 1, 2, 3)


async def test_so_they_are_where_one_disk_is_slow(slow: LocalCluster) -> None:
    """Issue 13, item 11: some 3 of 10,000 reads were stale, most at the replica whose loop waits for its disk."""
    await _check(slow, 2, 2)
