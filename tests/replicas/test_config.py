"""Configuration: who wins, what is refused, and what the error says."""

import os
from pathlib import Path
from typing import Any

import pytest

from replicas.bus.config import PeerAddress, load
from replicas.settings import ConfigError

BASE = 'id = 1\ndata = "/data"\n[peers]\n1 = "a:1000"\n2 = "b:1000:2000"\n3 = "[::1]:1000"\n'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RINGCAST_")]:
        monkeypatch.delenv(name)


def _file(folder: Path, text: str) -> Path:
    path = folder / "replica.toml"
    path.write_text(text)
    return path


def test_peers_name_one_port_or_two(tmp_path: Path) -> None:
    config = load(_file(tmp_path, BASE)).config
    assert config.peers == {
        1: PeerAddress("a", 1000, 1001),
        2: PeerAddress("b", 1000, 2000),
        3: PeerAddress("[::1]", 1000, 1001),
    }
    assert config.members == config.group_config.members == (1, 2, 3)
    assert config.peers[2].peer_endpoint == "tcp://b:1000"
    assert config.peers[2].pub_endpoint == "tcp://b:2000"


def test_numbered_names_need_only_their_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_ID", "2")
    monkeypatch.setenv("RINGCAST_DATA", "/data")
    monkeypatch.setenv("RINGCAST_PEERS", "1..3=bus-{id}:7101, 5=other:1:2")
    config = load().config
    assert {member: str(peer.host) for member, peer in config.peers.items()} == {
        1: "bus-1",
        2: "bus-2",
        3: "bus-3",
        5: "other",
    }
    assert config.peers[3] == PeerAddress("bus-3", 7101, 7102)


@pytest.mark.parametrize("peers", ["3..1=bus-{id}:1", "0..3=bus-{id}:1", "1..64=bus-{id}:1", "1..3=bus:1"])
def test_a_range_of_members_has_bounds_and_a_place_for_the_number(peers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_ID", "1")
    monkeypatch.setenv("RINGCAST_DATA", "/data")
    monkeypatch.setenv("RINGCAST_PEERS", peers)
    with pytest.raises(ConfigError) as caught:
        load()
    assert peers in str(caught.value)
    assert "first..last=name-{id}:port" in str(caught.value)


def test_defaults_then_file_then_environment_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, 'log_level = "error"\nbind_http = "h:1"\ncluster_name = "file"\n' + BASE)
    monkeypatch.setenv("RINGCAST_BIND_HTTP", "h:2")
    monkeypatch.setenv("RINGCAST_CLUSTER_NAME", "environment")
    config, sources, _ = load(path, {"cluster_name": "flag", "data": None})
    assert (config.log_level, config.bind_http, config.cluster_name) == ("error", "h:2", "flag")
    assert config.bind_feed == "127.0.0.1:7104"
    assert sources["log_level"] == f"file {path}"
    assert sources["bind_http"] == "environment RINGCAST_BIND_HTTP"
    assert sources["cluster_name"] == "flag"
    assert "bind_feed" not in sources


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_ID", "2")
    monkeypatch.setenv("RINGCAST_DATA", "/data")
    monkeypatch.setenv("RINGCAST_PEERS", "2=b:7101, 1=a:7101")
    monkeypatch.setenv("RINGCAST_GROUP__SUSPECT_TIMEOUT_MS", "900")
    config = load().config
    assert config.members == (1, 2)
    assert config.group_config.suspect_timeout_ms == 900


def test_the_environment_changes_one_limit_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, BASE + "[group]\nsuspect_timeout_ms = 400\nwindow_slots = 100\n")
    monkeypatch.setenv("RINGCAST_GROUP__SUSPECT_TIMEOUT_MS", "900")
    group = load(path).config.group_config
    assert (group.suspect_timeout_ms, group.window_slots) == (900, 100)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_CONFIG", str(_file(tmp_path, BASE)))
    assert load().config.id == 1


def test_variables_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_CLUSTER", "tcp://a:1")
    for name in ("RINGCAST_SERVICE_HOST", "RINGCAST_PORT_7101_TCP", "RINGCAST_PORT", "RINGCAST_SERVICE_PORT_CLIENT"):
        monkeypatch.setenv(name, "x")
    assert load(_file(tmp_path, BASE)).config.id == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("colour = 1\n" + BASE, ["colour = 1", "unknown key", "bind_peer", "replica.toml"]),
        (BASE + "[gruop]\nx = 1\n", ["gruop", "unknown key"]),
        (BASE + "[group]\nx = 1\n", ["group", "unknown key 'x'", "suspect_timeout_ms"]),
        (BASE + "[group]\nsuspect_timeout_ms = 10\n", ["suspect_timeout_ms = 10", "at least 225", "replica.toml"]),
        (BASE + '[group]\nwindow_slots = "x"\n', ["window_slots", "integer"]),
        ("retention_bytes = 12\n" + BASE, ["retention_bytes = 12", "1048576", "replica.toml"]),
        ('bind_peer = "nowhere"\n' + BASE, ["bind_peer = 'nowhere'", "host:port"]),
        ('bind_peer = "h:70000"\n' + BASE, ["bind_peer = 'h:70000'", "65535"]),
        ('durability = "never"\n' + BASE, ["durability = 'never'", "majority"]),
        (BASE.replace("id = 1", "id = 4"), ["peers", "id = 4", "[1, 2, 3]"]),
        (BASE.replace('"a:1000"', '"a"'), ["peers", "'a'", "host:port"]),
        (BASE.replace('"a:1000"', '"a:1:1"'), ["peers", "two different ports"]),
        (BASE.replace("1 = ", "x = "), ["peers", "integer"]),
        (BASE.replace("id = 1\n", ""), ["id", "not given"]),
        ("id = ", ["not TOML"]),
    ],
)
def test_what_is_refused_and_how(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_file(tmp_path, text))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("RINGCAST_COLOUR", "1", ["RINGCAST_COLOUR = '1'", "unknown key"]),
        ("RINGCAST_GROUP__COLOUR", "1", ["unknown key 'colour'"]),
        ("RINGCAST_RETENTION_BYTES", "1", ["retention_bytes = '1'", "environment RINGCAST_RETENTION_BYTES"]),
        ("RINGCAST_GROUP", "x", ["environment"]),
        ("RINGCAST_CONFIG", "/nowhere.toml", ["/nowhere.toml", "No such file"]),
    ],
)
def test_what_is_refused_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, parts: list[str]
) -> None:
    monkeypatch.setenv(variable, value)
    path = None if variable == "RINGCAST_CONFIG" else _file(tmp_path, BASE)
    with pytest.raises(ConfigError) as caught:
        load(path)
    for part in parts:
        assert part in str(caught.value)


def test_a_loaded_configuration_does_not_change(tmp_path: Path) -> None:
    config: Any = load(_file(tmp_path, BASE)).config
    with pytest.raises(ValueError, match="frozen"):
        config.id = 2
