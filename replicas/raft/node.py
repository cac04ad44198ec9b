"""A Raft member: raftos' Node over a transport, a store and a clock that are given to it. All calls on its loop.

What a handler raises (InvariantError: our own mistake, or a broken promise of the store) reaches the loop's exception
handler; whoever runs the node ends the process there.
"""

from __future__ import annotations

from asyncio import Future
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from replicas.raft import library
from replicas.raft.candidate import Candidate
from replicas.raft.configuration import RaftConfiguration
from replicas.raft.errors import NotLeader, Refused
from replicas.raft.futures import fail
from replicas.raft.group_time import GroupTime
from replicas.raft.leader import Leader
from replicas.raft.messages import Clock, Envelope, Message
from replicas.raft.seams import Loop, Store, Transport
from replicas.raft.state import Received, State
from store.raft_contract import Members

RESUME_SECONDS = 1.0


class Status(NamedTuple):
    """What `ringcast products status` shows. Indexes of the log; `visible`: the state can be read up to it.

    `followers`: by member, the index up to which its log is known to fit (of a leader only).
    """

    member: int
    role: str
    term: int
    leader: int | None
    cluster: int
    members: Members
    base: int
    last: int
    durable: int
    commit: int
    applied: int
    visible: int
    followers: Mapping[int, int]
    proven: bool
    full: bool
    distrusted: str
    counters: Counter[str]


class RaftNode(library.Node):
    """`founders`: id -> address of every member that the file names, itself included.

    `on_failure`: the disk failed, the node has stopped (D5 of the bus).
    """

    state_class: type[State] = State

    def __init__(
        self,
        member: int,
        founders: Mapping[int, str],
        config: RaftConfiguration,
        *,
        loop: Loop,
        random: Random,
        transport: Transport,
        store: Store,
        on_failure: Callable[[Exception], object],
        wall_us: Callable[[], int] | None = None,
        lost: bool = False,
    ) -> None:
        """Opens the store, which blocks; raises its errors. `wall_us`: see GroupTime.

        `lost`: a blank disk here is no first day (V0, D6).
        """
        self.member = member
        self.founders = dict(founders)
        self.config = config
        self.loop = loop
        self.random = random
        self.transport = transport
        self.store = store
        self._on_failure = on_failure
        self.lost = lost
        self._stopped = False
        self.time = GroupTime(lambda: self.state, wall_us)
        self.suspected = ""  # a damaged row of the tables that are still used (R24)
        self.state: State = self.state_class(self)

    def start(self) -> None:
        """Take part."""
        self.state.start()
        self.time.start()

    def stop(self) -> None:
        """Fail what waits, write what is queued, close the store; to leave gracefully `transfer` first."""
        if not self._stopped:
            self._stopped = True
            self.time.stop()
            self.state.stop()
            self.store.close()

    # -------------------------------------------------------------- for clients

    @property
    def leader(self) -> int | None:
        """Who leads, as far as this member knows."""
        return self.state.leader

    @property
    def leads(self) -> bool:
        """Whether this member thinks that it leads."""
        return isinstance(self.state.state, Leader) and not self._stopped

    def propose(self, command: bytes) -> Future[bytes]:
        """The state machine's result, once the command is committed and applied (R12).

        Fails with Refused (nothing happened) or OutcomeUnknown (repeat it; the session makes it once, R19).
        """
        future: Future[bytes] = self.loop.create_future()
        leader = self._leader(future)
        limit = self.config.command_bytes_max
        if len(command) > limit:
            fail(future, Refused(f"the command has {len(command)} bytes, the limit is {limit}: split it"))
        elif leader is not None:
            leader.propose(command, future)
        return future

    def read(self) -> Future[int]:
        """A linearizable read may look at the state once this is done; it has the index that can be read (R14).

        Fails with NotLeader.
        """
        future: Future[int] = self.loop.create_future()
        leader = self._leader(future)
        if leader is not None:
            leader.reads.add(future)
        return future

    # -------------------------------------------------------------- for operators

    def transfer(self, target: int | None = None) -> Future[int]:
        """Hand the leadership over: to `target`, or to the voter that has most of the log. Done when it has left.

        Fails with Refused or TransferFailed.
        """
        future: Future[int] = self.loop.create_future()
        leader = self._leader(future)
        if leader is not None:
            others = [member for member in self.state.log.members.voters if member != self.member]
            if target is None and not others:
                fail(future, Refused(f"member {self.member} is the only voter"))
            elif target is None:
                leader.transfer(max(others, key=lambda member: leader.progress[member].match), future)
            else:
                leader.transfer(target, future)
        return future

    def add_member(self, member: int, address: str) -> Future[None]:
        """Done when it votes: a learner until it has started and caught up. Fails with Refused, OutcomeUnknown."""
        future: Future[None] = self.loop.create_future()
        leader = self._leader(future)
        if leader is not None:
            leader.membership.add(member, address, future)
        return future

    def remove_member(self, member: int) -> Future[None]:
        """Done when the configuration without it is committed. Fails with Refused, OutcomeUnknown."""
        future: Future[None] = self.loop.create_future()
        leader = self._leader(future)
        if leader is not None:
            leader.membership.remove(member, future)
        return future

    def status(self) -> Status:
        """As of now."""
        state, log = self.state, self.state.log
        role = state.state
        followers = {member: one.match for member, one in role.progress.items()} if isinstance(role, Leader) else {}
        return Status(
            member=self.member,
            role="leader" if self.leads else "candidate" if isinstance(role, Candidate) else "follower",
            term=state.term,
            leader=state.leader,
            cluster=state.cluster,
            members=log.members,
            base=log.base.index,
            last=log.last,
            durable=log.durable,
            commit=log.commit,
            applied=log.applied,
            visible=state.visible,
            followers=followers,
            proven=state.standing.settled,
            full=state.full,
            distrusted=state.filling.distrusted,
            counters=state.counters,
        )

    def _leader(self, future: Future[object] | Future[bytes] | Future[int] | Future[None]) -> Leader | None:
        role = self.state.state
        if isinstance(role, Leader) and not self._stopped:
            return role
        fail(future, NotLeader(self.member, self.state.leader))
        return None

    def suspect(self, why: str) -> None:
        """R24: a read or a scrub found a damaged row: give the tables up, if a leader can fill them again.

        A leader hands over first, to a follower that has answered lately and is not being filled itself. Without one
        the tables are the best there are: call again with `suspected` until that is "".
        """
        role, state = self.state.state, self.state
        if self._stopped or state.filling.distrusted:
            return
        self.suspected = why
        if not isinstance(role, Leader):
            if state.leader is not None and state.standing.settled:
                self.suspected = ""
                state.filling.distrust(why)
            return
        lately = self.loop.time() - self.config.step_down_interval
        able = [
            member
            for member in state.log.members.voters
            if (progress := role.progress.get(member)) and progress.heard >= lately and not progress.refills
        ]
        if able and role.successor is None:
            handed = self.transfer(max(able, key=lambda member: role.progress[member].match))
            handed.add_done_callback(lambda done: done.exception())

    def forget_entry(self, index: int) -> None:
        """R24: a damaged entry of the log that is applied is needed by none: trim the log up to it."""
        log = self.state.log
        if not self._stopped and log.base.index < index <= log.applied and not self.state.filling.distrusted:
            self.state.trim(index)

    # -------------------------------------------------------------- for the transport

    def receive(self, envelope: Envelope, message: Message) -> None:
        """A decoded message of a peer; the transport has checked that it is the sender's."""
        if self._stopped:
            return
        if isinstance(message, Clock):
            if envelope.cluster == self.state.cluster:
                self.time.hear(envelope.sender, envelope.incarnation, message)
            return
        self.request_handler(Received(envelope, message))

    def peer_lost(self, member: int) -> None:
        """The connection to a peer broke, and the next attempt failed too."""
        if not self._stopped:
            self.state.state.on_peer_lost(member)

    # -------------------------------------------------------------- for the store

    def on_applied(self, applied: int, results: Mapping[int, bytes]) -> None:
        """See Observer."""
        if not self._stopped:
            self.state.state.on_applied(results)

    def on_durable(self, ticket: int) -> None:
        """See Observer."""
        if not self._stopped:
            self.state.on_durable(ticket)

    def on_state_damaged(self, why: str, *, distrusted: bool) -> None:
        """See Observer."""
        if distrusted and not self._stopped:
            self.suspected = ""
            self.state.filling.distrust(why)
        else:
            self.suspect(why)

    def on_failure(self, error: Exception, *, full: bool) -> None:
        """See Observer. A full disk acknowledges nothing, so it leads nobody until there is space (D5 of the bus)."""
        if self._stopped:
            return
        state = self.state
        if full:
            state.full = True
            if isinstance(state.state, Leader):
                state.to_follower()
            self.loop.call_later(RESUME_SECONDS, self._resume)
        else:
            self._stopped = True
            self.time.stop()
            state.stop()
            self._on_failure(error)

    def _resume(self) -> None:
        if not self._stopped:
            self.store.resume()
