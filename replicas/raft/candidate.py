"""raftos' Candidate: first it asks whether it could win (R18), then it raises the term and asks for votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicas.raft import library
from replicas.raft.messages import Envelope, RequestVote, RequestVoteResponse
from replicas.raft.roles import Role
from replicas.raft.timer import Timer

if TYPE_CHECKING:
    from replicas.raft.state import State


class Candidate(Role, library.Candidate):
    """Counts voters, not answers (R5): each once, of this term, of the disk that the configuration names."""

    def __init__(self, state: State) -> None:
        Role.__init__(self, state)
        self.election_timer = Timer(state.election_interval, self.begin, state.loop)
        self.pre_vote = True
        self.transfer = state.transferring
        self.votes: set[int] = set()

    def start(self) -> None:
        """A transfer goes without asking: the leader asked for it."""
        self.election_timer.start()
        if self.transfer:
            self.elect()
        else:
            self.begin()

    def stop(self) -> None:
        """The election is over."""
        self.state.transferring = False
        self.election_timer.stop()

    def begin(self) -> None:
        """Ask whether this member would be elected; again, when an election brought nobody."""
        if not self.state.may_campaign():
            self.state.to_follower()
            return
        self.pre_vote, self.transfer = True, False
        self.votes = set()
        self.request_vote()
        self.count(self.state.id)

    def elect(self) -> None:
        """Raise the term; R3: nobody hears of it before it is durable, with the vote for itself."""
        state = self.state
        state.counters["elections"] += 1
        self.pre_vote = False
        self.votes = set()
        self.election_timer.start_in(state.random.uniform(*state.config.election_interval))
        term = state.term + 1
        ticket = state.raise_term(term, state.id)
        state.after(ticket, lambda: self._elect(term))

    def _elect(self, term: int) -> None:
        if self.state.state is self and self.state.term == term and not self.pre_vote:
            self.request_vote()
            self.count(self.state.id)

    def request_vote(self) -> None:
        """To every voter but itself."""
        state, log = self.state, self.log
        term = state.term + 1 if self.pre_vote else state.term
        message = RequestVote(term, state.id, log.last, log.last_term, self.pre_vote, self.transfer)
        for member in log.members.voters:
            if member != state.id:
                state.contacts.say_hello(member)  # whose log may lack the entry that made this one a member
                state.send(member, message)

    def on_receive_request_vote_response(self, envelope: Envelope, message: RequestVoteResponse) -> None:
        wanted = self.state.term + 1 if self.pre_vote else self.state.term
        asked = message.pre_vote == self.pre_vote and message.term == wanted
        if asked and message.vote_granted and self.log.members.is_voter(envelope.sender, envelope.storage):
            self.count(envelope.sender)

    def count(self, voter: int) -> None:
        """R5, R6: a majority of all voters."""
        self.votes.add(voter)
        if self.state.state is self and self.state.is_majority(len(self.votes)):
            if self.pre_vote:
                self.elect()
            else:
                self.state.to_leader()
