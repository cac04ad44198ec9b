"""Real replica processes on the loopback interface, ended after each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, PRODUCTS, Role
from tests.processes.namespaces import Network, NoNamespaces

Start = Callable[..., LocalCluster]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of `count` replicas and wait until all are ready; keywords are keys of their configuration."""
    yield from _starting(tmp_path, BUS, {"check_invariants": True})


@pytest.fixture
def start_products(tmp_path: Path) -> Iterator[Start]:
    """The same for the product store."""
    yield from _starting(tmp_path, PRODUCTS, {})


@pytest.fixture
def network() -> Iterator[Network]:
    """Three namespaces and a router."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Network(3))
        except NoNamespaces as error:
            pytest.skip(str(error))
        yield made


def _starting(folder: Path, role: Role, common: dict[str, object]) -> Iterator[Start]:
    clusters: list[LocalCluster] = []

    def start(count: int = 3, **settings: object) -> LocalCluster:
        place = folder / f"{role.name}-{len(clusters)}"
        cluster = LocalCluster.create(place, count, {**common, **settings}, role=role)
        clusters.append(cluster)
        cluster.start()
        cluster.wait_ready()
        return cluster

    yield start
    for cluster in clusters:
        for member in cluster.running():
            cluster.kill(member)
