"""A whole member on a real loop: sockets of ZeroMQ on the loopback interface, LMDB in a folder."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import zmq

from replicas.raft.configuration import RaftConfiguration
from replicas.raft.node import RaftNode
from replicas.raft.transport import RaftTransport
from store.raft_log import RaftStore
from tests.raft.tables import TableMachine, make


def addresses(folder: Path, count: int = 3) -> dict[int, str]:
    """Sockets in a folder: nobody else can take them meanwhile."""
    return {member: f"ipc://{folder}/peer-{member}" for member in range(1, count + 1)}


class Replica:
    """Member `member` of the cluster of these addresses."""

    def __init__(self, folder: Path, member: int, peers: Mapping[int, str], **settings: Any) -> None:
        self.member = member
        self.failures: list[Exception] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        loop = asyncio.get_running_loop()
        self.store: RaftStore = make(folder / f"data-{member}", loop, member, map_bytes=1 << 24)
        self.transport = RaftTransport(0, member)
        self.node = RaftNode(
            member,
            peers,
            RaftConfiguration(**settings),
            loop=loop,
            random=Random(),
            transport=self.transport,
            store=self.store,
            on_failure=self.failures.append,
        )
        self.transport.open(self.context, peers[member], self.node)
        self.node.start()

    def value(self, key: bytes) -> bytes | None:
        """What can be read here."""
        machine = self.store.machine
        assert isinstance(machine, TableMachine)
        with self.store.reading() as transaction:
            return machine.value(transaction, key)

    def stop(self) -> None:
        """The connections break, as when the process is killed; what is queued is written."""
        self.transport.close()
        self.node.stop()
        self.context.destroy(linger=0)


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; bounded."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not holds():
        assert loop.time() < deadline, "it did not come to be"
        await asyncio.sleep(0.002)


def leader_of(replicas: Mapping[int, Replica]) -> Replica | None:
    """The one whose term is open and who leads in the highest term."""
    leading = [one for one in replicas.values() if one.node.leads and one.node.status().commit > 1]
    return max(leading, key=lambda one: one.node.status().term, default=None)
