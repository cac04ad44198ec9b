"""Connecting: where the cluster is, and what answers there instead."""

import asyncio
import json
import random
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

import ringcast
from ringcast import wire
from ringcast.endpoints import Endpoints, find
from ringcast.errors import NotReady
from tests.client.doubles import CLUSTER, Order, Replica
from tests.client.waiting import until


def test_endpoints_and_files(tmp_path: Path) -> None:
    assert find("tcp://a:1,tcp://b:2") == Endpoints(0, ("tcp://a:1", "tcp://b:2"))
    assert find(["tcp://a:1"]) == Endpoints(0, ("tcp://a:1",))
    path = tmp_path / "cluster.json"
    replicas = [
        {"role": "bus", "id": 2, "client": "tcp://b:2", "feed": "tcp://b:3"},
        {"role": "products", "id": 1, "client": "tcp://no:1"},
        {"role": "bus", "id": 1, "client": "tcp://a:1", "feed": "tcp://a:3"},
    ]
    for cluster in (CLUSTER, f"{CLUSTER:x}"):
        path.write_text(json.dumps({"cluster": cluster, "replicas": replicas}))
        expected = Endpoints(CLUSTER, ("tcp://a:1", "tcp://b:2"))
        assert find(path) == find(str(path)) == find(tmp_path) == expected


def test_published_addresses_are_those_of_the_file(tmp_path: Path) -> None:
    """Beyond published ports nobody can be reached where he says that he is."""
    replicas = [
        {"role": "bus", "id": 1, "client": "tcp://here:1", "feed": "tcp://here:2"},
        {"role": "bus", "id": 4, "client": "tcp://here:7", "feed": "tcp://here:8", "spare": True},
    ]
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"cluster": 0, "published": True, "replicas": replicas}))
    found = find(path)
    assert found.addresses == ("tcp://here:1",)
    assert [found.client_of(member, "tcp://there:9") for member in (1, 4, 5)] == [
        "tcp://here:1",
        "tcp://here:7",
        "tcp://there:9",
    ]
    assert [found.feed_of(member, "tcp://there:9") for member in (1, 5)] == ["tcp://here:2", "tcp://there:9"]
    path.write_text(json.dumps({"cluster": 0, "replicas": replicas}))
    assert find(path).client_of(1, "tcp://there:9") == "tcp://there:9"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "lacks or garbles"),
        ('{"cluster": 1}', "'replicas'"),
        ('{"cluster": "xyz", "replicas": []}', "xyz"),
        ('{"cluster": -1, "replicas": []}', "not within 64 bits"),
        ('{"cluster": 1, "replicas": [{"role": "bus", "id": 1}]}', "'client'"),
        ('{"cluster": 1, "replicas": []}', "names no bus replica"),
    ],
)
def test_a_bad_file_is_named_with_what_it_lacks(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "cluster.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ringcast.Refused) as caught:
        ringcast.connect(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("cluster", "reason"), [([], "is empty"), (["localhost:1"], "tcp://host:port")])
def test_bad_endpoints_are_named(cluster: list[str], reason: str) -> None:
    with pytest.raises(ringcast.Refused, match=reason):
        ringcast.connect(cluster)


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ringcast.Unreachable, match=f"{address}.* within 0.3 s"):
            async with ringcast.connect(address, timeout=0.3):
                pass


async def test_an_address_that_is_none() -> None:
    with pytest.raises(ringcast.Unreachable, match="99999999"):
        async with ringcast.connect("tcp://127.0.0.1:99999999", timeout=0.2):
            pass


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", random.Random(1).randbytes(500), b""])
async def test_another_service_at_the_address(greeting: bytes) -> None:
    """Random bytes may pass for ZMTP 1.0, which has no greeting; then they are frames of nobody's."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())  # type: ignore[arg-type]
        with suppress(ConnectionError):
            writer.write(greeting)
            await reader.read()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises((ringcast.Unreachable, ringcast.BadFrame)):
            async with ringcast.connect(f"tcp://127.0.0.1:{port}", timeout=0.5):
                pass
    finally:
        server.close()
        await asyncio.gather(*served)


@pytest.mark.parametrize(
    "frames", [[b""], [random.Random(2).randbytes(64)], [b"\xc1", b"x"], [b"\x94\x01\x00\x00\x02"]]
)
async def test_a_replica_that_talks_garbage(replica: Replica, frames: list[bytes]) -> None:
    """After WELCOME garbage is dropped and counted; the bus goes on."""
    async with ringcast.connect(replica.endpoint) as bus:
        replica.send_raw(frames)
        assert (await bus.publish("a", b"x")).offset == 0


async def test_a_cluster_of_another_id_is_refused_at_once(tmp_path: Path, replica: Replica) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"cluster": 7, "replicas": [{"role": "bus", "id": 1, "client": replica.endpoint}]}))
    with pytest.raises(ringcast.WrongCluster, match=f"belongs to cluster {CLUSTER} .* cluster 7"):
        async with ringcast.connect(path, timeout=30):
            pass


async def test_a_newer_replica_says_so(replica: Replica) -> None:
    replica.refuse_hello = ringcast.UnsupportedVersion(version=1, supported=2)
    with pytest.raises(ringcast.UnsupportedVersion, match="version 1, this side speaks 2"):
        async with ringcast.connect(replica.endpoint, timeout=30):
            pass


async def test_a_cluster_that_starts_later_is_waited_for(replica: Replica) -> None:
    replica.refuse_hello = NotReady(replica=1, state="starting")
    with pytest.raises(ringcast.Unreachable, match="it is starting"):
        async with ringcast.connect(replica.endpoint, timeout=0.2):
            pass
    connecting = asyncio.create_task(ringcast.connect(replica.endpoint, timeout=20).__aenter__())
    await until(lambda: len(replica.seen) > 5)
    replica.refuse_hello = None
    bus = await connecting
    assert bus.replica == 1
    await bus.close()


async def test_one_replica_of_another_cluster_does_not_stop_the_others(order: Order, replica: Replica) -> None:
    with Replica(Order(), 2, cluster=CLUSTER + 1) as foreign:
        async with ringcast.connect([replica.endpoint]) as bus:
            assert bus.cluster == CLUSTER
        mixed = ringcast.connect([foreign.endpoint, replica.endpoint])
        mixed._endpoints = mixed._endpoints._replace(cluster=CLUSTER)
        async with mixed as bus:
            assert (await bus.publish("a", b"x")).offset == 0
            assert bus.cluster == CLUSTER


async def test_a_receiver_that_speaks_no_ringcast() -> None:
    context = zmq.Context[zmq.Socket[bytes]]()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    try:
        with pytest.raises(ringcast.Unreachable, match=str(port)):
            async with ringcast.connect(f"tcp://127.0.0.1:{port}", timeout=0.3):
                pass
    finally:
        router.close(linger=0)
        context.destroy(linger=0)


async def test_what_there_is(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish_many("a.b", [b"0", b"1"])
        await bus.publish("c", b"2")
        assert await bus.topics() == [ringcast.TopicInfo("a.b", 2, 1), ringcast.TopicInfo("c", 1, 2)]
        assert await bus.topics("a.>") == [ringcast.TopicInfo("a.b", 2, 1)]
        status = await bus.status()
        assert (status.replica, status.state, status.view, status.ring) == (1, "serving", (3, 1), (1, 2))
        assert (status.next_offset, status.token_holder, status.more) == (3, None, {"flavour": "fake"})
        with pytest.raises(ringcast.UnknownQuery, match="no query named 'nonsense'"):
            await bus.query("nonsense")


async def test_fetch_and_get(replica: Replica, order: Order) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        for number in range(10):
            await bus.publish("ab"[number % 2], b"%d" % number)
        await bus.reset_cursor("c", "a", 1)
        assert [message.payload for message in await bus.fetch("a", 3, 3)] == [b"4", b"6", b"8"]
        assert [message.payload for message in await bus.fetch(">", 7, 99)] == [b"7", b"8", b"9"]
        assert [message.payload for message in await bus.fetch("b", 6, 2, backward=True)] == [b"3", b"5"]
        assert await bus.fetch("nothing", 0, 5) == []
        assert [one.payload for one in await bus.fetch("a", 0, 1, local=True)] == [b"0"]
        found = await bus.get(4)
        assert found is not None
        assert (found.topic, found.payload) == ("a", b"4")
        reserved = await bus.get(10)
        assert reserved is not None
        assert reserved.topic == "_cursors"
        assert await bus.get(11) is None


async def test_large_fetches_go_on_until_the_count(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        async with bus.publisher("a") as publisher:
            for number in range(60):
                await publisher.send(b"%d" % number + b" " * 60_000)
        found = await bus.fetch("a", 0, 60)
        assert [int(message.payload) for message in found] == list(range(60))
        backward = await bus.fetch("a", 59, 50, backward=True)
        assert [int(message.payload) for message in backward] == list(range(10, 60))


async def test_a_long_fetch_that_fails_over_to_a_replica_that_lags_misses_nothing(replica: Replica) -> None:
    """K3: what comes after the first answer is asked locally; another replica may not have it yet."""
    async with ringcast.connect(replica.endpoint) as bus:
        async with bus.publisher("a") as publisher:
            for number in range(60):
                await publisher.send(b"%d" % number + b" " * 60_000)
        replica.lags_after = 1
        found = await bus.fetch("a", 0, 60)
        assert [int(message.payload) for message in found] == list(range(60))
        replica.lags_after = 1
        backward = await bus.fetch("a", 59, 60, backward=True)
        assert [int(message.payload) for message in backward] == list(range(60))


async def test_the_first_frame_is_hello_and_the_last_is_goodbye(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus:
        await bus.publish("a", b"x")
    await until(lambda: isinstance(replica.seen[-1], wire.Goodbye))
    assert isinstance(replica.seen[0], wire.Hello)
