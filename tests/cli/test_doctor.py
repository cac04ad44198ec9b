"""`ringcast doctor`, `config` and `explain`: on a healthy cluster, and on broken ones."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas import doctor
from replicas.bus.config import BusConfig, load
from replicas.keys import KeyFolder
from replicas.local.cluster import LocalCluster
from tests.cli.conftest import Ringcast, document

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One replica with keys."""
    found = LocalCluster.create(tmp_path_factory.mktemp("doctor") / "data", 1, secure=True)
    found.start()
    try:
        found.wait_ready()
        yield found
    finally:
        found.stop()


@pytest.fixture
def stopped(tmp_path: Path) -> LocalCluster:
    """Three replicas with keys that do not run."""
    return LocalCluster.create(tmp_path / "stopped", 3, secure=True)


def findings(cluster: LocalCluster, member: int = 1) -> dict[str, list[doctor.Finding]]:
    """By check."""
    config = load(Path(cluster.replicas[member].config)).config
    found: dict[str, list[doctor.Finding]] = {}
    for one in doctor.examine(config, "bus"):
        found.setdefault(one.check, []).append(one)
    return found


# ---------------------------------------------------------------- doctor


def test_a_healthy_cluster(ringcast: Ringcast, secured: LocalCluster) -> None:
    said = ringcast("doctor", "--cluster", str(secured.path)).stdout
    assert "replica 1 serves" in said
    assert "0 failed" in said
    found = document(ringcast("doctor", "--cluster", str(secured.path), "--json"))
    assert found["verdict"] in {"ok", "warning"}
    assert {one["check"] for one in found["findings"]["bus 1"]} == {"disk", "sync", "ports", "keys"}
    assert {one["check"] for one in found["findings"]["this machine"]} == {"versions", "clock", "descriptors"}
    checked = document(ringcast("doctor", "--config", secured.replicas[1].config, "--json"))
    assert not [one for one in checked["findings"]["bus 1"] if one["verdict"] == "failed"]


def test_a_cluster_that_does_not_run(ringcast: Ringcast, stopped: LocalCluster) -> None:
    found = document(ringcast("doctor", "--cluster", str(stopped.path), "--timeout", "0.5", "--json", code=1))
    assert found["verdict"] == "failed"
    assert "start the replicas" in found["findings"]["cluster"][0]["next"]
    assert "does not run" in str(found["findings"]["bus 2"])
    peers = [one for one in found["findings"]["bus 1"] if one["check"] == "peers"]
    assert [one["verdict"] for one in peers] == ["warning", "warning"]


def test_a_key_that_is_not_let_in(ringcast: Ringcast, secured: LocalCluster, stopped: LocalCluster) -> None:
    keys = str(stopped.folder / "keys" / "client-admin.key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGCAST_KEYS", keys)
        found = document(ringcast("doctor", "--cluster", secured.replicas[1].client, "--json", code=1))
    assert "do not believe each other's keys" in found["findings"]["cluster"][0]["what"]


def test_an_address_that_is_taken_names_its_owner(stopped: LocalCluster) -> None:
    host, _, port = stopped.replicas[1].client.removeprefix("tcp://").rpartition(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))  # bound and silent: nothing answers there
        (found, *_) = findings(stopped)["ports"]
    assert (found.verdict, "bind_client" in found.what, "Address already in use" in found.what) == (
        "failed",
        True,
        True,
    )
    assert found.next


def test_another_program_that_listens_in_the_place_of_a_replica_is_named(stopped: LocalCluster) -> None:
    host, _, port = stopped.replicas[1].client.removeprefix("tcp://").rpartition(":")
    with socket.create_server((host, int(port))):
        found, last = findings(stopped)["ports"]
    assert (found.verdict, found.what) == (
        "failed",
        f"bind_client = {host}:{port}: taken, and the replica does not run",
    )
    assert f"process {os.getpid()} " in found.next
    assert (last.verdict, "does not run" in last.what) == ("warning", True)


def test_secrets_that_are_open_or_missing(stopped: LocalCluster) -> None:
    secret = stopped.folder / "keys" / "bus-1.key"
    secret.chmod(0o644)
    (found,) = findings(stopped)["keys"]
    assert (found.verdict, found.next) == ("failed", f"close it to others: chmod 600 {secret}")
    secret.unlink()
    (found,) = findings(stopped)["keys"]
    assert found.verdict == "failed"
    assert "No such file" in found.what


def test_a_peer_without_a_key_and_a_key_that_is_not_listed(stopped: LocalCluster) -> None:
    KeyFolder.open(stopped.folder / "keys").revoke("bus-3")
    assert "bus-3 of [peers] has no key" in findings(stopped)["keys"][0].what
    other = (stopped.folder / "keys" / "bus-2.key").read_text()
    (stopped.folder / "keys" / "bus-1.key").write_text(other)
    assert "the key of bus-1 is not on the list" in findings(stopped)["keys"][0].what


def test_no_keys_on_an_address_of_others(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "plain", 1)
    config = load(Path(cluster.replicas[1].config)).config
    (found,) = doctor.keys(config, "bus")
    assert found.verdict == "ok"
    (found,) = doctor.keys(config.model_copy(update={"bind_feed": "0.0.0.0:7104"}), "bus")
    assert (found.verdict, "ringcast keys init" in found.next) == ("warning", True)


def test_a_disk_without_room(stopped: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    config: BusConfig = load(Path(stopped.replicas[1].config)).config
    huge = config.model_copy(update={"retention_bytes": 1 << 60})
    (found, *_) = doctor.disk(huge)
    assert (found.verdict, "lower retention_bytes" in found.next) == ("warning", True)
    monkeypatch.setattr(doctor, "FREE_MIN_BYTES", 1 << 60)
    (found, *_) = doctor.disk(config)
    assert (found.verdict, "free space" in found.next) == ("failed", True)
    monkeypatch.setattr(doctor, "SYNC_SLOW_S", 0.0)
    assert [one.verdict for one in doctor.disk(config)][1] == "warning"


def test_a_clock_that_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, verdict in ((0, "ok"), (-1, "ok"), (5, "warning")):
        monkeypatch.setattr(doctor, "_clock_state", lambda state=state: state)
        assert [one.verdict for one in doctor.clock()] == [verdict]


def test_a_name_that_is_not_known() -> None:
    found = doctor.reach("peer 2", "tcp://no-such-host.invalid:7101")
    assert (found.verdict, "the name is not known" in found.what) == ("failed", True)


def test_what_replicas_say_is_compared() -> None:
    good = {"replica": 1, "state": "serving", "version": "1", "durability": "majority", "cluster_name": "a"}
    rows = [
        {**good, "members": (1, 2, 3), "wall_us": 0},
        {**good, "replica": 2, "version": "2", "members": (1, 2, 3), "wall_us": 9_000_000},
        {**good, "replica": 3, "state": "no quorum", "members": (1, 2, 3), "wall_us": 0, "possible_loss": True},
        {"replica": 4, "error": "no answer within 1 s"},
        {**good, "replica": 5, "state": "outside the ring", "links": "does not hear replica 2", "wall_us": 0},
    ]
    found = doctor.compare(rows, 0)
    said = {one.what: one.verdict for one in found}
    assert said["replica 1 serves"] == "ok"
    assert said["replica 3 is no quorum"] == said["replica 4: no answer within 1 s"] == "failed"
    assert said["replica 5 is outside the ring (does not hear replica 2)"] == "failed"
    assert said["version differs: 1 and 2"] == "warning"
    assert said["the clock of replica 2 is +9.0 s from this machine's"] == "warning"
    assert doctor.worst(found) == "failed"
    assert all(one.next for one in found if one.verdict != "ok")


# ---------------------------------------------------------------- config


def test_where_each_value_came_from(ringcast: Ringcast, stopped: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stopped.replicas[2].config
    monkeypatch.setenv("RINGCAST_RETENTION_BYTES", "5000000")
    found = document(ringcast("config", "show", "bus", "--config", file, "--data", "elsewhere", "--json"))
    assert found["retention_bytes"] == {"value": 5_000_000, "source": "environment RINGCAST_RETENTION_BYTES"}
    assert found["id"] == {"value": 2, "source": f"file {file}"}
    assert found["data"] == {"value": "elsewhere", "source": "flag"}
    assert found["log_level"] == {"value": "info", "source": "default"}
    assert "environment RINGCAST_RETENTION_BYTES" in ringcast("config", "show", "bus", "--config", file).stdout


def test_a_configuration_that_is_not_valid(ringcast: Ringcast, stopped: LocalCluster) -> None:
    file = Path(stopped.replicas[1].config)
    assert document(ringcast("config", "check", "bus", "--config", str(file), "--json"))["valid"]
    file.write_text("retention_bytes = 1\n" + file.read_text())
    said = ringcast("config", "check", "bus", "--config", str(file), code=2).stderr
    assert "retention_bytes = 1" in said
    assert str(file) in said


# ---------------------------------------------------------------- explain


def test_the_way_of_a_message(ringcast: Ringcast, secured: LocalCluster) -> None:
    offset = ringcast("publish", "explained", "x", "--cluster", str(secured.path)).stdout.strip()
    found = document(ringcast("explain", offset, "--cluster", str(secured.path), "--json"))
    assert (found["topic"], found["sender"], found["holder"]) == ("explained", 1, 1)
    (copy,) = found["copies"]
    assert (copy["stored"], copy["delivered"], copy["same"]) == (True, True, True)
    assert found["time_us"] <= copy["delivered_us"]
    assert "ordered  by member 1 in slot" in ringcast("explain", offset, "--cluster", str(secured.path)).stdout
    assert "no message named" in ringcast("explain", "999999", "--cluster", str(secured.path), code=4).stderr


def test_json_of_all_of_it_is_json(ringcast: Ringcast, secured: LocalCluster) -> None:
    for command in (("doctor",), ("explain", "0")):
        json.loads(ringcast(*command, "--cluster", str(secured.path), "--json").stdout)
