"""The bus's clients: batches in, verdicts out (docs/wire.md, "Client frames").

Per PUBLISH: check limits, keep the credit (A9). Per loop turn: all batches that came become one request (A1). Per
verdict: one RECEIPT or REFUSED to the connection that waits for it, after delivery (D4). Nothing here looks into a
batch beyond its table of lengths.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Protocol, TypeAlias

import zmq

from broker.front import Front
from broker.grants import Grant
from broker.guard import Guard
from broker.intake import Account, Intake, IntakeLimits
from broker.security import Security
from broker.sockets import Message
from ringcast.bus.batch import check, pack
from ringcast.bus.topics import CURSORS_TOPIC, CUSTOMERS_TOPIC, TOPIC_BYTES_MAX, is_pattern, is_reserved, is_topic
from ringcast.errors import (
    BadFrame,
    IllegalTopic,
    Refused,
    RingcastError,
    TooLarge,
)
from ringcast.wire import (
    Answer,
    Fetch,
    Fetched,
    Hello,
    Limits,
    Ping,
    Pong,
    Publish,
    Query,
    Receipt,
    Welcome,
    encode,
    refusal,
)
from ringcast.wire import Message as WireMessage

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


class Gateway(Front[Account]):
    """Serves clients on a bound ROUTER. `counters`: frames by kind, `dropped`, `refused`, `cut`, `expired` ...

    The shell calls `delivered` after each delivery, and `abandon` when verdicts of pending batches can't come here any
    more (a snapshot replaced the log). What waits while there is trouble is abandoned.
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
        guard: Guard | None = None,
    ) -> None:
        """`observe(seconds)`: from a PUBLISH to its verdict."""
        self.limits = limits or GatewayLimits()
        self.intake = Intake(self.limits.intake, observe)
        self._shell = replica
        self._feed = feed
        super().__init__(
            socket,
            replica=member,
            ring=ring,
            connections_max=self.limits.connections_max,
            answer_bytes_max=self.limits.answer_bytes_max,
            security=security,
            guard=guard,
        )

    def _cluster(self) -> int:
        return self._shell.cluster()

    def _trouble(self) -> RingcastError | None:
        return self._shell.trouble()

    # ------------------------------------------------------------------ the shell's side

    def delivered(self, applied: Iterable[AppliedBatch], refused: Iterable[RefusedBatch]) -> None:
        """Pass on the verdicts that a connection here waits for, and use the room that they made."""
        self.intake.now_s = time.monotonic()
        finish, cluster, ring = self.intake.finish, self._cluster(), self._ring
        for client, sequence, first_offset, messages, slot, time_us, answers in applied:
            account = finish(client, sequence)
            if account is not None:
                receipt = Receipt(client, sequence, first_offset, messages, slot, time_us, account.credit)
                frames = (account.route, encode(cluster, ring, receipt))
                self._send_to(account.route, (*frames, pack(answers)) if answers else frames)
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

    # ------------------------------------------------------------------ frames in

    def _on_frames(self, messages: list[Message]) -> None:
        self.intake.now_s = time.monotonic()  # the loop's own is that of when it woke
        super()._on_frames(messages)

    def _on_wake(self) -> None:
        self._submit()

    def _on_request(
        self, connection: Account, message: WireMessage, parts: Message, trouble: RingcastError | None
    ) -> None:
        match message:
            case Publish():
                self._on_publish(connection, message, parts[2], trouble)
            case Ping(nonce):
                next_offset = self._shell.standing().next_offset
                self._send(connection, Pong(nonce, trouble is None, connection.credit, next_offset))
            case Fetch() | Query():
                self._on_question(connection, message)
            case _:
                self.counters["dropped"] += 1  # a frame that only replicas send

    def _connect(self, route: bytes, hello: Hello, key: str, grant: Grant) -> Account:
        credit = self.intake.grant(hello.wanted, len(self._connections) + 1)
        return Account(route, hello.client, credit, key, grant)

    def _welcome(self, connection: Account) -> Welcome:
        limits, (incarnation, view, opened, next_offset) = self.limits, self._shell.standing()
        batch = Limits(limits.batch_bytes_max, limits.batch_count_max, TOPIC_BYTES_MAX, limits.intake.outstanding_max)
        credit, feed, members = connection.credit, self._feed, self._members
        return Welcome(self._replica, incarnation, view, opened, credit, batch, feed, next_offset, members)

    def _on_publish(self, connection: Account, publish: Publish, packed: bytes, trouble: RingcastError | None) -> None:
        self.counters["publish"] += 1
        error = trouble or self._check(connection, publish, packed) or self.intake.accept(connection, publish, packed)
        if error is not None:
            self._refuse(connection, publish.client, publish.sequence, error)

    def _check(self, connection: Account, publish: Publish, packed: bytes) -> RingcastError | None:
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

    def _on_question(self, connection: Account, request: Fetch | Query) -> None:
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
        self._shell.answer(request, partial(self._reply, connection, number, query))

    # ------------------------------------------------------------------ frames out

    def _submit(self) -> None:
        if not self.intake.queued or self._trouble() is not None:
            return
        for frames in self.intake.take_requests(self._shell.room()):
            self._shell.submit(frames)
            self.counters["submitted"] += 1

    def _reply(
        self,
        connection: Account,
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
        self._send(connection, answer._replace(request=number), payloads)

    def _refuse(self, account: Account, client: bytes, sequence: int, error: RingcastError, last: int = -1) -> None:
        self.counters["refused"] += 1
        frame = encode(self._cluster(), self._ring, refusal(client, sequence, error, last))
        self._send_to(account.route, (account.route, frame))

    def _drop(self, connection: Account) -> None:
        super()._drop(connection)
        self.intake.close(connection)

    def _tick(self) -> None:
        super()._tick()
        trouble = self._trouble()
        if trouble is None:
            self._submit()
        elif not self._leaving:
            self.abandon(trouble)  # who waits is told, and need not ask


@lru_cache(maxsize=8_192)
def _may_publish(topic: str) -> bool:
    return is_topic(topic) and (not is_reserved(topic) or topic in {CURSORS_TOPIC, CUSTOMERS_TOPIC})
