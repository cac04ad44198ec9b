"""The peer transport with keys: who may send as whom, on both ways in; rotation and revocation (faults 45-47)."""

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

from broker.peer import PeerEndpoints
from broker.peers import FrameDecoder, PeerTransport
from broker.security import Security
from broker.sockets import ZmqContext
from replicas.bus.peer_codec import Envelope, PeerCodec, encode
from replicas.keys import KeyFolder
from ringcast.errors import BadFrame
from sequencer import messages as m
from sequencer.types import Incarnation, ViewNumber
from tests.broker.clients import until


class Said(NamedTuple):
    """An event of this test."""

    sender: int
    what: bytes


class Codec:
    """Frames of one digit, the sender, and a text."""

    def decode(self, frames: Sequence[bytes]) -> Said:
        if not frames[0].isdigit():
            raise BadFrame(what="the sender", value=repr(frames[0]), limit="a digit")
        return Said(int(frames[0]), frames[1])


class Member:
    """A transport in a context of its own, as in a process."""

    def __init__(self, folder: Path, member: int, codec: FrameDecoder[Any] | None = None) -> None:
        self.context: ZmqContext = zmq.Context()
        self.security = Security(self.context, folder, "bus", member)
        self.events: list[Any] = []
        self.transport: PeerTransport[Any] = PeerTransport(
            self.context,
            bind_peer="tcp://127.0.0.1:*",
            bind_pub="tcp://127.0.0.1:*",
            peers={},
            codec=codec or Codec(),
            on_events=self.events.extend,
            on_peer_lost=lambda _: None,
            on_peer_found=lambda _: None,
            security=self.security,
        )

    @property
    def endpoints(self) -> PeerEndpoints:
        return PeerEndpoints(self.transport.peer_endpoint, self.transport.pub_endpoint)

    def close(self) -> None:
        self.transport.close()
        self.security.close()
        self.context.destroy(linger=0)


@pytest.fixture
async def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder.create(tmp_path / "keys", {"bus": [1, 2]})


@pytest.fixture
async def pair(keys: KeyFolder) -> AsyncIterator[tuple[Member, Member]]:
    one, two = Member(keys.folder, 1), Member(keys.folder, 2)
    one.transport.add(2, two.endpoints)
    two.transport.add(1, one.endpoints)
    await until(lambda: one.transport.connected == (2,) and two.transport.connected == (1,))
    yield one, two
    one.close()
    two.close()


def heard(sender: Member, to: Member, frames: list[bytes]) -> bool:
    """Send on both ways; True when it has come on both."""
    said = Said(int(frames[0]), frames[1])
    sender.transport.broadcast(frames)
    sender.transport.send(1 if sender.transport.peers == (1,) else 2, frames)
    return to.events.count(said) >= 2


async def test_frames_travel_both_ways(pair: tuple[Member, Member]) -> None:
    one, two = pair
    await until(lambda: heard(one, two, [b"1", b"hello"]))
    await until(lambda: heard(two, one, [b"2", b"hello"]))
    assert not one.transport.counters + two.transport.counters


async def test_a_member_cannot_speak_as_another(pair: tuple[Member, Member]) -> None:
    """Fault 46: on the ROUTER as on the SUB."""
    one, two = pair
    await until(lambda: heard(one, two, [b"1", b"first"]))
    dropped = two.transport.counters
    one.transport.send(2, [b"3", b"forged"])
    await until(lambda: dropped["dropped_foreign_sender"] == 1)
    one.transport.broadcast([b"3", b"forged"])
    await until(lambda: dropped["dropped_foreign_sender"] == 2)
    await until(lambda: heard(one, two, [b"1", b"last"]))
    assert not any(said.what == b"forged" for said in two.events)


async def test_whatever_a_member_sends_is_dropped_or_a_message_of_its_own(keys: KeyFolder) -> None:
    """Fault 38 behind a member's key: one that has gone mad, in the bus's frames, on both ways in."""
    draw = random.Random(38)
    one, two = Member(keys.folder, 1), Member(keys.folder, 2, PeerCodec(ring=0, member=2))
    one.transport.add(2, two.endpoints)
    two.transport.add(1, one.endpoints)
    await until(lambda: one.transport.connected == (2,) and two.transport.connected == (1,))
    envelope = Envelope(0, 1, Incarnation(4, 99))
    whole = [encode(envelope, 7, m.Read(5)), encode(envelope, 7, m.Installed(ViewNumber(3, 1)))]
    turns = itertools.count(1)

    def throw() -> bool:
        """One a turn: a PUB drops what its queue has no room for, and all as long as nobody has subscribed."""
        frames = [bytearray(frame) for frame in draw.choice(whole)]
        damaged = draw.choice(frames)
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        parts = [bytes(frame) for frame in frames] + [draw.randbytes(draw.randrange(40))] * draw.randrange(2)
        thrown = draw.choice([parts, [draw.randbytes(draw.randrange(1, 200))], [b"\xdd\xff\xff\xff\xff"]])
        one.transport.send(2, thrown)
        one.transport.broadcast(thrown)
        return next(turns) >= 400 and two.transport.counters["dropped_bad_frame"] > 400

    await until(throw)
    nonce = 1 << 40
    await until(lambda: one.transport.send(2, encode(envelope, 7, m.Read(nonce))) and _asked(two, nonce))
    assert {event.sender for event in two.events} == {1}
    one.close()
    two.close()


def _asked(member: Member, nonce: int) -> bool:
    return any(event.message == m.Read(nonce) for event in member.events)


async def test_a_member_that_is_not_on_the_list_is_let_in_when_it_is(keys: KeyFolder) -> None:
    """It was refused, which libzmq takes for final; the transport tries again."""
    one = Member(keys.folder, 1)
    strange = KeyFolder.create(keys.folder.parent / "strange", {"bus": [1, 2]})
    (strange.folder / "bus-2.key").replace(keys.folder / "bus-2.key")
    document = strange.owners()
    ours = {owner.name: owner.keys for owner in document}["bus-2"]
    listed = keys.folder / "keyring.json"
    before = listed.read_text()
    listed.write_text(before.replace(_keys(keys)["bus-2"][0], ours[0]))
    two = Member(keys.folder, 2)
    two.transport.add(1, one.endpoints)  # member 1 has read the list of before
    await until(lambda: two.transport.counters["handshake_refused"] >= 2)
    one.security.look()
    await until(lambda: two.transport.connected == (1,))
    one.transport.add(2, two.endpoints)
    await until(lambda: one.transport.connected == (2,))
    await until(lambda: heard(two, one, [b"2", b"hello"]))
    one.close()
    two.close()


def _keys(folder: KeyFolder) -> dict[str, tuple[str, ...]]:
    return {owner.name: owner.keys for owner in folder.owners()}


async def test_a_member_without_a_key_is_not_connected_to(pair: tuple[Member, Member], keys: KeyFolder) -> None:
    one, _ = pair
    one.transport.add(3, PeerEndpoints("tcp://127.0.0.1:9", "tcp://127.0.0.1:9"))
    assert (one.transport.peers, one.transport.counters["peer_without_key"]) == ((2,), 1)
    keys.add_member("bus", 3)
    one.security.look()
    one.transport.add(3, PeerEndpoints("tcp://127.0.0.1:9", "tcp://127.0.0.1:9"))
    assert one.transport.peers == (2, 3)


async def test_a_revoked_member_is_cut_on_every_way(pair: tuple[Member, Member], keys: KeyFolder) -> None:
    one, two = pair
    await until(lambda: heard(two, one, [b"2", b"before"]))
    await until(lambda: heard(one, two, [b"1", b"before"]))
    keys.revoke("bus-2")
    one.security.look()
    assert one.security.counters["cut"] == 2  # its DEALER's connection and its SUB's
    assert one.transport.peers == ()
    one.events.clear()
    await until(lambda: one.security.all_counters()["refused_revoked"] > 0)
    two.transport.send(1, [b"2", b"after"])
    two.transport.broadcast([b"2", b"after"])
    assert one.events == []


async def test_a_revoked_member_that_was_silent_subscribes_to_nothing(
    pair: tuple[Member, Member], keys: KeyFolder
) -> None:
    """Its connection stands since before, and nobody knew whose it is until it says something."""
    one, two = pair
    own, server = two.security.secrets.member, one.security.secrets.member
    assert own is not None
    assert server is not None
    silent = two.context.socket(zmq.SUB)
    for option, value in own.dials(server.public).items():
        silent.setsockopt(option, value)
    monitor = silent.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    silent.connect(one.transport.pub_endpoint)
    await until(lambda: bool(monitor.poll(0)))
    keys.revoke("bus-2")
    one.security.look()
    silent.setsockopt(zmq.SUBSCRIBE, b"")
    await until(lambda: one.transport.counters["subscriptions_refused"] == 1)
    one.transport.broadcast([b"1", b"not for you"])
    assert not silent.poll(100)
    silent.disable_monitor()
    monitor.close(linger=0)
    silent.close(linger=0)


async def test_a_member_that_starts_with_its_new_key_is_found(pair: tuple[Member, Member], keys: KeyFolder) -> None:
    """Two keys: the others know both before it has taken the new one, and after."""
    one, two = pair
    place = two.endpoints
    keys.rotate("bus-2")
    one.security.look()
    await until(lambda: heard(one, two, [b"1", b"with the old one"]))
    two.close()
    again = Member(keys.folder, 2)
    again.transport.add(1, one.endpoints)
    one.transport.add(2, again.endpoints)
    assert again.endpoints != place
    await until(lambda: one.transport.connected == (2,) and again.transport.connected == (1,))
    await until(lambda: heard(one, again, [b"1", b"with the new one"]))
    await until(lambda: heard(again, one, [b"2", b"with the new one"]))
    keys.retire("bus-2")
    one.security.look()
    again.security.look()
    one.events.clear()
    await until(lambda: heard(again, one, [b"2", b"alone"]))
    again.close()
