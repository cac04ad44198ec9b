"""COMPOSE_PROFILES=five with RINGCAST_REPLICAS=5: every member list follows from the one number."""

import asyncio
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.engine import Compose, docker, run, wait_until
from tests.deploy.load import publishing
from tests.processes.agreement import same_everywhere


@pytest.fixture
def five(image: str) -> Iterator[Compose]:
    project = Compose(f"ringcast-{secrets.token_hex(4)}", image, RINGCAST_REPLICAS="5", COMPOSE_PROFILES="five")
    yield project
    project.remove()


def _products_with_a_leader(command: Sequence[str]) -> Any:
    """`products status`, once the three that are left have elected one (exit code 3: not yet; 1: some are silent)."""
    found: list[Any] = []

    def elected() -> bool:
        status = run(*command, "products", "status", "--json", exit_codes=(0, 1, 3))
        found.append(json.loads(status or "{}"))
        return bool(found[-1].get("leader"))

    wait_until(elected, lambda: found[-1])
    return found[-1]


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
        products = await asyncio.to_thread(_products_with_a_leader, command)
        assert [one["replica"] for one in products["replicas"]] == [1, 2, 3, 4, 5]
        for victim in ("bus-1", "bus-4"):
            await asyncio.to_thread(docker, "start", five.containers()[victim])
        await asyncio.to_thread(five.wait_healthy, [f"bus-{member}" for member in range(1, 6)])
        await load.more(50)
    await same_everywhere(cluster, 5)
