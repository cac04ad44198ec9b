"""Ringcast's product store: replicas through the same module that `ringcast up` uses."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ringcast
import ringcast.sync
from bench.errors import ProcessFailed
from bench.systems import BATCHED, LOCAL, LOCAL_ONE, ONE, PIPELINED, READ, READ_ONE, TASKS
from replicas.local.cluster import LocalCluster
from replicas.local.files import PRODUCTS, LocalClusterError

_STATUS_TIMEOUT_S = 1.0
READY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Products:
    """A local cluster of the product store alone."""

    replicas: int
    name: str = "products"
    remark: str = "synced on a majority; items with five index rows"
    workloads: tuple[str, ...] = (PIPELINED, BATCHED, TASKS, ONE, READ, READ_ONE, LOCAL, LOCAL_ONE)
    client: str = "products"
    fresh: bool = False
    _cluster: LocalCluster | None = field(default=None, init=False)

    @property
    def label(self) -> str:
        """With the number of replicas."""
        return f"Ringcast products, {self.replicas} replicas"

    def missing(self) -> str | None:
        """Nothing: it is us."""
        return None

    def start(self, folder: Path) -> None:
        """Start all replicas."""
        self._cluster = LocalCluster.create(folder / "cluster", self.replicas, role=PRODUCTS)
        try:
            self._cluster.start()
            self._cluster.wait_ready(timeout_s=READY_TIMEOUT_S)
        except LocalClusterError as error:
            raise ProcessFailed(str(error)) from None

    @property
    def cluster(self) -> LocalCluster:
        """The running cluster."""
        assert self._cluster is not None, "start() comes first"
        return self._cluster

    def endpoints(self) -> tuple[str, ...]:
        """Of all replicas, by id."""
        return tuple(replica.client for replica in self.cluster.replicas.values())

    def pids(self) -> list[int]:
        """Of those that run, by id."""
        return [self.cluster.replicas[member].pid for member in self.cluster.running()]

    def status(self, member: int) -> dict[str, Any] | None:
        """What a replica says of itself; None if it does not answer."""
        try:
            endpoint = self.cluster.replicas[member].client
            with ringcast.sync.products(endpoint, timeout=_STATUS_TIMEOUT_S) as store:
                found = dict(store.status())
        except ringcast.RingcastError:
            return None
        return found if found["replica"] == member else None

    def leader(self) -> int:
        """Who says of itself that it leads."""
        for member in self.cluster.running():
            found = self.status(member)
            if found is not None and found["role"] == "leader":
                return member
        raise ProcessFailed("no replica of the product store says that it leads")

    def kill(self, member: int) -> None:
        """kill -9 of one replica."""
        self.cluster.kill(member)

    def revive(self, member: int) -> None:
        """Start a killed replica, and wait until it takes part."""
        try:
            self.cluster.restart(member)
            self.cluster.wait_ready([member], READY_TIMEOUT_S)
        except LocalClusterError as error:
            raise ProcessFailed(str(error)) from None

    def wipe(self, member: int) -> None:
        """Kill one replica and delete its data."""
        self.cluster.kill(member)
        shutil.rmtree(self.cluster.replicas[member].data)

    def stop(self) -> None:
        """Kill all: their data goes with the folder."""
        if self._cluster is not None:
            for member in self._cluster.running():
                self._cluster.kill(member)
