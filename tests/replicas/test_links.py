"""Connections follow the members: whom a replica connects to, whom it forgets, and what it tells of itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.peer import Link, PeerEndpoints
from replicas.bus import links as links_module
from replicas.bus.directory import Addresses, Introduced, pack_info
from replicas.bus.links import STRANGER_S, STRANGERS_MAX, TRY_S, Links
from replicas.bus.peer_codec import PeerCodec
from replicas.bus.shell import Shell
from sequencer.types import Configuration
from tests.replicas.test_directory import addresses
from tests.replicas.test_shell import Opener, until


class Transport:
    """Who is connected to, and what was sent."""

    def __init__(self) -> None:
        self.where: dict[int, PeerEndpoints] = {}
        self.links: dict[int, Link] = {}
        self.sent: list[tuple[int, Any]] = []

    @property
    def peers(self) -> tuple[int, ...]:
        return tuple(self.where)

    @property
    def connected(self) -> tuple[int, ...]:
        return tuple(member for member in self.where if self.link(member) is Link.UP)

    def link(self, member: int) -> Link:
        return self.links.get(member, Link.UNKNOWN)

    def add(self, member: int, endpoints: PeerEndpoints) -> None:
        self.where[member] = endpoints

    def remove(self, member: int) -> None:
        del self.where[member]

    def send(self, to: int, frames: list[bytes]) -> bool:
        self.sent.append((to, PeerCodec(0, 9).decode(frames)))
        return True

    def broadcast(self, frames: list[bytes]) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is open."""


class Clock:
    """The loop's time, moved by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    """A cluster of one that serves, with a played transport."""
    found = Opener(tmp_path / "data").open()
    played: Any = Transport()
    found.transport = played
    await until(found.core.in_quorum)
    yield found
    found.close(5.0)


@pytest.fixture
def transport(shell: Shell) -> Transport:
    found: Any = shell.transport
    assert isinstance(found, Transport)
    return found


@pytest.fixture
async def links(shell: Shell) -> Links:
    return Links(shell, lambda: None)


def said(shell: Shell, member: int, host: str = "host") -> Introduced:
    return Introduced(shell.cluster(), member, ((member, addresses(host)),))


async def test_who_says_where_it_is_is_connected_to_and_answered(
    shell: Shell, links: Links, transport: Transport
) -> None:
    links.introduced(said(shell, 4, "four"))
    assert transport.where == {4: PeerEndpoints("tcp://four:1", "tcp://four:2")}
    links.introduced(said(shell, 4, "moved"))
    assert transport.where == {4: PeerEndpoints("tcp://moved:1", "tcp://moved:2")}
    transport.links[4] = Link.UP
    links.introduced(said(shell, 4, "twin"))  # a second process with this id takes nothing away from the first
    assert transport.where == {4: PeerEndpoints("tcp://moved:1", "tcp://moved:2")}
    assert shell.counters["introduction_refused"] == 1
    links.introduced(Introduced(0, 5, ((5, addresses("blank")),)))
    assert set(transport.where) == {4, 5}
    shell.directory.learn(1, addresses("own"))
    links.found(4)
    ((to, frame),) = transport.sent
    own = Addresses("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://own:3", "tcp://own:4", "http://own:5")
    assert (to, frame) == (4, Introduced(shell.cluster(), 1, ((1, own),)))


async def test_another_cluster_and_too_many_strangers_are_not_spoken_with(
    shell: Shell, links: Links, transport: Transport
) -> None:
    links.introduced(Introduced(shell.cluster() + 1, 4, ((4, addresses("foreign")),)))
    assert transport.where == {}
    for member in range(10, 10 + STRANGERS_MAX + 3):
        links.introduced(said(shell, member))
    assert len(transport.where) == STRANGERS_MAX
    assert shell.counters["introduction_refused"] == 4


async def test_a_stranger_that_is_gone_is_forgotten(
    shell: Shell, links: Links, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = Clock()
    monkeypatch.setattr(links, "_loop", clock)
    links.introduced(said(shell, 4))
    links.introduced(said(shell, 5))
    transport.links[4] = Link.UP
    clock.now += STRANGER_S + 1
    links.review()
    assert set(transport.where) == {4}
    assert shell.directory.of(5) is None
    transport.links[4] = Link.DOWN
    links.review()
    assert transport.where == {}


async def test_a_member_is_connected_to_where_the_log_says_and_dropped_when_it_is_none(
    shell: Shell, links: Links, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = Clock()
    monkeypatch.setattr(links, "_loop", clock)
    others: list[int] = [2, 3]
    monkeypatch.setattr(type(shell.core), "others", property(lambda _: others))
    monkeypatch.setattr(type(shell.core), "everyone", property(lambda _: (1, *others)))
    links.configured(Configuration((1, 2, 3), 7, pack_info([(2, addresses("two"))])))
    assert transport.where == {2: PeerEndpoints("tcp://two:1", "tcp://two:2")}  # nobody knows where 3 is
    links.introduced(said(shell, 3))
    assert set(transport.where) == {2, 3}
    others.remove(2)
    transport.links[2] = Link.UP
    links.review()
    clock.now += STRANGER_S + 1
    links.review()
    assert set(transport.where) == {2, 3}  # it may have to be told still that it is removed
    transport.links[2] = Link.DOWN
    links.review()
    assert set(transport.where) == {3}


class Members:
    """The core's part: who is a member, who is heard, and what they say of each other."""

    def __init__(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others = [2, 3]
        self.hears_me: set[int] = set()
        self.unheard_by: dict[int, list[int]] = {}
        core = type(shell.core)
        monkeypatch.setattr(core, "others", property(lambda _: self.others))
        monkeypatch.setattr(core, "everyone", property(lambda _: (1, *self.others)))
        monkeypatch.setattr(core, "hears_me", lambda _, member: member in self.hears_me)
        monkeypatch.setattr(core, "unheard_by", lambda _, member: self.unheard_by.get(member, []))


@pytest.fixture
def members(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Members:
    """A cluster of three."""
    return Members(shell, monkeypatch)


def relayed(shell: Shell, sender: int, member: int, host: str) -> Introduced:
    return Introduced(shell.cluster(), sender, ((member, addresses(host)),))


async def test_a_member_is_sought_in_each_place_that_is_known_until_it_hears_us(
    shell: Shell, links: Links, transport: Transport, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log, or a file, may be wrong; another member knows where it is, of its own word."""
    clock: Any = Clock()
    monkeypatch.setattr(links, "_loop", clock)
    wrong, right = (PeerEndpoints(f"tcp://{host}:1", f"tcp://{host}:2") for host in ("wrong", "right"))
    links.configured(Configuration((1, 2, 3), 7, pack_info([(3, addresses("wrong"))])))
    clock.now += 2 * TRY_S
    links.review()
    assert transport.where[3] == wrong  # the only place that is known
    links.introduced(relayed(shell, 2, 3, "right"))
    seen = set()
    for _ in range(10):
        clock.now += TRY_S / 2
        links.review()
        seen.add(transport.where[3])
    assert seen == {wrong, right}
    while transport.where[3] != right:
        clock.now += TRY_S / 2
        links.review()
    members.hears_me.add(3)
    for _ in range(10):
        clock.now += TRY_S
        links.review()
        assert transport.where[3] == right
    found = shell.directory.of(3)
    assert found is not None
    assert (found.peer, found.client) == ("tcp://right:1", "tcp://right:3")  # what a change of members would say
    members.hears_me.clear()
    links.review()
    assert transport.where[3] == right  # it is tried again where it was before it is sought elsewhere


async def test_only_members_say_where_other_members_are(
    shell: Shell, links: Links, transport: Transport, members: Members
) -> None:
    links.introduced(relayed(shell, 9, 3, "stranger's"))
    links.introduced(relayed(shell, 2, 1, "ourselves"))
    links.introduced(relayed(shell, 2, 8, "no member"))
    assert transport.where == {}
    assert shell.directory.places(1) == [PeerEndpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")]
    links.introduced(relayed(shell, 2, 3, "three"))
    assert transport.where == {3: PeerEndpoints("tcp://three:1", "tcp://three:2")}


async def test_a_member_is_told_where_those_are_that_it_does_not_hear(
    shell: Shell, transport: Transport, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of their own word only: what somebody else said, or a file, may be what is wrong."""
    monkeypatch.setattr(links_module, "REVIEW_S", 0.001)
    links = Links(shell, lambda: None)
    links.introduced(said(shell, 2, "two"))
    links.introduced(relayed(shell, 2, 3, "heard of"))
    members.unheard_by = {2: [3], 3: [2]}
    transport.links = {2: Link.UP, 3: Link.UP}
    running = asyncio.create_task(links.run())
    await until(lambda: bool(transport.sent))
    running.cancel()
    assert set(transport.sent) == {(3, Introduced(shell.cluster(), 1, ((2, addresses("two")),)))}


async def test_info_of_another_program_changes_nothing(shell: Shell, links: Links, transport: Transport) -> None:
    links.introduced(said(shell, 4))
    links.configured(Configuration((1, 4), 7, b"\xc1"))
    assert set(transport.where) == {4}


async def test_who_is_in_no_ring_says_where_it_is_until_it_is_dismissed(
    shell: Shell, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    dismissed: list[bool] = []
    monkeypatch.setattr(type(shell.core), "in_ring", property(lambda _: False))
    monkeypatch.setattr(type(shell.core), "dismissed", property(lambda _: bool(dismissed)))
    monkeypatch.setattr(links_module, "REVIEW_S", 0.001)
    ended: list[bool] = []
    links = Links(shell, lambda: ended.append(True))
    links.introduced(said(shell, 4))
    transport.links[4] = Link.UP
    running = asyncio.create_task(links.run())
    await until(lambda: len(transport.sent) > 1)
    assert not ended
    dismissed.append(True)
    await running
    assert ended == [True]
