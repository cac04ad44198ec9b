"""What an interface replica has behind it: the customers on the bus, and the product store.

Both links follow the replicas by themselves. Commands and questions of many clients share batches and frames; each
change keeps the (client, sequence) of the call that caused it, so whoever repeats the call repeats no change.
"""

import asyncio
import math
from collections import deque
from typing import Any, NamedTuple

import zmq

from replicas.customers import commands as c
from replicas.customers.commands import COMMANDS, QUESTIONS, Command, encode_command
from ringcast import wire
from ringcast.bus.batch import DIGEST_BYTES, digest
from ringcast.bus.reads import query
from ringcast.bus.session import Session
from ringcast.bus.topics import CUSTOMERS_TOPIC
from ringcast.endpoints import Endpoints
from ringcast.errors import AlreadyApplied, NotReady, PublishUnknown, RingcastError, Unavailable
from ringcast.market.wire import Call
from ringcast.product_store.client import ProductStore
from ringcast.product_store.lanes import Lane
from ringcast.product_store.operations import Operation, decode_outcome, decode_outcomes, encode_operation
from ringcast.product_store.session import ProductSession
from ringcast.product_store.wire import Operate, Outcomes
from ringcast.types import CLIENT_ID_BYTES

#: Of one QUERY frame, and how many of these are unanswered at a time; what comes meanwhile joins the next one.
QUESTIONS_MAX = 256
IN_FLIGHT_MAX = 8

_NOBODY = bytes(CLIENT_ID_BYTES)
_NO_SEAL = bytes(DIGEST_BYTES)


class CustomersLink:
    """The customers, by way of whatever bus replica.

    `offset`: the highest that an answer stood at. `heard_s`: when the last answer or receipt came, by the loop's clock.
    """

    def __init__(self, session: Session, timeout_s: float) -> None:
        self.offset = 0
        self.heard_s = -math.inf
        self._session = session
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[bytes, asyncio.Future[bytes]]] = deque()
        self._in_flight = 0
        self._turn: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # ---- commands

    async def command(self, body: NamedTuple, call: Call | None = None) -> Any:
        """Order a command, and its value. Raises its refusal, and Unavailable: then it may be ordered yet.

        Without a call it may be applied more than once.
        """
        packed = COMMANDS.encode(body)
        if call is None:
            command = Command(_NOBODY, 0, 0, 0, _NO_SEAL, packed)
        else:
            seal = digest(call.function)
            command = Command(call.client, call.sequence, call.acknowledged, call.opened[0], seal, packed)
        message = encode_command(command)
        while True:
            try:
                return decode_outcome(await self._publish(message))
            except PublishUnknown:
                continue  # it may have been ordered: the customers know
            except AlreadyApplied:
                if call is not None:
                    raise

    async def _publish(self, message: bytes) -> bytes:
        # Batches are packed with a table: 8 bytes a message and 4 for itself.
        size = len(message) + 12
        receipt = await self._session.publish_one(CUSTOMERS_TOPIC, message, b"", size, self._timeout_s)
        self.heard_s = self._loop.time()
        if not receipt.answers:
            raise NotReady(replica=self._session.welcome.replica, state="unable to answer commands: upgrade it")
        return receipt.answers[0]

    # ---- questions

    async def ask(self, question: NamedTuple) -> Any:
        """A question's value, as of the call or later (K3). Raises its refusal, Unavailable."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((QUESTIONS.encode(question), answer))
        self._flush_soon()
        return decode_outcome(await answer)

    def _flush_soon(self) -> None:
        if self._turn is None and self._in_flight < IN_FLIGHT_MAX:
            self._turn = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._turn = None
        while self._waiting and self._in_flight < IN_FLIGHT_MAX:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), QUESTIONS_MAX))]
            self._in_flight += 1
            task = self._loop.create_task(self._query(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _query(self, asked: list[tuple[bytes, "asyncio.Future[bytes]"]]) -> None:
        arguments: dict[str, Any] = {"questions": [question for question, _ in asked]}
        try:
            async with self._session.within("a question to the customers", self._timeout_s):
                result, offset = await query(self._session, "customers", arguments, wire.LINEARIZABLE)
            self.heard_s = self._loop.time()
            self.offset = max(self.offset, offset)
            answers: Any = result.get("answers")
            if type(answers) is not tuple or len(answers) != len(asked):
                raise NotReady(replica=self._session.welcome.replica, state="unable to answer questions: upgrade it")
        except RingcastError as error:
            for _, waiter in asked:
                if not waiter.done():
                    waiter.set_exception(error)
        else:
            for (_, waiter), one in zip(asked, answers, strict=True):
                if not waiter.done():
                    waiter.set_result(one)
        finally:
            self._in_flight -= 1
            self._flush_soon()

    async def probe(self, quiet_s: float) -> None:
        """If nothing came for so long: is anybody there who can order? Raises Unavailable."""
        if self._loop.time() - self.heard_s >= quiet_s:
            await self.ask(c.OrdersFrom("", 1))


class _Relayed:
    """A request of a client of ours. `sent`: on the present connection. `waiters`: calls that wait for its outcomes."""

    __slots__ = ("operate", "outcomes", "sent", "waiters")

    def __init__(self, operate: Operate, outcomes: "asyncio.Future[bytes]") -> None:
        self.operate = operate
        self.outcomes = outcomes
        self.sent = False
        self.waiters = 0


class RelaySession(ProductSession):
    """A session that carries requests of other clients besides its own, under their own (client, sequence)."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoints: Endpoints) -> None:
        super().__init__(context, endpoints)
        #: When the last answer came that the store's leader gave.
        self.heard_s = -math.inf
        self._relayed: dict[tuple[bytes, int], _Relayed] = {}

    async def relay(self, operate: Operate, seconds: float) -> bytes:
        """The outcomes of the request; twice at the same time is one request. Raises its refusal, Timeout."""
        key = (operate.client, operate.sequence)
        one = self._relayed.get(key)
        if one is None:
            one = self._relayed[key] = _Relayed(operate, self._loop.create_future())
            self._flush_soon()
        one.waiters += 1
        try:
            async with self.within("a change of the product store", seconds):
                return await asyncio.shield(one.outcomes)
        finally:
            one.waiters -= 1
            if not one.waiters:
                one.outcomes.cancel()
                self._relayed.pop(key, None)

    def _flush(self) -> None:
        super()._flush()
        if self._connection is None or self._pause is not None:
            return
        for one in self._relayed.values():
            if not one.sent:
                one.sent = True
                self._connection.send(one.operate)

    async def _serve(self, address: str) -> None:
        try:
            await super()._serve(address)
        finally:
            for one in self._relayed.values():
                one.sent = False

    def _on_message(self, message: wire.Message, payloads: list[bytes]) -> None:
        if isinstance(message, Outcomes | wire.Refused):
            one = self._relayed.get((message.client, message.sequence))
            if one is not None:
                self._on_relayed(one, message)
                return
        super()._on_message(message, payloads)

    def _settle(self, lane: Lane, number: int, outcomes: bytes) -> None:
        self.heard_s = self._loop.time()
        super()._settle(lane, number, outcomes)

    def _on_relayed(self, one: _Relayed, message: Outcomes | wire.Refused) -> None:
        if isinstance(message, Outcomes):
            self.heard_s = self._loop.time()
            self._failures = self._hints = 0
            self._trouble = None
            if not one.outcomes.done():
                one.outcomes.set_result(message.outcomes)
            return
        error = wire.error_of(message)
        if isinstance(error, Unavailable):
            one.sent = False
            self._turned_away(error)
        elif not one.outcomes.done():
            one.outcomes.set_exception(error)


class ProductsLink(ProductStore):
    """The product store, for clients of ours too. Nothing is asked of it with consistency "local"."""

    def _make_session(self, context: "zmq.Context[zmq.Socket[bytes]]") -> RelaySession:
        return RelaySession(context, self._endpoints)

    @property
    def _relays(self) -> RelaySession:
        session = self._live
        assert isinstance(session, RelaySession)
        return session

    @property
    def _entered(self) -> bool:
        """Frames of clients come before this client is entered, and after it was closed."""
        return self._followed is not None

    @property
    def heard_s(self) -> float:
        """When the store's leader last gave an answer, by the loop's clock."""
        return self._relays.heard_s if self._entered else -math.inf

    async def probe(self, quiet_s: float) -> None:
        """If nothing came for so long: does anybody lead? Raises Unavailable."""
        if asyncio.get_running_loop().time() - self.heard_s >= quiet_s:
            await self.reservation("probe")

    @property
    def applied(self) -> int:
        """The highest index of the store's log that an answer stood at; 0 without one."""
        return self._live.applied if self._entered else 0

    async def relay(self, call: Call, operation: Operation) -> Any:
        """Apply an operation as the call's client, once; its value. Raises its refusal, Unavailable."""
        operations = (encode_operation(operation),)
        operate = Operate(call.client, call.sequence, call.acknowledged, call.opened[1], operations)
        outcomes = await self._relays.relay(operate, self._timeout_s)
        return decode_outcome(decode_outcomes(outcomes, 1)[0])
