"""A Raft member as the gateway sees it: errors in the client's words, tables to read, and what there is to know."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from replicas import limits, supervisor
from replicas.asides import Asides
from replicas.products.admin import ProductAdmin
from replicas.products.config import MemberAddress
from replicas.products.front import Standing
from replicas.products.scrub import ROWS
from replicas.raft import errors
from replicas.raft.node import RaftNode
from replicas.scrubber import Scrubber
from ringcast import wire
from ringcast.errors import ChangeRefused, NotInQuorum, NotLeader, NotReady, Overloaded, Refused, RingcastError
from ringcast.product_store.admin import Instruction
from ringcast.strict import Plain
from sequencer.quorum import majority
from store.aside import told
from store.products.machine import SET_BACK_US, ProductMachine
from store.products.view import ProductView
from store.raft_log import RaftStore


class ProductMember:
    """`replicas.products.gateway.Proposer`, on a node and its store. `connected`: peers whose connection stands."""

    def __init__(
        self,
        node: RaftNode,
        store: RaftStore,
        connected: Callable[[], int],
        asides: Asides,
        scrubber: Scrubber,
    ) -> None:
        self.asides = asides
        self.scrubber = scrubber
        self.node = node
        self.store = store
        self._connected = connected
        self._loop = asyncio.get_running_loop()
        self._admin = ProductAdmin(self)

    # -------------------------------------------------------------- where it stands

    def standing(self) -> Standing:
        state = self.node.state
        return Standing(state.cluster, state.term, -1 if state.leader is None else state.leader, state.visible)

    def trouble(self) -> RingcastError | None:
        if self.node.leads:
            settled = self.node.time.settled
            return None if settled else NotReady(replica=self.node.member, state="learning the clocks of the others")
        number, leader = self.node.member, self.node.leader
        if leader is not None and leader != number:
            return NotLeader(replica=number, leader=leader, address=self.client_address(leader))
        connected, quorum = self._connected() + 1, majority(self.voters)
        if connected < quorum:
            return NotInQuorum(replica=number, connected=connected, quorum=quorum)
        return NotReady(replica=number, state=self.state)

    @property
    def state(self) -> str:
        """One word or two, for people."""
        node = self.node
        if node.state.full:
            return "disk full"
        if node.state.standing.alone_lost:
            return "damaged: its folder was set aside"
        if node.state.filling.distrusted:
            return "damaged: to be filled again"
        if not node.state.cluster:
            return "waiting for the first members"
        if not node.state.standing.settled:
            return "starting"
        if node.state.log.members.find(node.member) is None:
            return "not a member"
        return "leading" if node.leads else "following" if node.leader is not None else "electing"

    @property
    def is_back(self) -> bool:
        """It takes part as a voter: a folder that was set aside is made up for."""
        state = self.node.state
        return state.standing.settled and state.log.members.is_voter(state.id, state.storage)

    def advice(self) -> str | None:
        """What only an operator can mend."""
        if not self.node.state.standing.alone_lost:
            return None
        return (
            f"too few replicas of the product store have data; replica {self.node.member}'s folder was damaged and set "
            f"aside: {told(self.asides.found)}; bring the folders of a majority back, restore a backup (`ringcast "
            "products restore`), or, for a new and empty store, delete the *set-aside.json beside each data folder and "
            "start all"
        )

    def damage(self) -> str:
        """Why the tables are not read here (R24), "" if they are."""
        return self.node.state.filling.distrusted

    def suspect(self, why: str) -> None:
        """A read found a damaged row."""
        self.scrubber.damage(ROWS, why)

    @property
    def voters(self) -> tuple[int, ...]:
        """Of the newest configuration; before there is one, those that the file names."""
        return self.node.state.log.members.voters or tuple(self.node.founders)

    def client_address(self, member: int) -> str:
        """Where clients reach a member, "" if nobody knows."""
        return next((one.address for one in self.endpoints() if one.replica == member), "")

    def endpoints(self) -> tuple[wire.Endpoint, ...]:
        """The members' client addresses, as the log says them."""
        found = []
        for member in self.node.state.log.members:
            try:
                found.append(wire.Endpoint(member.id, MemberAddress.parse(member.address).client_endpoint))
            except ValueError:  # of another make: nobody can be sent there
                continue
        return tuple(found)

    # -------------------------------------------------------------- proposing and reading

    def propose(self, entry: bytes) -> "asyncio.Future[bytes]":
        return self.translated(self.node.propose(entry))

    def read_index(self) -> "asyncio.Future[int]":
        return self.translated(self.node.read())

    def translated(self, future: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        """The same future with errors in the client's words."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(partial(self._pass_on, answer))
        return answer

    def _pass_on(self, answer: "asyncio.Future[Any]", future: "asyncio.Future[Any]") -> None:
        if answer.done():
            return
        error = future.exception()
        if error is None:
            answer.set_result(future.result())
        else:
            answer.set_exception(self.translate(error))

    def translate(self, error: BaseException) -> BaseException:
        """As a client is told it; what it did not do, or may have done, a client repeats by itself."""
        number = self.node.member
        match error:
            case errors.NotLeader() | errors.OutcomeUnknown():
                return self.trouble() or NotReady(replica=number, state="handing the leadership over")
            case errors.Overloaded():
                return Overloaded(
                    what="what waits for its commit", size=error.waiting_bytes, limit=error.limit, unit="bytes"
                )
            case errors.ChangeRefused():
                what = "the change of members"
                return ChangeRefused(change=what, why=error.why, next=error.advice, passes=error.passes)
            case errors.Refused() | errors.TransferFailed():
                return Refused(reason=str(error))
        return error

    @contextmanager
    def view(self) -> Iterator[ProductView]:
        machine = self.store.machine
        assert isinstance(machine, ProductMachine)
        with self.store.reading() as transaction:
            yield machine.view(transaction)

    def sets_back(self) -> bool:
        """The tables' time is far ahead of what the clocks of a quorum say: the next entries set it back (D7)."""
        agreed_us = self.node.time.agreed_us() if self.node.leads else None
        if agreed_us is None:
            return False
        with self.view() as view:
            return view.meta.time_us - agreed_us > SET_BACK_US

    def administer(self, instruction: Instruction) -> "asyncio.Future[Any]":
        return self._admin.carry_out(instruction)

    # -------------------------------------------------------------- what there is to know

    def status(self) -> dict[str, Plain]:
        found, file = self.node.status(), self.store.file_size()
        return {
            "state": self.state,
            "role": found.role,
            "term": found.term,
            "leader": found.leader,
            "cluster": f"{found.cluster:016x}",
            "members": [{"member": one.id, "voter": one.voter, "address": one.address} for one in found.members],
            "commit": found.commit,
            "applied": found.applied,
            "visible": found.visible,
            "last": found.last,
            "lag": max(0, found.commit - found.visible),
            "log_first": found.base + 1,
            "log_bytes": self.store.log_bytes(),
            "file_bytes": file.size_bytes,
            "file_free_bytes": file.free_bytes,
            "snapshot": self._snapshot(),
            "followers": {str(member): match for member, match in found.followers.items()},
            "disk_full": found.full,
            "clock_offset_us": self.node.time.offset_us(),
            "damaged": found.distrusted or self.node.suspected,
            "scrub": self.scrubber.status(),
            "set_aside": tuple({**one._asdict(), "folder": str(one.folder)} for one in self.asides.found),
            "advice": self.advice(),
            **supervisor.report(),
            **limits.report(),
        }

    def _snapshot(self) -> Plain:
        """The newest file, made for a follower that lags or by an operator; the tables themselves are always newer."""
        made = next(iter(self.store.snapshots()), None)
        return None if made is None else {"name": made.name, "index": made.slot, "bytes": made.size_bytes}
