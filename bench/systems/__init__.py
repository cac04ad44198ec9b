"""The systems under comparison: how their servers are started, killed and ended. Clients are in bench/clients."""

from pathlib import Path
from typing import Protocol

#: How a PySyncObj node works.
EAGER, BATCHING = "eager", "batching"
PIPELINED, BATCHED, TASKS, ONE = "pipelined", "batched", "tasks", "one"
WORKLOADS = (PIPELINED, BATCHED, TASKS, ONE)
#: Of stores: linearizable and local reads, by many tasks and by one.
READ, READ_ONE, LOCAL, LOCAL_ONE = "read", "read_one", "local", "local_one"
READS = (READ, READ_ONE, LOCAL, LOCAL_ONE)
#: Those of which one is outstanding, and timed.
ONES = (ONE, READ_ONE, LOCAL_ONE)


class System(Protocol):
    """One system's servers. `client`: its module in bench/clients. `members` are numbered from 1."""

    @property
    def name(self) -> str:
        """The key in the results."""
        ...

    @property
    def label(self) -> str:
        """As tables say it."""
        ...

    @property
    def remark(self) -> str:
        """What one must know to compare: durability, or that it is no consensus."""
        ...

    @property
    def client(self) -> str:
        """Its module in bench/clients."""
        ...

    @property
    def workloads(self) -> tuple[str, ...]:
        """What is measured of it, of WORKLOADS."""
        ...

    @property
    def fresh(self) -> bool:
        """Does each measurement need servers that were never used?"""
        ...

    def missing(self) -> str | None:
        """What this machine lacks to run it and how to get it; None if nothing."""
        ...

    def start(self, folder: Path) -> None:
        """Start in an empty folder and wait until it acknowledges. Raises ProcessFailed."""
        ...

    def endpoints(self) -> tuple[str, ...]:
        """What its client connects to."""
        ...

    def pids(self) -> list[int]:
        """The servers' processes."""
        ...

    def leader(self) -> int:
        """Who orders now. Raises NotMeasurable, ProcessFailed."""
        ...

    def kill(self, member: int) -> None:
        """kill -9. Raises NotMeasurable where nobody would take over."""
        ...

    def revive(self, member: int) -> None:
        """Start a killed one on its old data, and wait until it takes part."""
        ...

    def stop(self) -> None:
        """End all processes; safe to call twice, and after a failed start."""
        ...
