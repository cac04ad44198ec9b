"""The client side of an interface replica: calls and questions in, outcomes out (frames: ringcast/market/wire.py).

Nothing is kept here but what is under way, so any interface can take up what another one dropped. What is unanswered is
bounded, for each client and for all; beyond it a request is REFUSED `overloaded`, and nothing of it was done.
"""

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import structlog
import zmq

from broker.connection import Connection
from broker.guard import Guard
from broker.security import Security
from replicas.market.functions import MarketFunctions
from replicas.market.orders import Purchases
from replicas.metrics import Histogram
from replicas.products.front import ProductFront, ProductLimits, Standing
from ringcast import wire
from ringcast.errors import Closed, NotReady, OutcomeUnknown, Overloaded, Refused, RingcastError, Unavailable
from ringcast.market import functions as f
from ringcast.market.wire import Call
from ringcast.product_store.operations import encode_error, encode_outcome
from ringcast.product_store.wire import Ask, Found, Outcomes
from ringcast.strict import Plain

#: Calls and questions under way, of one client and of all.
CLIENT_MAX = 64
TOTAL_MAX = 4_096


class MarketGateway(ProductFront):
    """Between the clients of one interface replica and its functions. `busy`: calls and questions under way."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        functions: MarketFunctions,
        *,
        replica: int,
        standing: Callable[[], Standing],
        trouble: Callable[[], RingcastError | None],
        status: Callable[[], dict[str, Plain]],
        limits: ProductLimits | None = None,
        security: Security | None = None,
        guard: Guard | None = None,
        service: str = "",
    ) -> None:
        """`service`: what a key must have rights to, `_sellers` or `_buyers`."""
        self.busy = 0
        self._service = service
        #: How long each function took here, by name.
        self.seconds: dict[str, Histogram] = {}
        self._functions = functions
        self._where = standing
        self._why = trouble
        self._status = status
        self._log = structlog.get_logger()
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(socket, replica, limits, security, guard)

    @property
    def purchases(self) -> Purchases:
        """What became of orders here."""
        return self._functions.purchases

    def close(self) -> None:
        super().close()
        for task in self._tasks:
            task.cancel()

    def _standing(self) -> Standing:
        return self._where()

    def _trouble(self) -> RingcastError | None:
        return self._why()

    def _no_entry(self) -> RingcastError | None:
        """A client id begins where the databases stand: without them there is none to give."""
        return super()._no_entry() or self._trouble()

    def _on_wake(self) -> None:
        """Every request is under way by itself."""

    def _on_service(self, connection: Connection, message: wire.Message, trouble: RingcastError | None) -> None:
        match message:
            case Call():
                error = self._denied(connection, change=True) or trouble or self._overload(connection)
                if error is None:
                    self._start(connection, self._call(connection, message))
                else:
                    self._refuse(connection, message, error)
            case Ask():
                error = self._denied(connection, change=False) or trouble or self._overload(connection)
                if error is None:
                    self._start(connection, self._ask(connection, message))
                else:
                    self._fail(connection.route, message.request, error)
            case _:
                self.counters["dropped"] += 1

    def _denied(self, connection: Connection, *, change: bool) -> RingcastError | None:
        return connection.grant.refuse_service(self._service, change=change)

    def _overload(self, connection: Connection) -> Overloaded | None:
        if connection.count >= CLIENT_MAX:
            size, limit, who = connection.count + 1, CLIENT_MAX, "this client has"
        elif self.busy >= TOTAL_MAX:
            size, limit, who = self.busy + 1, TOTAL_MAX, "all clients have"
        else:
            return None
        self.counters["overloaded"] += 1
        return Overloaded(what=f"what {who} under way", size=size, limit=limit, unit="calls")

    def _start(self, connection: Connection, work: Coroutine[Any, Any, None]) -> None:
        connection.count += 1
        self.busy += 1
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def done(task: "asyncio.Task[None]") -> None:
            connection.count -= 1
            self.busy -= 1
            self._tasks.discard(task)

        task.add_done_callback(done)

    # ------------------------------------------------------------------ work

    async def _call(self, connection: Connection, call: Call) -> None:
        outcome = await self._outcome(f.CHANGES.decode, call.function, lambda one: self._functions.change(one, call))
        if isinstance(outcome, bytes):
            self._send(connection, Outcomes(call.client, call.sequence, encode_outcome([outcome])))
        else:
            self._refuse(connection, call, outcome)

    async def _ask(self, connection: Connection, ask: Ask) -> None:
        asked = [self._outcome(f.QUESTIONS.decode, one, self._functions.answer) for one in ask.questions]
        outcomes: list[bytes] = []
        # Most come alone, and a task more each would be felt.
        for outcome in [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked):
            if not isinstance(outcome, bytes):
                if not connection.closed:
                    self._fail(connection.route, ask.request, outcome)
                return
            outcomes.append(outcome)
        self._send(connection, Found(ask.request, self._where().applied, encode_outcome(tuple(outcomes))))

    async def _outcome(
        self,
        decode: Callable[[bytes, str], Any],
        packed: bytes,
        work: Callable[[Any], Coroutine[Any, Any, Any]],
    ) -> bytes | RingcastError:
        """The outcome; an error instead is why there is none yet: the client is to send it again."""
        try:
            function = decode(packed, "function")
            if isinstance(function, f.StatusOf):
                return encode_outcome(self._status())
            if not self._functions.serves(function):
                return encode_error(Refused(reason=f"{type(function).__name__} is served by the other interface"))
            name, started = type(function).__name__, perf_counter()
            try:
                return encode_outcome(await work(function))
            finally:
                self.seconds.setdefault(name, Histogram()).observe(perf_counter() - started)
                self.counters[name] += 1
        except Unavailable as error:
            return error
        except (OutcomeUnknown, Closed) as error:
            # Ours, not the client's: whoever carries the call out again finds what became of it.
            return NotReady(replica=self._replica, state=f"cut off: {error}")
        except RingcastError as error:
            return encode_error(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not wait for ever
            self._log.exception("function_failed")
            return NotReady(replica=self._replica, state=f"in trouble: {error!r}")

    def _refuse(self, connection: Connection, call: Call, error: RingcastError) -> None:
        self.counters["refused"] += 1
        self._send(connection, wire.refusal(call.client, call.sequence, error))

    async def drained(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
