"""A client that floods a port is cut and named; it takes neither all memory nor all descriptors of a replica."""

import asyncio
import json
import re
import socket as sockets
import threading
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import ringcast
from replicas.local.cluster import LocalCluster
from tests.broker.flooding import Flood, frame
from tests.processes.agreement import until
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180), pytest.mark.slow]

MIB = 1 << 20
LIMITS: dict[str, object] = {"memory_bytes": 256 * MIB, "connection_bytes": 24 * MIB, "port_bytes": 48 * MIB}
#: What each flood sends; libzmq alone would keep most of it.
FLOOD_BYTES = 160 * MIB
LARGE = frame(b"x" * 1_000_000) * 4
ENDLESS = frame(b"x" * 100_000, more=True) * 10
#: Two bytes on the wire, 64 in libzmq.
EMPTY = frame(b"", more=True) * 100_000
SUBSCRIPTIONS = b"".join(frame(b"\x01%09d" % number + b"t" * 200) for number in range(2_000))


class Watch:
    """The greatest anonymous memory of a process while it is watched."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self.peak = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ending.wait(0.01):
            self.peak = max(self.peak, self.now())

    def now(self) -> int:
        found = re.search(r"RssAnon:\s+(\d+)", self._path.read_text())
        assert found is not None
        return int(found[1]) * 1024

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


def pid_of(cluster: LocalCluster, member: int) -> int:
    """The process that serves: the one that has its HTTP port."""
    log = [json.loads(line) for line in cluster.log_path(member).read_text().splitlines() if '"pid"' in line]
    return int([line for line in log if line["event"] == "replica_started"][-1]["pid"])


def cuts(cluster: LocalCluster, member: int = 1) -> list[dict[str, Any]]:
    """What the log of a replica says."""
    lines = cluster.log_path(member).read_text().splitlines()
    return [json.loads(line) for line in lines if '"connection_cut"' in line]


def flood(endpoint: str, data: bytes, kind: bytes = b"DEALER") -> tuple[str, bool]:
    """Send until cut; from where, and was it cut?"""
    one = Flood(endpoint, kind)
    with closing(one.socket):
        cut = one.send_until_cut(data, FLOOD_BYTES if data is not EMPTY else 24 * MIB)
    return str(one.address), cut


def config_of(cluster: LocalCluster, role_member: int = 1) -> dict[str, Any]:
    return tomllib.loads(Path(cluster.replicas[role_member].config).read_text())


async def metrics(http: str) -> str:
    return str((await asyncio.to_thread(lambda: urlopen(f"{http}/metrics").read())).decode())


@pytest.mark.parametrize(
    ("port", "data", "kind"),
    [
        ("client", LARGE, b"DEALER"),
        ("client", ENDLESS, b"DEALER"),
        ("client", EMPTY, b"DEALER"),
        ("peer", ENDLESS, b"DEALER"),
        ("feed", SUBSCRIPTIONS, b"SUB"),
        ("pub", SUBSCRIPTIONS, b"SUB"),
    ],
    ids=["large frames", "without an end", "empty parts", "peer", "feed", "pub"],
)
async def test_a_flood_on_a_port_of_the_bus(start_cluster: Start, port: str, data: bytes, kind: bytes) -> None:
    cluster = start_cluster(3, **LIMITS)
    replica = cluster.replicas[1]
    endpoint = config_of(cluster)[f"bind_{port}"]
    async with ringcast.connect(replica.client, timeout=30) as bus:
        await bus.publish("before", b"x")
        with Watch(pid_of(cluster, 1)) as watch:
            address, cut = await asyncio.to_thread(flood, endpoint, data, kind)
            assert cut or data is LARGE  # whole messages, which a replica with time to spare reads and refuses
            if cut:
                await until(lambda: bool(cuts(cluster)))
                assert any(port in sentence for sentence in limits_of(await bus.query("status")))
            await bus.publish("after", b"x")
            await until(lambda: watch.now() < 150 * MIB)
    assert watch.peak < int(str(LIMITS["memory_bytes"]))
    if cut:
        named = cuts(cluster)[0]
        assert (named["port"], named["address"]) == (port, address)
        found = await metrics(replica.http)
        assert re.search(rf'ringcast_connections_cut_total{{.*port="{port}".*}} [1-9]', found), found
    await asyncio.to_thread(cluster.wait_ready)


def limits_of(answer: dict[str, Any]) -> list[str]:
    """The sentences of a status."""
    return [str(sentence) for sentence in answer.get("limits", ())]


async def test_a_flood_on_the_ports_of_the_product_store(start_products: Start) -> None:
    cluster = start_products(1, **LIMITS)
    replica = cluster.replicas[1]
    with Watch(pid_of(cluster, 1)) as watch:
        for port in ("client", "peer"):
            await asyncio.to_thread(flood, config_of(cluster)[f"bind_{port}"], ENDLESS)
            await until(lambda port=port: any(cut["port"] == port for cut in cuts(cluster)))  # type: ignore[misc]
        await until(lambda: watch.now() < 150 * MIB)
    assert watch.peak < int(str(LIMITS["memory_bytes"]))
    assert await metrics(replica.http)


# ---------------------------------------------------------------- descriptors


async def test_clients_leave_descriptors_to_peers_and_http(
    start_cluster: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 of them and 400 clients: /livez answers, a peer comes back, and status names the limit."""
    cluster = start_cluster(3)
    await asyncio.to_thread(cluster.stop, [1])
    command = LocalCluster.command
    with monkeypatch.context() as patch:
        patch.setattr(LocalCluster, "command", lambda self, one: ["prlimit", "--nofile=256:256", *command(self, one)])
        await asyncio.to_thread(cluster.start, [1])
        await asyncio.to_thread(cluster.wait_ready)
    replica = cluster.replicas[1]
    host, port = str(config_of(cluster)["bind_client"]).split(":")
    async with ringcast.connect(replica.client, timeout=30) as bus:
        await bus.publish("before", b"x")
        clients = await asyncio.to_thread(lambda: [sockets.create_connection((host, int(port))) for _ in range(400)])
        await until(lambda: bool(cuts(cluster)))
        assert cuts(cluster)[0]["why"] == "descriptors"
        for path in ("livez", "readyz"):
            assert (await asyncio.to_thread(urlopen, f"{replica.http}/{path}")).status == 200
        await asyncio.to_thread(cluster.kill, 2)
        await asyncio.to_thread(cluster.start, [2])
        await asyncio.to_thread(cluster.wait_ready)
        await bus.publish("after", b"x")
        sentences = limits_of(await bus.query("status"))
        assert any("of 256 file descriptors are open" in one for one in sentences), sentences
        for client in clients:
            client.close()
    async with ringcast.connect(replica.client, timeout=30) as bus:
        await bus.publish("later", b"x")
