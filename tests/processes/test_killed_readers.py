"""A replica is killed again and again under a client that reads from it and is behind: the client's process lives."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(1_800)]

BATCHES = 8_000

# Batches of one message: an answer has thousands of parts, so that a connection mostly ends within one.
READER = f"""
import asyncio, sys
import ringcast

async def main() -> None:
    async with ringcast.connect(sys.argv[1], timeout=60) as bus:
        while True:
            print("behind", flush=True)
            async with bus.subscribe("load", start="earliest") as subscription:
                seen = 0
                async for batch in subscription.batches():
                    seen += 1
                    if seen == {BATCHES}:
                        break

asyncio.run(main())
"""


@pytest.mark.parametrize("kills", [pytest.param(8, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.soak)])
async def test_no_reader_is_aborted(start_cluster: Start, kills: int) -> None:
    cluster = start_cluster(1)
    async with ringcast.connect(cluster.path, timeout=30) as bus, bus.publisher("load", batch_messages=1) as publisher:
        for _ in range(BATCHES):
            await publisher.send(b"x" * 100)
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READER, str(cluster.path), stdout=PIPE, stderr=PIPE
    )
    try:
        await _kill_under(reader, cluster, kills)
    finally:
        if reader.returncode is None:
            reader.kill()
        await reader.wait()


async def _kill_under(reader: Process, cluster: LocalCluster, kills: int) -> None:
    assert reader.stdout is not None
    assert reader.stderr is not None
    moment = random.Random(kills)
    for number in range(kills):
        line = await asyncio.wait_for(reader.stdout.readline(), 60)
        assert line == b"behind\n", (number, reader.returncode, await reader.stderr.read())
        await asyncio.sleep(moment.uniform(0.0, 0.1))  # any moment of its reading
        await asyncio.to_thread(cluster.kill, 1)
        await asyncio.to_thread(cluster.start, [1])
    assert await asyncio.wait_for(reader.stdout.readline(), 60), await reader.stderr.read()
