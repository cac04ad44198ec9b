"""cluster.json and the files beside it, without any process."""

from pathlib import Path

import pytest

from replicas.bus.config import load
from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError

PEERS = {1: ("tcp://10.0.0.1:7101", "tcp://10.0.0.1:7109"), 3: ("tcp://[::1]:7101", "tcp://[::1]:7102")}


def test_one_more_replica_has_the_settings_of_the_first_and_the_members_that_it_is_told(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "c", 2, {"durability": "memory", "group": {"token_timeout_ms": 900}})
    cluster.add(4, PEERS)
    config = load(Path(cluster.replicas[4].config)).config
    assert (config.id, config.durability, config.group) == (4, "memory", {"token_timeout_ms": 900})
    assert (config.peers[1].peer_endpoint, config.peers[1].pub_endpoint) == PEERS[1]
    assert (config.peers[3].peer_endpoint, config.peers[3].pub_endpoint) == PEERS[3]
    assert config.peers[4].peer_endpoint == cluster.replicas[4].peer == f"tcp://{config.bind_peer}"
    with pytest.raises(LocalClusterError, match="a replica 4 already"):
        cluster.add(4, PEERS)


def test_several_commands_change_one_file(tmp_path: Path) -> None:
    one = LocalCluster.create(tmp_path / "c", 1)
    other = LocalCluster.open(one.folder)
    one.add(2, PEERS)
    other.add(3, PEERS)
    one.forget(1)
    assert set(LocalCluster.open(one.folder).replicas) == {2, 3}


def test_the_id_of_one_that_was_forgotten_is_not_given_again(tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "c", 1)
    cluster.add(2, PEERS)
    Path(cluster.replicas[2].data).mkdir()
    cluster.forget(2)
    with pytest.raises(LocalClusterError, match="an id is given once"):
        cluster.add(2, PEERS)


def test_what_was_never_started_is_not_stopped(tmp_path: Path) -> None:
    """`up --only 1`, then `down`."""
    assert LocalCluster.create(tmp_path / "c", 2).stop() == []
