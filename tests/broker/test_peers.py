"""The peer transport on real sockets: both ways, garbage, a peer that goes, one that does not read."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import zmq

from broker.peer import Link, PeerEndpoints
from broker.peers import PeerLimits, PeerTransport
from replicas.bus.addresses import free_ports
from ringcast.errors import BadFrame
from tests.client.names import name_server


class Codec:
    """Frames are events as they are; a header that is not made of small letters is refused, `own` is passed over."""

    def decode(self, frames: Sequence[bytes]) -> tuple[bytes, ...] | None:
        if frames[0].strip(b"abcdefghijklmnopqrstuvwxyz "):
            raise BadFrame(what="the header", value=repr(frames[0]), limit="small letters")
        return None if frames[0] == b"own" else tuple(frames)


class Member:
    """A transport with everything that it told."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        ports: dict[int, tuple[int, int]],
        own: int,
        *,
        host: str = "127.0.0.1",
        others: str = "127.0.0.1",
    ) -> None:
        """`others`: the host, or the name of the host, of all other members."""
        self.events: list[tuple[bytes, ...]] = []
        self.links: list[tuple[str, int]] = []
        peer, pub = (f"tcp://{host}:{port}" for port in ports[own])
        peers = {
            member: PeerEndpoints(f"tcp://{others}:{there[0]}", f"tcp://{others}:{there[1]}")
            for member, there in ports.items()
            if member != own
        }
        self.transport: PeerTransport[tuple[bytes, ...]] = PeerTransport(
            context,
            bind_peer=peer,
            bind_pub=pub,
            peers=peers,
            codec=Codec(),
            on_events=self.events.extend,
            on_peer_lost=lambda member: self.links.append(("lost", member)),
            on_peer_found=lambda member: self.links.append(("found", member)),
            limits=PeerLimits(peer_queue_max=10, frame_bytes_max=1 << 20),
        )


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, a bounded time."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail(f"not within 5 s: {what}")


@pytest.fixture
async def ports() -> dict[int, tuple[int, int]]:
    first, second, third, fourth = free_ports(4, "127.0.0.1")
    return {1: (first, second), 2: (third, fourth)}


@pytest.fixture
async def pair(ports: dict[int, tuple[int, int]]) -> AsyncIterator[tuple[Member, Member]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one, two = Member(context, ports, 1), Member(context, ports, 2)
    await until(lambda: one.transport.connected == (2,) and two.transport.connected == (1,), "connected")
    one.links.clear()
    two.links.clear()
    yield one, two
    one.transport.close()
    two.transport.close()
    context.destroy(linger=0)


async def test_frames_travel_both_ways(pair: tuple[Member, Member]) -> None:
    one, two = pair
    assert one.transport.send(2, [b"to two", b"payload", b""])
    await until(lambda: two.events == [(b"to two", b"payload", b"")], "a frame to one")
    two.events.clear()

    def publish() -> bool:  # the subscription may be on its way still; PUB frames may be lost (A8)
        one.transport.broadcast([b"to all"])
        return (b"to all",) in two.events

    await until(publish, "a frame to all")
    assert one.events == []


async def test_garbage_is_dropped_and_counted(pair: tuple[Member, Member]) -> None:
    """Docs/faults.md 38, 41."""
    one, two = pair
    with socket.create_connection(("127.0.0.1", int(two.transport.peer_endpoint.rpartition(":")[2]))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(range(256)))
        for frames in ([b"BAD"], [b"own"], [b"good"]):
            assert one.transport.send(2, frames)
        await until(lambda: two.events == [(b"good",)], "the good frame")
    assert two.transport.counters["dropped_bad_frame"] >= 1


async def test_an_oversized_frame_cuts_its_sender_only(pair: tuple[Member, Member]) -> None:
    """Docs/faults.md 40."""
    one, two = pair
    one.transport.send(2, [b"x" * (2 << 20)])
    await until(lambda: one.transport.send(2, [b"after"]) and (b"after",) in two.events, "a frame after the cut")
    assert ("lost", 2) not in one.links


async def test_a_peer_that_goes_is_lost_and_found_again(
    pair: tuple[Member, Member], ports: dict[int, tuple[int, int]]
) -> None:
    """V1: broken and not made again at once."""
    one, two = pair
    started = asyncio.get_running_loop().time()
    two.transport.close()
    await until(lambda: one.links[-1:] == [("lost", 2)], "lost")
    assert asyncio.get_running_loop().time() - started < 0.5
    assert one.transport.link(2) is Link.DOWN
    assert not one.transport.send(2, [b"nobody"])
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    again = Member(context, ports, 2)
    try:
        await until(lambda: one.links[-1:] == [("found", 2)], "found")
        await until(lambda: one.transport.send(2, [b"hello"]) and (b"hello",) in again.events, "a frame")
        assert (b"nobody",) not in again.events
    finally:
        again.transport.close()
        context.destroy(linger=0)


async def test_a_peer_that_goes_while_frames_leave_for_it_is_lost(pair: tuple[Member, Member]) -> None:
    """V1: a send may meet the broken connection before its monitor has told of it."""
    one, two = pair
    two.transport.close()
    deadline = time.monotonic() + 5
    while not one.transport.counters["peer_cut"]:  # the loop does not run, so the monitor is not read
        assert time.monotonic() < deadline
        one.transport.send(2, [b"frame"])
    await until(lambda: one.links == [("lost", 2)], "lost")


async def test_a_full_queue_cuts_the_peer_and_is_counted(ports: dict[int, tuple[int, int]]) -> None:
    """A9: a peer that does not read is cut, with what was queued; no frame is dropped in silence."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one = Member(context, ports, 1)
    deaf = context.socket(zmq.ROUTER)
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.bind(f"tcp://127.0.0.1:{ports[2][0]}")
    try:
        await until(lambda: one.transport.connected == (2,), "connected")
        payload = b"x" * (512 << 10)
        await until(lambda: not one.transport.send(2, [payload]), "a full queue")
        assert one.transport.counters["peer_cut"] == 1
        await until(lambda: one.transport.link(2) is Link.UP, "connected again")
    finally:
        one.transport.close()
        deaf.close(linger=0)
        context.destroy(linger=0)


async def test_a_peer_that_was_never_there_is_lost(ports: dict[int, tuple[int, int]]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one = Member(context, ports, 1)
    try:
        await until(lambda: one.links == [("lost", 2)], "lost")
        assert not one.transport.send(2, [b"x"])
        assert not one.transport.send(9, [b"x"])
        assert one.transport.counters == {"send_not_connected": 1, "send_unknown_member": 1}
    finally:
        one.transport.close()
        context.destroy(linger=0)


async def test_a_peer_is_added_moved_and_removed_while_others_go_on(pair: tuple[Member, Member]) -> None:
    """V12: the newcomer hears and is heard; the one that went hears nothing more, and nobody is told it is lost."""
    one, two = pair
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    moved, there = free_ports(4, "127.0.0.1"), {}
    for place, ports in (("first", moved[:2]), ("second", moved[2:])):
        there[place] = Member(context, {3: (ports[0], ports[1])}, 3)
    try:
        for place, member in there.items():
            endpoints = PeerEndpoints(member.transport.peer_endpoint, member.transport.pub_endpoint)
            one.transport.add(3, endpoints)
            one.transport.add(3, endpoints)
            await until(lambda: one.transport.send(3, [b"hello"]), f"connected to the {place} place")

            def heard(member: Member = member) -> bool:  # PUB frames may be lost (A8)
                member.transport.broadcast([b"to all"])
                return (b"to all",) in one.events and (b"hello",) in member.events

            await until(heard, f"heard at the {place} place")
            one.events.clear()
        assert one.links == [("found", 3), ("found", 3)]
        assert sorted(one.transport.peers) == [2, 3]
        one.transport.remove(3)
        one.transport.remove(3)
        assert not one.transport.send(3, [b"gone"])
        assert one.transport.peers == (2,)
        for member in there.values():
            member.transport.broadcast([b"to nobody"])
        assert two.transport.send(1, [b"still here"])
        await until(lambda: (b"still here",) in one.events, "the other peer")
        assert (b"to nobody",) not in one.events
        assert one.links == [("found", 3), ("found", 3)]
    finally:
        for member in there.values():
            member.transport.close()
        context.destroy(linger=0)


async def test_a_peer_is_found_by_name_and_again_where_the_name_means_another_address(
    monkeypatch: pytest.MonkeyPatch, ports: dict[int, tuple[int, int]]
) -> None:
    """docs/faults.md 53: a pod that comes back with another address."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with name_server(monkeypatch) as names:
        one = Member(context, ports, 1, others="bus-2")
        try:
            await until(lambda: one.transport.counters["name_not_found"] > 0, "a name that is not known yet")
            assert not one.transport.send(2, [b"too early"])
            assert one.links == [("lost", 2)]
            for address in ("127.0.0.1", "127.0.0.2"):
                names.numbers["bus-2"] = address
                await _meets_at(one, Member(context, ports, 2, host=address))
        finally:
            one.transport.close()
            context.destroy(linger=0)


async def _meets_at(one: Member, two: Member) -> None:
    """Frames go both ways, then the second one is gone."""
    try:
        await until(lambda: one.transport.connected == (2,) and two.transport.connected == (1,), "connected")
        assert one.transport.send(2, [b"here"])
        two.transport.broadcast([b"there"])
        await until(lambda: (b"here",) in two.events and (b"there",) in one.events, "frames both ways")
        one.events.clear()
    finally:
        two.transport.close()
    await until(lambda: one.transport.connected == (), "gone")


async def test_another_one_at_the_old_address_of_a_name_is_left_for_the_new_one(
    monkeypatch: pytest.MonkeyPatch, ports: dict[int, tuple[int, int]]
) -> None:
    """Without keys it is taken for the peer: containers that restart may get each other's addresses."""
    monkeypatch.setattr("broker.peers.LOOK_UP_TURNS_UP", 1)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with name_server(monkeypatch) as names:
        names.numbers["bus-2"] = "127.0.0.1"
        one, other = Member(context, ports, 1, others="bus-2"), Member(context, ports, 2)
        two = Member(context, ports, 2, host="127.0.0.2")
        try:
            await until(lambda: one.transport.connected == (2,), "connected to the other one")
            names.numbers["bus-2"] = "127.0.0.2"
            await until(lambda: one.transport.send(2, [b"here"]) and (b"here",) in two.events, "heard by the right one")
            assert one.transport.connected == (2,)
            two.transport.broadcast([b"there"])
            await until(lambda: (b"there",) in one.events, "and heard")
        finally:
            for member in (one, other, two):
                member.transport.close()
            context.destroy(linger=0)


async def test_a_name_that_nobody_answers_for_holds_no_other_peer_up(
    monkeypatch: pytest.MonkeyPatch, ports: dict[int, tuple[int, int]], pair: tuple[Member, Member]
) -> None:
    one, two = pair
    with name_server(monkeypatch) as names:
        names.silent.add("bus-3")
        one.transport.add(3, PeerEndpoints("tcp://bus-3:7101", "tcp://bus-3:7102"))
        await until(lambda: names.asked == ["bus-3"], "asked")
        assert one.transport.send(2, [b"here"])
        await until(lambda: (b"here",) in two.events, "the other peer")
        assert not one.transport.send(3, [b"where"])
        one.transport.remove(3)
        assert one.transport.peers == (2,)


READS_LATE = """
import asyncio, sys, time, zmq
from broker.peer import PeerEndpoints
from broker.peers import PeerTransport
from tests.broker.test_peers import Codec

async def main(own_peer, own_pub, peer, pub):
    events = []
    context, other = zmq.Context(), zmq.Context()
    publisher = other.socket(zmq.XPUB)
    publisher.setsockopt(zmq.SNDHWM, 0)
    publisher.bind(pub)
    transport = PeerTransport(
        context, bind_peer=own_peer, bind_pub=own_pub, peers={2: PeerEndpoints(peer, pub)}, codec=Codec(),
        on_events=events.extend, on_peer_lost=lambda _: None, on_peer_found=lambda _: None,
    )
    assert publisher.poll(5_000)
    for _ in range(2_000):
        publisher.send(bytes(10_000).replace(bytes(1), b"x"))
    time.sleep(0.2)  # the loop does not run: the receive queue is full
    other.destroy(linger=0)
    time.sleep(1.5)  # heartbeats are due
    while not events:
        await asyncio.sleep(0.01)
    transport.close()
    context.destroy(linger=0)
    print("alive", len(events))

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_peer_that_dies_while_nobody_reads_takes_nobody_with_it() -> None:
    """SocketLimits: libzmq's heartbeats, ours or the peer's, would abort this process."""
    endpoints = [f"tcp://127.0.0.1:{port}" for port in free_ports(4, "127.0.0.1")]
    command = [sys.executable, "-c", READS_LATE, *endpoints]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alive")
