"""Three real replicas: one order everywhere, a kill -9 under load, restart and catch-up, an orderly stop."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError
from tests.processes.agreement import assert_agreement, same_everywhere, token_holder
from tests.processes.conftest import Start
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


async def test_a_message_goes_through_three_processes(start_cluster: Start) -> None:
    cluster = start_cluster()
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        first = await bus.publish("orders", b"42 apples")
        second = await bus.publish_many("orders", [b"1 pear", b"2 pears"])
        assert (first.offset, second.offset, second.count) == (0, 1, 2)
        assert (await bus.status()).members == (1, 2, 3)
    for member in cluster.replicas:
        async with (
            ringcast.connect(cluster.path, replica=member, timeout=10) as bus,
            bus.subscribe("orders", replica=member) as subscription,
        ):
            received = []
            async for message in subscription:
                received.append((message.offset, message.payload))
                if len(received) == 3:
                    break
            assert received == [(0, b"42 apples"), (1, b"1 pear"), (2, b"2 pears")]
    await same_everywhere(cluster.path, 3)


@pytest.mark.parametrize("victim", ["holder", "other"])
async def test_kill_9_under_load_then_restart_and_catch_up(start_cluster: Start, victim: str) -> None:
    cluster = start_cluster()
    load = Load(cluster.path)
    await load.start()
    await load.reach(100)
    holder = await token_holder(cluster.path)
    member = holder if victim == "holder" else holder % 3 + 1
    await asyncio.to_thread(cluster.kill, member)
    await load.more(200)
    await asyncio.to_thread(cluster.restart, member)
    await asyncio.to_thread(cluster.wait_ready, [member])
    await load.more(100)
    await load.stop()
    assert load.gap_s < 5.0
    await assert_agreement(cluster, load)


async def test_an_orderly_stop_fails_no_publish_and_the_data_outlives_all(start_cluster: Start) -> None:
    """V11, and durability through a stop of the whole cluster."""
    cluster = start_cluster()
    load = Load(cluster.path)
    await load.start()
    await load.reach(50)
    assert await asyncio.to_thread(cluster.stop, [1]) == [1]
    await load.more(50)
    await load.stop()
    await asyncio.to_thread(cluster.stop)
    assert cluster.running() == []
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_ready)
    await assert_agreement(cluster, load)


def test_health_over_http(start_cluster: Start) -> None:
    cluster = start_cluster()

    def ask(member: int, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(cluster.replicas[member].http + path, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    assert ask(1, "/livez")[0] == 200
    status, body = ask(1, "/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)
    assert b"ringcast_committed_slots" in ask(1, "/metrics")[1]
    assert ask(1, "/nothing")[0] == 404
    cluster.kill(2)
    cluster.kill(3)
    deadline = time.monotonic() + 10
    while ask(1, "/readyz")[0] != 503:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ask(1, "/livez")[0] == 200


def test_a_second_process_on_a_folder_is_refused(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(1)
    twin = LocalCluster.create(tmp_path / "twin", 1)
    config = Path(twin.replicas[1].config)
    config.write_text(config.read_text().replace(twin.replicas[1].data, cluster.replicas[1].data))
    twin.start()
    with pytest.raises(LocalClusterError, match=rf"exit code 5(.|\n)*process {cluster.replicas[1].pid}"):
        twin.wait_ready()
