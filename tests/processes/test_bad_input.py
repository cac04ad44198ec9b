"""Bad input to real replicas: a typed error or exit code with what, why and the next step; the replica lives on."""

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zmq

import ringcast
from replicas.local.cluster import LocalCluster
from replicas.local.files import HOST
from ringcast import wire
from ringcast.bus.batch import pack
from tests.processes.agreement import same_everywhere

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

CLIENT_ID = bytes(range(16))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three replicas that must outlive every test of this file."""
    cluster = LocalCluster.create(tmp_path_factory.mktemp("bad-input") / "cluster", 3, {"check_invariants": True})
    cluster.start()
    cluster.wait_ready()
    yield cluster
    cluster.stop()


@pytest.fixture
async def cluster(shared: LocalCluster) -> AsyncIterator[LocalCluster]:
    """After each test: the same processes run, still order, and nothing that was acknowledged is lost."""
    before = {member: replica.pid for member, replica in shared.replicas.items()}
    async with ringcast.connect(shared.path, timeout=10) as bus:
        first = await bus.publish("kept", b"before")
    yield shared
    assert shared.running() == list(before)
    async with ringcast.connect(shared.path, timeout=10) as bus:
        last = await bus.publish("kept", b"after")
        kept = await bus.fetch("kept", first.offset, 10)
        assert [(one.offset, one.payload) for one in kept] == [(first.offset, b"before"), (last.offset, b"after")]
    await same_everywhere(shared.path, 3)


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `ringcast` and return what it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=inherited | environment,
    )


def assert_says(found: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The exit code, and on stderr one line with each of these words and no traceback."""
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    for word in words:
        assert word in found.stderr


# ---------------------------------------------------------------- too large, illegal topics


async def test_an_oversized_payload(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(20 << 20))
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        with pytest.raises(ringcast.TooLarge, match=r"20971\d{3} bytes, the limit is \d+: split it"):
            await bus.publish("kept", file.read_bytes())
    assert_says(command("publish", "kept", "--file", file, "--cluster", cluster.path), 4, "the limit is", "split it")


async def test_an_oversized_frame_from_a_client_that_checks_nothing(cluster: LocalCluster) -> None:
    """The replica's own limit: the connection is cut before the frame is in memory."""
    with _dealer(cluster.replicas[1].client) as client:
        client.send(_hello(cluster))
        client.send_multipart([b"\x90", bytes(64 << 20)])
        async with ringcast.connect(cluster.path, replica=1, timeout=10) as bus:
            await bus.publish("other", b"meanwhile")


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "ü", "a b", "_cursors.x", "a.>", "x" * 300])
async def test_an_illegal_topic(cluster: LocalCluster, topic: str) -> None:
    async with ringcast.connect(cluster.path, timeout=10) as bus:
        with pytest.raises(ringcast.IllegalTopic, match="is not a topic: use words of A-Z a-z 0-9"):
            await bus.publish(topic, b"x")


async def test_an_illegal_topic_on_the_command_line(cluster: LocalCluster) -> None:
    assert_says(command("publish", "a b", "x", "--cluster", cluster.path), 4, "'a b' is not a topic", "use words of")


async def test_an_illegal_topic_from_a_client_that_checks_nothing(cluster: LocalCluster) -> None:
    with _dealer(cluster.replicas[1].client) as client:
        client.send(_hello(cluster))
        packed = pack([b"x"])
        client.send_multipart(
            [wire.encode(int(cluster.cluster, 16), 0, wire.Publish("a b", CLIENT_ID, 1, 1, 0)), packed]
        )
        refused = await _answer(client, wire.Refused)
        assert refused.code == "illegal_topic"


# ---------------------------------------------------------------- nobody there, or somebody else


async def test_unreachable_endpoints() -> None:
    with pytest.raises(ringcast.Unreachable, match=r"answered within 0\.5 s: check that the cluster runs"):
        await ringcast.connect(f"tcp://{HOST}:1", timeout=0.5).__aenter__()
    found = command("publish", "a", "x", "--cluster", f"tcp://{HOST}:1", "--timeout", "0.5")
    assert_says(found, 3, f"{HOST}:1", "check that the cluster runs")


@pytest.mark.parametrize(
    ("argument", "code", "next_step"),
    [
        ("nowhere", 4, "name a cluster.json or endpoints"),
        ("http://x", 4, "name a cluster.json or endpoints"),
        ("tcp://no port", 3, "check that the cluster runs"),
    ],
)
def test_endpoints_that_are_none(argument: str, code: int, next_step: str) -> None:
    assert_says(command("publish", "a", "x", "--cluster", argument, "--timeout", "0.5"), code, next_step)


async def test_the_cluster_json_of_another_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    document = json.loads(cluster.path.read_text())
    document["cluster"] = f"{int(document['cluster'], 16) ^ 1:016x}"
    other = tmp_path / "cluster.json"
    other.write_text(json.dumps(document))
    with pytest.raises(ringcast.WrongCluster, match=r"this is cluster \d+ .*cluster\.json of the right cluster"):
        await ringcast.connect(other, timeout=5).__aenter__()
    assert_says(command("publish", "a", "x", "--cluster", other), 6, "the right cluster")


async def test_a_client_of_a_newer_protocol_version(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "VERSION", 2)
    with pytest.raises(ringcast.UnsupportedVersion, match=r"speaks .*: upgrade the older side"):
        await ringcast.connect(cluster.path, timeout=5).__aenter__()
    monkeypatch.undo()


# ---------------------------------------------------------------- garbage


async def test_garbage_on_every_port(cluster: LocalCluster) -> None:
    """Random bytes, HTTP, and a ZMTP greeting of something else, on every TCP port of every replica."""
    draw = random.Random(1)
    openings = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" + bytes(8) + b"\x7f\x03" + bytes(53),
        *(draw.randbytes(size) for size in (1, 64, 4_096, 100_000)),
    ]
    for replica in cluster.replicas.values():
        for port in _ports(Path(replica.config)):
            for opening in openings:
                await asyncio.to_thread(_throw, port, opening)


async def test_garbage_in_good_zeromq_frames(cluster: LocalCluster) -> None:
    """To the ROUTERs of clients and of peers: what is no frame of ours is dropped and counted."""
    draw = random.Random(2)
    messages = [
        [b""],
        [b"", b"", b""],
        [b"\xdd\xff\xff\xff\xff"],
        [b"\x91" * 100_000],
        [b"\x94\x01\x00\x00\x03" * 3],
        *([draw.randbytes(draw.randrange(1, 200)) for _ in range(draw.randrange(1, 5))] for _ in range(300)),
    ]
    for replica in cluster.replicas.values():
        for endpoint in (replica.client, replica.peer):
            with _dealer(endpoint) as client:
                for message in messages:
                    client.send_multipart(message)


# ---------------------------------------------------------------- configuration and data folders


def test_an_unknown_key_in_the_configuration(shared: LocalCluster, tmp_path: Path) -> None:
    config = tmp_path / "replica.toml"
    config.write_text("retention_bites = 5\n" + Path(shared.replicas[1].config).read_text())
    assert_says(command("serve", "bus", "--config", config), 2, "retention_bites", "unknown key", str(config))


def test_an_unknown_variable_in_the_environment(shared: LocalCluster) -> None:
    found = command("serve", "bus", "--config", shared.replicas[1].config, RINGCAST_RETENTION_BITES="5")
    assert_says(found, 2, "RINGCAST_RETENTION_BITES", "unknown key")


def test_a_value_out_of_bounds(shared: LocalCluster, tmp_path: Path) -> None:
    config = tmp_path / "replica.toml"
    config.write_text("snapshot_slots = 0\n" + Path(shared.replicas[1].config).read_text())
    assert_says(command("serve", "bus", "--config", config), 2, "snapshot_slots = 0", "greater than or equal to 1")


def test_the_data_folder_of_another_member(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "cluster", 3)
    cluster.start()
    try:
        cluster.wait_ready()
    finally:
        cluster.stop()
    copy = tmp_path / "copy"
    shutil.copytree(cluster.replicas[1].data, copy)
    config = tmp_path / "replica.toml"
    config.write_text(_moved(cluster, 2, copy))
    found = command("serve", "bus", "--config", config)
    assert found.returncode == 5, found
    said = found.stdout + found.stderr
    assert "the data of member 1, this process wants 2" in said
    assert "name the right folder, or an empty one" in said
    untouched = {path.name: path.read_bytes() for path in copy.iterdir() if path.name == "data.mdb"}
    assert untouched["data.mdb"] == (Path(cluster.replicas[1].data) / "data.mdb").read_bytes()


async def test_a_member_of_another_cluster_never_joins(cluster: LocalCluster, tmp_path: Path) -> None:
    """Fault 19: a member 1 whose disk is another cluster's: its frames are refused, and it is never ready."""
    other = LocalCluster.create(tmp_path / "other", 1)
    other.start()
    try:
        other.wait_ready()
    finally:
        other.stop()
    _adopt_peers(Path(other.replicas[1].config), Path(cluster.replicas[1].config))
    other.start()
    try:
        async with ringcast.connect(cluster.path, timeout=10) as bus:
            for _ in range(20):
                await bus.publish("other", b"meanwhile")
        assert not other.is_ready(1)
    finally:
        other.stop()


# ---------------------------------------------------------------- helpers


def _moved(cluster: LocalCluster, member: int, data: Path) -> str:
    text = Path(cluster.replicas[member].config).read_text()
    return text.replace(cluster.replicas[member].data, str(data))


def _adopt_peers(stray: Path, of: Path) -> None:
    """Tell member 1 of a cluster of its own that it has the other cluster's members 2 and 3 for peers."""
    text, _, own = stray.read_text().partition("[peers]\n")
    others = tomllib.loads(of.read_text())["peers"]
    rows = (f'{member} = "{address}"\n' for member, address in others.items() if member != "1")
    stray.write_text(f"{text}[peers]\n{own.strip()}\n{''.join(rows)}")


def _ports(config: Path) -> list[int]:
    values = tomllib.loads(config.read_text())
    return [int(value.rpartition(":")[2]) for key, value in values.items() if key.startswith("bind_")]


def _throw(port: int, data: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=5) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05)
            connection.recv(64)
        except OSError:
            pass  # cut, or silent: both are right


class _dealer:  # noqa: N801 - reads as the function it is
    """A raw DEALER socket, closed with what it still holds sent."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 500
        self._socket.connect(endpoint)

    def __enter__(self) -> "zmq.Socket[bytes]":
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


def _hello(cluster: LocalCluster) -> bytes:
    return wire.encode(int(cluster.cluster, 16), 0, wire.Hello(CLIENT_ID, 0))


async def _answer(client: "zmq.Socket[bytes]", kind: type[wire.Refused]) -> wire.Refused:
    """The next message of this kind."""
    async with asyncio.timeout(10):
        while True:
            if await asyncio.to_thread(client.poll, 1_000):
                frames = client.recv_multipart()
                message = wire.decode(frames[0], len(frames) - 1).message
                if isinstance(message, kind):
                    return message
