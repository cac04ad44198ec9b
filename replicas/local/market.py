"""The marketplace on this machine: both databases and the interfaces in front of them, in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import ringcast
from replicas.bus.overview import Overview
from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, BUYERS, INTERFACES, PRODUCTS, SELLERS, LocalClusterError, Role

ROLES = (BUS, PRODUCTS, SELLERS, BUYERS)


def create_interfaces(folder: Path, role: Role, count: int) -> LocalCluster:
    """Write the configuration of `count` interfaces in front of the folder's databases. Raises LocalClusterError."""
    settings = {database.name: _clients(LocalCluster.open(folder, database)) for database in (BUS, PRODUCTS)}
    return LocalCluster.create(folder, count, settings, role=role)


def _clients(cluster: LocalCluster) -> str:
    """host:port of each replica's client port, with commas between."""
    if not cluster.replicas:
        raise LocalClusterError(
            f"{cluster.folder} has no {cluster.role.title}, and the marketplace needs both databases: start them with "
            "`ringcast up --products 3`, or leave the interfaces out with --sellers 0 --buyers 0"
        )
    return ",".join(replica.client.removeprefix("tcp://") for replica in cluster.replicas.values())


class LocalMarket:
    """All four roles. `clusters`: by role's name."""

    def __init__(self, clusters: Mapping[str, LocalCluster]) -> None:
        self.clusters = dict(clusters)
        self.path = clusters[BUS.name].path

    @classmethod
    def create(cls, folder: Path, *, bus: int = 3, products: int = 3, sellers: int = 2, buyers: int = 2) -> Self:
        """Write every configuration; nothing runs yet. Raises LocalClusterError."""
        clusters = {
            BUS.name: LocalCluster.create(folder, bus),
            PRODUCTS.name: LocalCluster.create(folder, products, role=PRODUCTS),
        }
        for role, count in zip(INTERFACES, (sellers, buyers), strict=True):
            clusters[role.name] = create_interfaces(folder, role, count)
        return cls(clusters)

    @property
    def bus(self) -> LocalCluster:
        return self.clusters[BUS.name]

    @property
    def products(self) -> LocalCluster:
        return self.clusters[PRODUCTS.name]

    @property
    def sellers(self) -> LocalCluster:
        return self.clusters[SELLERS.name]

    @property
    def buyers(self) -> LocalCluster:
        return self.clusters[BUYERS.name]

    def start(self) -> None:
        """Start what does not run, and wait until all of it serves. Raises LocalClusterError."""
        for cluster in self.clusters.values():
            cluster.start()
        for cluster in self.clusters.values():
            cluster.wait_ready()

    def stop(self) -> None:
        """End everything in order."""
        for cluster in reversed(self.clusters.values()):
            cluster.stop()

    def kill_all(self) -> None:
        """kill -9 for whatever runs."""
        for cluster in self.clusters.values():
            for member in cluster.running():
                cluster.kill(member)

    async def leader(self) -> int:
        """The member that leads the product store."""
        async with ringcast.products(self.path) as store:
            while True:
                found = (await store.status())["leader"]
                if isinstance(found, int) and found:
                    return found

    async def token_holder(self) -> int:
        """The bus member that has the token, as far as one of them knows; the first of the ring if none does."""
        async with Overview(self.path) as overview:
            for one in await overview.look():
                holder = one.get("token_holder")
                if isinstance(holder, int):
                    return holder
        return min(self.bus.running())
