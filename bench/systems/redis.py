"""Redis: a primary with replicas, each append synced. Not consensus: nobody takes over, and no majority decides."""

import importlib.util
import socket
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import NotMeasurable
from bench.processes import Servers
from bench.systems import ONE, PIPELINED, TASKS
from bench.systems.nats import HOST, program
from replicas.bus.addresses import free_ports

PROGRAM = "redis-server"
#: Each append is synced before it is answered; replicas need not wait for others to connect.
OPTIONS = {"appendonly": "yes", "appendfsync": "always", "save": "", "repl-diskless-sync-delay": 0}
_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Redis:
    """Server 1 is the primary."""

    replicas: int
    name: str = "redis"
    label: str = "Redis streams + WAIT 1"
    remark: str = "not consensus; appendfsync always"
    workloads: tuple[str, ...] = (PIPELINED, TASKS, ONE)
    client: str = "redis"
    fresh: bool = False
    _servers: Servers | None = field(default=None, init=False)
    _ports: list[int] = field(default_factory=list, init=False)

    def missing(self) -> str | None:
        """The server's program or the client's package."""
        if program(PROGRAM) is None:
            return "redis-server is not installed: bench/install-peers.sh, or apt-get install redis-server"
        return None if importlib.util.find_spec("redis") else "the client is not installed: pip install redis"

    def start(self, folder: Path) -> None:
        """A primary whose replicas are connected."""
        found = program(PROGRAM)
        assert found is not None
        self._ports = free_ports(max(2, self.replicas), HOST)
        self._servers = Servers(folder)
        for number, port in enumerate(self._ports, 1):
            data = folder / f"data-{number}"
            data.mkdir()
            options = {"bind": HOST, "port": port, "dir": data, **OPTIONS}
            command = [found, *(text for key, value in options.items() for text in (f"--{key}", str(value)))]
            if number > 1:
                command += ["--replicaof", HOST, str(self._ports[0])]
            self._servers.launch(number, command)
        self._servers.wait("connected Redis replicas", self._connected)

    def _connected(self) -> bool:
        try:
            with socket.create_connection((HOST, self._ports[0]), _TIMEOUT_S) as connection:
                connection.sendall(b"INFO replication\r\n")
                return connection.recv(1 << 16).count(b"state=online") == len(self._ports) - 1
        except OSError:
            return False

    def endpoints(self) -> tuple[str, ...]:
        """The primary."""
        return (f"{HOST}:{self._ports[0]}",)

    def pids(self) -> list[int]:
        """The primary and its replicas."""
        return [] if self._servers is None else self._servers.pids()

    def leader(self) -> int:
        """There is a primary, but no failover to measure."""
        raise NotMeasurable("Redis has no failover of its own: without Sentinel nobody takes over")

    def kill(self, member: int) -> None:
        """See `leader`."""
        self.leader()

    def revive(self, member: int) -> None:
        """See `leader`."""
        self.leader()

    def stop(self) -> None:
        """End all servers."""
        if self._servers is not None:
            self._servers.stop()
