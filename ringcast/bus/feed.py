"""The live feed (PUB -> SUB) of one replica: applied batches as they are delivered, and a control topic.

Any frame may be lost (high-water mark, slow joiner). A subscriber finds each hole by the chain of previous offsets and
each lost tail by the control topic, and fetches it over DEALER (docs/architecture.md, "Live tail over PUB").
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ringcast.bus.batch import COUNT_MAX
from ringcast.bus.topics import TOPIC_BYTES_MAX, is_topic
from ringcast.strict import bad, binary, dumps, integer, loads, mapping
from ringcast.types import CLIENT_ID_BYTES
from ringcast.wire import HEADER_BYTES_MAX, VERSION, BatchInfo, check_envelope

#: Ends frame 0, so that a subscription to `orders` never matches `orders2`.
SEPARATOR = b"\x00"
CONTROL = b"\x01control\x00"
CONTROL_INTERVAL_MS = 250
CHANGED_TOPICS_MAX = 65_536

_U63 = integer()
_SIGNED = integer(-1)
_COUNT = integer(1, COUNT_MAX)
_CLIENT = binary(CLIENT_ID_BYTES)
_LAST = mapping(_U63, CHANGED_TOPICS_MAX)


class FeedBatch(NamedTuple):
    """One applied batch on the feed; `packed` is opaque here."""

    cluster: int
    ring: int
    info: BatchInfo
    packed: bytes


class Control(NamedTuple):
    """What the replica has delivered: all offsets below `next_offset`.

    `changed`: topic -> its last offset, for each topic with a batch at or above `since`; `since` is the `next_offset`
    of the control frame before this one, so that a lost control frame shows too.
    """

    cluster: int
    ring: int
    next_offset: int
    since: int
    changed: Mapping[str, int]


def prefix(pattern: str) -> bytes:
    """The SUB prefix that receives everything a topic or pattern matches; `>` receives the whole feed."""
    if pattern == ">":
        return b""
    if pattern.endswith(".>"):
        return pattern[:-1].encode()
    return pattern.encode() + SEPARATOR


def encode_batch(cluster: int, ring: int, info: BatchInfo, packed: bytes) -> list[bytes]:
    """The three frames of one applied batch."""
    topic, first, count, previous, time_us, client, slot = info
    header = dumps((VERSION, cluster, ring, first, count, previous, time_us, client, slot))
    return [topic.encode() + SEPARATOR, header, packed]


def encode_control(cluster: int, ring: int, next_offset: int, since: int, changed: Mapping[str, int]) -> list[bytes]:
    """The two frames of the control topic."""
    return [CONTROL, dumps((VERSION, cluster, ring, next_offset, since, dict(changed)))]


def decode(frames: Sequence[bytes]) -> FeedBatch | Control:
    """Decode a feed message. Raises BadFrame (or its child UnsupportedVersion) only."""
    if len(frames) == 2 and frames[0].startswith(CONTROL):
        return _decode_control(frames[1])
    if len(frames) != 3:
        bad("the number of feed frames", len(frames), "3, or 2 for the control topic")
    name, header, packed = frames
    topic = name[: TOPIC_BYTES_MAX + 1].removesuffix(SEPARATOR).decode("latin-1")
    if name != topic.encode("latin-1") + SEPARATOR or not is_topic(topic):
        bad("frame 0 of the feed", name, "a topic and a zero byte")
    fields = loads(header, HEADER_BYTES_MAX)
    if type(fields) is not tuple or len(fields) != 9:
        bad("the feed header", type(fields).__name__, "an array of 9")
    cluster, ring = check_envelope(fields)
    _, _, _, first, count, previous, time_us, client, slot = fields
    _U63("first_offset", first)
    _COUNT("count", count)
    _SIGNED("previous", previous)
    _U63("time_us", time_us)
    _CLIENT("client", client)
    _U63("slot", slot)
    if previous >= first:
        bad("previous", previous, f"below the first offset {first}")
    return FeedBatch(cluster, ring, BatchInfo(topic, first, count, previous, time_us, client, slot), packed)


def _decode_control(header: bytes) -> Control:
    fields = loads(header, HEADER_BYTES_MAX)
    if type(fields) is not tuple or len(fields) != 6:
        bad("the control header", type(fields).__name__, "an array of 6")
    cluster, ring = check_envelope(fields)
    _, _, _, next_offset, since, changed = fields
    _U63("next_offset", next_offset)
    _U63("since", since)
    _LAST("changed", changed)
    if since > next_offset:
        bad("since", since, f"at most next_offset {next_offset}")
    return Control(cluster, ring, next_offset, since, changed)
