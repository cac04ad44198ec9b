"""Ringcast's product store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ringcast
import ringcast.sync
from bench.errors import ProcessFailed
from bench.systems import BATCHED, LOCAL, LOCAL_ONE, ONE, PIPELINED, READ, READ_ONE, TASKS
from bench.systems.local import Local
from replicas.local.cluster import LocalCluster
from replicas.local.files import PRODUCTS

_STATUS_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Products(Local):
    """A local cluster of the product store alone."""

    name: str = "products"
    remark: str = "synced on a majority; items with five index rows"
    workloads: tuple[str, ...] = (PIPELINED, BATCHED, TASKS, ONE, READ, READ_ONE, LOCAL, LOCAL_ONE)
    client: str = "products"
    fresh: bool = False

    @property
    def label(self) -> str:
        """With the number of replicas."""
        return f"Ringcast products, {self.replicas} replicas"

    def start(self, folder: Path) -> None:
        """Start all replicas."""
        self._run(LocalCluster.create(folder / "cluster", self.replicas, role=PRODUCTS))

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
