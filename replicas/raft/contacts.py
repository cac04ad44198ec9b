"""Whom a member is connected to: the configuration's, who has just left it, who says where it is, and at the start the
file's (R16)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from replicas.raft.leader import Leader
from replicas.raft.messages import Hello
from store.raft_contract import Members
from store.raft_members import MEMBERS_MAX

if TYPE_CHECKING:
    from replicas.raft.state import State


class Contacts:
    """Whoever is being removed is one until that is committed, and an election timeout longer: else a leader that
    removes itself would hear no acknowledgement of it, and others would never learn that they are gone."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._met: dict[int, str] = {}  # of its own word: the log here may be older than its membership
        self._left: dict[int, str] = {}  # id -> address of those whose removal was committed a moment ago

    @property
    def addresses(self) -> dict[int, str]:
        """Of the other members: the configuration's, and the file's while this one is none of them, or not sure."""
        state, log = self._state, self._state.log
        known = (
            self._met | self._left | {member.id: member.address for member in (*log.committed_members, *log.members)}
        )
        if not state.standing.settled or state.id not in known:
            known = {**state.founders, **known}
        return {member: address for member, address in sorted(known.items()) if member != state.id}

    def say_hello(self, member: int) -> None:
        """And where this member is."""
        state = self._state
        own = state.log.members.find(state.id)
        state.send(member, Hello(state.founders.get(state.id, "") if own is None else own.address))

    def met(self, member: int, address: str) -> None:
        """A peer says where it is. Else a follower that lags could not answer a leader that came after its log."""
        if not address or member == self._state.id or member in self.addresses:
            return
        self._met.pop(member, None)
        self._met[member] = address
        if len(self._met) > MEMBERS_MAX:
            del self._met[next(iter(self._met))]
        self._state.transport.connect(self.addresses)

    @property
    def leaving(self) -> set[int]:
        """Members whose removal is not committed, or was a moment ago."""
        log = self._state.log
        return self._left.keys() | _gone(log.committed_members, log.members)

    def committed(self, before: Members) -> None:
        """The log is committed further; `before`: the configuration that was."""
        now = self._state.log.committed_members
        gone = _gone(before, now)
        for member in gone:
            self._met.pop(member, None)
        if gone:
            self._left |= {member.id: member.address for member in before if member.id in gone}
            self._state.loop.call_later(self._state.config.election_interval[1], self._part_from, gone)

    def _part_from(self, gone: Iterable[int]) -> None:
        state = self._state
        if state.contacts is not self or not self._left:
            return  # another disk, or stopped
        for member in gone:
            self._left.pop(member, None)
        if isinstance(state.state, Leader):
            state.state.membership.follow()
        state.transport.connect(self.addresses)

    def stop(self) -> None:
        """Nobody is parted from any more."""
        self._left.clear()


def _gone(before: Members, now: Members) -> set[int]:
    return {member.id for member in before} - {member.id for member in now}
