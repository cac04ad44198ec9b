"""Frames of the DEALER: round trips for every type, and nothing but BadFrame for what is none."""

import math
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast import wire
from ringcast.bus import feed
from ringcast.bus.batch import COUNT_MAX
from ringcast.bus.cursors import COMMIT, DELETE, CursorOperation, check_cursor_name, decode_operation, encode_operation
from ringcast.bus.request import BatchHeader, decode_batch_headers, encode_batch_headers
from ringcast.errors import BadFrame, IllegalTopic, UnsupportedVersion, WrongCluster
from ringcast.strict import DEPTH_MAX, Plain, dumps, loads
from tests.wire.vectors import CLIENT, CLUSTER, INFO, MESSAGES, PACKED, VECTORS

U63 = st.integers(0, (1 << 63) - 1)
U64 = st.integers(0, (1 << 64) - 1)
POSITIVE = st.integers(1, (1 << 63) - 1)
SIGNED = st.integers(-1, (1 << 63) - 1)
COUNT = st.integers(1, COUNT_MAX)
CLIENTS = st.binary(min_size=16, max_size=16)
NAME = st.text(max_size=300)
WORD = st.text("abcXYZ019_-", min_size=1, max_size=9)
TOPIC = st.lists(WORD, min_size=1, max_size=5).map(".".join)
CODE = st.text(max_size=64)
CHOICE = st.integers(0, 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | FLOAT | st.text(max_size=20)
DETAILS = st.dictionaries(st.text(max_size=10), SCALAR, max_size=5)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    SCALAR | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MAPPING = st.dictionaries(st.text(max_size=10), PLAIN, max_size=4)
INFOS = st.builds(wire.BatchInfo, NAME, U63, COUNT, SIGNED, U63, CLIENTS, U63)
LIMITS = st.builds(wire.Limits, POSITIVE, POSITIVE, POSITIVE, POSITIVE)
PAIR = st.tuples(U63, U64)
ENDPOINTS = st.lists(st.builds(wire.Endpoint, U63, NAME), max_size=4).map(tuple)

ANY_MESSAGE: st.SearchStrategy[wire.Message] = st.one_of(
    st.builds(wire.Hello, CLIENTS, U63),
    st.builds(wire.Welcome, U63, PAIR, PAIR, U63, U63, LIMITS, NAME, U63, ENDPOINTS),
    st.builds(wire.Publish, NAME, CLIENTS, POSITIVE, COUNT, U63),
    st.builds(wire.Receipt, CLIENTS, POSITIVE, U63, COUNT, U63, U63, U63),
    st.builds(wire.Refused, CLIENTS, POSITIVE, CODE, DETAILS, SIGNED),
    st.builds(wire.Fetch, POSITIVE, NAME, U63, CHOICE, POSITIVE, POSITIVE, CHOICE),
    st.builds(wire.Fetched, POSITIVE, st.lists(INFOS, max_size=4).map(tuple), SIGNED, U63, U63),
    st.builds(wire.Query, POSITIVE, CODE, MAPPING, CHOICE),
    st.builds(wire.Answer, POSITIVE, MAPPING, U63),
    st.builds(wire.Failed, U63, CODE, DETAILS),
    st.builds(wire.Ping, U63),
    st.builds(wire.Pong, U63, st.booleans(), U63, U63),
    st.builds(wire.Goodbye, st.text(max_size=256)),
    st.builds(wire.Members, ENDPOINTS),
)


def payloads_of(message: wire.Message) -> int:
    return len(message.batches) if isinstance(message, wire.Fetched) else int(isinstance(message, wire.Publish))


@given(U64, U63, ANY_MESSAGE)
def test_every_message_comes_back_as_it_was(cluster: int, ring: int, message: wire.Message) -> None:
    frame = wire.decode(wire.encode(cluster, ring, message), payloads_of(message))
    assert frame == (cluster, ring, message)
    assert type(frame.message) is type(message)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_random_bytes_are_bad_frames(data: bytes, payloads: int) -> None:
    with pytest.raises(BadFrame):
        wire.decode(data, payloads)
    with pytest.raises(BadFrame):
        feed.decode([b"a\x00", data, b""])
    with pytest.raises(BadFrame):
        feed.decode([feed.CONTROL, data])


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_damaged_frames_raise_bad_frame_or_decode(name: str, data: st.DataObject) -> None:
    """Flipped, cut and lengthened bytes: never another exception."""
    body = bytearray(VECTORS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=3))
    for frame in (bytes(body), cut):
        try:
            message = wire.decode(frame, payloads_of(MESSAGES[name])).message
        except BadFrame:
            continue
        wire.decode(wire.encode(0, 0, message), payloads_of(message))


@given(st.sampled_from(sorted(MESSAGES)), st.data(), PLAIN)
def test_a_field_of_another_kind_is_refused_or_of_its_kind(name: str, data: st.DataObject, value: Any) -> None:
    fields = [wire.VERSION, CLUSTER, 0, VECTORS[name][8], *MESSAGES[name]]
    fields[data.draw(st.integers(0, len(fields) - 1))] = value
    try:
        message = wire.decode(dumps(fields), payloads_of(MESSAGES[name])).message
    except BadFrame:
        return
    wire.decode(wire.encode(0, 0, message), payloads_of(message))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "one msgpack value"),
        (VECTORS["ping"] + b"\x00", "ExtraData"),
        (b"\x90", "version, cluster, ring, type"),
        (b"\x80", "an array"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (b"\xc6\xff\xff\xff\xff", "msgpack value"),
        (b"\x91" * 100_000, "one msgpack value"),
        (b"\x95\x01\x00\x00\x0b\xc0", "nonce is None"),
        (b"\x95\x01\x00\x00\x0b\xc3", "nonce is True"),
        (b"\x95\x01\x00\x00\x0b\xff", "nonce is -1"),
        (b"\x95\x01\x00\x00\x0b\xcf" + b"\xff" * 8, "nonce is 18446744073709551615"),
        (b"\x95\x01\x00\x00\x0b\xca\x3f\x80\x00\x00", "nonce is 1.0"),
        (b"\x95\x01\x00\x00\xcc\xc8\x00", "the frame type is 200"),
        (b"\x95\x01\x00\x00\xa1a\x00", "the frame type is 'a'"),
        (b"\x94\x01\x00\x00\x0b", "Ping is '0 fields'"),
        (b"\x96\x01\x00\x00\x0b\x01\x01", "Ping is '2 fields'"),
        (b"\x95\x00\x00\x00\x0b\x01", "the protocol version is 0"),
        (b"\x95\x01\xff\x00\x0b\x01", "the cluster id is -1"),
        (b"\x95\x01\x00\xc3\x0b\x01", "the ring id is True"),
        (b"\x97\x01\x00\x00\x0a\x01\xa1x\x82\xa1a\x01\xa1a\x02", "2 pairs for 1 keys"),
        (b"\x97\x01\x00\x00\x0a\x01\xa1x\x81\x01\x02", "one msgpack value"),
        (b"\x97\x01\x00\x00\x0a\x01\xa1x\x81\xa1a\x90", "none, a bool, a number or text"),
        (b"\x97\x01\x00\x00\x0a\x01\xa1x\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "a finite number"),
        (b"\x97\x01\x00\x00\x0a\x01\xa1\xff\x80", "UnicodeDecodeError"),
        (b"\x95\x01\x00\x00\x0b\xd4\x05\x00", "msgpack value"),
        (b"\x95\x01\x00\x00\x0b\xd6\xff\x00\x00\x00\x00", "msgpack value"),
    ],
)
def test_what_is_none_of_ours_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(BadFrame) as caught:
        wire.decode(data)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_numbers_are_refused_anywhere(value: float) -> None:
    each: list[dict[str, Plain]] = [{"a": value}, {"a": {"b": (1, value)}}]
    for arguments in each:
        with pytest.raises(BadFrame, match="a finite number"):
            wire.decode(wire.encode(0, 0, wire.Query(1, "x", arguments)))


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = (value,)
    assert wire.decode(wire.encode(0, 0, wire.Query(1, "x", {"a": value}))).message
    with pytest.raises(BadFrame, match="nested deeper"):
        wire.decode(wire.encode(0, 0, wire.Query(1, "x", {"a": (value,)})))


def test_a_large_header_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BadFrame, match="at most 4194304"):
        wire.decode(b"\xc1" * (wire.HEADER_BYTES_MAX + 1))
    with pytest.raises(BadFrame, match="at most 10"):
        loads(b"\x00" * 11, 10)


def test_payload_frames_must_match_the_type() -> None:
    for name, message in MESSAGES.items():
        for payloads in range(4):
            answered = payloads == 1 and isinstance(message, wire.Receipt)
            if payloads == payloads_of(message) or answered:
                wire.decode(VECTORS[name], payloads)
            else:
                with pytest.raises(BadFrame, match="payload frames"):
                    wire.decode(VECTORS[name], payloads)


def test_another_version_is_told_by_name_and_another_cluster_by_number() -> None:
    newer = b"\x95\x02" + VECTORS["ping"][2:]
    with pytest.raises(UnsupportedVersion, match="version 2, this side speaks 1"):
        wire.decode(newer)
    frame = wire.decode(VECTORS["ping"])
    wire.expect(frame, CLUSTER, 0)
    wire.expect(frame, wire.ANY_CLUSTER, 0)
    for cluster, ring in ((CLUSTER + 1, 0), (CLUSTER, 1)):
        with pytest.raises(WrongCluster, match=f"cluster {CLUSTER} ring 0"):
            wire.expect(frame, cluster, ring)


# ---- feed, requests, cursors ----


@given(U64, TOPIC, U63, COUNT, U63, CLIENTS, U63, st.binary(max_size=30), st.data())
def test_feed_batches_come_back(
    cluster: int,
    topic: str,
    first: int,
    messages: int,
    time_us: int,
    client: bytes,
    slot: int,
    packed: bytes,
    data: st.DataObject,
) -> None:
    previous = data.draw(st.integers(-1, first - 1))
    info = wire.BatchInfo(topic, first, messages, previous, time_us, client, slot)
    assert feed.decode(feed.encode_batch(cluster, 0, info, packed)) == feed.FeedBatch(cluster, 0, info, packed)


@given(U64, U63, st.dictionaries(TOPIC, U63, max_size=5), st.data())
def test_controls_come_back(cluster: int, next_offset: int, changed: dict[str, int], data: st.DataObject) -> None:
    since = data.draw(st.integers(0, next_offset))
    frames = feed.encode_control(cluster, 0, next_offset, since, changed)
    assert feed.decode(frames) == feed.Control(cluster, 0, next_offset, since, changed)


@pytest.mark.parametrize("name", [b"a", b"\x00", b"a b\x00", b"a\x00b\x00", b"a\x00\x00", b"a." * 128 + b"a\x00", b""])
def test_frame_0_of_the_feed_is_a_topic_and_a_zero(name: bytes) -> None:
    with pytest.raises(BadFrame, match="frame 0 of the feed"):
        feed.decode([name, VECTORS["feed frame 1"], PACKED])


def test_feed_headers_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(BadFrame, match="below the first offset"):
        feed.decode(feed.encode_batch(0, 0, INFO._replace(previous=INFO.first_offset), PACKED))
    with pytest.raises(BadFrame, match="since"):
        feed.decode(feed.encode_control(0, 0, 5, 6, {}))
    with pytest.raises(BadFrame, match="number of feed frames"):
        feed.decode([feed.CONTROL])


@pytest.mark.parametrize(("pattern", "expected"), [("a", b"a\x00"), ("a.>", b"a."), (">", b"")])
def test_feed_prefixes(pattern: str, expected: bytes) -> None:
    assert feed.prefix(pattern) == expected


@given(
    st.lists(
        st.builds(BatchHeader, TOPIC, CLIENTS, POSITIVE, COUNT, U63, st.just(0), st.binary(min_size=8, max_size=8))
    )
)
def test_batch_headers_come_back(headers: list[BatchHeader]) -> None:
    assert decode_batch_headers(encode_batch_headers(headers)) == tuple(headers)


def test_batch_headers_are_strict() -> None:
    header = BatchHeader("a", CLIENT, 1, 1, 0, 0, b"12345678")
    for wrong in (header._replace(durability=1), header._replace(sequence=0), header._replace(digest=b"")):
        with pytest.raises(BadFrame):
            decode_batch_headers(encode_batch_headers([wrong]))


@given(st.integers(COMMIT, DELETE), WORD.filter(lambda one: one[0] != "_"), TOPIC, U63)
def test_cursor_operations_come_back(kind: int, name: str, topic: str, offset: int) -> None:
    for pattern in (topic, topic + ".>", ">"):
        operation = CursorOperation(kind, name, pattern, offset)
        assert decode_operation(encode_operation(operation)) == operation


@given(st.binary(max_size=60))
def test_a_payload_that_is_no_operation_is_a_bad_frame(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_operation(payload)


@pytest.mark.parametrize("operation", [(1, "_x", "a", 0), (1, "a b", "a", 0), (1, "a", "a.>.b", 0), (4, "a", "a", 0)])
def test_operations_on_bad_names_are_bad_frames(operation: tuple[int, str, str, int]) -> None:
    with pytest.raises(BadFrame):
        decode_operation(encode_operation(CursorOperation(*operation)))


@pytest.mark.parametrize("name", ["", "_a", "a b", "a."])
def test_cursor_names_follow_the_rules_of_topics(name: str) -> None:
    with pytest.raises(IllegalTopic, match="as the name of a cursor"):
        check_cursor_name(name)


def test_the_encoder_is_plain_msgpack() -> None:
    assert msgpack.unpackb(VECTORS["ping"]) == [1, CLUSTER, 0, 11, 9]


@pytest.mark.parametrize("value", [[1, object], {"a": [b"x" * 100, object]}, 1 << 70, ["\ud800"]], ids=repr)
def test_what_cannot_be_packed_leaves_nothing_behind(value: Any) -> None:
    """The packer is kept for the next frame."""
    with pytest.raises((TypeError, OverflowError, UnicodeEncodeError)):
        dumps(value)
    assert dumps((1, "a")) == b"\x92\x01\xa1a"
    assert len(dumps(b"x" * (2 << 20))) == (2 << 20) + 5
