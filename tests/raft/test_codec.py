"""Frames of Raft: each message comes back as it was; anything else is a typed error."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.raft.codec import RaftCodec, encode
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    Found,
    Hello,
    InstallSnapshot,
    InstallSnapshotResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
    Welcome,
)
from ringcast.errors import RingcastError, UnsupportedVersion, WrongCluster
from ringcast.strict import Plain, dumps, loads
from store.raft_contract import Base, Entry, Incarnation, Kind
from store.raft_members import encode_members
from tests.raft.harness import CLUSTER, members, storage

ENVELOPE = Envelope(CLUSTER, 2, storage(2), Incarnation(3, 4))
ENTRIES = (
    Entry(6, 2, Kind.COMMAND, b"\n\x00"),
    Entry(7, 3, Kind.NOOP, b""),
    Entry(8, 3, Kind.MEMBERS, encode_members(members())),
)
MESSAGES: tuple[Message, ...] = (
    RequestVote(3, 2, 8, 2, pre_vote=True, transfer=False),
    RequestVoteResponse(3, vote_granted=True, pre_vote=False),
    AppendEntries(3, 2, 5, 2, ENTRIES, 4, 9),
    AppendEntries(3, 2, 5, 2, (), 4, 9),
    AppendEntriesResponse(3, True, 8, 9, 5, 0, 0),
    InstallSnapshot(3, 2, "name", Base(5, 2, members()), 4, 3, b"chunk", 9),
    InstallSnapshotResponse(3, "name", 4, 9),
    TimeoutNow(3),
    Hello("member-2"),
    Welcome(storage(2), Incarnation(1, 2)),
    Found(Base(1, 1, members())),
)
WRONG: tuple[Plain, ...] = (None, "x", -1, 1.5, 1 << 63, b"", (), {})
codec = RaftCodec(0, 1)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_message_comes_back(message: Message) -> None:
    assert codec.decode(encode(ENVELOPE, 0, message)) == (ENVELOPE, message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_more_or_less_or_of_another_kind_is_refused(message: Message) -> None:
    header, *data = encode(ENVELOPE, 0, message)
    fields = loads(header, 1 << 20)
    for wrong in (fields[:-1], (*fields, 0), (*fields, None)):
        with pytest.raises(RingcastError):
            codec.decode([dumps(wrong), *data])
    for place in range(len(fields)):
        for value in WRONG:
            changed = (*fields[:place], value, *fields[place + 1 :])
            try:
                received = codec.decode([dumps(changed), *data])
            except RingcastError:
                continue
            assert received is not None  # what is let through is a message, with a value that the field may have
            assert encode(received.envelope, 0, received.message)[1:] == data


def test_another_version_ring_or_an_own_frame() -> None:
    header, *_ = encode(ENVELOPE, 0, Hello("member-2"))
    version, *rest = loads(header, 1 << 20)
    with pytest.raises(UnsupportedVersion):
        codec.decode([dumps((version + 1, *rest))])
    with pytest.raises(WrongCluster):
        codec.decode(encode(ENVELOPE, 5, Hello("member-2")))
    assert codec.decode(encode(ENVELOPE._replace(sender=1), 0, Hello("member-2"))) is None


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"\xdd\xff\xff\xff\xff"],
        [b"\x91" * 100_000],
        encode(ENVELOPE, 0, MESSAGES[2])[:1],
        [*encode(ENVELOPE, 0, MESSAGES[2]), b"more"],
        [encode(ENVELOPE, 0, MESSAGES[2])[0], b"short"],
        [*encode(ENVELOPE, 0, Hello("member-2")), b"more"],
        encode(ENVELOPE, 0, AppendEntries(2, 2, 5, 2, ENTRIES, 4, 9)),
        encode(ENVELOPE, 0, AppendEntries(3, 2, 5, 2, (Entry(6, 3, Kind.MEMBERS, b"\xc0"),), 4, 9)),
        encode(ENVELOPE, 0, InstallSnapshot(3, 2, "name", Base(5, 2, members()), 4, 4, b"chunk", 9)),
    ],
    ids=str,
)
def test_what_is_no_frame_of_ours_is_refused(frames: list[bytes]) -> None:
    """An entry of a term above its leader's, or below the one before it, and a configuration that is none, too."""
    with pytest.raises(RingcastError):
        codec.decode(frames)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_is_raised(noise: bytes) -> None:
    with pytest.raises(RingcastError):
        codec.decode([noise])


def test_flipped_bits_never_raise_anything_else() -> None:
    random = Random(3)
    for message in MESSAGES:
        for _ in range(300):
            frames = [bytearray(frame) for frame in encode(ENVELOPE, 0, message)]
            frame = random.choice([one for one in frames if one])
            frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
            try:
                codec.decode([bytes(one) for one in frames])
            except RingcastError:
                continue
