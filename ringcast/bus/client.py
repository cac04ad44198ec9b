"""The asynchronous client: `async with ringcast.connect(cluster) as bus`."""

# ruff: noqa: ASYNC109 - our `timeout` raises NotInQuorum where that is the reason, which asyncio.timeout can't know

import asyncio
from collections.abc import Sequence

import zmq

from ringcast import wire
from ringcast.bus.batch import pack, table_bytes
from ringcast.bus.commits import put
from ringcast.bus.cursors import DELETE, RESET, CursorOperation, check_cursor_name
from ringcast.bus.joining import BATCH_BYTES, BATCH_MESSAGES
from ringcast.bus.live import LiveFeed
from ringcast.bus.messages import Message, batch_of
from ringcast.bus.publisher import LINGER_MS, Publisher
from ringcast.bus.reads import FETCH_MESSAGES, fetch, field, query
from ringcast.bus.session import Session
from ringcast.bus.subscription import Start, Subscription
from ringcast.bus.topics import CURSORS_TOPIC, check_pattern, check_topic
from ringcast.endpoints import Cluster, Keys, find
from ringcast.errors import IllegalTopic, TooLarge
from ringcast.following import TIMEOUT_S, Following
from ringcast.strict import Plain, array, integer, many, text
from ringcast.types import CursorInfo, Headers, Receipt, Status, TopicInfo, pack_headers

_U63 = integer()
_NAME = text(1_024)
_PAIR = array(_U63, integer(0, (1 << 64) - 1))
_TOPICS = many(array(_NAME, _U63, integer(-1)), 1 << 20)
_CURSORS = many(array(_NAME, _NAME, _U63), 1 << 20)
_MEMBERS = many(_U63, 64)


def connect(
    cluster: Cluster,
    *,
    replica: int | None = None,
    timeout: float = TIMEOUT_S,
    window_bytes: int = 0,
    keys: Keys = None,
) -> "Bus":
    """A bus to enter with `async with`.

    cluster: endpoints (`["tcp://host:port", ...]`, or one string with commas), or the path of a `cluster.json`, or of
        the folder it is in. One replica that answers is enough: it tells where the others are, now and later.
    replica: speak to this one only and never fail over (to look at one replica; for work, leave it out).
    timeout: seconds, for entering and for each call that names no other; `math.inf` = none.
    window_bytes: credit to ask for (A9); 0 = what the replica gives.
    keys: our key file, which a secured cluster asks for (`ringcast.keys`) [default: RINGCAST_KEYS, else what
        cluster.json names, else none].

    Raises Refused if `cluster` cannot be read, KeysUnusable. Entering raises Unreachable, HandshakeRefused,
    WrongCluster, UnsupportedVersion.
    """
    return Bus(cluster, replica=replica, timeout=timeout, window_bytes=window_bytes, keys=keys)


class Bus(Following[Session]):
    """One client of the cluster: one id, one connection at a time, everything that failover needs (K2).

    Every call may be cancelled: a batch that got its number stays pending and is sent exactly once; anything else has
    no effect. `timeout` arguments are seconds, None = the bus's own; they raise Timeout, or NotInQuorum if that is why.

    What does not pass ends the bus, and every call and iteration raises it: WrongCluster (another one is at these
    addresses now), HandshakeRefused (our key was revoked), UnsupportedVersion.
    """

    _what = "bus"

    def __init__(
        self, cluster: Cluster, *, replica: int | None, timeout: float, window_bytes: int, keys: Keys = None
    ) -> None:
        super().__init__(find(cluster, keys=keys), timeout)
        self._replica = replica
        self._window_bytes = window_bytes
        self._pinned: dict[int, Session] = {}
        self._opening = asyncio.Lock()
        self._feeds: dict[Session, LiveFeed] = {}

    def _make_session(self, context: "zmq.Context[zmq.Socket[bytes]]") -> Session:
        return Session(context, self._endpoints, replica=self._replica, credit_wanted=self._window_bytes)

    async def close(self) -> None:
        """End everything; unanswered batches become PublishUnknown, so `flush` publishers first. Safe to call twice."""
        if not self._origin.here:
            return
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()
        pinned = list(self._pinned.values())
        self._pinned.clear()
        for session in pinned:
            await session.close()
        await super().close()

    # ---- who and where ----

    @property
    def cluster(self) -> int:
        """The cluster's id, 64 bits."""
        return self._live.cluster

    @property
    def client(self) -> bytes:
        """Our client id, 16 bytes; a new one after SessionExpired."""
        return self._live.outbox.client

    # ---- publishing ----

    async def publish(
        self, topic: str, payload: bytes, headers: Headers | None = None, *, timeout: float | None = None
    ) -> Receipt:
        """Publish one message and return its place in the order, when a quorum has it on disk.

        Raises IllegalTopic, TooLarge, Timeout, NotInQuorum; PublishUnknown if our id ended meanwhile.
        """
        session = self._live
        packed = pack_headers(headers) if headers else b""
        size = self._check(session, topic, (payload,)) + len(packed)
        self._check_size(session, size)
        return await session.publish_one(topic, payload, packed, size, self._seconds(timeout))

    async def publish_many(
        self,
        topic: str,
        payloads: Sequence[bytes],
        headers: Sequence[Headers | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Receipt:
        """Publish messages as one batch: all or none, with consecutive offsets from `receipt.offset`.

        headers: one for each payload, or None. Raises as `publish`; TooLarge if they do not fit one batch.
        """
        session = self._live
        self._check_size(session, self._check(session, topic, payloads))
        packed = pack(payloads, None if headers is None else [pack_headers(one) for one in headers])
        self._check_size(session, len(packed))
        async with session.within(f"the publish on {topic}", self._seconds(timeout)):
            await session.room(len(packed))
            return await asyncio.shield(session.publish(topic, packed, len(payloads)).receipt)

    @staticmethod
    def _check(session: Session, topic: str, payloads: Sequence[bytes]) -> int:
        """What is known to be refused is refused here; the size of the packed batch without headers.

        Raises IllegalTopic, TooLarge, TypeError.
        """
        check_topic(topic)
        for kind in set(map(type, payloads)):
            if kind is not bytes:
                raise TypeError(f"a payload is bytes, not {kind.__name__}: encode it first")
        limits = session.welcome.limits
        if len(topic) > limits.topic_bytes_max:
            raise IllegalTopic(topic=topic, limit=limits.topic_bytes_max)
        if not 1 <= len(payloads) <= limits.batch_count_max:
            limit = f"1 to {limits.batch_count_max}"
            raise TooLarge(what="the batch", size=len(payloads), limit=limit, unit="messages")
        return table_bytes(len(payloads)) + sum(map(len, payloads))

    @staticmethod
    def _check_size(session: Session, size: int) -> None:
        limit = session.welcome.limits.batch_bytes_max
        if size > limit:
            raise TooLarge(what="the packed batch", size=size, limit=limit, unit="bytes")

    def publisher(
        self,
        topic: str,
        *,
        batch_bytes: int = BATCH_BYTES,
        batch_messages: int = BATCH_MESSAGES,
        linger_ms: float = LINGER_MS,
    ) -> Publisher:
        """A pipelined publisher of one topic; use it with `async with`, or `close()` it. Raises IllegalTopic."""
        return Publisher(
            self._live,
            check_topic(topic),
            batch_bytes=batch_bytes,
            batch_messages=batch_messages,
            linger_ms=linger_ms,
        )

    # ---- reading ----

    def subscribe(
        self, topic: str, start: Start = "earliest", cursor: str | None = None, replica: int | None = None
    ) -> Subscription:
        """An endless, ordered stream of a topic (`a.b`) or pattern (`a.b.>`, `>`): no holes, no doubles.

        Use it with `async with`. All subscriptions of a bus share one connection, so thousands of them are cheap.

        start: "earliest" (what retention left), "latest" (from now on), an offset, or a datetime (a naive one is local
            time). It is settled by the first iteration, or by `async with` / `begin()`.
        cursor: name of a durable position; where it exists it decides, else `start` does. Move it with
            `await message.done()`: at least once, and resumed behind it, on whatever replica.
        replica: listen to this replica alone, through a connection of its own that never fails over.

        Raises IllegalTopic. Iterating raises Compacted, and for the start Timeout and NotInQuorum.
        """
        if isinstance(start, str) and start not in ("earliest", "latest"):
            raise ValueError(f"start is {start!r}: use 'earliest', 'latest', an offset or a datetime")
        if isinstance(start, int) and start < 0:
            raise ValueError(f"start is {start}: offsets begin at 0")
        session = self._live

        async def open_feed() -> LiveFeed:
            return self._feed_of(session if replica is None else await self._session_of(replica))

        return Subscription(
            open_feed,
            check_pattern(topic),
            start,
            cursor=None if cursor is None else check_cursor_name(cursor),
            timeout_s=self._timeout_s,
            consistency=wire.LINEARIZABLE if replica is None else wire.LOCAL,
        )

    def _feed_of(self, session: Session) -> LiveFeed:
        """The live feed that all subscriptions of a session share."""
        self._live  # noqa: B018 - raises Closed
        feed = self._feeds.get(session)
        if feed is None:
            feed = self._feeds[session] = LiveFeed(session)
        return feed

    async def _session_of(self, replica: int) -> Session:
        """The session that speaks to one replica only."""
        async with self._opening:
            session = self._pinned.get(replica)
            if session is None:
                self._live  # noqa: B018 - raises Closed
                assert self._context is not None
                session = Session(self._context, self._endpoints, replica=replica)
                try:
                    await session.start(self._timeout_s)
                except BaseException:
                    await session.close()
                    raise
                self._pinned[replica] = session
        return session

    async def fetch(
        self,
        topic: str,
        offset: int,
        count: int,
        *,
        backward: bool = False,
        local: bool = False,
        timeout: float | None = None,
    ) -> list[Message]:
        """At most `count` messages of a topic or pattern, in order: the first ones at or above `offset`.

        backward: the last ones at or below `offset` instead. local: ask the replica for what it has now, instead of for
        everything acknowledged before the call (K3). Fewer than `count` = there are no more. Raises Compacted.
        """
        session = self._live
        check_pattern(topic)
        found: list[Message] = []
        position, end = offset, 0
        consistency = wire.LOCAL if local else wire.LINEARIZABLE
        direction = wire.BACKWARD if backward else wire.FORWARD
        async with session.within(f"the fetch of {topic}", self._seconds(timeout)):
            while len(found) < count:
                wanted = min(count - len(found), FETCH_MESSAGES)
                answer, packed = await fetch(session, topic, position, direction, wanted, consistency)
                if answer.end < end and consistency == wire.LOCAL:
                    # Since a failover another replica answers, which lags behind the one that answered before (K3).
                    consistency = wire.LINEARIZABLE
                    continue
                end = answer.end
                for info, body in zip(answer.batches, packed, strict=True):
                    messages = list(batch_of(info, body, 0 if backward else offset))
                    found += [one for one in reversed(messages) if one.offset <= offset] if backward else messages
                moved = answer.next_offset < position if backward else answer.next_offset > position
                position = answer.next_offset
                if not moved or position < 0 or (not backward and position >= answer.end):
                    break
                consistency = wire.LOCAL
        found = found[:count]
        return found[::-1] if backward else found

    async def get(self, offset: int, *, timeout: float | None = None) -> Message | None:
        """The message at `offset`, None if it is not there yet (or is a record of the bus itself). Raises Compacted."""
        for pattern in (">", CURSORS_TOPIC):
            found = await self.fetch(pattern, offset, 1, timeout=timeout)
            if found and found[0].offset == offset:
                return found[0]
        return None

    # ---- what there is ----

    async def query(
        self,
        name: str,
        arguments: dict[str, Plain] | None = None,
        *,
        local: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Plain]:
        """A named read of the replica's state (docs/wire.md, "Queries"). Raises UnknownQuery."""
        session = self._live
        async with session.within(f"the query {name}", self._seconds(timeout)):
            result, _ = await query(session, name, arguments or {}, wire.LOCAL if local else wire.LINEARIZABLE)
        return result

    async def status(self, *, timeout: float | None = None) -> Status:
        """What the replica we are connected to says about itself and the ring, at once and without a quorum."""
        result = await self.query("status", local=True, timeout=timeout)
        checks = {
            "replica": _U63,
            "state": text(64),
            "view": _PAIR,
            "members": _MEMBERS,
            "ring": _MEMBERS,
            "end": _U63,
            "committed": _U63,
            "next_offset": _U63,
            "compacted_below": _U63,
        }
        holder = None if result.get("token_holder") is None else field(result, "token_holder", _U63)
        known = {name: field(result, name, check) for name, check in checks.items()}
        more = {name: value for name, value in result.items() if name not in Status._fields}
        return Status(**known, token_holder=holder, more=more)

    async def topics(self, pattern: str = ">", *, timeout: float | None = None) -> list[TopicInfo]:
        """The topics that match, by name."""
        result = await self.query("topics", {"pattern": check_pattern(pattern)}, timeout=timeout)
        return sorted((TopicInfo(*one) for one in field(result, "topics", _TOPICS)), key=lambda one: one.name)

    async def offset_at(self, time_us: int, *, timeout: float | None = None) -> int:
        """The first offset that was ordered at or after `time_us` (microseconds since 1970), else the next offset."""
        return int(field(await self.query("offset_at", {"time_us": time_us}, timeout=timeout), "offset", _U63))

    async def cursors(self, *, timeout: float | None = None) -> list[CursorInfo]:
        """All durable cursors, by name."""
        result = await self.query("cursors", timeout=timeout)
        return sorted((CursorInfo(*one) for one in field(result, "cursors", _CURSORS)), key=lambda one: one.name)

    async def cursor(self, name: str, *, timeout: float | None = None) -> CursorInfo | None:
        """One durable cursor, None if nobody has moved it yet."""
        result = await self.query("cursor", {"name": check_cursor_name(name)}, timeout=timeout)
        if result.get("offset") is None:
            return None
        return CursorInfo(name, field(result, "pattern", _NAME), field(result, "offset", _U63))

    async def reset_cursor(self, name: str, topic: str, offset: int, *, timeout: float | None = None) -> None:
        """Set a cursor's position, backwards too; running subscriptions do not notice."""
        await self._change(CursorOperation(RESET, check_cursor_name(name), check_pattern(topic), offset), timeout)

    async def delete_cursor(self, name: str, *, timeout: float | None = None) -> None:
        """Forget a cursor; a cursor that is not there is no error."""
        await self._change(CursorOperation(DELETE, check_cursor_name(name), ">", 0), timeout)

    async def _change(self, operation: CursorOperation, timeout: float | None) -> None:
        session = self._live
        async with session.within(f"cursor {operation.name}", self._seconds(timeout)):
            await put(session, operation)
