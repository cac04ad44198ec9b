"""Frames between a client (DEALER) and a replica (ROUTER); the page for humans is docs/wire.md.

A frame is a multipart message: a header, then payload frames. The header is one msgpack array
`[version, cluster, ring, type, ...fields]`; the first four elements, and the whole of FAILED, keep their place in every
version, so that any two versions can tell each other so. Decoding is strict and raises BadFrame only.

    client                         replica
    HELLO      ->                  WELCOME, or FAILED (request 0)
    PUBLISH    -> + packed batch   RECEIPT [+ packed answers] or REFUSED, after the verdict is applied (K1)
    FETCH      ->                  FETCHED + packed batches, or FAILED
    QUERY      ->                  ANSWER or FAILED
    PING       ->                  PONG
    GOODBYE    <->                 leaving: the client is done, or the replica asks it to move on (V11)
               <-  MEMBERS         other members, or other addresses of theirs (V12)

Frames of the product store are in product_store/wire.py, those of the marketplace in market/wire.py.
"""

from typing import Any, NamedTuple, TypeAlias

from ringcast.bus.batch import COUNT_MAX
from ringcast.errors import Detail, RingcastError, UnsupportedVersion, WrongCluster, from_wire
from ringcast.market.wire import SCHEMA as MARKET_SCHEMA
from ringcast.market.wire import Call
from ringcast.product_store.wire import SCHEMA, Ask, Found, Operate, Outcomes
from ringcast.strict import (
    U64_MAX,
    Check,
    Plain,
    array,
    bad,
    binary,
    dumps,
    flag,
    integer,
    loads,
    many,
    mapping,
    plain,
    scalar,
    text,
)
from ringcast.types import CLIENT_ID_BYTES

VERSION = 1
#: Cluster id 0: unknown (a client before its WELCOME) or any.
ANY_CLUSTER = 0
HEADER_BYTES_MAX = 4 << 20
FETCHED_BATCHES_MAX = 16_384
#: Room above TOPIC_BYTES_MAX, so that a name that is too long is refused as such (IllegalTopic) and not dropped.
_NAME_MAX = 4_096

FORWARD, BACKWARD = 0, 1
LINEARIZABLE, LOCAL = 0, 1
NO_OFFSET = -1
MEMBERS_MAX = 64

_U63 = integer()
_U64 = integer(0, U64_MAX)
_POSITIVE = integer(1)
_SIGNED = integer(-1)
_COUNT = integer(1, COUNT_MAX)
_CLIENT = binary(CLIENT_ID_BYTES)
_NAME = text(_NAME_MAX)
_CODE = text(64)
_CHOICE = integer(0, 1)
_DETAILS = mapping(scalar, 32)
_PAIR = array(_U63, _U64)


class Endpoint(NamedTuple):
    """A member of the ring, and where clients reach it (V12)."""

    replica: int
    address: str


_ENDPOINTS = many(array(_U63, text(1024)), MEMBERS_MAX)


class Hello(NamedTuple):
    """Client -> replica, first on each connection. `wanted` bytes of credit (0 = the replica's default)."""

    client: bytes
    wanted: int = 0


class Limits(NamedTuple):
    """What one batch may hold, and how many batches a client may have unanswered (A9; never more than K1's W)."""

    batch_bytes_max: int
    batch_count_max: int
    topic_bytes_max: int
    outstanding_max: int


class Welcome(NamedTuple):
    """Replica -> client. The envelope holds the cluster's real id and ring.

    `incarnation` and `view` are pairs (counter, bits / proposer). `opened`: the committed slot now; a client id that is
    opened by this answer sends it in each PUBLISH for its whole life (K1). `credit`: as in Receipt. `feed`: the address
    of the PUB socket as clients reach it, "" = none. `next_offset`: the replica has delivered everything below it.
    `members`: as in Members.
    """

    replica: int
    incarnation: tuple[int, int]
    view: tuple[int, int]
    opened: int
    credit: int
    limits: Limits
    feed: str
    next_offset: int
    members: tuple[Endpoint, ...]


class Publish(NamedTuple):
    """Client -> replica, + one packed batch of so many `messages`. (client, sequence) names the batch for ever (K1)."""

    topic: str
    client: bytes
    sequence: int
    messages: int
    opened: int


class Receipt(NamedTuple):
    """Replica -> client: the batch has offsets first_offset .. first_offset + messages - 1, in `slot`, at `time_us`.

    A repeated batch gets its original values (K1). Where a state machine listens to the topic, its answers follow as a
    packed batch, one for each message. `credit` is absolute: the bytes of packed batches that the client
    may have unanswered from now on (A9); one batch may always be.
    """

    client: bytes
    sequence: int
    first_offset: int
    messages: int
    slot: int
    time_us: int
    credit: int


class Refused(NamedTuple):
    """Replica -> client: the batch was not applied. `last`: the last applied sequence of the client with code
    sequence_gap, else -1."""

    client: bytes
    sequence: int
    code: str
    details: dict[str, Detail]
    last: int = -1


class Fetch(NamedTuple):
    """Client -> replica: applied batches of a topic or pattern, whole batches only.

    FORWARD: those that hold an offset >= `offset`, oldest first. BACKWARD: those whose first offset <= `offset`, newest
    first. At least one batch if there is one, then while both limits hold. LINEARIZABLE: after K3; LOCAL: at once.
    """

    request: int
    pattern: str
    offset: int
    direction: int
    messages_max: int
    bytes_max: int
    consistency: int


class BatchInfo(NamedTuple):
    """One applied batch; `previous`: the last offset of the same topic before it, -1 = none."""

    topic: str
    first_offset: int
    messages: int
    previous: int
    time_us: int
    client: bytes
    slot: int


BATCH_INFO: Check = array(_NAME, _U63, _COUNT, _SIGNED, _U63, _CLIENT, _U63)


class Fetched(NamedTuple):
    """Replica -> client, + one packed batch for each of `batches`, in the same order.

    FORWARD: the answer holds every matching batch with an offset in [offset, next_offset); go on there; next_offset ==
    end means: nothing more now. BACKWARD: go on at next_offset, -1 = the beginning (or compacted_below) was reached.
    `end`: everything below is delivered at this replica. `compacted_below`: the oldest offset kept (C2).
    """

    request: int
    batches: tuple[BatchInfo, ...]
    next_offset: int
    end: int
    compacted_below: int


class Query(NamedTuple):
    """Client -> replica: a named read, see docs/wire.md, "Queries", for names, arguments and results."""

    request: int
    name: str
    arguments: dict[str, Plain]
    consistency: int = LINEARIZABLE


class Answer(NamedTuple):
    """Replica -> client. `next_offset`: the state that was read had applied everything below it (K3)."""

    request: int
    result: dict[str, Plain]
    next_offset: int


class Failed(NamedTuple):
    """Replica -> client: the FETCH or QUERY has no answer. Request 0: the connection itself is refused (HELLO)."""

    request: int
    code: str
    details: dict[str, Detail]


class Ping(NamedTuple):
    """Client -> replica: are you there?"""

    nonce: int


class Pong(NamedTuple):
    """Replica -> client. `serving` is false while the replica can't order (no quorum, starting, read-only): the client
    tries another one. `credit`: as in Receipt."""

    nonce: int
    serving: bool
    credit: int
    next_offset: int


class Goodbye(NamedTuple):
    """Either way: no more frames from here. From a replica: move to another one (V11); receipts in flight come."""

    reason: str = ""


class Members(NamedTuple):
    """Replica -> client, when they change: the members whose address is known, by id (V12).

    The client adds them to those that it was given; who was given the first three survives the last of them.
    """

    members: tuple[Endpoint, ...]


Message: TypeAlias = (
    Hello
    | Welcome
    | Publish
    | Receipt
    | Refused
    | Fetch
    | Fetched
    | Query
    | Answer
    | Failed
    | Ping
    | Pong
    | Goodbye
    | Members
    | Operate
    | Outcomes
    | Ask
    | Found
    | Call
)
#: Type on the wire -> (message, the check of each field). Numbers are given once and never used again.
_SCHEMA: dict[int, tuple[type[Message], tuple[Check, ...]]] = {
    1: (Hello, (_CLIENT, _U63)),
    2: (Welcome, (_U63, _PAIR, _PAIR, _U63, _U63, array(*(_POSITIVE,) * 4), text(1024), _U63, _ENDPOINTS)),
    3: (Publish, (_NAME, _CLIENT, _POSITIVE, _COUNT, _U63)),
    4: (Receipt, (_CLIENT, _POSITIVE, _U63, _COUNT, _U63, _U63, _U63)),
    5: (Refused, (_CLIENT, _POSITIVE, _CODE, _DETAILS, _SIGNED)),
    6: (Fetch, (_POSITIVE, _NAME, _U63, _CHOICE, _POSITIVE, _POSITIVE, _CHOICE)),
    7: (Fetched, (_POSITIVE, many(BATCH_INFO, FETCHED_BATCHES_MAX), _SIGNED, _U63, _U63)),
    8: (Query, (_POSITIVE, _CODE, mapping(plain, 64), _CHOICE)),
    9: (Answer, (_POSITIVE, mapping(plain, 65_536), _U63)),
    10: (Failed, (_U63, _CODE, _DETAILS)),
    11: (Ping, (_U63,)),
    12: (Pong, (_U63, flag, _U63, _U63)),
    13: (Goodbye, (text(256),)),
    14: (Members, (_ENDPOINTS,)),
    **SCHEMA,
    **MARKET_SCHEMA,
}
_TYPES: dict[type[Message], int] = {kind: number for number, (kind, _) in _SCHEMA.items()}


class Frame(NamedTuple):
    """A decoded header: whose it is, and what it says. The payload frames stay where they are."""

    cluster: int
    ring: int
    message: Message


def encode(cluster: int, ring: int, message: Message) -> bytes:
    """The header of a frame; append the payload frames as they are."""
    return dumps((VERSION, cluster, ring, _TYPES[type(message)], *message))


def decode(header: bytes | memoryview, payloads: int = 0) -> Frame:
    """Decode a header that came with `payloads` payload frames. Raises BadFrame (UnsupportedVersion is one) only."""
    fields = loads(header, HEADER_BYTES_MAX)
    if type(fields) is not tuple or len(fields) < 4:
        bad("the header", type(fields).__name__, "an array [version, cluster, ring, type, ...]")
    cluster, ring = check_envelope(fields)
    known = _SCHEMA.get(fields[3]) if type(fields[3]) is int else None
    if known is None:
        bad("the frame type", fields[3], f"one of {', '.join(map(str, _SCHEMA))}")
    kind, checks = known
    values = fields[4:]
    if len(values) != len(checks):
        bad(kind.__name__, f"{len(values)} fields", str(len(checks)))
    for name, check, value in zip(kind._fields, checks, values, strict=True):
        check(name, value)
    message = _shaped(kind, values)
    least = len(message.batches) if type(message) is Fetched else int(kind is Publish)
    most = 1 if kind is Receipt else least
    if not least <= payloads <= most:
        bad("the number of payload frames", payloads, str(most))
    return Frame(cluster, ring, message)


def check_envelope(fields: tuple[Any, ...]) -> tuple[int, int]:
    """The (cluster, ring) of a header's first three elements; shared with the feed. Raises BadFrame."""
    version, cluster, ring = fields[:3]
    if type(version) is not int or not 1 <= version <= 0xFFFF:
        bad("the protocol version", version, "1..65535")
    if version != VERSION:
        raise UnsupportedVersion(version=version, supported=VERSION)
    _U64("the cluster id", cluster)
    _U63("the ring id", ring)
    return cluster, ring


def _shaped(kind: type[Message], values: tuple[Any, ...]) -> Message:
    """The message; nested arrays become their named tuples."""
    message = kind._make(values)
    if type(message) is Fetched:
        return message._replace(batches=tuple(map(BatchInfo._make, message.batches)))
    if type(message) is Welcome:
        endpoints = tuple(map(Endpoint._make, message.members))
        return message._replace(limits=Limits._make(message.limits), members=endpoints)
    if type(message) is Members:
        return Members(tuple(map(Endpoint._make, message.members)))
    return message


def expect(frame: Frame, cluster: int, ring: int) -> None:
    """Raise WrongCluster unless the frame is of this cluster and ring; cluster 0 on either side is any."""
    foreign = ANY_CLUSTER not in (frame.cluster, cluster) and frame.cluster != cluster
    if foreign or frame.ring != ring:
        raise WrongCluster(cluster=frame.cluster, expected=cluster, ring=frame.ring, expected_ring=ring)


def refusal(client: bytes, sequence: int, error: RingcastError, last: int = -1) -> Refused:
    """The REFUSED frame of an error."""
    return Refused(client, sequence, error.code, dict(error.details), last)


def failure(request: int, error: RingcastError) -> Failed:
    """The FAILED frame of an error; request 0 refuses the connection."""
    return Failed(request, error.code, dict(error.details))


def error_of(message: Refused | Failed) -> RingcastError:
    """The error that a REFUSED or FAILED frame carries."""
    return from_wire(message.code, message.details)
