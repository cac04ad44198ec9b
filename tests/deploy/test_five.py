"""COMPOSE_PROFILES=five with RINGCAST_REPLICAS=5: every member list follows from the one number."""

import asyncio
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import Compose, docker, run
from tests.deploy.load import publishing
from tests.processes.agreement import same_everywhere


@pytest.fixture
def five(image: str) -> Iterator[Compose]:
    project = Compose(f"ringcast-{secrets.token_hex(4)}", image, RINGCAST_REPLICAS="5", COMPOSE_PROFILES="five")
    yield project
    project.remove()


async def test_five_replicas_survive_two_that_are_killed(five: Compose, tmp_path: Path) -> None:
    databases = [f"{role}-{member}" for role in ("bus", "products") for member in range(1, 6)]
    await asyncio.to_thread(five, "up", "--detach", "--no-build", *databases)
    await asyncio.to_thread(five.wait_healthy)
    assert set(five.containers()) == {*databases, "keys"}
    cluster = five.cluster_file(tmp_path)
    command = [sys.executable, "-P", "-m", "cli", "--cluster", str(cluster)]
    async with publishing(cluster) as load:
        for victim in ("bus-1", "bus-4", "products-1", "products-4"):
            await asyncio.to_thread(docker, "kill", "--signal", "KILL", five.containers()[victim])
        await load.more(50)
        members = json.loads(await asyncio.to_thread(run, *command, "members", "list", "--json"))
        assert members["members"] == [1, 2, 3, 4, 5]
        # 1: the answer is that some do not answer
        status = await asyncio.to_thread(run, *command, "products", "status", "--json", exit_codes=(1,))
        products = json.loads(status)
        assert [one["replica"] for one in products["replicas"]] == [1, 2, 3, 4, 5]
        for victim in ("bus-1", "bus-4"):
            await asyncio.to_thread(docker, "start", five.containers()[victim])
        await asyncio.to_thread(five.wait_healthy, [f"bus-{member}" for member in range(1, 6)])
        await load.more(50)
    await same_everywhere(cluster, 5)
