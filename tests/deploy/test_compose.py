"""docker-compose.yml for real: up, the command line from outside, kills, a broken network, a rolling restart, down, up.

The tests share one deployment and leave it whole.
"""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ringcast
from replicas.bus.overview import Overview
from ringcast.endpoints import find
from tests.deploy.engine import PROJECT, SERVICE, CommandFailed, Compose, docker, health, networks, run, wait_until
from tests.deploy.load import publishing
from tests.processes.agreement import difference, read_all, same_everywhere
from tests.processes.load import Load

BUS = ("bus-1", "bus-2", "bus-3")
PRODUCTS = ("products-1", "products-2", "products-3")
INTERFACES = ("sellers-1", "sellers-2", "buyers-1", "buyers-2")
#: Twice what ten replicas may take on a machine of their own (30 s): others may be at work here.
UP_S_MAX = 60.0


class Deployment:
    """A compose project that runs, as somebody outside of it sees it. `seconds`: from `up` to healthy."""

    def __init__(self, compose: Compose, folder: Path) -> None:
        self.compose = compose
        self.seconds = compose.up()
        self.cluster = compose.cluster_file(folder)

    def command(self, *arguments: str) -> str:
        """`ringcast ...`, outside of every container."""
        line = [sys.executable, "-P", "-m", "cli", "--cluster", str(self.cluster), *arguments]
        return run(*line)

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON, once it says yes: on a busy machine a replica may be late for one answer."""
        found: list[str] = []

        def answers() -> bool:
            with suppress(CommandFailed):
                found.append(self.command(*arguments, "--json"))
            return bool(found)

        wait_until(answers, lambda: self.command(*arguments, "--json"))
        return json.loads(found[0])

    def container(self, service: str) -> str:
        """Its id, found by label."""
        return self.compose.containers()[service]

    async def restart(self, service: str) -> None:
        """As a rolling update does it: SIGTERM, the grace, start, wait until it serves."""
        await asyncio.to_thread(docker, "restart", "--time", "20", self.container(service))
        await asyncio.to_thread(self.compose.wait_healthy, [service])

    async def agreement(self, load: Load) -> None:
        """All replicas have one order, and every acknowledged message once."""
        await same_everywhere(self.cluster, len(BUS))
        expected = sorted((offset, payload) for payload, offset in load.acknowledged.items())
        assert len({offset for offset, _ in expected}) == len(expected)
        for member in range(1, len(BUS) + 1):
            order = await read_all(self.cluster, member, load.topic, expected[-1][0] + 1)
            assert order == expected, f"replica {member}: {difference(order, expected)}"


@pytest.fixture(scope="module")
def deployment(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(compose, tmp_path_factory.mktemp("deployment"))


def _take(address: str, network: str, compose: Compose) -> list[str]:
    """Have other containers of the project's own network use this address; their ids."""
    found: list[str] = []
    while address not in {taken for one in found for _, taken in networks(one)}:
        assert len(found) < 20, f"nobody gets {address}"
        label = f"{PROJECT}={compose.project}"
        idle = ("--label", label, "--label", f"{SERVICE}=idle", "--network", network, "--entrypoint", "sleep")
        found.append(docker("run", "--detach", "--rm", *idle, f"ringcast:{compose.tag}", "600"))
    return found


async def _holder(deployment: Deployment) -> str:
    """The service that holds the token now, as it says itself."""
    async with Overview(deployment.cluster) as overview, asyncio.timeout(20):
        while True:
            for one in await overview.look():
                if one.get("token_holder") == one["replica"]:
                    return f"bus-{one['replica']}"
            await asyncio.sleep(0.005)


def test_all_are_healthy_in_time(deployment: Deployment) -> None:
    containers = deployment.compose.containers()
    assert {*BUS, *PRODUCTS, *INTERFACES} <= set(containers)
    print(f"up to all {len(containers)} healthy: {deployment.seconds:.1f} s")
    assert deployment.seconds < UP_S_MAX


def test_the_command_line_from_outside(deployment: Deployment) -> None:
    for number in range(3):
        deployment.command("publish", "outside", f"message {number}")
    assert [one["replica"] for one in deployment.json("status")["replicas"]] == [1, 2, 3]
    assert deployment.json("health")["health"] == "healthy"
    assert deployment.json("members", "list")["members"] == [1, 2, 3]
    deployment.command("verify")
    assert sorted(one["role"] for one in deployment.json("products", "status")["replicas"]) == ["follower"] * 2 + [
        "leader"
    ]
    deployment.command("market", "seed", "--sellers", "1", "--items", "5", "--buyers", "1")


async def test_a_subscriber_outside_lives_on_the_feed(deployment: Deployment) -> None:
    """The replicas tell of names that only containers can resolve; cluster.json says where they are published."""
    endpoints = find(deployment.cluster)
    async with ringcast.connect(deployment.cluster, timeout=20) as bus, bus.subscribe("feed", "latest") as messages:
        first = asyncio.create_task(anext(messages))
        loop = asyncio.get_running_loop()
        waits = []
        for number in range(20):
            await asyncio.sleep(0.05)
            sent = loop.time()
            await bus.publish("feed", str(number).encode())
            await (first if number == 0 else anext(messages))
            waits.append(loop.time() - sent)
    assert set(endpoints.published) == {1, 2, 3, 4, 5}
    # Without the feed the subscriber polls once a second.
    assert sorted(waits)[len(waits) // 2] < 0.25


async def test_killed_containers_cost_no_message(deployment: Deployment) -> None:
    """kill -9 of the token holder, then of another one; and of the leader of the product store."""
    leader = deployment.json("products", "status")["leader"]
    async with publishing(deployment.cluster, topic="killed") as load:
        for victim in (await _holder(deployment), f"products-{leader}", "bus-2"):
            container = deployment.container(victim)
            await asyncio.to_thread(docker, "kill", "--signal", "KILL", container)
            await load.more(100)
            put = ("products", "put", victim, "--seller", "ann", "--category", "home", "--price", "100")
            await asyncio.to_thread(deployment.command, *put)
            await asyncio.to_thread(docker, "start", container)
            await asyncio.to_thread(deployment.compose.wait_healthy, [victim])
        await load.more(50)
    await deployment.agreement(load)


async def test_a_replica_that_comes_back_with_another_address_is_found(deployment: Deployment) -> None:
    container = deployment.container("bus-3")
    ((network, before),) = networks(container)
    async with publishing(deployment.cluster, topic="cut") as load:
        await asyncio.to_thread(docker, "network", "disconnect", network, container)
        await load.more(200)
        await asyncio.to_thread(wait_until, lambda: health(container) == "unhealthy", lambda: health(container))
        others = await asyncio.to_thread(_take, before, network, deployment.compose)
        await asyncio.to_thread(docker, "network", "connect", "--alias", "bus-3", network, container)
        await asyncio.to_thread(deployment.compose.wait_healthy, ["bus-3"])
        ((_, after),) = networks(container)
        assert after != before
        await asyncio.to_thread(docker, "rm", "--force", *others)
        await load.more(50)
    await deployment.agreement(load)


async def test_a_rolling_restart_fails_no_publish(deployment: Deployment) -> None:
    async with publishing(deployment.cluster, clients=3, topic="rolling") as load:  # raises what a publisher met
        for service in (*BUS, *PRODUCTS, "sellers-1"):
            await deployment.restart(service)
            await load.more(50)
    print(f"rolling restart: {len(load.acknowledged)} publishes, none failed, longest gap {load.gap_s:.2f} s")
    await deployment.agreement(load)


async def test_down_and_up_again_and_the_data_is_there(deployment: Deployment) -> None:
    async with publishing(deployment.cluster, topic="kept") as load:
        await load.more(50)
    lamp = deployment.json("products", "put", "Lamp", "--seller", "ann", "--category", "home", "--price", "1999")
    await asyncio.to_thread(deployment.compose, "down", "--timeout", "20")
    assert deployment.compose.containers() == {}
    await asyncio.to_thread(deployment.compose.up)
    await deployment.agreement(load)
    assert deployment.json("products", "get", lamp["id"])["name"] == "Lamp"
    deployment.command("market", "audit", "--settle", "0")
