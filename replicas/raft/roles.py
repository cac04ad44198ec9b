"""What the roles share, and the follower: raftos' Follower, with handlers of ours (R21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from replicas.raft import library
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    InstallSnapshot,
    InstallSnapshotResponse,
    RequestVote,
    RequestVoteResponse,
    StateLost,
    TimeoutNow,
)
from replicas.raft.timer import Timer
from sequencer.errors import require
from store.raft_contract import Install, Staged

if TYPE_CHECKING:
    from replicas.raft.state import State


class Role(library.BaseState):
    """One of the three. `state` is what outlives it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = state.log

    def start(self) -> None:
        """It is the role now."""

    def stop(self) -> None:
        """It is the role no more: no timer of it runs, nothing waits for it."""

    # -------------------------------------------------------------- what every role answers

    def on_receive_request_vote(self, envelope: Envelope, message: RequestVote) -> None:
        """Raft figure 2 (R4), of this term; or a pre-vote, for which nothing changes (R18)."""
        state = self.state
        log = self.log
        up_to_date = (message.last_log_term, message.last_log_index) >= (log.last_term, log.last)
        if message.pre_vote:
            granted = up_to_date and message.term > state.term and not state.protects_leader()
            term = message.term if granted else state.term
            state.send(envelope.sender, RequestVoteResponse(term, granted, pre_vote=True))
            return
        granted = up_to_date and state.voted_for in {None, message.candidate_id}
        if granted:
            state.vote(message.candidate_id)
            self.voted()
        # R3: the answer waits for the vote to be durable.
        state.respond(envelope.sender, RequestVoteResponse(state.term, granted, pre_vote=False))

    def voted(self) -> None:
        """A vote was given to somebody."""

    # -------------------------------------------------------------- what only some roles are sent

    def on_receive_request_vote_response(self, envelope: Envelope, message: RequestVoteResponse) -> None:
        """Of an election that is over."""

    def on_receive_append_entries(self, envelope: Envelope, message: AppendEntries) -> None:
        """A leader of this term, which the state makes a follower's business."""

    def on_receive_append_entries_response(self, envelope: Envelope, message: AppendEntriesResponse) -> None:
        """Of a leadership that is over."""

    def on_receive_install_snapshot(self, envelope: Envelope, message: InstallSnapshot) -> None:
        """As `on_receive_append_entries`."""

    def on_receive_install_snapshot_response(self, envelope: Envelope, message: InstallSnapshotResponse) -> None:
        """Of a leadership that is over."""

    def on_receive_timeout_now(self, envelope: Envelope, message: TimeoutNow) -> None:
        """For a follower."""

    def on_receive_state_lost(self, envelope: Envelope, message: StateLost) -> None:
        """For a leader."""

    # -------------------------------------------------------------- what happens beside messages

    def on_flushed(self) -> None:
        """New entries were handed to the disk."""

    def on_synced(self) -> None:
        """More of the log is durable, or more of the state can be read."""

    def on_applied(self, results: Mapping[int, bytes]) -> None:
        """Commands were applied."""

    def on_peer_lost(self, member: int) -> None:
        """The connection to a peer broke and could not be made again at once."""

    def on_peer_heard(self, envelope: Envelope) -> None:
        """A peer that starts said Hello."""


class Follower(Role, library.Follower):
    """Answers candidates and leaders; becomes a candidate when it hears neither."""

    def __init__(self, state: State) -> None:
        Role.__init__(self, state)
        self.election_timer = Timer(state.election_interval, self.start_election, state.loop)

    def start(self) -> None:
        """raftos would forget the vote here (R3)."""
        self.election_timer.start()

    def stop(self) -> None:
        """No election any more."""
        self.election_timer.stop()

    def start_election(self) -> None:
        """raftos', for those whose vote counts."""
        if self.state.may_campaign():
            super().start_election()

    def voted(self) -> None:
        self.election_timer.reset()

    def on_receive_timeout_now(self, envelope: Envelope, message: TimeoutNow) -> None:
        """Thesis 3.10: an election without a pre-vote, which the other followers do not refuse."""
        if self.state.may_campaign():
            self.state.transferring = True
            super().start_election()

    def on_peer_lost(self, member: int) -> None:
        """A killed leader is noticed in milliseconds: its machine closes the connection."""
        if member == self.state.leader:
            self.state.lost_leader()
            self.election_timer.start_in(self.state.election_interval())

    # -------------------------------------------------------------- the log

    def on_receive_append_entries(self, envelope: Envelope, message: AppendEntries) -> None:
        """Raft figure 2, AppendEntries 2-5. An answer claims only what is durable (R8)."""
        state, log = self.state, self.log
        self._heard(message.leader_id)
        state.filling.ask(envelope.sender)
        prev = message.prev_log_index
        term = log.term_at(prev)
        if prev > log.last or (term is not None and term != message.prev_log_term):
            require(prev > log.commit, "the leader's log lacks what is committed", prev, log.commit)
            conflict = 0 if term is None else term
            at = log.last + 1 if term is None else max(log.first_of_term(prev), log.commit + 1)
            state.respond(
                envelope.sender,
                AppendEntriesResponse(state.term, False, 0, message.request_id, prev, conflict, at),
            )
            return
        self._append(message)
        matched = prev + len(message.entries)
        if message.commit_index > log.commit:
            state.commit_to(max(log.commit, min(message.commit_index, matched)))
        if message.entries and log.durable < matched:
            state.after(state.touch(), lambda: self._fits(envelope.sender, message, matched))
        else:  # a heartbeat is answered at once, whatever the disk is at
            self._fits(envelope.sender, message, min(matched, log.durable))

    def _fits(self, sender: int, message: AppendEntries, last_index: int) -> None:
        """`last_index` may be below `prev_log_index`: then it is what is durable."""
        response = AppendEntriesResponse(
            message.term,
            True,
            last_index,
            message.request_id,
            message.prev_log_index,
            0,
            0,
        )
        self.state.respond(sender, response)

    def _append(self, message: AppendEntries) -> None:
        """R9, R10: an entry is replaced only where its term differs from the sent one's."""
        state, log = self.state, self.log
        for place, entry in enumerate(message.entries):
            if entry.index <= log.base.index:
                continue  # applied and trimmed here: committed
            present = log.term_at(entry.index)
            if present == entry.term:
                continue
            if present is not None:
                state.cut(entry.index)
            state.append(message.entries[place:])
            return

    # -------------------------------------------------------------- a snapshot

    def on_receive_install_snapshot(self, envelope: Envelope, message: InstallSnapshot) -> None:
        """R15. A chunk is staged, durably, in order; the last one installs. An older snapshot changes nothing."""
        state, log = self.state, self.log
        self._heard(message.leader_id)
        if log.term_at(message.base.index) == message.base.term:
            state.commit_to(max(log.commit, message.base.index))
        refill = state.filling.may_refill(message.base)
        if message.base.index <= log.commit and not refill:
            if not state.filling.distrusted:  # else a newer one is asked for
                self._staged(envelope.sender, message, message.count)
            return
        staged = state.filling.staged_of(message.snapshot)
        if message.index != staged:
            self._staged(envelope.sender, message, state.filling.staged_durable)
            return
        if not state.store.chunk_fits(message.snapshot, message.index, message.data):
            state.counters["chunk_damaged"] += 1
            return
        state.filling.stage(Staged(message.snapshot, message.index, message.data))
        if staged + 1 == message.count:
            state.filling.install(Install(message.snapshot, message.base, refill))
        state.after(state.touch(), lambda: self._staged(envelope.sender, message, staged + 1))

    def _staged(self, sender: int, message: InstallSnapshot, next_index: int) -> None:
        response = InstallSnapshotResponse(message.term, message.snapshot, next_index, message.request_id)
        self.state.respond(sender, response)

    def _heard(self, leader: int) -> None:
        state = self.state
        require(state.leader in {None, leader}, "two leaders in one term", state.term, state.leader, leader)
        state.heard_leader(leader)
        self.election_timer.reset()
