"""Connections follow the members (V12): a replica speaks with whom its view and its log name, and with who wants to.

Each replica says to every peer that it connects to where it is reached itself. So a newcomer, whose file names the
members, is heard and answered by them before anybody adds it; one that was asleep while others took over finds them,
because they find it; and every replica can tell its clients of all others.
"""

import asyncio
from collections.abc import Callable

from broker.peer import Link, PeerEndpoints
from replicas.bus.directory import Introduced
from replicas.bus.shell import Shell
from ringcast.errors import BadFrame
from sequencer.types import Configuration

REVIEW_S = 0.2
#: Newcomers, and members of the past, that are spoken with at once; a stranger may claim any id.
STRANGERS_MAX = 8
#: One that is neither connected nor heard of for so long is forgotten.
STRANGER_S = 5.0


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

    def found(self, member: int) -> None:
        """The connection to a peer stands: say where we are ourselves."""
        self._shell.peer_found(member)
        self._shell.introduce(member)

    def introduced(self, event: Introduced) -> None:
        """A peer says where it is; one of another cluster, or who takes another's id, is not spoken with."""
        shell, member = self._shell, event.sender
        foreign = 0 not in (event.cluster, shell.cluster()) and event.cluster != shell.cluster()
        stranger = member not in shell.core.everyone and member not in self._strangers
        if foreign or self._is_twin(event) or (stranger and len(self._strangers) >= STRANGERS_MAX):
            shell.counters["introduction_refused"] += 1
            return
        shell.directory.learn(member, event.addresses)
        if member not in shell.core.everyone:
            self._strangers[member] = self._loop.time()
        self.review()

    def _is_twin(self, event: Introduced) -> bool:
        """The connection to a member of this id stands, and it leads elsewhere: a second process has its id."""
        transport, known = self._shell.transport, self._shell.directory.of(event.sender)
        if transport is None or known is None or event.sender not in transport.connected:
            return False
        said = self._shell.directory.placed(event.sender, event.addresses)
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
            addresses = shell.directory.of(member)
            if addresses is not None:
                transport.add(member, PeerEndpoints(addresses.peer, addresses.pub))
            elif member not in self._nowhere:
                self._nowhere.add(member)
                shell.log.warning("member_without_address", peer=member, next="name it in [peers], or wait for it")

    async def run(self) -> None:
        """Look again and again; who is in no ring may have to be found by those who are."""
        shell = self._shell
        while not shell.core.dismissed:
            self.review()
            if shell.gateway is not None and shell.core.view is not None:
                shell.gateway.tell_members(shell.directory.endpoints(shell.core.members))
            if not shell.core.in_ring and shell.transport is not None:
                for member in shell.transport.connected:
                    shell.introduce(member)
            await asyncio.sleep(REVIEW_S)
        self._on_dismissed()
