"""Interfaces of the marketplace in a local cluster: they are told where the bus and the product store are."""

from pathlib import Path

from replicas.local_cluster import LocalCluster
from replicas.local_files import BUS, PRODUCTS, LocalClusterError, Role


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
