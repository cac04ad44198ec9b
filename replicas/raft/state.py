"""What outlives the roles: term and vote, the log, the leader, and the one order in which things reach the disk.

Deviations from Raft's figure 2, each with its row of docs/raft.md: pre-vote and check-quorum (R18), the leader's own
disk counts when it is synced and not before it sends (R8), a voter is a disk (`standing`), one write a turn.

Order: a step changes memory and the pending write; at the end of the turn the write goes to the disk, whole; what
claims that something is durable waits for its ticket (`after`, `respond`), all else leaves at once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from replicas.raft import library
from replicas.raft.candidate import Candidate
from replicas.raft.contacts import Contacts
from replicas.raft.filling import Filling
from replicas.raft.leader import Leader
from replicas.raft.log import Log
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    Found,
    Hello,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    StateLost,
    TimeoutNow,
    Welcome,
)
from replicas.raft.roles import Follower, Role
from replicas.raft.standing import GENESIS_TERM, Standing
from sequencer.errors import require
from sequencer.quorum import majority
from store.raft_contract import (
    NO_BASE,
    NO_INCARNATION,
    Base,
    Entry,
    HardState,
    Incarnation,
    Recovered,
    Write,
)

if TYPE_CHECKING:
    from replicas.raft.node import RaftNode

U64_BITS = 64
_NEW = Recovered(None, NO_BASE, 0, 0, (), ())
_OF_LEADER = (AppendEntries, InstallSnapshot)
_ASKS = (RequestVote, AppendEntries, InstallSnapshot)


class Received(NamedTuple):
    """A message and who said it."""

    envelope: Envelope
    message: Message

    @property
    def sender(self) -> int:
        """The member's id."""
        return self.envelope.sender


class State(library.State):
    """One member's (R17: nothing here is the class's). raftos changes the roles: `_change_state` stops one, starts the
    next; its transitions are the three `to_` methods."""

    follower_class: type[Follower] = Follower
    candidate_class: type[Candidate] = Candidate
    leader_class: type[Leader] = Leader

    def __init__(self, server: RaftNode) -> None:
        self.server = server
        self.id = server.member
        self.config, self.loop, self.random = server.config, server.loop, server.random
        self.store, self.transport, self.founders = server.store, server.transport, server.founders
        self.counters: Counter[str] = Counter()
        recovered = self.store.recover(server)
        self.hard = recovered.hard or self._new_disk()
        self.log = Log(recovered, self.store, self.config.cache_bytes_max)
        self.visible = recovered.applied  # the state can be read up to here
        self.pending = Write(1)
        self.durable_ticket = 0
        self.hard_ticket = 0  # of the newest hard state
        self.full = False
        self.transferring = False  # the next election was asked for by the leader
        self._planned = False
        self._waiting: deque[tuple[int, Callable[[], object]]] = deque()
        self.readable: deque[tuple[int, int]] = deque()  # (ticket, visible once it is durable)
        self._leader_heard = float("-inf")
        self._lost_until = float("-inf")
        self.leader: int | None = None
        self.standing = Standing(self)
        self.contacts = Contacts(self)
        self.filling = Filling(self, recovered.distrusted)
        self.state: Role = self.follower_class(self)

    def _new_disk(self) -> HardState:
        return HardState(0, self.random.getrandbits(U64_BITS), NO_INCARNATION, 0, None, ())

    def start(self) -> None:
        """Nothing leaves before the new incarnation is durable."""
        counter = self.hard.incarnation.counter + 1
        self.save(self.hard._replace(incarnation=Incarnation(counter, self.random.getrandbits(U64_BITS))))
        self.transport.connect(self.addresses)
        self.state.start()
        standing = self.standing
        self.after(self.hard_ticket, lambda: standing.start() if standing is self.standing else None)

    def stop(self) -> None:
        """Silent from here on."""
        self.state.stop()
        self.standing.stop()
        self.contacts.stop()

    # -------------------------------------------------------------- facts

    @property
    def cluster(self) -> int:
        """0: blank."""
        return self.hard.cluster

    @property
    def storage(self) -> int:
        """The disk's name: what a vote belongs to."""
        return self.hard.storage

    @property
    def incarnation(self) -> Incarnation:
        """This start of the disk."""
        return self.hard.incarnation

    @property
    def term(self) -> int:
        """Raft's currentTerm."""
        return self.hard.term

    @property
    def voted_for(self) -> int | None:
        """In this term (R3)."""
        return self.hard.voted_for

    @property
    def addresses(self) -> dict[int, str]:
        """Whom to be connected to."""
        return self.contacts.addresses

    @property
    def peers(self) -> tuple[int, ...]:
        """Ids of the other members."""
        return tuple(self.addresses)

    def is_majority(self, count: int) -> bool:
        """R6: of all voters of the newest configuration, this member included."""
        return count >= majority(self.log.members.voters)

    def may_campaign(self) -> bool:
        """Whether its own vote would count."""
        return (
            self.standing.settled
            and not self.full
            and not self.filling.distrusted
            and self.log.members.is_voter(self.id, self.storage)
        )

    # -------------------------------------------------------------- roles

    def to_follower(self) -> None:
        leads = isinstance(self.state, Leader)
        self._change_state(self.follower_class)
        if leads:
            self.leader = None
            self.config.on_follower()

    def lead_no_more(self) -> None:
        """Nor ask to."""
        if not isinstance(self.state, Follower):
            self.to_follower()

    def to_candidate(self) -> None:
        self.leader = None
        self._change_state(self.candidate_class)

    def to_leader(self) -> None:
        self.leader = self.id
        self.counters["led"] += 1
        self._change_state(self.leader_class)
        self.config.on_leader()

    def heard_leader(self, leader: int) -> None:
        """An AppendEntries or InstallSnapshot of this term came."""
        self.leader = leader
        self._leader_heard = self.loop.time()
        self._lost_until = float("-inf")

    def lost_leader(self) -> None:
        """The connection to the leader broke: for one election timeout elections are begun soon."""
        self._leader_heard = float("-inf")
        self._lost_until = self.loop.time() + self.config.step_down_interval

    def protects_leader(self) -> bool:
        """R18, check-quorum: who has heard a leader within the least election timeout helps nobody to depose it."""
        if self.leader == self.id:
            return True
        return self.leader is not None and self.loop.time() - self._leader_heard < self.config.step_down_interval

    def election_interval(self) -> float:
        """Drawn anew for each election."""
        lost = self.loop.time() < self._lost_until
        return self.random.uniform(*(self.config.peer_lost_interval if lost else self.config.election_interval))

    # -------------------------------------------------------------- messages

    def send(self, member: int, message: Message) -> None:
        """At once: it claims nothing that is not durable."""
        hard = self.hard
        self.transport.send(member, Envelope(hard.cluster, self.id, hard.storage, hard.incarnation), message)

    def respond(self, member: int, message: Message) -> None:
        """Once term and vote are durable (R3); not at all if the term has gone on, for the asker knows by then."""
        term = self.term
        self.after(self.hard_ticket, lambda: self.send(member, message) if self.term == term else None)

    def request_handler(self, data: Received) -> None:
        """R22: what may come is the table below."""
        envelope, message = data
        if isinstance(message, Hello):
            if envelope.cluster in {0, self.cluster} or self.cluster == 0:
                self.standing.on_hello(envelope, message)
                self.state.on_peer_heard(envelope)
        elif isinstance(message, Welcome):
            self.standing.on_welcome(envelope, message)
        elif isinstance(message, Found):
            self.standing.on_found(envelope, message)
        elif not self.standing.proven:
            self.counters["dropped_unproven"] += 1
            self.contacts.say_hello(envelope.sender)  # a member of today, where those that this disk knows may be gone
        elif self._of_cluster(envelope, message) and self._of_term(envelope, message):
            HANDLERS[type(message)](self.state, envelope, message)

    def _of_cluster(self, envelope: Envelope, message: Message) -> bool:
        """A blank member follows the first leader that sends it the log."""
        if envelope.cluster == self.cluster != 0:
            return True
        if self.cluster == 0 and envelope.cluster != 0 and isinstance(message, _OF_LEADER):
            self.save(self.hard._replace(cluster=envelope.cluster))
            return True
        self.counters["dropped_cluster"] += 1
        return False

    def _of_term(self, envelope: Envelope, message: Message) -> bool:
        """Raft figure 2, rules for all servers (R4): a higher term makes a follower, a lower one is told the higher."""
        term: int = message.term  # type: ignore[union-attr]
        asks = isinstance(message, _ASKS)
        if term > self.term:
            if isinstance(message, RequestVote | RequestVoteResponse) and message.pre_vote:
                if asks or message.vote_granted:  # type: ignore[union-attr]
                    return True  # of a term that nobody has begun
            elif isinstance(message, RequestVote) and not message.transfer and self.protects_leader():
                return False
            self.raise_term(term, None)
            self.to_follower()
        elif term < self.term:
            if asks:
                self._tell_term(envelope.sender, message)
            return False
        if isinstance(message, _OF_LEADER) and not isinstance(self.state, Follower):
            require(not isinstance(self.state, Leader), "two leaders in one term", term, self.id, envelope.sender)
            self.to_follower()
        return True

    def _tell_term(self, member: int, message: Message) -> None:
        if isinstance(message, RequestVote):
            self.respond(member, RequestVoteResponse(self.term, vote_granted=False, pre_vote=message.pre_vote))
        else:
            self.respond(member, AppendEntriesResponse(self.term, False, 0, 0, 0, 0, 0))

    # -------------------------------------------------------------- term and vote

    def raise_term(self, term: int, voted_for: int | None) -> int:
        """R3: the vote is reset here, and nowhere else. Returns the ticket that makes it durable."""
        require(term > self.term, "R3: terms only rise", term, self.term)
        self.leader = None
        return self.save(self.hard._replace(term=term, voted_for=voted_for))

    def vote(self, candidate: int) -> None:
        """For a candidate of this term."""
        require(self.voted_for in {None, candidate}, "R3: one vote in a term", self.term, self.voted_for, candidate)
        if self.voted_for is None:
            self.save(self.hard._replace(voted_for=candidate))

    def join(self, cluster: int, base: Base) -> None:
        """The cluster is new, and this disk one of its first (V0 of the bus)."""
        self.save(self.hard._replace(cluster=cluster, term=GENESIS_TERM, voted_for=None))
        self.log.restart(base)
        self.pending.found = base
        self.readable.append((self.pending.ticket, base.index))
        self.transport.connect(self.addresses)

    def become_new_disk(self) -> None:
        """A peer has met a later state of this disk: it was put back, and what it acknowledged since is lost (V0)."""
        self.counters["rolled_back"] += 1
        self.pending = Write(self.pending.ticket, wipe=True)
        self.log = Log(_NEW, self.store, self.config.cache_bytes_max)
        self.visible = 0
        self.filling = Filling(self, "")
        self.readable.clear()
        self.standing.stop()
        self.standing = Standing(self)
        self.contacts = Contacts(self)
        self.hard = self._new_disk()
        self.leader = None
        self.to_follower()
        self.start()

    # -------------------------------------------------------------- the log

    def append(self, entries: Sequence[Entry]) -> None:
        """Add to the log."""
        before = self.log.members_index
        self.log.append(entries)
        self.pending.append.extend(entries)
        self.touch()
        if self.log.members_index != before:
            self.transport.connect(self.addresses)

    def cut(self, first: int) -> None:
        """R9: entries that conflict with the leader's; none of them is committed."""
        self.log.cut(first)
        pending = self.pending
        pending.append = [entry for entry in pending.append if entry.index < first]
        pending.cut = first if pending.cut is None else min(first, pending.cut)
        self.transport.connect(self.addresses)
        self.touch()

    def commit_to(self, index: int) -> None:
        """Raft's commitIndex: what is below is applied, in this order, once."""
        if index > self.log.commit:
            log = self.log
            require(index <= log.last, "a commit beyond the log", index, log.last)
            before = log.committed_members
            log.commit = index
            self.contacts.committed(before)
            self.touch()

    # -------------------------------------------------------------- the disk

    def save(self, hard: HardState) -> int:
        """Write the hard state; returns its ticket."""
        self.hard = hard
        self.pending.hard = hard
        self.hard_ticket = self.touch()
        return self.hard_ticket

    def touch(self) -> int:
        """The ticket of the pending write, which leaves at the end of this turn."""
        if not self._planned:
            self._planned = True
            self.loop.call_soon(self._flush)
        return self.pending.ticket

    def after(self, ticket: int, callback: Callable[[], object]) -> None:
        """Call back when the ticket is durable; at once if it is."""
        if ticket <= self.durable_ticket:
            callback()
        else:
            self._waiting.append((ticket, callback))

    def _flush(self) -> None:
        self._planned = False
        write, log = self.pending, self.log
        self._apply_committed(write)
        self._trim_applied(write)
        self.pending = Write(write.ticket + 1)
        log.submitted(write.ticket)
        self.state.on_flushed()  # R8: what is sent does not wait for this disk
        self.store.submit(write)
        if log.applied < log.commit and not self.filling.distrusted:
            self.touch()

    def _apply_committed(self, write: Write) -> None:
        log = self.log
        if log.applied < log.commit and not self.filling.distrusted:
            write.apply = list(log.entries(log.applied + 1, self.config.apply_bytes_max, log.commit + 1))
            log.applied = write.apply[-1].index
            self.readable.append((write.ticket, log.applied))

    def _trim_applied(self, write: Write) -> None:
        """R15: the tables are the snapshot, so what is applied needs no log but for those that lag a little."""
        log, kept = self.log, self.config.log_entries_kept
        if self.filling.distrusted or log.applied - log.base.index <= 2 * kept:
            return
        index = log.applied - kept
        if isinstance(self.state, Leader):
            needed = self.state.snapshots.needed_from()
            if needed is not None and needed < index:
                return
        write.trim = log.base_at(index)
        log.trim(write.trim)

    def trim(self, index: int) -> None:
        """Now, whoever lags: then a snapshot is what it gets."""
        self.pending.trim = self.log.base_at(index)
        self.log.trim(self.pending.trim)
        self.touch()

    def on_durable(self, ticket: int) -> None:
        """See Observer."""
        self.durable_ticket = ticket
        self.full = False
        self.log.synced(ticket)
        while self.readable and self.readable[0][0] <= ticket:
            self.visible = self.readable.popleft()[1]
        while self._waiting and self._waiting[0][0] <= ticket:
            self._waiting.popleft()[1]()
        self.state.on_synced()


#: R22: message -> the role's handler. None is found by a name that came from outside.
HANDLERS: dict[type, Callable[..., None]] = {
    RequestVote: lambda role, *received: role.on_receive_request_vote(*received),
    RequestVoteResponse: lambda role, *received: role.on_receive_request_vote_response(*received),
    AppendEntries: lambda role, *received: role.on_receive_append_entries(*received),
    AppendEntriesResponse: lambda role, *received: role.on_receive_append_entries_response(*received),
    InstallSnapshot: lambda role, *received: role.on_receive_install_snapshot(*received),
    InstallSnapshotResponse: lambda role, *received: role.on_receive_install_snapshot_response(*received),
    StateLost: lambda role, *received: role.on_receive_state_lost(*received),
    TimeoutNow: lambda role, *received: role.on_receive_timeout_now(*received),
}
