"""A local cluster that runs within a block, and whose processes are gone behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from replicas.local.cluster import LocalCluster

Cluster = TypeVar("Cluster", bound=LocalCluster)


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """All replicas, ready."""
    cluster.start()
    try:
        cluster.wait_ready()
        yield cluster
    finally:
        for member in cluster.running():
            cluster.kill(member)
