"""PySyncObj: Raft in Python, its journal written but not synced. It is a library: node 1 is the publishing process."""

import contextlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import NotMeasurable, ProcessFailed
from bench.processes import Servers
from bench.systems import BATCHING, EAGER, ONE, PIPELINED, TASKS
from bench.systems.nats import HOST
from replicas.bus.addresses import free_ports

QUORUM_WITHOUT_ONE = 3
_STATUS_TIMEOUT_S = 1.0


@dataclass(slots=True)
class PySyncObj:
    """Nodes of bench/systems/pysyncobj_node.py, each with a journal; all but the first, which a client is.

    `eager`: append entries as commands come, for latency; else its default, which gathers them on a timer of 100 ms
    and is faster with thousands in flight. A node that comes again has to replay: each measurement gets new ones.
    """

    replicas: int
    eager: bool
    client: str = "pysyncobj"
    fresh: bool = True
    _servers: Servers | None = field(default=None, init=False)
    _addresses: list[str] = field(default_factory=list, init=False)
    _journal: Path = field(default=Path(), init=False)

    @property
    def label(self) -> str:
        """With the number of nodes."""
        return f"PySyncObj, {self.replicas} nodes" + (", eager" if self.eager else "")

    @property
    def name(self) -> str:
        """Two settings, two names."""
        return "pysyncobj-eager" if self.eager else "pysyncobj"

    @property
    def remark(self) -> str:
        """What an answer means."""
        return "a journal that is not synced; the publisher is the leader" + (", no batches" if self.eager else "")

    @property
    def workloads(self) -> tuple[str, ...]:
        """What each setting is for."""
        return (TASKS, ONE) if self.eager else (PIPELINED, TASKS)

    def missing(self) -> str | None:
        """The package."""
        return None if importlib.util.find_spec("pysyncobj") else "it is not installed: pip install PySyncObj"

    def start(self, folder: Path) -> None:
        """The others, a quorum without node 1."""
        if self.replicas < QUORUM_WITHOUT_ONE:
            raise NotMeasurable("PySyncObj with fewer than 3 nodes is no quorum without the publishing process")
        self._addresses = [f"{HOST}:{port}" for port in free_ports(self.replicas, HOST)]
        self._servers = Servers(folder)
        self._journal = folder / "journal-1"
        for number, own in enumerate(self._addresses, 1):
            partners = [address for address in self._addresses if address != own]
            command = [sys.executable, "-P", "-m", "bench.systems.pysyncobj_node", self._mode]
            command.append(str(folder / f"journal-{number}"))
            if number > 1:
                self._servers.launch(number, [*command, own, *partners])
        self._servers.wait("leader of PySyncObj", lambda: self._leader() is not None)

    def _leader(self) -> int | None:
        for number, address in enumerate(self._addresses[1:], 2):
            if str(self._status(address).get("leader")) == address:
                return number
        return None

    def _status(self, address: str) -> dict[str, Any]:
        from pysyncobj.utility import TcpUtility, UtilityException  # noqa: PLC0415 - not installed with us

        with contextlib.suppress(UtilityException):
            return dict(TcpUtility(timeout=_STATUS_TIMEOUT_S).executeCommand(address, ["status"]))
        return {}

    def endpoints(self) -> tuple[str, ...]:
        """All nodes; the first with the file of its journal."""
        return (f"{self._addresses[0]}={self._mode}={self._journal}", *self._addresses[1:])

    @property
    def _mode(self) -> str:
        return EAGER if self.eager else BATCHING

    def pids(self) -> list[int]:
        """The nodes."""
        return [] if self._servers is None else self._servers.pids()

    def leader(self) -> int:
        """Who says of itself that it leads."""
        found = self._leader()
        if found is None:
            raise ProcessFailed("no PySyncObj node says that it leads")
        return found

    def kill(self, member: int) -> None:
        """kill -9 of one node."""
        assert self._servers is not None
        self._servers.kill(member)

    def revive(self, member: int) -> None:
        """Start it again."""
        assert self._servers is not None
        self._servers.relaunch(member)
        address = self._addresses[member - 1]
        self._servers.wait("answer of the PySyncObj node", lambda: bool(self._status(address).get("leader")))

    def stop(self) -> None:
        """End all nodes."""
        if self._servers is not None:
            self._servers.stop()
