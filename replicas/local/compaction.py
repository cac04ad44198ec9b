"""`ringcast compact` on a local cluster: one replica after the other is stopped, rewritten, started and waited for."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError
from sequencer.quorum import majority
from store.compaction import Compacted, compact_folder

#: A replica that was away catches up first; one with a large log checks it first.
READY_TIMEOUT_S = 120.0


class Done(NamedTuple):
    """What was done to a replica."""

    member: int
    compacted: Compacted


def compact_cluster(cluster: LocalCluster, only: int | None = None) -> Iterator[Done]:
    """Compact each replica of one role, or one of them; a replica that ran serves again before the next is stopped.

    Raises LocalClusterError (the others do not serve, or this one does not come back) and what `compact_folder` raises;
    then the replicas that come later are as they were, and the one in question runs if it ran before.
    """
    members = sorted(cluster.replicas) if only is None else [only]
    for member in members:
        if member not in cluster.running():
            yield Done(member, _compact(cluster, member))
            continue
        _check_others(cluster, member)
        cluster.stop([member])
        try:
            compacted = _compact(cluster, member)
        finally:
            cluster.start([member])
        cluster.wait_ready([member], READY_TIMEOUT_S)
        yield Done(member, compacted)


def _compact(cluster: LocalCluster, member: int) -> Compacted:
    return compact_folder(Path(cluster.replicas[member].data), member)


def _check_others(cluster: LocalCluster, member: int) -> None:
    """Stopping one must not stop the ring, unless it is too small for that in any case. Raises LocalClusterError."""
    count = len(cluster.replicas)
    others = [one for one in cluster.replicas if one != member]
    serving = [one for one in others if cluster.is_ready(one)]
    if count > 2 and len(serving) < majority(cluster.replicas):
        silent = ", ".join(str(one) for one in others if one not in serving)
        raise LocalClusterError(
            f"{cluster.role.title} {member} is not stopped: without it and {silent}, which does not serve, there is no "
            "quorum; start what is missing, wait for `ringcast health`, and run it again"
        )
