"""raftos' Leader: sends the log, counts who holds it, commits, confirms reads, hands over."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from typing import TYPE_CHECKING

from replicas.raft import library
from replicas.raft.errors import NotLeader, OutcomeUnknown, Overloaded, Refused, TransferFailed
from replicas.raft.futures import fail
from replicas.raft.membership import Membership
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    InstallSnapshotResponse,
    StateLost,
    TimeoutNow,
)
from replicas.raft.progress import Progress
from replicas.raft.reads import Reads
from replicas.raft.roles import Role
from replicas.raft.sending import SnapshotSender
from replicas.raft.timer import Timer
from sequencer.quorum import majority, quorum_end
from store.raft_contract import Entry, Kind

if TYPE_CHECKING:
    from replicas.raft.state import State


class Leader(Role, library.Leader):
    """`request_id` counts rounds: a message carries the newest, its answer says that the follower followed after it was
    sent. A quorum of such answers confirms the leadership: for reads (R14), and against the step-down timer (R18)."""

    def __init__(self, state: State) -> None:
        Role.__init__(self, state)
        config = state.config
        self.heartbeat_timer = Timer(config.heartbeat_interval, self.heartbeat, state.loop)
        self.step_down_timer = Timer(config.step_down_interval, state.to_follower, state.loop)
        self.transfer_timer = Timer(config.election_interval[1], self._keep, state.loop)
        self.request_id = 0
        self.confirmed = 0  # the newest round that a quorum answered
        self.progress: dict[int, Progress] = {}
        self.waiting: dict[int, tuple[Future[bytes], int]] = {}  # by index: who waits for the answer, bytes
        self.waiting_bytes = 0
        self.reads = Reads(self)
        self.membership = Membership(self)
        self.snapshots = SnapshotSender(self)
        self.successor: int | None = None
        self.handing_over: Future[int] | None = None

    def start(self) -> None:
        """R13: a no-op opens the term, and commits what older terms left."""
        self.membership.follow()
        self.state.append([Entry(self.log.last + 1, self.state.term, Kind.NOOP, b"")])
        self.heartbeat_timer.start()
        self.step_down_timer.start()
        self.heartbeat()

    def stop(self) -> None:
        """What was proposed may still be committed by another leader (R12)."""
        for timer in (self.heartbeat_timer, self.step_down_timer, self.transfer_timer):
            timer.stop()
        unknown = f"member {self.state.id} leads no more"
        for future, _ in self.waiting.values():
            fail(future, OutcomeUnknown(unknown))
        self.waiting.clear()
        refused = NotLeader(self.state.id, None)
        self.reads.fail(refused)
        self.membership.fail(OutcomeUnknown(unknown))
        if self.handing_over is not None and not self.handing_over.done():
            self.handing_over.set_result(self.successor or 0)

    # -------------------------------------------------------------- commands

    def propose(self, command: bytes, future: Future[bytes]) -> None:
        """Append a command; the future has the state machine's result once it is applied (R12)."""
        state = self.state
        limit = state.config.proposed_bytes_max
        if self.successor is not None:
            fail(future, NotLeader(state.id, None))
        elif self.waiting_bytes + len(command) > limit:
            fail(future, Overloaded(self.waiting_bytes, limit))
        else:
            index = self.log.last + 1
            self.waiting[index] = (future, len(command))
            self.waiting_bytes += len(command)
            state.append([Entry(index, state.term, Kind.COMMAND, command)])

    def on_applied(self, results: Mapping[int, bytes]) -> None:
        for index, result in results.items():
            found = self.waiting.pop(index, None)
            if found is not None:
                future, size = found
                self.waiting_bytes -= size
                if not future.done():
                    future.set_result(result)
        if self.successor is not None:
            self._hand_over()

    @property
    def term_opened(self) -> bool:
        """An entry of this term is committed, so `commit` is as new as any answer of an older leader (thesis 6.4)."""
        return self.may_commit(self.log.commit)

    # -------------------------------------------------------------- sending

    def heartbeat(self) -> None:
        """A round by the clock: what was lost is sent again."""
        silent_since = self.state.loop.time() - self.state.config.step_down_interval
        for member, progress in self.progress.items():
            progress.asked = False
            if progress.heard < silent_since:
                self.state.contacts.say_hello(member)  # its log may lack the entry that made this one a member
        self.begin_round()
        for member, progress in self.progress.items():
            self.snapshots.beat(member, progress)
        self.membership.tend()

    def begin_round(self) -> None:
        """Ask everybody whether they still follow."""
        self.request_id += 1
        for member, progress in self.progress.items():
            if not self._send_entries(member, progress):
                self._send_none(member, progress)
        self._confirm()

    def on_flushed(self) -> None:
        """R8, R11: the entries leave while the own disk syncs them."""
        for member, progress in self.progress.items():
            self._send_entries(member, progress)

    def _send_entries(self, member: int, progress: Progress) -> bool:
        """As many batches as there is room for; False if none left."""
        log, config = self.log, self.state.config
        sent = False
        while progress.next <= log.last and progress.may_send(config.inflight_bytes_max):
            if progress.next <= log.base.index:  # whether it needs a snapshot, its answer says
                progress.next = log.base.index + 1
            entries = tuple(log.entries(progress.next, config.append_bytes_max))
            if not entries:
                break
            self._send(member, progress.next - 1, entries)
            progress.sent(entries[-1].index, sum(entry.size_bytes for entry in entries))
            sent = True
        return sent

    def _send_none(self, member: int, progress: Progress) -> None:
        self._send(member, max(progress.next - 1, self.log.base.index), ())

    def _send(self, member: int, prev: int, entries: tuple[Entry, ...]) -> None:
        state, log = self.state, self.log
        term = log.term_at(prev)
        assert term is not None, "prev is in the log, or its base"
        state.send(member, AppendEntries(state.term, state.id, prev, term, entries, log.commit, self.request_id))

    # -------------------------------------------------------------- answers

    def answering(self, envelope: Envelope, request_id: int) -> Progress | None:
        """The follower that answers; V0 of the bus: another disk than before holds nothing of what was acknowledged."""
        progress = self.progress.get(envelope.sender)
        if progress is not None:
            if progress.storage != envelope.storage:
                progress.another_disk(envelope.storage)
            progress.round = max(progress.round, request_id)
            progress.heard = self.state.loop.time()
        return progress

    def on_receive_append_entries_response(self, envelope: Envelope, message: AppendEntriesResponse) -> None:
        progress = self.answering(envelope, message.request_id)
        if progress is None:
            return
        if message.success:
            progress.fits(message.last_log_index)
            self.snapshots.fits(progress)
            self.update_commit_index()
        elif (
            progress.differs(message.prev_log_index, self._next_after(message))
            and message.prev_log_index <= self.log.base.index
        ):
            self.snapshots.begin(envelope.sender, progress)
        self._confirm()
        self._send_entries(envelope.sender, progress)
        self.membership.tend()
        if self.successor is not None:
            self._hand_over()

    def _next_after(self, message: AppendEntriesResponse) -> int:
        """Thesis 5.3: one message for each term that differs, not one for each entry."""
        if message.conflict_term:
            last = self.log.last_of_term(message.conflict_term)
            if last is not None:
                return last + 1
        return message.conflict_index

    def on_receive_install_snapshot_response(self, envelope: Envelope, message: InstallSnapshotResponse) -> None:
        progress = self.answering(envelope, message.request_id)
        if progress is not None:
            self.snapshots.answered(envelope.sender, progress, message)
            self._confirm()
            self._send_entries(envelope.sender, progress)

    def on_receive_state_lost(self, envelope: Envelope, message: StateLost) -> None:
        """R24: a follower is to be filled again."""
        progress = self.progress.get(envelope.sender)
        if progress is not None and progress.storage == envelope.storage:
            self.snapshots.refill(envelope.sender, progress, message.base)

    def on_peer_heard(self, envelope: Envelope) -> None:
        """A member with another disk than the one that was known: it is sent everything again."""
        if self.answering(envelope, 0) is not None:
            self.membership.tend()

    # -------------------------------------------------------------- counting

    def counted(self, values: dict[int, int], own: int) -> int:
        """The highest value that a quorum of the voters reached; of a voter's disk, and of no other (V0 of the bus)."""
        members, me = self.log.members, self.state
        for member in members.voters:
            progress = self.progress.get(member)
            if member == me.id:
                values[member] = own if members.is_voter(me.id, me.storage) else 0
            elif progress is None or not members.is_voter(member, progress.storage):
                values[member] = 0
        voters = members.voters
        return quorum_end(values, voters, majority(voters)) if voters else 0

    def on_synced(self) -> None:
        self.update_commit_index()
        self.reads.visible()

    def update_commit_index(self) -> None:
        """Raft 5.4.2: by counting only an entry of this term, and all before with it. R8: what is synced counts."""
        reached = self.counted({member: one.match for member, one in self.progress.items()}, self.log.durable)
        if reached > self.log.commit and self.may_commit(reached):
            self.state.commit_to(reached)
            self.reads.ask()
            self.membership.tend()

    def may_commit(self, index: int) -> bool:
        """Not what an older leader left: another one may still replace it (Raft figure 8)."""
        term: int = self.state.term
        return self.log.term_at(index) == term

    def _confirm(self) -> None:
        """A quorum follows since this round was sent."""
        confirmed = self.counted({member: one.round for member, one in self.progress.items()}, self.request_id)
        if confirmed > self.confirmed:
            self.confirmed = confirmed
            self.step_down_timer.reset()
            self.reads.confirmed(confirmed)

    # -------------------------------------------------------------- handing over

    def transfer(self, target: int, future: Future[int]) -> None:
        """Take no command any more, and make `target` lead once everything is committed, answered, and on its disk."""
        members = self.log.members
        progress = self.progress.get(target)
        if self.successor is not None:
            fail(future, Refused(f"the leadership is on its way to member {self.successor}"))
        elif progress is None or not members.is_voter(target, progress.storage):
            fail(future, Refused(f"member {target} is no voter that answers: name one of {members.voters}"))
        else:
            self.successor, self.handing_over = target, future
            self.transfer_timer.start()
            self._hand_over()

    def _hand_over(self) -> None:
        assert self.successor is not None
        progress = self.progress.get(self.successor)
        if progress is not None and progress.match == self.log.last == self.log.commit and not self.waiting:
            self.state.send(self.successor, TimeoutNow(self.state.term))

    def _keep(self) -> None:
        """Thesis 3.10: after an election timeout the old leader goes on."""
        self.transfer_timer.stop()
        if self.handing_over is not None:
            fail(self.handing_over, TransferFailed(f"member {self.successor} did not take the leadership over"))
        self.successor = self.handing_over = None
