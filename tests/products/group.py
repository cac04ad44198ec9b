"""Product replicas that share one store: real gateways on real sockets, before nodes that play Raft.

What one of them applies all have applied. Faults are plain attributes.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from broker.sockets import SocketLimits, ZmqContext, bind, open_socket
from replicas.products.front import ProductLimits, Standing
from replicas.products.gateway import ProductGateway
from ringcast import wire
from ringcast.errors import NotLeader, NotReady, RingcastError
from ringcast.product_store.admin import Instruction
from ringcast.strict import Plain
from store.products.entries import Entry, decode_entry
from store.products.sessions import SESSIONS_MAX
from store.products.view import ProductView
from tests.products.store import START_US, Store

CLUSTER = 0xCAFE
TERM = 3


class Node:
    """One replica. A node that does not lead refuses; `hold`: what is proposed waits for `go_on`."""

    def __init__(self, group: "Group", number: int, limits: ProductLimits | None) -> None:
        self.group = group
        self.number = number
        self.entries: list[Entry] = []
        self.hold = False
        #: Apply so many entries without telling anybody: they fail as when the leader changes.
        self.forgets = 0
        #: Why nothing can be ordered here; `fails_then`: from the next entry on that is forgotten.
        self.fails: RingcastError | None = None
        self.fails_then: RingcastError | None = None
        self.read_indexes = 0
        self.hold_reads = False
        #: What an operator told it, and what it answers.
        self.instructions: list[Instruction] = []
        self.answers: Plain = None
        self._held: list[tuple[bytes, asyncio.Future[bytes]]] = []
        self._held_reads: list[asyncio.Future[int]] = []
        router = open_socket(group.context, zmq.ROUTER, SocketLimits())
        self.endpoint = bind(router, "tcp://127.0.0.1:*")
        self.gateway = ProductGateway(router, self, replica=number, limits=limits, clock_us=lambda: group.store.now_us)

    @property
    def leads(self) -> bool:
        return self.group.leader == self.number

    def standing(self) -> Standing:
        leader = -1 if self.group.leader is None else self.group.leader
        return Standing(CLUSTER, TERM, leader, self.group.store.applied)

    def trouble(self) -> RingcastError | None:
        if self.fails is not None:
            return self.fails
        return None if self.leads else self.not_leader()

    def not_leader(self) -> NotLeader:
        leader = self.group.leader
        if leader is None or not self.group.hints:
            return NotLeader(replica=self.number, leader=-1, address="")
        return NotLeader(replica=self.number, leader=leader, address=self.group.nodes[leader - 1].endpoint)

    def propose(self, entry: bytes) -> "asyncio.Future[bytes]":
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.hold:
            self._held.append((entry, future))
        else:
            self._apply(entry, future)
        return future

    def _apply(self, entry: bytes, future: "asyncio.Future[bytes]") -> None:
        self.entries.append(decode_entry(entry))
        result = self.group.store.entry(entry)
        if self.forgets:
            self.forgets -= 1
            self.fails = self.fails_then
            future.set_exception(self.not_leader())
        else:
            future.set_result(result)

    def go_on(self) -> None:
        """Apply what was held."""
        self.hold = False
        held, self._held = self._held, []
        for entry, future in held:
            self._apply(entry, future)

    def step_down(self) -> None:
        """What was held was never replicated: all of it fails."""
        self.hold = False
        held, self._held = self._held, []
        for _, future in held:
            future.set_exception(self.not_leader())

    def read_index(self) -> "asyncio.Future[int]":
        self.read_indexes += 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.hold_reads:
            self._held_reads.append(future)
        else:
            future.set_result(self.group.store.applied)
        return future

    def answer_reads(self, error: RingcastError | None = None) -> None:
        self.hold_reads = False
        held, self._held_reads = self._held_reads, []
        for future in held:
            if error is None:
                future.set_result(self.group.store.applied)
            else:
                future.set_exception(error)

    def damage(self) -> str:
        return ""

    def suspect(self, why: str) -> None:
        raise AssertionError(why)

    def administer(self, instruction: Instruction) -> "asyncio.Future[Plain]":
        self.instructions.append(instruction)
        future: asyncio.Future[Plain] = asyncio.get_running_loop().create_future()
        future.set_result(self.answers)
        return future

    @contextmanager
    def view(self) -> Iterator[ProductView]:
        with self.group.store.view() as view:
            yield view

    def status(self) -> dict[str, Plain]:
        return {"term": TERM, "leader": self.group.leader, "applied": self.group.store.applied}

    @property
    def operations(self) -> int:
        """How many operations came in entries here."""
        return sum(len(request.operations) for entry in self.entries for request in entry.requests)


class Group:
    """Nodes 1, 2 ...; the first one leads. `hints`: those that do not lead know who does."""

    def __init__(
        self, folder: Path, nodes: int, limits: ProductLimits | None = None, sessions_max: int = SESSIONS_MAX
    ) -> None:
        self.context: ZmqContext = zmq.Context()
        self.store = Store(folder, sessions_max)
        self.store.now_us = START_US
        self.leader: int | None = 1
        self.hints = True
        self.nodes = [Node(self, number, limits) for number in range(1, nodes + 1)]

    def tell_members(self) -> None:
        """Clients are told where all nodes are."""
        members = tuple(wire.Endpoint(node.number, node.endpoint) for node in self.nodes)
        for node in self.nodes:
            node.gateway.tell_members(members)

    @property
    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes]

    def kill(self, number: int) -> None:
        """Its sockets close, as those of a killed process."""
        self.nodes[number - 1].gateway.close()

    def close(self) -> None:
        for node in self.nodes:
            node.gateway.close()
        self.context.destroy(linger=0)
        self.store.close()


@contextmanager
def group(
    folder: Path, nodes: int = 1, limits: ProductLimits | None = None, sessions_max: int = SESSIONS_MAX
) -> Iterator[Group]:
    made = Group(folder, nodes, limits, sessions_max)
    try:
        yield made
    finally:
        made.close()


UNREADY = NotReady(replica=1, state="starting")
