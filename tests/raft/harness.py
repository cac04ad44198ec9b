"""One real node on virtual time, whose peers are the test: it sees what is sent and says what arrives."""

import asyncio
from asyncio import Future
from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar, TypeVar

from replicas.raft.configuration import RaftConfiguration
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    Hello,
    Message,
    RequestVote,
    RequestVoteResponse,
    Welcome,
)
from replicas.raft.node import RaftNode
from replicas.raft.simulator.checkers import Checker
from replicas.raft.simulator.disk import Disk, SimulatedStore
from replicas.raft.simulator.loop import MemberLoop, VirtualLoop
from store.raft_contract import NO_INCARNATION, Base, Entry, HardState, Incarnation, Kind, Member, Members

CLUSTER = 7
M = TypeVar("M")


def storage(member: int) -> int:
    """The disk of a founder."""
    return 100 + member


def members(count: int = 3) -> Members:
    """The first configuration."""
    return Members(Member(one, storage(one), voter=True, address=f"member-{one}") for one in range(1, count + 1))


def founded(count: int = 3, term: int = 1, entries: tuple[Entry, ...] = ()) -> Disk:
    """The disk of member 1 of a cluster that was founded, with these entries in its log."""
    disk = Disk()
    disk.hard = HardState(CLUSTER, storage(1), Incarnation(1, 1), term, None, ())
    disk.base = Base(1, 1, members(count))
    disk.applied = 1
    disk.log = list(entries)
    return disk


def command(index: int, term: int, data: bytes = b"x") -> Entry:
    """An entry."""
    return Entry(index, term, Kind.COMMAND, data)


class Peer:
    """Member 1; `sent` is what it sent, oldest first. `open`: those that the test made, which `close_all` ends."""

    open: ClassVar[list["Peer"]] = []

    def __init__(
        self,
        count: int = 3,
        *,
        disk: Disk | None = None,
        settings: Mapping[str, Any] | None = None,
        loop: VirtualLoop | None = None,
        node_class: type[RaftNode] = RaftNode,
        welcomed: bool = True,
        lost: bool = False,
    ) -> None:
        Peer.open.append(self)
        self.loop = loop or VirtualLoop()
        self.errors: list[BaseException] = []
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context["exception"]))
        self.clock = MemberLoop(self.loop, Random(1))
        self.disk = disk if disk is not None else founded(count)
        self.store = SimulatedStore(self.disk, self.clock, Random(2), Checker(), 1)
        self.sent: list[tuple[int, Message]] = []
        self.addresses: Mapping[int, str] = {}
        self.node = node_class(
            1,
            {member: f"member-{member}" for member in range(1, count + 1)},
            RaftConfiguration(**(settings or {})),
            loop=self.clock,
            random=Random(3),
            transport=self,
            store=self.store,
            on_failure=self.errors.append,
            lost=lost,
        )
        self.node.start()
        if welcomed:
            self.run(0.002)
            for member in range(2, count + 1):
                self.receive(member, Welcome(self.node.state.storage, NO_INCARNATION))
            self.run(0.002)
            self.sent.clear()

    # ---------------------------------------------------------- the transport

    def send(self, member: int, envelope: Envelope, message: Message) -> None:
        self.sent.append((member, message))

    def connect(self, addresses: Mapping[int, str]) -> None:
        self.addresses = dict(addresses)

    # ---------------------------------------------------------- what a test does

    def receive(self, sender: int, *messages: Message, disk: int | None = None, cluster: int = CLUSTER) -> None:
        """Messages of a peer arrive in one turn."""
        envelope = Envelope(cluster, sender, storage(sender) if disk is None else disk, Incarnation(1, sender))
        for message in messages:
            self.clock.call_soon(self.node.receive, envelope, message)
        self.loop.run_until_complete(_turns())
        self._raise()

    def run(self, seconds: float) -> None:
        """Let time pass."""

        async def wait() -> None:
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(wait())
        self._raise()

    def _raise(self) -> None:
        if self.errors:
            raise self.errors[0]

    def take(self, kind: type[M], member: int | None = None) -> list[M]:
        """What was sent of a kind; forgotten afterwards."""
        found: list[M] = [message for to, message in self.sent if isinstance(message, kind) and member in {None, to}]
        self.sent.clear()
        return found

    def become_leader(self) -> None:
        """Win an election by the vote of member 2, and commit its no-op."""
        state = self.node.state
        for _ in range(100):
            self.run(0.05)
            if any(not isinstance(message, Hello) for _, message in self.sent):
                break
        self.receive(2, RequestVoteResponse(state.term + 1, vote_granted=True, pre_vote=True))
        self.run(0.002)
        self.receive(2, RequestVoteResponse(state.term, vote_granted=True, pre_vote=False))
        assert self.node.leads
        self.run(0.002)
        self.acknowledge(2)
        self.run(0.002)

    def acknowledge(self, member: int) -> None:
        """A follower stored everything."""
        state = self.node.state
        last = state.log.last
        request_id = max(
            (message.request_id for to, message in self.sent if isinstance(message, AppendEntries) and to == member),
            default=0,
        )
        self.receive(member, AppendEntriesResponse(state.term, True, last, request_id, last, 0, 0))

    def append(self, *entries: Entry, term: int, prev: tuple[int, int], commit: int = 0, leader: int = 2) -> None:
        """An AppendEntries of a leader."""
        self.receive(leader, AppendEntries(term, leader, *prev, tuple(entries), commit, 1))

    def log(self) -> list[tuple[int, int]]:
        """(index, term) of each entry in memory and on disk."""
        log = self.node.state.log
        return [(index, log.term_at(index) or 0) for index in range(log.base.index + 1, log.last + 1)]

    @classmethod
    def close_all(cls) -> None:
        """Release the loops."""
        for peer in cls.open:
            peer.clock.kill()
            peer.loop.close()
        cls.open.clear()


async def _turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def vote(term: int, candidate: int, *, last: tuple[int, int] = (1, 1), pre: bool = False) -> RequestVote:
    """A request for a vote; `last` is (index, term)."""
    return RequestVote(term, candidate, *last, pre_vote=pre, transfer=False)


def granted(peer: Peer, member: int) -> list[bool]:
    """The answers to a member's requests."""
    peer.run(0.003)
    return [message.vote_granted for message in peer.take(RequestVoteResponse, member)]


def leads(peer: Peer) -> bool:
    """As of now."""
    return peer.node.leads


def result(future: Future[Any]) -> Any:
    """Of a future that is done."""
    assert future.done()
    return future.result()
