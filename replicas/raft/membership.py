"""Changes of members: one at a time through the log, each one voter more or less, so that majorities meet (R16).

Thesis 4.1 with the correction of 2015: none before an entry of the leader's own term is committed. A newcomer is a
learner until it has caught up (4.2.1). A voter whose disk is another one now (wiped, damaged, put back) comes in the
same way: its old disk leaves the configuration, then the new one joins it.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING

from replicas.raft.errors import ChangeRefused
from replicas.raft.futures import fail
from replicas.raft.messages import TimeoutNow
from replicas.raft.progress import Progress
from sequencer.quorum import majority
from store.raft_contract import Entry, Kind, Member, Members
from store.raft_members import MEMBERS_MAX, encode_members

if TYPE_CHECKING:
    from replicas.raft.leader import Leader


class Membership:
    """The leader's. Futures are done when a committed configuration is what was asked for."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._wanted: list[tuple[Callable[[Members], bool], Future[None]]] = []

    def follow(self) -> None:
        """Send the log to the members of the newest configuration, and to those that must hear that they are none."""
        leader = self._leader
        ids = ({member.id for member in leader.log.members} | leader.state.contacts.leaving) - {leader.state.id}
        leader.progress = {
            member: leader.progress.get(member) or Progress(leader.log.last + 1) for member in sorted(ids)
        }

    def add(self, member: int, address: str, future: Future[None]) -> None:
        """Let a member in, as a learner first. One that is a member at this address already is waited for."""
        members = self._leader.log.members
        found = members.find(member)
        if found is not None and found.address != address:
            why = f"member {member} is one already, at {found.address}"
            fail(future, ChangeRefused(why, "remove it first to give it another address"))
        elif found is not None:
            self._await(lambda now: member in now.voters, future)
        elif len(members) >= MEMBERS_MAX:
            fail(future, ChangeRefused(f"there are {len(members)} members, the limit is {MEMBERS_MAX}", "remove one"))
        else:
            wanted = members.with_(Member(member, 0, voter=False, address=address))
            self._begin(wanted, lambda now: member in now.voters, future)

    def remove(self, member: int, future: Future[None]) -> None:
        """Let a member go; the leader itself hands over. One that is none, or no more, is no error."""
        members = self._leader.log.members
        if members.find(member) is None:
            self._await(lambda now: now.find(member) is None, future)
        elif not members.without(member).voters:
            fail(future, ChangeRefused(f"member {member} is the only voter", "add another one first"))
        else:
            self._begin(members.without(member), lambda now: now.find(member) is None, future)

    def fail(self, error: Exception) -> None:
        """This leader does not learn what became of the changes."""
        for _, future in self._wanted:
            fail(future, error)
        self._wanted.clear()

    @property
    def settled(self) -> bool:
        """No change is on its way, and what older leaders changed is known to be committed or gone."""
        leader = self._leader
        return leader.log.members_index <= leader.log.commit and leader.term_opened and leader.successor is None

    def _await(self, holds: Callable[[Members], bool], future: Future[None]) -> None:
        """It is in the log already: done when it is committed."""
        self._wanted.append((holds, future))
        self.tend()

    def _begin(self, members: Members, holds: Callable[[Members], bool], future: Future[None]) -> None:
        if not self.settled:
            why = "another change is on its way, or the term is not open yet"
            fail(future, ChangeRefused(why, "ask again in a moment", passes=True))
        elif not self._works(members):
            fail(future, ChangeRefused(f"of voters {members.voters} too few answer now", "start them first"))
        else:
            self._wanted.append((holds, future))
            self._change(members)

    def _works(self, members: Members) -> bool:
        """Whether a majority of the voters to be answers now, with the disks that count: else nothing would commit."""
        leader = self._leader
        state = leader.state
        since = state.loop.time() - state.config.step_down_interval
        answering = [
            member
            for member in members.voters
            if (member == state.id and members.is_voter(member, state.storage))
            or (
                (progress := leader.progress.get(member)) is not None
                and progress.heard >= since
                and members.is_voter(member, progress.storage)
            )
        ]
        return len(answering) >= majority(members.voters)

    def _change(self, members: Members) -> None:
        """In force from here on (thesis 4.1)."""
        leader = self._leader
        state, log = leader.state, leader.log
        state.append([Entry(log.last + 1, state.term, Kind.MEMBERS, encode_members(members))])
        self.follow()

    def tend(self) -> None:
        """Once the last change is committed: answer it, go if it was this leader's removal, else the next step."""
        leader = self._leader
        state, log = leader.state, leader.log
        if not self.settled or state.state is not leader:
            return
        members = log.members
        self._answer(members)
        if not members.is_voter(state.id, state.storage):
            heir = max(members.voters, key=lambda member: leader.progress[member].match)
            state.send(heir, TimeoutNow(state.term))
            state.to_follower()
            return
        for member in members:
            progress = leader.progress.get(member.id)
            if progress is None or not self._caught_up(progress):
                continue
            if not member.voter:
                wanted = members.with_(member._replace(storage=progress.storage, voter=True))
            elif member.storage != progress.storage:
                wanted = members.with_(member._replace(storage=0, voter=False))
            else:
                continue
            if self._works(wanted):
                self._change(wanted)
                return

    def _answer(self, members: Members) -> None:
        for holds, future in self._wanted:
            if holds(members) and not future.done():
                future.set_result(None)
        self._wanted = [(holds, future) for holds, future in self._wanted if not future.done()]

    def _caught_up(self, progress: Progress) -> bool:
        leader = self._leader
        near = leader.log.last - progress.match <= leader.state.config.catch_up_entries
        return progress.storage != 0 and progress.match > 0 and near
