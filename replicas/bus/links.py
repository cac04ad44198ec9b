"""Connections follow the members (V12): a replica speaks with whom its view and its log name, and with who wants to.

Each replica says to every peer that it connects to where it is reached itself. So a newcomer, whose file names the
members, is heard and answered by them before anybody adds it; one that was asleep while others took over finds them,
because they find it; and every replica can tell its clients of all others.

A member that says that it does not hear another one is told where that one is, by each that hears both. Where more than
one place is known of a member that was not reached, they are tried in turn: a wrong address in a file costs seconds.
"""

import asyncio
import random
from collections.abc import Callable

from broker.peer import Link, PeerEndpoints
from replicas.bus.directory import Addresses, Introduced, Relayed
from replicas.bus.shell import Shell
from ringcast.errors import BadFrame
from sequencer.types import Configuration

REVIEW_S = 0.2
#: Newcomers, and members of the past, that are spoken with at once; a stranger may claim any id.
STRANGERS_MAX = 8
#: One that is neither connected nor heard of for so long is forgotten.
STRANGER_S = 5.0
#: How often a member is told of those that it does not hear.
RELAY_S = 1.0
#: A place of a member that does not say that it hears us is tried for so long, or up to twice
#: as long: two that seek each other must not stay out of step.
TRY_S = 1.5


class Links:
    """Keeps a shell's transport at what is needed now. `run` it; `found` and `introduced` are called on the loop.

    `on_dismissed` is called once: the cluster goes on without this member for good.
    """

    def __init__(self, shell: Shell, on_dismissed: Callable[[], None]) -> None:
        self._shell = shell
        self._on_dismissed = on_dismissed
        self._loop = asyncio.get_running_loop()
        self._strangers: dict[int, float] = {}  # member -> when it was heard of
        self._nowhere: set[int] = set()  # members whose address nobody knows, as far as it was logged
        self._tried: dict[int, tuple[PeerEndpoints, float]] = {}  # member -> where it is sought now, and until when
        self._relayed_s = 0.0

    def found(self, member: int) -> None:
        """The connection to a peer stands: say where we are ourselves."""
        self._shell.peer_found(member)
        self._introduce(member)

    def _introduce(self, to: int) -> None:
        own = self._shell.directory.of(self._shell.config.id)
        if own is not None:
            self._shell.send_own(to, own)

    def introduced(self, event: Introduced) -> None:
        """A peer says where it is, or where others are; one of another cluster is not listened to."""
        shell = self._shell
        if 0 not in (event.cluster, shell.cluster()) and event.cluster != shell.cluster():
            shell.counters["introduction_refused"] += 1
            return
        for member, addresses in event.told:
            if member == event.sender:
                self._learn(member, addresses)
            elif event.sender in shell.core.everyone and member in shell.core.others:
                shell.directory.learn_relayed(member, addresses)
        self.review()

    def _learn(self, member: int, addresses: Addresses) -> None:
        """Of its own word; one that takes another's id is not spoken with."""
        shell = self._shell
        stranger = member not in shell.core.everyone and member not in self._strangers
        if self._is_twin(member, addresses) or (stranger and len(self._strangers) >= STRANGERS_MAX):
            shell.counters["introduction_refused"] += 1
            return
        shell.directory.learn(member, addresses)
        if member not in shell.core.everyone:
            self._strangers[member] = self._loop.time()

    def _is_twin(self, member: int, said: Addresses) -> bool:
        """The connection to a member of this id stands, and it leads elsewhere: a second process has its id."""
        transport, directory = self._shell.transport, self._shell.directory
        known = directory.of(member)
        if transport is None or known is None or member not in transport.connected or directory.in_file(member):
            return False
        return (said.peer, said.pub) != (known.peer, known.pub)

    def configured(self, configuration: Configuration) -> None:
        """A change took effect in the log: its info says where everybody was when it was asked for."""
        try:
            self._shell.directory.learn_info(configuration.info)
        except BadFrame as error:
            self._shell.log.warning("addresses_unreadable", members=configuration.members, why=str(error))
        self.review()

    def review(self) -> None:
        """Connect to whom we need, drop whom we do not."""
        shell, transport = self._shell, self._shell.transport
        assert transport is not None
        wanted = set(shell.core.others)
        for member in set(transport.peers) - wanted - self._strangers.keys():
            self._strangers[member] = self._loop.time()  # of the past; it may have to be told so still
        for member, since in list(self._strangers.items()):
            up = member in transport.peers and transport.link(member) is Link.UP
            if member in wanted:
                del self._strangers[member]
            elif not up and self._loop.time() - since > STRANGER_S:
                del self._strangers[member]
                transport.remove(member)
                shell.directory.forget(member)
        for member in wanted | self._strangers.keys():
            place = self._place(member)
            if place is not None:
                transport.add(member, place)
            elif member not in self._nowhere:
                self._nowhere.add(member)
                shell.log.warning("member_without_address", peer=member, next="name it in [peers], or wait for it")

    def _place(self, member: int) -> PeerEndpoints | None:
        """Where it was reached, else the likeliest place, and the next one after a while; None: nobody knows one."""
        directory, now = self._shell.directory, self._loop.time()
        places = directory.places(member)
        if not places:
            return None
        place, until = self._tried.get(member, (places[0], 0.0))
        if self._shell.core.hears_me(member):
            directory.learn_reached(member, place)
            until = 0.0
        elif place not in places:
            place, until = places[0], 0.0
        elif 0 < until <= now and len(places) > 1:
            place, until = places[(places.index(place) + 1) % len(places)], 0.0
            self._shell.log.info("member_sought_elsewhere", peer=member, at=place.peer)
        self._tried[member] = (place, until or now + TRY_S * random.uniform(1, 2))
        return place

    def _relay(self) -> None:
        """Tell members of those that they do not hear, and that we hear."""
        shell, now = self._shell, self._loop.time()
        if now - self._relayed_s < RELAY_S or shell.transport is None:
            return
        self._relayed_s = now
        for member in shell.transport.connected:
            told = shell.directory.first_hand(shell.core.unheard_by(member))
            if told:
                shell.send_own(member, Relayed(told))

    async def run(self) -> None:
        """Look again and again; who is in no ring may have to be found by those who are."""
        shell = self._shell
        while not shell.core.dismissed:
            self.review()
            if shell.gateway is not None and shell.core.view is not None:
                shell.gateway.tell_members(shell.directory.endpoints(shell.core.members))
            if not shell.core.in_ring and shell.transport is not None:
                for member in shell.transport.connected:
                    self._introduce(member)
            self._relay()
            await asyncio.sleep(REVIEW_S)
        self._on_dismissed()
