"""Peer frames: what one side encodes the other decodes to the same message, and nothing else gets through."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.bus.directory import Addresses, Introduced, Relayed
from replicas.bus.peer_codec import Envelope, PeerCodec, encode
from ringcast.errors import BadFrame, RingcastError, UnsupportedVersion, WrongCluster
from ringcast.strict import dumps
from sequencer import messages as m
from sequencer.chain import digest
from sequencer.output import Received
from sequencer.types import NO_VIEW, Incarnation, Request
from tests.replicas.nouns import MESSAGES, incarnations, u64

CODEC = PeerCodec(ring=0, member=2)
ENVELOPE = Envelope(0, 1, Incarnation(4, 99))
STATUS = m.Status(NO_VIEW, False, NO_VIEW, 0, 0, -1, 0, 0, False, False)


def _request(*frames: bytes) -> Request:
    return Request(1, Incarnation(4, 99), 1, frames, digest(frames))


def test_every_message_has_a_strategy() -> None:
    assert set(MESSAGES) == set(get_args(m.Message))


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_round_trip(kind: type[m.Message], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    cluster, incarnation = data.draw(u64), data.draw(incarnations)
    frames = encode(Envelope(0, 1, incarnation), cluster, message)
    assert CODEC.decode(frames) == Received(cluster, 1, incarnation, message)


def test_addresses_come_as_an_introduction() -> None:
    """V12: for the transport's owner; the core knows no addresses."""
    own = Addresses("tcp://host:1", "tcp://host:2", "tcp://host:3", "", "http://host:5")
    assert CODEC.decode(encode(ENVELOPE, 7, own)) == Introduced(7, 1, ((1, own),))
    relayed = Relayed(((2, own), (3, own)))
    assert CODEC.decode(encode(ENVELOPE, 7, relayed)) == Introduced(7, 1, relayed.told)


@pytest.mark.parametrize(
    ("payloads", "frames"),
    [([b"x" * 100_000] * 6, 7), ([b"x"] * 3, 4), ([b"x"] * 4, 2), ([b"x" * 20_000] * 1_200, 2), ([b""], 2)],
    ids=["large", "few", "many small", "more than a message may have", "one empty"],
)
def test_many_small_payloads_share_a_frame(payloads: list[bytes], frames: int) -> None:
    message = m.Broadcast(STATUS, (_request(*payloads),))
    encoded = encode(ENVELOPE, 7, message)
    assert len(encoded) == frames
    received = CODEC.decode(encoded)
    assert isinstance(received, Received)
    assert received.message == message


def test_large_payloads_are_not_copied() -> None:
    payload = b"x" * 100_000
    assert encode(ENVELOPE, 7, m.Broadcast(STATUS, (_request(payload),)))[1] is payload


def test_a_request_has_the_digest_of_what_came() -> None:
    """A3, A10: a payload that was changed on the way is not the one that an entry names."""
    encoded = encode(ENVELOPE, 7, m.Broadcast(STATUS, (_request(b"abc", b"def"),)))
    received = CODEC.decode([encoded[0], b"abc", b"deX"])
    assert isinstance(received, Received)
    assert isinstance(received.message, m.Broadcast)
    assert received.message.requests[0].digest == digest((b"abc", b"deX")) != digest((b"abc", b"def"))


@pytest.mark.parametrize("frames", [(b"abc", b"def"), (b"a",) * 9, ()], ids=["own frames", "joined", "none"])
def test_requests_that_nobody_wants_are_left_out(frames: tuple[bytes, ...]) -> None:
    """The rest of a BROADCAST is read, and so are the requests of other messages: they were asked for."""
    codec = PeerCodec(0, 2, wants_requests=lambda: False)
    requests = (_request(*frames),) if frames else ()
    received = codec.decode(encode(ENVELOPE, 7, m.Broadcast(STATUS, requests)))
    assert isinstance(received, Received)
    assert received.message == m.Broadcast(STATUS)
    asked = m.Retransmit(NO_VIEW, requests, ())
    received = codec.decode(encode(ENVELOPE, 7, asked))
    assert isinstance(received, Received)
    assert received.message == asked


def test_own_frames_are_passed_over() -> None:
    assert CODEC.decode(encode(Envelope(0, 2, Incarnation(4, 99)), 7, m.Leave())) is None


def _header(**changes: Any) -> bytes:
    fields = {"version": 2, "cluster": 7, "ring": 0, "sender": 1, "counter": 4, "nonce": 99, "type": 19} | changes
    return dumps(list(fields.values()))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 1}, UnsupportedVersion),
        ({"version": True}, UnsupportedVersion),
        ({"version": None}, UnsupportedVersion),
        ({"ring": 1}, WrongCluster),
        ({"ring": False}, BadFrame),
        ({"cluster": -1}, BadFrame),
        ({"sender": 0}, BadFrame),
        ({"sender": 64}, BadFrame),
        ({"counter": 1 << 63}, BadFrame),
        ({"nonce": 1.0}, BadFrame),
        ({"type": 0}, BadFrame),
        ({"type": 20}, BadFrame),
        ({"type": [1]}, BadFrame),
        ({"more": 1}, BadFrame),
    ],
)
def test_wrong_headers(changes: dict[str, Any], error: type[RingcastError]) -> None:
    assert CODEC.decode([_header()]) == Received(7, 1, Incarnation(4, 99), m.Leave())
    with pytest.raises(error):
        CODEC.decode([_header(**changes)])


@pytest.mark.parametrize(
    "header",
    [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"{}", _header()[:-1], _header() + b"\x00", b"\x80"],
    ids=["empty", "reserved", "huge array", "deep", "text", "short", "trailing", "map"],
)
def test_garbage_headers(header: bytes) -> None:
    """Docs/faults.md 38, 39."""
    with pytest.raises(BadFrame):
        CODEC.decode([header])


@pytest.mark.parametrize(
    "message",
    [
        m.Nack(NO_VIEW, 5, 4, ()),
        m.Nack(NO_VIEW, 0, 0, (m.LsnRange(1, Incarnation(1, 1), 2, 1),)),
        m.SnapshotChunk(NO_VIEW, "s", 0, bytes(16), 1, 1, b""),
        m.Fetch(NO_VIEW, -1, 0, bytes(16)),
        m.Fetch(NO_VIEW, 0, 0, bytes(15)),
        m.Token(NO_VIEW, 1 << 63, 0, 0, ()),
        m.Read(-1),
        m.Backfill(4, bytes(16), 4),
        m.Backfilled(0, bytes(16), (), (b"a note without a record",)),
    ],
)
def test_values_out_of_range(message: m.Message) -> None:
    """Docs/faults.md 48: no jump to 2^63, no negative counts."""
    with pytest.raises(BadFrame):
        CODEC.decode(encode(ENVELOPE, 7, message))


@pytest.mark.parametrize("extra", [[], [b"x"], [b"a", b"b", b"c"]])
def test_payloads_that_the_header_does_not_name(extra: list[bytes]) -> None:
    encoded = encode(ENVELOPE, 7, m.Broadcast(STATUS, (_request(b"aa", b"b"),)))
    assert len(encoded) == 3
    with pytest.raises(BadFrame):
        CODEC.decode([encoded[0], *extra])


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_fuzz(frames: list[bytes]) -> None:
    with pytest.raises(RingcastError):
        CODEC.decode(frames)


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_damaged_frames_raise_nothing_else(kind: type[m.Message], data: st.DataObject) -> None:
    frames = encode(ENVELOPE, 7, data.draw(MESSAGES[kind]))
    at = data.draw(st.integers(0, len(frames) - 1))
    damaged = bytearray(frames[at])
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    frames[at] = bytes(damaged)
    try:
        received = CODEC.decode(frames)
    except RingcastError:
        return
    assert received is None or received.sender != 2
