"""Real replicas with keys: who is let in and told what, keys that change while it runs, garbage on every port."""

import asyncio
import contextlib
import json
import random
import socket
import time
import tomllib
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zmq

import ringcast
from replicas.hosting import CONFIGURATION
from replicas.keys import KeyFolder, Rights
from replicas.local.cluster import LocalCluster
from replicas.local.files import HOST, PRODUCTS, SELLERS
from replicas.local.market import create_interfaces
from ringcast.keys import Pair
from tests.processes.agreement import same_everywhere, until
from tests.processes.load import Load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

ORDERS = Rights(publish=("orders.>", "orders"), subscribe=("orders.>", "orders"), cursors=("billing",))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three replicas with keys, and a client `billing`; they must outlive every test of this file."""
    folder = tmp_path_factory.mktemp("secured") / "cluster"
    cluster = LocalCluster.create(folder, 3, {"check_invariants": True}, secure=True)
    KeyFolder.open(folder / "keys").add_client("billing", ORDERS)
    cluster.start()
    cluster.wait_ready()
    yield cluster
    cluster.stop()


@pytest.fixture
async def cluster(shared: LocalCluster) -> AsyncIterator[LocalCluster]:
    before = {member: replica.pid for member, replica in shared.replicas.items()}
    yield shared
    assert {member: replica.pid for member, replica in shared.replicas.items()} == before
    assert shared.running() == list(before)
    async with ringcast.connect(shared.path, timeout=10) as bus:
        await bus.publish("orders", b"still here")
    await same_everywhere(shared.path, 3)


def keys_of(cluster: LocalCluster, name: str) -> Path:
    return cluster.folder / "keys" / f"client-{name}.key"


def strange_keys(cluster: LocalCluster, tmp_path: Path, **changes: object) -> Path:
    """A well-formed file whose key nobody has let in."""
    document = json.loads(keys_of(cluster, "admin").read_text())
    path = tmp_path / "strange.key"
    path.write_text(json.dumps({**document, **Pair.new()._asdict(), **changes}))
    path.chmod(0o600)
    return path


async def connected(cluster: LocalCluster, keys: Path | None) -> None:
    """Connect and publish; without keys, plain."""
    addresses = [replica.client for replica in cluster.replicas.values()]
    async with ringcast.connect(addresses, keys=keys, timeout=20) as bus:
        await bus.publish("orders", b"x")


def counter(cluster: LocalCluster, member: int, name: str) -> float:
    """A counter of /metrics, of part `security`."""
    with urllib.request.urlopen(f"{cluster.replicas[member].http}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if f'name="{name}"' in line and 'part="security"' in line:
                return float(line.rpartition(" ")[2])
    return 0.0


async def test_publish_subscribe_and_cursors_with_a_key(cluster: LocalCluster) -> None:
    async with ringcast.connect(cluster.path, keys=keys_of(cluster, "billing"), timeout=10) as bus:
        first = await bus.publish("orders.eu", b"one")
        found = []
        async with bus.subscribe("orders.>", start=first.offset, cursor="billing") as subscription:
            async for message in subscription:
                found.append(message.payload)
                await message.done()
                if len(found) == 1:
                    await bus.publish("orders.eu", b"two")  # comes over the feed
                else:
                    break
        assert found == [b"one", b"two"]


async def test_a_restricted_key_follows_the_feed_without_fetching(cluster: LocalCluster) -> None:
    """Its control topic tells of its topics alone, and nothing of others makes it fetch."""
    async with (
        ringcast.connect(cluster.path, keys=keys_of(cluster, "billing"), timeout=10) as bus,
        ringcast.connect(cluster.path, timeout=10) as admin,
        bus.subscribe("orders.>", start="latest") as orders,
    ):
        for number in range(20):
            await admin.publish("salaries", b"secret")
            await admin.publish("orders.eu", b"%d" % number)
        async with asyncio.timeout(10):
            found = [(await anext(orders)).payload for _ in range(20)]
        assert found == [b"%d" % number for number in range(20)]


async def test_what_a_key_may_not_do_is_said_by_role(cluster: LocalCluster) -> None:
    async with ringcast.connect(cluster.path, keys=keys_of(cluster, "billing"), timeout=10) as bus:
        with pytest.raises(ringcast.NotAllowed, match=r"'billing' may not publish to 'salaries'.*the role 'publish'"):
            await bus.publish("salaries", b"x")
        await bus.publish("orders", b"goes on")  # the refused number was used (K1)
        with pytest.raises(ringcast.NotAllowed, match="the role 'subscribe'"):
            await bus.fetch("salaries", 0, 1)
        with pytest.raises(ringcast.NotAllowed, match="the role 'admin'"):
            await bus.query("change_members", {"remove": 3})
        with pytest.raises(ringcast.NotAllowed, match="the role 'cursors'"):
            await bus.reset_cursor("shipping", "orders", 0)
        assert {topic.name for topic in await bus.topics()} <= {"orders", "orders.eu"}
        async with bus.subscribe(">") as everything:
            with pytest.raises(ringcast.NotAllowed, match="the role 'subscribe'"):
                await anext(everything)


@pytest.mark.parametrize("count", [10, 1_000])
async def test_what_a_key_may_not_publish_hurts_nothing_beside_it(cluster: LocalCluster, count: int) -> None:
    """In flight on one connection, every second one refused; tests/client/test_refusals.py has the rest."""
    async with ringcast.connect(cluster.path, keys=keys_of(cluster, "billing"), timeout=20) as bus:
        topics = [("orders", "salaries")[number % 2] for number in range(count)]
        publishes = [bus.publish(topic, b"%d" % number) for number, topic in enumerate(topics)]
        found = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(one) for one in found[::2]] == [ringcast.Receipt] * (count // 2)
        assert [type(one) for one in found[1::2]] == [ringcast.NotAllowed] * (count // 2)
        offsets = [one.offset for one in found[::2] if isinstance(one, ringcast.Receipt)]
        assert offsets == sorted(offsets)


# ---------------------------------------------------------------- 42: keys that do not fit, each told in bounded time


async def refused(cluster: LocalCluster, keys: Path | None, says: str) -> None:
    started = time.monotonic()
    with pytest.raises(ringcast.HandshakeRefused, match=says):
        await connected(cluster, keys)
    assert time.monotonic() - started < 5


async def test_a_key_that_is_not_on_the_list(cluster: LocalCluster, tmp_path: Path) -> None:
    await refused(cluster, strange_keys(cluster, tmp_path), "does not allow the key of 'admin'")
    assert sum(counter(cluster, member, "refused_unknown") for member in cluster.replicas) >= 3


async def test_no_key(cluster: LocalCluster) -> None:
    await refused(cluster, None, "asks for a key")


async def test_a_file_of_another_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    keys = strange_keys(cluster, tmp_path, servers=[Pair.new().public, Pair.new().public])
    await refused(cluster, keys, "take a key file of this cluster")


async def test_keys_for_a_replica_without(cluster: LocalCluster, tmp_path: Path) -> None:
    plain = LocalCluster.create(tmp_path / "plain", 1)
    plain.start()
    try:
        plain.wait_ready()
        await refused(
            plain, keys_of(cluster, "admin"), "it has no keys, or none of the server keys|it speaks without keys"
        )
    finally:
        plain.stop()


async def test_an_old_server_key_beside_the_new_one(cluster: LocalCluster, tmp_path: Path) -> None:
    """While `server` rotates a client believes two, in whatever order."""
    admin = json.loads(keys_of(cluster, "admin").read_text())
    path = tmp_path / "two.key"
    path.write_text(json.dumps({**admin, "servers": [Pair.new().public, *admin["servers"]]}))
    path.chmod(0o600)
    await connected(cluster, path)


# ---------------------------------------------------------------- 47: live


async def test_a_key_is_added_rotated_and_revoked_without_a_restart(cluster: LocalCluster) -> None:
    keys = KeyFolder.open(cluster.folder / "keys")
    file = keys.add_client("late", ORDERS)
    await until(lambda: _says(cluster, "keyring_read", 1))
    async with ringcast.connect(cluster.path, keys=file, timeout=10) as bus:
        await bus.publish("orders", b"old key")
        keys.rotate("late")
        await until(lambda: _says(cluster, "keyring_read", 2))
        await bus.publish("orders", b"old key, still")
        keys.retire("late")
        await until(lambda: _says(cluster, "keyring_read", 3))
        await bus.publish("orders", b"new key, by itself")  # it was cut, and has read its file again
        assert bus.failovers >= 1
        keys.revoke("late")
        revoked = time.monotonic()
        with pytest.raises(ringcast.HandshakeRefused, match="was revoked stays so"):
            await _publish_for_ever(bus)
        assert time.monotonic() - revoked < 8


async def _publish_for_ever(bus: ringcast.Bus) -> None:
    while True:
        with contextlib.suppress(ringcast.PublishUnknown):  # the one that was on its way
            await bus.publish("orders", b"revoked", timeout=4)


def _says(cluster: LocalCluster, name: str, count: int) -> bool:
    return all(counter(cluster, member, name) >= count for member in cluster.replicas)


# ---------------------------------------------------------------- the whole of it


async def test_a_kill_under_load_with_keys(tmp_path: Path) -> None:
    """The peers find each other again; no publish is lost."""
    cluster = LocalCluster.create(tmp_path / "cluster", 3, {"check_invariants": True}, secure=True)
    cluster.start()
    try:
        await asyncio.to_thread(cluster.wait_ready)
        load = Load(cluster.path)
        await load.start()
        await load.reach(100)
        await asyncio.to_thread(cluster.kill, 2)
        await load.more(200)
        await asyncio.to_thread(cluster.restart, 2)
        await asyncio.to_thread(cluster.wait_ready, [2])
        await load.more(100)
        await load.stop()
        await same_everywhere(cluster.path, 3)
    finally:
        cluster.stop()


async def test_the_product_store_with_keys(tmp_path: Path) -> None:
    """Raft's transport and the gateway; a client without the right is told."""
    folder = tmp_path / "cluster"
    bus = LocalCluster.create(folder, 1, secure=True)
    products = LocalCluster.create(folder, 3, role=PRODUCTS)
    seller = KeyFolder.open(folder / "keys").add_client("seller", Rights(publish=("_products",)))
    products.start()
    try:
        await asyncio.to_thread(products.wait_ready)
        async with ringcast.products(bus.path, timeout=10) as store:
            item = await store.put("Lamp", seller="ann", category="home", keywords=[], price=1, quantity=1)
            assert await store.get(item) is not None
        async with ringcast.products(bus.path, timeout=10, keys=seller) as store:
            await store.put("Desk", seller="ann", category="home", keywords=[], price=1, quantity=1)
            with pytest.raises(ringcast.NotAllowed, match="read what is behind '_products'"):
                await store.get(item)
        addresses = [replica.client for replica in products.replicas.values()]
        with pytest.raises(ringcast.HandshakeRefused):
            await ringcast.products(addresses, timeout=10).__aenter__()
    finally:
        products.stop()


async def test_an_interface_that_a_database_refuses_for_good_ends_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    bus = LocalCluster.create(folder, 1, secure=True)
    LocalCluster.create(folder, 1, role=PRODUCTS)
    sellers = create_interfaces(folder, SELLERS, 1)
    own = folder / "keys" / "client-sellers.key"
    own.write_text(json.dumps({**json.loads(own.read_text()), **Pair.new()._asdict()}))
    bus.start()
    try:
        await asyncio.to_thread(bus.wait_ready)
        sellers.start()
        assert await asyncio.to_thread(sellers.wait_gone, [1], 30) == []
    finally:
        sellers.stop()
        bus.stop()
    last = [json.loads(line) for line in sellers.log_path(1).read_text().splitlines()]
    (halted,) = (one for one in last if one["event"] == "replica_halted")
    assert halted["code"] == CONFIGURATION
    assert "do not believe each other's keys" in halted["reason"]


async def test_garbage_on_every_port(cluster: LocalCluster) -> None:
    """Faults 41 and 42: random bytes, HTTP, a greeting without keys; the fixture checks that all live and agree."""
    draw = random.Random(41)
    null = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
    openings = [b"", b"GET / HTTP/1.1\r\n\r\n", null, null + draw.randbytes(200), draw.randbytes(100_000)]
    for replica in cluster.replicas.values():
        for port in _ports(Path(replica.config)):
            for opening in openings:
                await asyncio.to_thread(_throw, port, opening)


def _ports(config: Path) -> list[int]:
    values = tomllib.loads(config.read_text())
    return [int(value.rpartition(":")[2]) for key, value in values.items() if key.startswith("bind_")]


def _throw(port: int, data: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=5) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.05)
        connection.recv(64)


async def test_http_is_on_no_other_port(cluster: LocalCluster) -> None:
    """Each address is one of its own, and no ZeroMQ port answers HTTP."""
    for replica in cluster.replicas.values():
        ports = [one.rpartition(":")[2] for one in (replica.peer, replica.client, replica.feed, replica.http)]
        assert len(set(ports)) == len(ports)
        for endpoint in (replica.client, replica.feed, replica.peer):
            url = endpoint.replace("tcp://", "http://") + "/metrics"
            with pytest.raises(OSError):  # noqa: PT011 - whatever it is, no page
                await asyncio.to_thread(urllib.request.urlopen, url, timeout=2)


async def test_the_secret_of_a_member_that_others_can_read(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "cluster", 1, secure=True)
    secret = cluster.folder / "keys" / "bus-1.key"
    secret.chmod(0o644)
    cluster.start()
    assert cluster.wait_gone([1], 10) == []
    said = cluster.log_path(1).read_text()
    assert "configuration_refused" in said
    assert f"chmod 600 {secret}" in said
    assert zmq.has("curve")
