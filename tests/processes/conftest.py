"""Real replica processes on the loopback interface, ended after each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replicas.local_cluster import LocalCluster

Start = Callable[..., LocalCluster]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of `count` replicas and wait until all are ready; keywords are keys of their configuration."""
    clusters: list[LocalCluster] = []

    def start(count: int = 3, **settings: object) -> LocalCluster:
        cluster = LocalCluster.create(
            tmp_path / f"cluster-{len(clusters)}", count, {"check_invariants": True, **settings}
        )
        clusters.append(cluster)
        cluster.start()
        cluster.wait_ready()
        return cluster

    yield start
    for cluster in clusters:
        for member in cluster.running():
            cluster.kill(member)
