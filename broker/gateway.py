"""The client side of a replica: one ROUTER that every client's DEALER connects to (docs/wire.md, "Client frames").

Per frame: decode strictly, check limits, keep the credit (A9). Per loop turn: all batches that came become one request
(A1). Per verdict: one RECEIPT or REFUSED to the connection that waits for it, after delivery (D4). Nothing here looks
into a batch beyond its table of lengths.

With keys (`security`) each message tells whose it is, and what its owner may do is looked up once a connection.

What a client does wrong hurts that client alone: garbage is dropped and counted, a typed refusal names the limit, and
who does not read its answers is cut. A client that was cut, or that this process does not know, is told so at its next
frame, and connects again (K2).
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Protocol, TypeAlias

import zmq

from broker.grants import Grant
from broker.intake import Account, Intake, IntakeLimits
from broker.security import Security, clients_door, grant_of
from broker.sockets import DrainedSocket, Message, Sent
from ringcast.batch import check, pack
from ringcast.errors import (
    BadFrame,
    IllegalTopic,
    NotReady,
    Refused,
    RingcastError,
    TooLarge,
    UnsupportedVersion,
    WrongCluster,
)
from ringcast.topics import CURSORS_TOPIC, CUSTOMERS_TOPIC, TOPIC_BYTES_MAX, is_pattern, is_reserved, is_topic
from ringcast.wire import (
    ANY_CLUSTER,
    Answer,
    Endpoint,
    Fetch,
    Fetched,
    Goodbye,
    Hello,
    Limits,
    Members,
    Ping,
    Pong,
    Publish,
    Query,
    Receipt,
    Welcome,
    decode,
    encode,
    expect,
    failure,
    refusal,
)
from ringcast.wire import Message as WireMessage

TICK_S = 0.25
#: Ticks without any frame after which a connection is forgotten; clients ping each 250 ms.
SILENT_TICKS_MAX = 120
UNKNOWN_CLUSTER = 0
#: Smaller answers are bounded by the queue's high-water mark alone.
TRACKED_BYTES_MIN = 64 << 10

Reply: TypeAlias = Callable[[Fetched | Answer | RingcastError, Sequence[bytes]], None]
#: (client, sequence, first offset, messages, slot, time_us, answers) of an applied batch, original values if repeated.
AppliedBatch: TypeAlias = tuple[bytes, int, int, int, int, int, tuple[bytes, ...]]
#: (client, sequence, error, last): a batch that was refused; `last` as in REFUSED.
RefusedBatch: TypeAlias = tuple[bytes, int, RingcastError, int]


class Standing(NamedTuple):
    """What WELCOME and PONG say of the replica. `opened`: the committed slot now (K1)."""

    incarnation: tuple[int, int]
    view: tuple[int, int]
    opened: int
    next_offset: int


class Replica(Protocol):
    """What the gateway asks of the process that it stands in; all calls return at once."""

    def cluster(self) -> int:
        """The cluster id, 0 while there is none."""

    def standing(self) -> Standing:
        """For WELCOME and PONG."""

    def trouble(self) -> RingcastError | None:
        """Why nothing can be ordered here now (NotInQuorum, NotReady), else None."""

    def room(self) -> int:
        """Bytes that may be submitted (A9)."""

    def submit(self, frames: tuple[bytes, ...]) -> None:
        """Order a request (A1)."""

    def answer(self, request: Fetch | Query, reply: Reply) -> None:
        """Call `reply` once, now or later, with the answer and its payloads, or with an error."""


class GatewayLimits(NamedTuple):
    """Limits of batches, connections and answers; `intake` holds those of what is outstanding."""

    batch_bytes_max: int = 8 << 20
    batch_count_max: int = 1 << 16
    connections_max: int = 10_000
    requests_max: int = 64
    answer_bytes_max: int = 32 << 20
    intake: IntakeLimits = IntakeLimits()


class _Connection(Account):
    """A client after its HELLO. `key`: it was said with. `unread`: answers that libzmq still holds for it."""

    __slots__ = ("grant", "key", "unread", "unread_bytes")

    def __init__(self, route: bytes, client: bytes, credit: int, key: str, grant: Grant) -> None:
        super().__init__(route, client, credit)
        self.key = key
        self.grant = grant
        self.unread: deque[tuple[zmq.MessageTracker, int]] = deque()
        self.unread_bytes = 0


class Gateway:
    """Serves clients on a bound ROUTER. `counters`: frames by kind, `dropped`, `refused`, `cut`, `expired` ...

    The shell calls `delivered` after each delivery, `leave` when it stops, `abandon` when verdicts of pending batches
    can't come here any more (a snapshot replaced the log), and `close`. What waits while there is trouble is abandoned.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        replica: Replica,
        *,
        member: int,
        ring: int,
        feed: str,
        limits: GatewayLimits | None = None,
        observe: Callable[[float], None] = lambda _: None,
        security: Security | None = None,
    ) -> None:
        """`observe(seconds)`: from a PUBLISH to its verdict."""
        self.limits = limits or GatewayLimits()
        self.intake = Intake(self.limits.intake, observe)
        self.counters: Counter[str] = Counter()
        self._replica = replica
        self._member = member
        self._ring = ring
        self._feed = feed
        self._connections: dict[bytes, _Connection] = {}
        self._members: tuple[Endpoint, ...] = ()
        self._leaving = ""
        self._loop = asyncio.get_running_loop()
        self._security = security
        identify = clients_door(security, socket, self._keys_changed)
        self._socket = DrainedSocket(socket, self._on_frames, identify=identify)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    @property
    def connections(self) -> int:
        """Clients that said HELLO and are not gone."""
        return len(self._connections)

    # ------------------------------------------------------------------ the shell's side

    def delivered(self, applied: Iterable[AppliedBatch], refused: Iterable[RefusedBatch]) -> None:
        """Pass on the verdicts that a connection here waits for, and use the room that they made."""
        self.intake.now_s = time.monotonic()
        finish, cluster, ring = self.intake.finish, self._replica.cluster(), self._ring
        for client, sequence, first_offset, messages, slot, time_us, answers in applied:
            account = finish(client, sequence)
            if account is not None:
                receipt = Receipt(client, sequence, first_offset, messages, slot, time_us, account.credit)
                frames = (account.route, encode(cluster, ring, receipt))
                self._send_frames(account.route, (*frames, pack(answers)) if answers else frames)
        for client, sequence, error, last in refused:
            account = finish(client, sequence)
            if account is not None:
                self._refuse(account, client, sequence, error, last)
        self._submit()

    def waits_for(self, client: bytes, sequence: int) -> bool:
        """Is this batch pending here?"""
        return self.intake.waits_for(client, sequence)

    def abandon(self, error: RingcastError) -> None:
        """The verdicts of what is pending may not be seen here: its clients ask another replica (K2)."""
        for account, sequence in self.intake.abandon():
            if not account.closed:
                self._refuse(account, account.client, sequence, error)

    def tell_members(self, members: tuple[Endpoint, ...]) -> None:
        """Where clients find the ring's members from now on (V12); each client hears of a change at once."""
        if members != self._members:
            self._members = members
            for connection in list(self._connections.values()):
                self._send(connection, Members(members))

    def leave(self, reason: str) -> None:
        """Send every client to another replica and take no new ones (V11); verdicts of pending batches still go out."""
        self._leaving = reason or "stopping"
        for connection in list(self._connections.values()):
            self._send(connection, Goodbye(self._leaving))

    def close(self) -> None:
        """Stop; the socket is closed. Safe to call twice."""
        self._timer.cancel()
        self._socket.close()

    # ------------------------------------------------------------------ frames in

    def _on_frames(self, messages: list[Message]) -> None:
        self.intake.now_s = time.monotonic()  # the loop's own is that of when it woke
        trouble = self._trouble()
        for parts, key in zip(messages, self._socket.keys, strict=False):
            try:
                self._on_message(parts, key, trouble)
            except UnsupportedVersion as error:
                self.counters["dropped"] += 1
                self._fail(parts[0], 0, error)
            except BadFrame:
                self.counters["dropped"] += 1
            except WrongCluster as error:
                self.counters["wrong_cluster"] += 1
                self._fail(parts[0], 0, error)
        self._submit()

    def _on_message(self, parts: Message, key: str, trouble: RingcastError | None) -> None:
        route = parts[0]
        frame = decode(parts[1] if len(parts) > 1 else b"", len(parts) - 2)
        connection = self._connections.get(route)
        message = frame.message
        cluster = self._replica.cluster()
        if frame.cluster not in (cluster, ANY_CLUSTER) or frame.ring != self._ring:
            expect(frame, cluster, self._ring)
        if connection is not None and connection.key != key:
            self._drop(connection)  # its name came to be another connection's
            connection = None
        if connection is None:
            if type(message) is Hello:
                self._on_hello(route, message, key)
            elif type(message) is not Goodbye:
                self.counters["strangers"] += 1
                self._fail(route, 0, NotReady(replica=self._member, state="waiting for HELLO on this connection"))
            return
        connection.silent_ticks = 0
        match message:
            case Publish():
                self._on_publish(connection, message, parts[2], trouble)
            case Ping(nonce):
                standing = self._replica.standing()
                self._send(connection, Pong(nonce, trouble is None, connection.credit, standing.next_offset))
            case Fetch() | Query():
                self._on_request(connection, message)
            case Hello():
                self._drop(connection)
                self._on_hello(route, message, key)
            case Goodbye():
                self._drop(connection)
            case _:
                self.counters["dropped"] += 1  # a frame that only replicas send

    def _on_hello(self, route: bytes, hello: Hello, key: str) -> None:
        grant = grant_of(self._security, key)
        if grant is None:
            self.counters["without_grant"] += 1  # revoked in this moment: it is cut
            return
        cluster = self._replica.cluster()
        if cluster == UNKNOWN_CLUSTER or self._leaving:
            self._fail(route, 0, self._trouble() or NotReady(replica=self._member, state="starting"))
            return
        if len(self._connections) >= self.limits.connections_max:
            state = f"full: it serves {len(self._connections)} clients, its limit"
            self._fail(route, 0, NotReady(replica=self._member, state=state))
            return
        credit = self.intake.grant(hello.wanted, len(self._connections) + 1)
        connection = self._connections[route] = _Connection(route, hello.client, credit, key, grant)
        self.counters["hello"] += 1
        limits, standing = self.limits, self._replica.standing()
        batch = Limits(limits.batch_bytes_max, limits.batch_count_max, TOPIC_BYTES_MAX, limits.intake.outstanding_max)
        incarnation, view, opened, next_offset = standing
        welcome = Welcome(
            self._member, incarnation, view, opened, credit, batch, self._feed, next_offset, self._members
        )
        self._send(connection, welcome)

    def _on_publish(
        self, connection: _Connection, publish: Publish, packed: bytes, trouble: RingcastError | None
    ) -> None:
        self.counters["publish"] += 1
        error = trouble or self._check(connection, publish, packed) or self.intake.accept(connection, publish, packed)
        if error is not None:
            self._refuse(connection, publish.client, publish.sequence, error)

    def _check(self, connection: _Connection, publish: Publish, packed: bytes) -> RingcastError | None:
        limits = self.limits
        if not _may_publish(publish.topic):
            return IllegalTopic(topic=publish.topic[: TOPIC_BYTES_MAX + 1], limit=TOPIC_BYTES_MAX)
        if len(packed) > limits.batch_bytes_max:
            return TooLarge(what="the packed batch", size=len(packed), limit=limits.batch_bytes_max, unit="bytes")
        if publish.messages > limits.batch_count_max:
            return TooLarge(what="the batch", size=publish.messages, limit=limits.batch_count_max, unit="messages")
        if publish.client != connection.client:
            return Refused(reason="the client id is not the one of this connection's HELLO: say HELLO again")
        try:
            check(packed, publish.messages)
        except BadFrame as error:
            return error
        return None if connection.grant.admin else connection.grant.refuse_publish(publish.topic, packed)

    def _on_request(self, connection: _Connection, request: Fetch | Query) -> None:
        self.counters["requests"] += 1
        number = request.request
        if type(request) is Fetch and (not is_pattern(request.pattern) or request.pattern == CUSTOMERS_TOPIC):
            topic = request.pattern[: TOPIC_BYTES_MAX + 1]
            self._fail(connection.route, number, IllegalTopic(topic=topic, limit=TOPIC_BYTES_MAX))
            return
        if number in connection.requests or len(connection.requests) >= self.limits.requests_max:
            size, limit = len(connection.requests) + 1, self.limits.requests_max
            what = "the number of unanswered requests"
            self._fail(connection.route, number, TooLarge(what=what, size=size, limit=limit, unit="requests"))
            return
        error = connection.grant.refuse_request(request)
        if error is not None:
            self._fail(connection.route, number, error)
            return
        connection.requests.add(number)
        query = request.name if type(request) is Query else ""
        self._replica.answer(request, partial(self._reply, connection, number, query))

    # ------------------------------------------------------------------ frames out

    def _submit(self) -> None:
        if not self.intake.queued or self._replica.trouble() is not None:
            return
        for frames in self.intake.take_requests(self._replica.room()):
            self._replica.submit(frames)
            self.counters["submitted"] += 1

    def _trouble(self) -> RingcastError | None:
        if self._leaving:
            return NotReady(replica=self._member, state=f"leaving: {self._leaving}")
        return self._replica.trouble()

    def _reply(
        self,
        connection: _Connection,
        number: int,
        query: str,
        answer: Fetched | Answer | RingcastError,
        payloads: Sequence[bytes],
    ) -> None:
        """Answer one FETCH or QUERY; nothing happens if it was answered before or its connection is gone."""
        if connection.closed or number not in connection.requests:
            return
        connection.requests.remove(number)
        if isinstance(answer, Answer):
            answer = connection.grant.show(query, answer)
        if isinstance(answer, RingcastError):
            self._fail(connection.route, number, answer)
            return
        header = encode(self._replica.cluster(), self._ring, answer._replace(request=number))
        frames = (connection.route, header, *payloads)
        size = len(header) + sum(map(len, payloads))
        if size < TRACKED_BYTES_MIN:
            self._mind(connection, self._socket.send(frames))
            return
        outcome, tracker = self._socket.send_tracked(frames)
        self._mind(connection, outcome)
        unread = connection.unread
        if tracker is not None:
            unread.append((tracker, size))
            connection.unread_bytes += size
        while unread and unread[0][0].done:
            connection.unread_bytes -= unread.popleft()[1]
        if connection.unread_bytes > self.limits.answer_bytes_max and not connection.closed:
            self._cut(connection)

    def _refuse(self, account: Account, client: bytes, sequence: int, error: RingcastError, last: int = -1) -> None:
        self.counters["refused"] += 1
        header = encode(self._replica.cluster(), self._ring, refusal(client, sequence, error, last))
        self._send_frames(account.route, (account.route, header))

    def _send(self, connection: _Connection, message: WireMessage) -> None:
        header = encode(self._replica.cluster(), self._ring, message)
        self._send_frames(connection.route, (connection.route, header))

    def _fail(self, route: bytes, number: int, error: RingcastError) -> None:
        self.counters["failed"] += 1
        header = encode(self._replica.cluster(), self._ring, failure(number, error))
        self._send_frames(route, (route, header))

    def _send_frames(self, route: bytes, frames: Sequence[bytes]) -> None:
        outcome = self._socket.send(frames)
        if outcome is not Sent.DONE:
            connection = self._connections.get(route)
            if connection is not None:
                self._mind(connection, outcome)

    def _mind(self, connection: _Connection, outcome: Sent) -> None:
        if outcome is Sent.FULL:
            self._cut(connection)
        elif outcome is Sent.GONE:
            self._drop(connection)

    # ------------------------------------------------------------------ the end of a connection

    def _cut(self, connection: _Connection) -> None:
        """It does not read what it asked for (A9): forget it; at its next frame it is told to say HELLO again."""
        self.counters["cut"] += 1
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.route, None)
        self.intake.close(connection)

    def _keys_changed(self) -> None:
        """Who has other rights than before says HELLO again, or is gone for good: its connection is cut already."""
        assert self._security is not None
        for connection in list(self._connections.values()):
            if self._security.grant(connection.key) != connection.grant:
                self._drop(connection)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        # Counted in ticks, not in time: a process that was stopped itself must not take its clients for dead.
        for connection in list(self._connections.values()):
            connection.silent_ticks += 1
            if connection.silent_ticks > SILENT_TICKS_MAX:
                self.counters["expired"] += 1
                self._drop(connection)
        trouble = self._replica.trouble()
        if trouble is None:
            self._submit()
        elif not self._leaving:
            self.abandon(trouble)  # who waits is told, and need not ask


@lru_cache(maxsize=8_192)
def _may_publish(topic: str) -> bool:
    return is_topic(topic) and (not is_reserved(topic) or topic in {CURSORS_TOPIC, CUSTOMERS_TOPIC})
