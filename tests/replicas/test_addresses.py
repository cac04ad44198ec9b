"""Ports of a local cluster, and what a replica says of an address that it cannot have."""

import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from replicas.bus import addresses
from replicas.bus.addresses import NoFreePort, blame, ephemeral_ports, free_ports, keys_of
from replicas.bus.config import BusConfig, PeerAddress
from replicas.local.cluster import LocalCluster
from replicas.local.files import HOST, LocalClusterError


def test_ports_differ_are_free_and_outside_the_ephemeral_range() -> None:
    ports = free_ports(35, HOST)
    assert len(set(ports)) == 35
    assert not set(ports) & set(ephemeral_ports())
    for port in ports:
        with socket.socket() as listener:
            listener.bind((HOST, port))


def test_a_taken_port_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_ports(2, HOST)
    monkeypatch.setattr(addresses, "PORTS", (first, second))
    with socket.socket() as listener:
        listener.bind((HOST, first))
        assert free_ports(1, HOST) == [second]
        with pytest.raises(NoFreePort, match="1 of 2 ports"):
            free_ports(2, HOST)


def test_no_port_is_given_twice_while_others_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roles of one cluster draw one after the other, before any of them binds."""
    monkeypatch.setattr(addresses, "PORTS", tuple(free_ports(40, HOST)))
    monkeypatch.setattr(addresses, "_given", set())
    drawn = [free_ports(1, HOST)[0] for _ in range(30)]
    assert len(set(drawn)) == 30


def test_two_processes_draw_from_different_blocks() -> None:
    """Neither has bound anything yet, or both have closed everything."""
    code = f"from replicas.bus.addresses import free_ports; print(free_ports(100, {HOST!r})); input()"
    ours = set(free_ports(100, HOST))
    drawn: list[set[int]] = []
    with ExitStack() as stack:
        for _ in range(3):
            command = [sys.executable, "-c", code]
            process = stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True))
            assert process.stdout is not None
            drawn.append(set(json.loads(process.stdout.readline())))
    assert len(ours.union(*drawn)) == 400


def test_all_ports_are_ephemeral(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel that was told to use everything: then any free port is as good as another."""
    monkeypatch.setattr(addresses, "_EPHEMERAL", tmp_path / "range")
    (tmp_path / "range").write_text("1024\t65535\n")
    assert len(free_ports(5, HOST)) == 5


def test_keys_are_named_by_their_address() -> None:
    config = BusConfig(id=1, data=Path("data"), peers={1: PeerAddress(HOST, 7101, 7102)}, bind_feed="127.0.0.1:7103")
    assert keys_of(config, "tcp://127.0.0.1:7105") == ["bind_http"]
    assert keys_of(config, "tcp://127.0.0.1:7103") == ["bind_client", "bind_feed"]


def test_the_one_who_listens_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        address = f"{HOST}:{listener.getsockname()[1]}"
        assert f"process {os.getpid()} (" in blame(address)
        assert "listens there: stop it" in blame(address)


def test_an_outgoing_connection_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener, socket.create_connection(listener.getsockname()) as outgoing:
        found = blame(f"{HOST}:{outgoing.getsockname()[1]}")
        assert f"an outgoing connection of process {os.getpid()} (" in found
        assert "ephemeral range" in found


def test_nobody_is_to_be_seen() -> None:
    assert "free the address" in blame(f"{HOST}:{free_ports(1, HOST)[0]}")
    assert "free the address" in blame("203.0.113.1:*")


@pytest.mark.processes
@pytest.mark.parametrize("key", ["peer", "pub", "client", "feed", "http"])
def test_a_replica_says_which_key_which_address_and_who_has_it(tmp_path: Path, key: str) -> None:
    cluster = LocalCluster.create(tmp_path / "data", 1)
    config = Path(cluster.replicas[1].config).read_text(encoding="utf-8")
    address = config.partition(f'bind_{key} = "')[2].partition('"')[0]
    with socket.create_server((HOST, int(address.rpartition(":")[2]))):
        cluster.start()
        said = rf'exit code 6(.|\n)*"key": "bind_{key}", "address": "{address}"(.|\n)*process {os.getpid()} '
        with pytest.raises(LocalClusterError, match=said):
            cluster.wait_ready()
