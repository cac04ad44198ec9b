"""What Ringcast's bus and its product store share: a local cluster, from the module that `ringcast up` uses."""

import shutil
from dataclasses import dataclass, field

from bench.errors import ProcessFailed
from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalClusterError

READY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Local:
    """Replicas of one role."""

    replicas: int
    _cluster: LocalCluster | None = field(default=None, init=False)

    def missing(self) -> str | None:
        """Nothing: it is us."""
        return None

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

    def kill(self, member: int) -> None:
        """kill -9 of one replica."""
        self.cluster.kill(member)

    def revive(self, member: int) -> None:
        """Start a killed replica, and wait until it takes part."""
        try:
            self.cluster.restart(member)
        except LocalClusterError as error:
            raise ProcessFailed(str(error)) from None
        self._wait([member])

    def wipe(self, member: int) -> None:
        """Kill one replica and delete its data."""
        self.cluster.kill(member)
        shutil.rmtree(self.cluster.replicas[member].data)

    def stop(self) -> None:
        """Kill all: their data goes with the folder."""
        if self._cluster is not None:
            for member in self._cluster.running():
                self._cluster.kill(member)
            self._cluster = None

    def _run(self, cluster: LocalCluster) -> None:
        """Start all replicas."""
        self._cluster = cluster
        try:
            cluster.start()
        except LocalClusterError as error:
            raise ProcessFailed(str(error)) from None
        self._wait(None)

    def _wait(self, members: list[int] | None) -> None:
        try:
            self.cluster.wait_ready(members, READY_TIMEOUT_S)
        except LocalClusterError as error:
            raise ProcessFailed(str(error)) from None
