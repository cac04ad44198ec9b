"""Addresses that are taken, and an impatient operator. Other bad input: test_bad_input.py."""

import signal
import socket
import time
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def _fails(cluster: LocalCluster, pattern: str) -> None:
    cluster.start()
    with pytest.raises(LocalClusterError, match=pattern):
        cluster.wait_ready()


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


@pytest.mark.parametrize("what", ["peer", "client", "feed", "http"])
def test_a_taken_address(tmp_path: Path, what: str) -> None:
    cluster = LocalCluster.create(tmp_path / "cluster", 1)
    with socket.create_server(("127.0.0.1", _port(getattr(cluster.replicas[1], what)))):
        _fails(cluster, r"exit code 6(.|\n)*address_refused")
    cluster.start()
    cluster.wait_ready()
    cluster.stop()


def test_a_second_sigterm_ends_at_once(start_cluster: Start) -> None:
    cluster = start_cluster(1)
    started = time.monotonic()
    cluster.signal(1, signal.SIGTERM)
    cluster.signal(1, signal.SIGTERM)
    cluster.stop()
    assert cluster.running() == []
    assert time.monotonic() - started < 10
