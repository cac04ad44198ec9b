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
def start_cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start a cluster of `count` replicas and wait until all are ready; keywords are keys of their configuration.

    A replica that crashed, and that its supervisor started again, fails the test, unless it has the mark `crashes`.
    """
    yield from _starting(tmp_path, BUS, {"check_invariants": True}, request)


@pytest.fixture
def start_products(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """The same for the product store."""
    yield from _starting(tmp_path, PRODUCTS, {}, request)


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Three namespaces, or as many as an indirect parameter says, and a router."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Network(getattr(request, "param", 3)))
        except NoNamespaces as error:
            pytest.skip(str(error))
        yield made


def _starting(folder: Path, role: Role, common: dict[str, object], request: pytest.FixtureRequest) -> Iterator[Start]:
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
    if request.node.get_closest_marker("crashes") is None:
        assert not [said for cluster in clusters for member in cluster.replicas for said in _crashes(cluster, member)]


def _crashes(cluster: LocalCluster, member: int) -> list[str]:
    """What a supervisor said of its workers."""
    log = cluster.log_path(member)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("ringcast supervisor:")]
