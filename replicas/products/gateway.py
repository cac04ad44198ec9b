"""The client side of a product replica: requests in, outcomes out (frames: ringcast/product_store/wire.py).

All requests of one wake become one log entry, however many clients they came from, and all linearizable questions of
one wake share one read index. Bytes that are unanswered are bounded, for each client and for all: beyond it a request
is REFUSED `overloaded` at once, and nothing of it was done. Long reads go to a thread of their own.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

import zmq

from broker.connection import Connection
from broker.grants import PRODUCTS
from broker.guard import Guard
from broker.security import Security
from replicas.products.front import ProductFront, ProductLimits, Standing
from ringcast import wire
from ringcast.errors import NotReady, Overloaded, Refused, RingcastError, TooLarge
from ringcast.product_store.admin import Instruction
from ringcast.product_store.limits import PAGE_MAX
from ringcast.product_store.operations import (
    BySeller,
    Due,
    Get,
    Items,
    Question,
    ReservationOf,
    Search,
    StatusOf,
    StockOf,
    decode_question,
    encode_error,
    encode_outcome,
)
from ringcast.product_store.wire import REQUEST_BYTES_MAX, WINDOW, Ask, Found, Operate, Outcomes, size_of
from ringcast.strict import Plain
from ringcast.types import to_microseconds
from store.errors import RowDamaged, StoreError
from store.products.entries import REQUESTS_MAX, decode_result, encode_entry
from store.products.view import ProductView


class Proposer(Protocol):
    """What the gateway asks of the Raft node that it stands before.

    All calls return at once, and futures belong to the gateway's loop; `view` and `status` are called from any thread.
    """

    def standing(self) -> Standing:
        """Where it stands."""

    def trouble(self) -> RingcastError | None:
        """Why nothing can be ordered here now: NotLeader with the leader's client address, NotReady; else None."""

    def propose(self, entry: bytes) -> "asyncio.Future[bytes]":
        """Order an entry; the future gets its result when it is applied here.

        It fails with Unavailable (NotLeader ...) where that will not be seen here; the entry may be applied elsewhere.
        """

    def read_index(self) -> "asyncio.Future[int]":
        """Done when all that anybody was answered before this call is applied here. Fails with Unavailable."""

    def administer(self, instruction: Instruction) -> "asyncio.Future[Any]":
        """Carry an operator's instruction out; the future has its answer, a plain value. Fails with RingcastError."""

    def view(self) -> AbstractContextManager[ProductView]:
        """One consistent read."""

    def damage(self) -> str:
        """Why nothing may be read here (R24), "" if it may. Any thread."""

    def suspect(self, why: str) -> None:
        """A read found a damaged row."""

    def status(self) -> dict[str, Plain]:
        """What there is to know of the node and its group, for people."""


class _Change(NamedTuple):
    """A request that has no outcomes yet."""

    connection: Connection
    request: Operate
    size: int


class _Reading(NamedTuple):
    """An ASK that has no answer yet; an error stands for a question that is none."""

    connection: Connection
    request: int
    questions: tuple[Question | Instruction | RingcastError, ...]
    size: int

    @property
    def instruction(self) -> Instruction | None:
        """The one that it holds."""
        return next((one for one in self.questions if isinstance(one, Instruction)), None)

    @property
    def rows(self) -> int:
        """Entries of its pages, at most."""
        return sum(one.limit for one in self.questions if isinstance(one, Long))


#: Questions that have a page for an answer.
Long = BySeller | Search | Due | Items
#: (applied, outcomes) of each ASK, or why there are none.
_Answers = list[tuple[int, bytes]] | RingcastError


def wall_clock_us() -> int:
    """Microseconds since 1970."""
    return to_microseconds(datetime.now(UTC))


class ProductGateway(ProductFront):
    """Between the clients of one replica and its Raft node. `bytes`: unanswered, of all clients."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        proposer: Proposer,
        *,
        replica: int,
        limits: ProductLimits | None = None,
        security: Security | None = None,
        guard: Guard | None = None,
        clock_us: Callable[[], int] = wall_clock_us,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`observe(seconds)`: from proposing an entry until its outcome."""
        self.observe = observe
        self.sets_back = False  # the tables' time is to fall (D7)
        self.bytes = 0
        self._proposer = proposer
        self._clock_us = clock_us
        self._changes: list[_Change] = []
        self._local: list[_Reading] = []
        self._linearizable: list[_Reading] = []
        self._reader = ThreadPoolExecutor(1, "ringcast-reads")
        super().__init__(socket, replica, limits, security, guard)

    def close(self) -> None:
        super().close()
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _standing(self) -> Standing:
        return self._proposer.standing()

    def _trouble(self) -> RingcastError | None:
        return self._proposer.trouble()

    def _on_service(self, connection: Connection, message: wire.Message, trouble: RingcastError | None) -> None:
        match message:
            case Operate():
                self._on_operate(connection, message, trouble)
            case Ask():
                self._on_ask(connection, message, trouble)
            case _:
                self.counters["dropped"] += 1  # a frame of the bus, or one that only replicas send

    def _on_wake(self) -> None:
        self._propose()
        self._read()

    # ------------------------------------------------------------------ what may be unanswered

    def _overload(self, connection: Connection, size: int) -> Overloaded | None:
        """One request of a client is taken whatever its size, while there is any room."""
        limits = self.limits
        if connection.count >= WINDOW:
            error = Overloaded(what="what this client has unanswered", size=WINDOW + 1, limit=WINDOW, unit="requests")
        elif connection.count and (total := connection.bytes + size) > (limit := limits.client_bytes_max):
            error = Overloaded(what="what this client has unanswered", size=total, limit=limit, unit="bytes")
        elif self.bytes and (total := self.bytes + size) > (limit := limits.total_bytes_max):
            error = Overloaded(what="what all clients have unanswered", size=total, limit=limit, unit="bytes")
        else:
            return None
        self.counters["overloaded"] += 1
        return error

    def _charge(self, connection: Connection, size: int, count: int) -> None:
        """So much more, or (negative) less, is unanswered."""
        connection.charge(size, count)
        self.bytes += size

    # ------------------------------------------------------------------ changes

    def _on_operate(self, connection: Connection, request: Operate, trouble: RingcastError | None) -> None:
        self.counters["operate"] += 1
        size = size_of(request.operations)
        error: RingcastError | None
        if (denied := connection.grant.refuse_service(PRODUCTS, change=True)) is not None:
            error = denied
        elif size > REQUEST_BYTES_MAX:
            error = TooLarge(what="the request", size=size, limit=REQUEST_BYTES_MAX, unit="bytes")
        else:
            error = trouble or self._overload(connection, size)
        if error is not None:
            self._refuse(connection, request, error)
            return
        self._charge(connection, size, 1)
        self._changes.append(_Change(connection, request, size))

    def _propose(self) -> None:
        """All that came in this wake, in as few entries as the limits allow."""
        changes, self._changes = self._changes, []
        now_s = self._loop.time()
        while changes:
            size = count = 0
            for change in changes[:REQUESTS_MAX]:
                size += change.size
                if count and size > self.limits.entry_bytes_max:
                    break
                count += 1
            taken, changes = changes[:count], changes[count:]
            self.counters["entries"] += 1
            requests = [one.request for one in taken]
            entry = encode_entry(self._clock_us(), requests, sets_back=self.sets_back)
            result = self._proposer.propose(entry)
            result.add_done_callback(partial(self._on_result, taken))
            result.add_done_callback(lambda _: self.observe(self._loop.time() - now_s))

    def _on_result(self, changes: list[_Change], result: "asyncio.Future[bytes]") -> None:
        outcomes: Sequence[bytes] = ()
        error = self._error_of(result)
        if error is None:
            try:
                outcomes = decode_result(result.result(), len(changes))
            except RingcastError as refused:
                error = refused
        for number, (connection, request, size) in enumerate(changes):
            self._charge(connection, -size, -1)
            if error is None:
                self._send(connection, Outcomes(request.client, request.sequence, outcomes[number]))
            else:
                self._refuse(connection, request, error)

    def _refuse(self, connection: Connection, request: Operate, error: RingcastError) -> None:
        self.counters["refused"] += 1
        self._send(connection, wire.refusal(request.client, request.sequence, error))

    def _error_of(self, done: "asyncio.Future[Any]") -> RingcastError | None:
        """Why there is no result; what is no error of ours is the replica's trouble, never its clients' fault."""
        if done.cancelled():
            return NotReady(replica=self._replica, state="stopping")
        error = done.exception()
        if error is None or isinstance(error, RingcastError):
            return error
        self.counters["trouble"] += 1
        return NotReady(replica=self._replica, state=f"in trouble: {error}")

    # ------------------------------------------------------------------ questions

    def _on_ask(self, connection: Connection, ask: Ask, trouble: RingcastError | None) -> None:
        self.counters["ask"] += 1
        size = size_of(ask.questions)
        reading = _Reading(connection, ask.request, tuple(map(_question, ask.questions)), size)
        error: RingcastError | None
        denied = connection.grant.refuse_service(PRODUCTS, change=False)
        if denied is None and reading.instruction is not None:
            denied = connection.grant.refuse_admin("instruct a replica")
        if denied is not None:
            error = denied
        elif reading.rows > PAGE_MAX:
            error = TooLarge(what="the pages of one frame", size=reading.rows, limit=PAGE_MAX, unit="entries")
        elif reading.instruction is not None and len(reading.questions) > 1:
            error = Refused(reason="an instruction travels alone: send each in a frame of its own")
        else:
            error = (trouble if ask.consistency == wire.LINEARIZABLE else None) or self._overload(connection, size)
        if error is not None:
            self._fail(connection.route, ask.request, error)
            return
        self._charge(connection, size, 1)
        (self._linearizable if ask.consistency == wire.LINEARIZABLE else self._local).append(reading)

    def _read(self) -> None:
        """Local questions now; the others when all that was answered before is applied here."""
        if self._local:
            local, self._local = self._local, []
            self._look(local)
        if self._linearizable:
            readings, self._linearizable = self._linearizable, []
            self.counters["read_indexes"] += 1
            self._proposer.read_index().add_done_callback(partial(self._on_read_index, readings))

    def _on_read_index(self, readings: list[_Reading], index: "asyncio.Future[int]") -> None:
        error = self._error_of(index)
        if error is None:
            self._look(readings)
        else:
            self._found(readings, error)

    def _look(self, readings: list[_Reading]) -> None:
        """Short ones here, in one transaction; long ones in the reader's thread, each in its own."""
        if self._closed:
            return
        if short := [one for one in readings if not one.rows and one.instruction is None]:
            self._found(short, self._look_up(short, self._clock_us()))
        for one in readings:
            if (instruction := one.instruction) is not None:
                self._proposer.administer(instruction).add_done_callback(partial(self._on_administered, one))
            elif one.rows:
                work = self._loop.run_in_executor(self._reader, self._look_up, [one], self._clock_us())
                work.add_done_callback(partial(self._on_long, one))

    def _on_long(self, reading: _Reading, answers: "asyncio.Future[_Answers]") -> None:
        self._found([reading], self._error_of(answers) or answers.result())

    def _on_administered(self, reading: _Reading, done: "asyncio.Future[Any]") -> None:
        self.counters["instructions"] += 1
        error, applied = self._error_of(done), self._standing().applied
        self._found([reading], error or [(applied, encode_outcome([encode_outcome(done.result())]))])

    def _look_up(self, readings: Sequence[_Reading], now_us: int) -> _Answers:
        """Any thread."""
        try:
            with self._proposer.view() as view:
                applied = view.meta.applied
                return [
                    (applied, encode_outcome([self._outcome(view, question, now_us) for question in one.questions]))
                    for one in readings
                ]
        except RowDamaged as error:
            self._loop.call_soon_threadsafe(self._proposer.suspect, error.why)
            return NotReady(replica=self._replica, state=f"damaged: {error.why}")
        except StoreError as error:
            return NotReady(replica=self._replica, state=f"in trouble: {error}")

    def _outcome(self, view: ProductView, question: Question | Instruction | RingcastError, now_us: int) -> bytes:
        if isinstance(question, RingcastError):
            return encode_error(question)
        if not isinstance(question, StatusOf) and (why := self._proposer.damage()):
            return encode_error(NotReady(replica=self._replica, state=f"damaged, to be filled again: {why}"))
        try:
            return encode_outcome(self._value(view, question, now_us))
        except RingcastError as error:
            return encode_error(error)

    def _value(self, view: ProductView, question: Question | Instruction, now_us: int) -> Any:
        match question:
            case Get(item):
                return view.get(item)
            case StockOf(item):
                return view.stock(item)
            case BySeller(seller, cursor, limit):
                return view.by_seller(seller, cursor, limit)
            case Search(category, keywords, cursor, limit):
                return view.search(category, keywords, cursor, limit)
            case Items(cursor, limit):
                return view.all_items(cursor, limit)
            case ReservationOf(order):
                return view.reservation(order)
            case Due(limit):
                return view.due(now_us, limit)
            case StatusOf():
                return {**self._proposer.status(), "replica": self._replica, "items": view.items}

    def _found(self, readings: Sequence[_Reading], answers: _Answers) -> None:
        for number, (connection, request, _, size) in enumerate(readings):
            self._charge(connection, -size, -1)
            if isinstance(answers, RingcastError):
                if not connection.closed:
                    self._fail(connection.route, request, answers)
            else:
                self._send(connection, Found(request, *answers[number]))


def _question(data: bytes) -> Question | Instruction | RingcastError:
    try:
        return decode_question(data)
    except RingcastError as error:
        return error
