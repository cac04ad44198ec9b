"""Whether this disk may take part: V0 and D6 of the bus, for Raft (docs/raft.md, "A voter is a disk").

blank      in no cluster yet. When all that the file names are blank, the one with the lowest id founds a cluster and
           names every disk of them; else a leader lets it in.
unproven   started, and not enough peers have said what they know of this disk. It neither votes nor acknowledges. A
           peer that knows a newer incarnation has met a later state of it: it was put back, so it is a new disk.
proven     takes part; what its vote is worth, the configuration says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicas.raft.messages import Envelope, Found, Hello, Welcome
from replicas.raft.timer import Timer
from sequencer.quorum import majority
from store.raft_contract import NO_INCARNATION, Base, Member, Members

if TYPE_CHECKING:
    from replicas.raft.state import State

#: The first configuration stands below the first entry.
GENESIS_INDEX = 1
GENESIS_TERM = 1
KNOWN_MAX = 64


class Standing:
    """`proven` never goes back, but with the disk."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.proven = False
        self._welcomes: set[int] = set()
        self._blanks: dict[int, int] = {}  # member -> storage, of those that said they are blank
        self._timer = Timer(state.config.heartbeat_interval, self._hello, state.loop)

    def start(self) -> None:
        """The incarnation is durable: nothing left in its name before."""
        self._timer.start()
        self._hello()
        self._welcomed()

    def stop(self) -> None:
        """No Hello any more."""
        self._timer.stop()

    @property
    def alone_lost(self) -> bool:
        """D6: this disk was set aside, and with those that are blank too so were, or are new, a majority's."""
        state = self._state
        blanks = len(self._blanks.keys() & state.founders.keys()) + 1
        return state.server.lost and state.cluster == 0 and blanks >= majority(tuple(state.founders))

    @property
    def settled(self) -> bool:
        """Proven, and in a cluster."""
        return self.proven and self._state.cluster != 0

    def _hello(self) -> None:
        if self.settled:
            self._timer.stop()
            return
        for member in self._state.peers:
            self._state.contacts.say_hello(member)

    def on_hello(self, envelope: Envelope, message: Hello) -> None:
        """Remember the incarnation, durably, then say what was known before."""
        state = self._state
        state.contacts.met(envelope.sender, message.address)
        known = dict(state.hard.known)
        before = known.get(envelope.storage, NO_INCARNATION)
        if envelope.incarnation.counter > before.counter:
            known.pop(envelope.storage, None)
            known[envelope.storage] = envelope.incarnation
            state.save(state.hard._replace(known=tuple(known.items())[-KNOWN_MAX:]))
        state.after(state.hard_ticket, lambda: state.send(envelope.sender, Welcome(envelope.storage, before)))
        if envelope.cluster == 0:
            self._blanks[envelope.sender] = envelope.storage
            self._found_or_tell(envelope)

    def _found_or_tell(self, envelope: Envelope) -> None:
        state = self._state
        base = state.log.base
        if state.cluster == 0:
            self._found()
        elif base.index == GENESIS_INDEX and base.members.is_voter(envelope.sender, envelope.storage):
            state.send(envelope.sender, Found(base))

    def on_welcome(self, envelope: Envelope, message: Welcome) -> None:
        """Of the own cluster, or of a blank member, which has nothing to say: two lost disks are too many anyway."""
        state = self._state
        clusters = {state.cluster, envelope.cluster}
        if self.proven or message.storage != state.storage or (0 not in clusters and len(clusters) > 1):
            return
        if message.known.counter > state.incarnation.counter or (
            message.known.counter == state.incarnation.counter and message.known != state.incarnation
        ):
            state.become_new_disk()
            return
        self._welcomes.add(envelope.sender)
        self._welcomed()

    def _welcomed(self) -> None:
        """A majority with it answered; whoever they are, for its own configuration may be an old one."""
        state = self._state
        voters = state.log.members.voters or tuple(state.founders)
        if not self.proven and len(self._welcomes) + 1 >= majority(voters):
            self.proven = True
            self._found()
            state.transport.connect(state.addresses)

    def _found(self) -> None:
        """Every member of the file is blank, as it says itself; and none has a lower id than this one."""
        state = self._state
        heard = self._blanks.keys() | {state.id}
        if (
            state.cluster != 0
            or state.server.lost  # D6: a cluster that it forgot may be there, or have to be brought back
            or not self.proven
            or not heard >= state.founders.keys()
            or state.id != min(state.founders)
        ):
            return
        storages = {**self._blanks, state.id: state.storage}
        members = Members(
            Member(member, storages[member], voter=True, address=address)
            for member, address in sorted(state.founders.items())
        )
        base = Base(GENESIS_INDEX, GENESIS_TERM, members)
        state.join(state.random.getrandbits(63) | 1, base)
        for member in state.peers:
            state.after(state.hard_ticket, lambda to=member: state.send(to, Found(base)))  # type: ignore[misc]

    def on_found(self, envelope: Envelope, message: Found) -> None:
        """The cluster was founded with this disk in it."""
        state = self._state
        if (
            state.cluster == 0
            and self.proven
            and not state.server.lost
            and message.base.members.is_voter(state.id, state.storage)
        ):
            state.join(envelope.cluster, message.base)
