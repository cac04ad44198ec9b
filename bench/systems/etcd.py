"""etcd: Raft, each write synced by a majority. The messages are keys."""

import importlib.util
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import ProcessFailed
from bench.processes import Servers
from bench.systems import BATCHED, ONE, PIPELINED, TASKS
from bench.systems.nats import HOST, program
from replicas.bus.addresses import free_ports

PROGRAM = "etcd"
#: The default of 2 GiB could end a long run; nothing else is changed.
QUOTA_BYTES = 8 << 30
_HTTP_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Etcd:
    """A static cluster of new members."""

    replicas: int
    name: str = "etcd"
    remark: str = "synced on a majority"
    workloads: tuple[str, ...] = (PIPELINED, BATCHED, TASKS, ONE)  # and READS, where a store is measured
    client: str = "etcd"
    fresh: bool = False
    _servers: Servers | None = field(default=None, init=False)
    _ports: list[tuple[int, int]] = field(default_factory=list, init=False)

    @property
    def label(self) -> str:
        """With the number of members."""
        return f"etcd, {self.replicas} members"

    def missing(self) -> str | None:
        """The server's program or the client's package."""
        if program(PROGRAM) is None:
            return "etcd is not installed: bench/install-peers.sh, or apt-get install etcd-server"
        return None if importlib.util.find_spec("grpc") else "the client is not installed: pip install grpcio"

    def start(self, folder: Path) -> None:
        """A cluster with a leader."""
        found = program(PROGRAM)
        assert found is not None
        ports = iter(free_ports(2 * self.replicas, HOST))
        self._ports = [(next(ports), next(ports)) for _ in range(self.replicas)]
        peers = ",".join(f"n{number}=http://{HOST}:{peer}" for number, (_, peer) in enumerate(self._ports, 1))
        self._servers = Servers(folder)
        for number, (client, peer) in enumerate(self._ports, 1):
            options = {
                "name": f"n{number}",
                "data-dir": str(folder / f"data-{number}"),
                "listen-client-urls": f"http://{HOST}:{client}",
                "advertise-client-urls": f"http://{HOST}:{client}",
                "listen-peer-urls": f"http://{HOST}:{peer}",
                "initial-advertise-peer-urls": f"http://{HOST}:{peer}",
                "initial-cluster": peers,
                "initial-cluster-state": "new",
                "quota-backend-bytes": str(QUOTA_BYTES),
            }
            self._servers.launch(number, [found, *(f"--{key}={value}" for key, value in options.items())])
        self._servers.wait("leader of etcd", lambda: all(map(self._healthy, range(1, self.replicas + 1))))

    def _get(self, number: int, path: str) -> str:
        try:
            url = f"http://{HOST}:{self._ports[number - 1][0]}/{path}"
            with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def _healthy(self, number: int) -> bool:
        return '"true"' in self._get(number, "health")

    def endpoints(self) -> tuple[str, ...]:
        """All members."""
        return tuple(f"{HOST}:{client}" for client, _ in self._ports)

    def pids(self) -> list[int]:
        """The members."""
        return [] if self._servers is None else self._servers.pids()

    def leader(self) -> int:
        """Who says of itself that it leads."""
        for number in range(1, self.replicas + 1):
            if "\netcd_server_is_leader 1\n" in self._get(number, "metrics"):
                return number
        raise ProcessFailed("no etcd member says that it leads")

    def kill(self, member: int) -> None:
        """kill -9 of one member."""
        assert self._servers is not None
        self._servers.kill(member)

    def revive(self, member: int) -> None:
        """Start it again."""
        assert self._servers is not None
        self._servers.relaunch(member)
        self._servers.wait("healthy etcd member", lambda: self._healthy(member))

    def stop(self) -> None:
        """End all members."""
        if self._servers is not None:
            self._servers.stop()
