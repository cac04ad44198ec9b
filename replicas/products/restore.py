"""A backup of the product store becomes a cluster again: a new one, in the place of one that was lost as a whole.

A single replica needs none: it is started with an empty folder, and the others send it everything (V0). So there is one
meaning: one replica gets the state of the backup, on a disk with a new name, as the only voter of a new cluster; the
others begin with empty folders, as its learners, and vote once they have everything.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError, peer_entry
from replicas.products.config import ProductsConfig
from store.errors import StoreDamaged
from store.folder import DATA_NAME, set_aside
from store.products.machine import ProductMachine
from store.products.tables import TABLES
from store.raft_backup import Backup, NoObserver
from store.raft_log import RaftStore


class Restored(NamedTuple):
    """What came of it. `aside`: folders that were renamed; `others`: members whose folders must be empty."""

    cluster: int
    member: int
    applied: int
    aside: tuple[Path, ...]
    others: tuple[int, ...]


def restore_local(path: Path, local: LocalCluster, member: int | None) -> Restored:
    """Into the folders of a cluster that `up` made. Raises BackupDamaged, ForeignBackup, FolderInUse, OSError."""
    if not local.replicas:
        raise LocalClusterError(f"{local.folder} has no product store: `ringcast up --products 3` makes one")
    chosen = min(local.replicas) if member is None else member
    if chosen not in local.replicas:
        raise LocalClusterError(f"there is no products replica {chosen}: name one of {sorted(local.replicas)}")
    running = local.running()
    if running:
        raise LocalClusterError(
            f"products replica {', '.join(map(str, running))} runs: a restore replaces the whole cluster, end it first "
            "(`ringcast down`)"
        )
    addresses = {
        one: peer_entry(*(end.removeprefix("tcp://") for end in (replica.peer, replica.client)))
        for one, replica in local.replicas.items()
    }
    folders = {one: Path(replica.data) for one, replica in local.replicas.items()}
    found = _restore(Backup(path), folders, chosen, addresses, int(local.cluster, 16))
    local.adopt(f"{found.cluster:016x}")
    return found


def restore_one(path: Path, config: ProductsConfig) -> Restored:
    """Into the folder of one configured replica. Raises BackupDamaged, ForeignBackup, FolderInUse, OSError."""
    addresses = {member: str(address) for member, address in config.peers.items()}
    return _restore(Backup(path), {config.id: config.data}, config.id, addresses, 0)


def _restore(
    backup: Backup, folders: Mapping[int, Path], member: int, addresses: Mapping[int, str], cluster: int
) -> Restored:
    """Nothing is touched before the backup was read whole, and every folder looked into."""
    for one, folder in folders.items():
        for known in (cluster, _cluster_in(folder, one)):
            if known:
                backup.check_lineage(known)
    used = [folder for folder in folders.values() if folder.exists() and any(folder.iterdir())]
    aside = tuple(set_aside(folder, "replaced") for folder in used)
    folders[member].parent.mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    try:
        new = backup.restore(folders[member], member, addresses, TABLES, ProductMachine, loop)
    finally:
        loop.close()
    return Restored(new, member, backup.head.applied, aside, tuple(one for one in addresses if one != member))


def _cluster_in(folder: Path, member: int) -> int:
    """Whose disk it is; 0: nobody's, or it cannot be read. Raises FolderInUse, WrongFolder."""
    if not (folder / DATA_NAME).exists():
        return 0
    loop = asyncio.new_event_loop()
    store = RaftStore(folder, member, TABLES, ProductMachine, loop)
    try:
        hard = store.recover(NoObserver()).hard
    except StoreDamaged:
        return 0
    finally:
        store.close()
        loop.close()
    return 0 if hard is None else hard.cluster
