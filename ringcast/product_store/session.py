"""A client's standing with the product store: it follows the leader, and each change is applied once.

Changes are numbered by a client id of ours and kept until they are answered, through any number of connections; the
store answers a number that it has seen with its first answer. Nothing here gives up by itself: time limits are the
callers'.
"""

import asyncio
import math
import os
import random
from typing import Any, ClassVar

import zmq

from ringcast import wire
from ringcast.connection import Connection
from ringcast.endpoints import Endpoints
from ringcast.errors import (
    Closed,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    RingcastError,
    SessionExpired,
    Timeout,
    Unavailable,
)
from ringcast.failover import HELLO_TIMEOUT_S, Failover
from ringcast.product_store.lanes import Lane, Request
from ringcast.product_store.operations import decode_outcome, decode_outcomes
from ringcast.product_store.wire import Ask, Found, Operate, Outcomes
from ringcast.types import CLIENT_ID_BYTES

RING = 0
#: An overloaded replica is asked again after so long, more or less.
OVERLOADED_S = 0.05
#: Leaders' addresses that are followed without a pause.
HINTS_MAX = 3


class ProductSession(Failover):
    """Connects to one replica at a time, by preference to the one that leads."""

    backoff_max_s: ClassVar[float] = 0.1
    #: How errors call it.
    what: ClassVar[str] = "product store"

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoints: Endpoints) -> None:
        super().__init__(context, endpoints)
        self.client = os.urandom(CLIENT_ID_BYTES)
        self._replica = 0
        #: The highest index that an answer to a question stood at.
        self.applied = 0
        self._opened: int | None = None
        self._changes = Lane()
        self._asks = {wire.LINEARIZABLE: Lane(), wire.LOCAL: Lane()}
        #: The store has ended our session: nothing is sent until all that was has its answer, then a new id begins.
        self._ended = False
        #: Requests that met that end before they were applied: they go again under the new id.
        self._expired: list[Request] = []
        self._room = asyncio.Event()
        self._connection: Connection | None = None
        #: The leader's address, if it was told; so many were followed in a row.
        self._hint = ""
        self._hints = 0
        self._turn: asyncio.Handle | None = None
        self._pause: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last; 0 before."""
        return self._replica

    async def close(self) -> None:
        """End it: changes that were sent raise OutcomeUnknown, everything else Closed."""
        self._closed = True
        await self.stop()
        for lane in self._lanes:
            for request in lane.drain():
                sent_change = lane is self._changes and request.attempts
                request.fail(self._unknown(request) if sent_change else Closed(what=self.what))
        for request in self._expired:
            request.fail(Closed(what=self.what))
        if self._pause is not None:
            self._pause.cancel()
        self._room.set()

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self._changes, *self._asks.values())

    # ---- requests

    async def change(self, what: str, operation: bytes, seconds: float) -> Any:
        """Apply an operation once; its value. Raises its refusal, Timeout (it stays pending), OutcomeUnknown."""
        return await self._request(self._changes, what, operation, seconds, alone=False)

    async def ask(self, what: str, question: bytes, consistency: int, seconds: float, *, alone: bool) -> Any:
        """The answer to a question. `alone`: it may be long, so others do not wait for it in the same frame."""
        return await self._request(self._asks[consistency], what, question, seconds, alone=alone)

    async def _request(self, lane: Lane, what: str, item: bytes, seconds: float, *, alone: bool) -> Any:
        deadline = self._loop.time() + seconds
        while lane.full and not self._closed:
            async with self.within(what, deadline - self._loop.time()):
                self._room.clear()
                await self._room.wait()
        if self._closed:
            raise Closed(what=self.what)
        outcome = lane.add(item, alone=alone)
        self._flush_soon()
        if math.isinf(seconds):
            return decode_outcome(await outcome)
        timer = self._loop.call_at(deadline, self._expire, outcome, what, seconds, lane is self._changes)
        try:
            return decode_outcome(await outcome)
        finally:
            timer.cancel()

    def _expire(self, outcome: "asyncio.Future[bytes]", what: str, seconds: float, change: bool) -> None:
        if outcome.done():
            return
        error = self._late(what, seconds)
        if change and isinstance(error, Timeout):
            reason = "the change may have been applied, or be applied yet, once at most: read before you repeat it"
            error = Timeout(what=what, seconds=seconds, reason=f"{self._trouble or 'no answer'}; {reason}")
        outcome.set_exception(error)

    # ---- frames out

    def _flush_soon(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._turn = None
        if self._connection is None or self._opened is None or self._pause is not None:
            return
        while not self._ended and (request := self._changes.take()) is not None:
            self._connection.send(self._change_frame(request))
        for consistency, lane in self._asks.items():
            while (request := lane.take()) is not None:
                # One number space for both lanes of questions, told apart by the lowest bit.
                number = request.number << 1 | consistency
                self._connection.send(Ask(number, consistency, tuple(request.items)))

    def _change_frame(self, request: Request) -> wire.Message:
        assert self._opened is not None
        return Operate(self.client, request.number, self._changes.acknowledged, self._opened, tuple(request.items))

    # ---- connections

    def _open(self, welcome: wire.Welcome) -> None:
        """A new client id begins with this answer."""
        self._opened = welcome.opened

    def _next_address(self) -> str:
        hint, self._hint = self._hint, ""
        self._hints = self._hints + 1 if hint else 0
        return hint or super()._next_address()

    def _backoff_s(self) -> float:
        """A leader's address is news, and soon old; but replicas that send us in a circle are not asked for ever."""
        return 0.0 if self._hint and self._hints < HINTS_MAX else super()._backoff_s()

    async def _serve(self, address: str) -> None:
        connection = Connection(self._context, address, self.cluster, RING, self._on_message, self.credentials)
        welcome = await connection.open(self.client, 0, HELLO_TIMEOUT_S)
        try:
            self.cluster = connection.cluster
            self._replica = welcome.replica
            self._learn(welcome.members)
            self._connection = connection
            if self._opened is None:
                self._open(welcome)
            self._attached()
            self._flush()
            self._trouble = await asyncio.shield(connection.lost)
            self.failovers += 1
        finally:
            self._connection = None
            connection.close()
            if self._ended:
                self._reopen()
            for lane in self._lanes:
                lane.disconnected()

    def _move(self, reason: RingcastError, address: str = "") -> None:
        """Leave this replica, for the one at `address` if that is known."""
        self._trouble = reason
        self._hint = address
        if self._connection is not None:
            self._connection.lose(reason)

    def _reopen(self) -> None:
        """A new client id. What was sent under the old one and has no answer may have been applied, or not."""
        unanswered = self._changes.drain()
        for request in unanswered:
            if request.attempts:
                request.fail(self._unknown(request))
        kept = [*self._expired, *(request for request in unanswered if not request.attempts)]
        self.client, self._opened = os.urandom(CLIENT_ID_BYTES), None
        self._ended, self._expired = False, []
        self._changes.restart(kept)

    def _unknown(self, request: Request) -> OutcomeUnknown:
        what = f"a request of {len(request.items)} changes"
        return OutcomeUnknown(what=what, sequence=request.number, client=self.client.hex())

    # ---- frames in

    def _on_message(self, message: wire.Message, _payloads: list[bytes]) -> None:
        match message:
            case Outcomes(client, sequence, outcomes) if client == self.client:
                self._settle(self._changes, sequence, outcomes)
            case Found(number, applied, outcomes):
                self.applied = max(self.applied, applied)
                self._settle(self._asks[number & 1], number >> 1, outcomes)
            case wire.Refused(client, sequence) if client == self.client:
                self._on_refused(self._changes, sequence, wire.error_of(message))
            case wire.Failed(number):
                self._on_refused(self._asks[number & 1], number >> 1, wire.error_of(message))
            case wire.Members(members):
                self._learn(members)
            case _:
                pass  # PONG, or an answer to a client id that we have given up

    def _settle(self, lane: Lane, number: int, outcomes: bytes) -> None:
        request = lane.finish(number)
        if request is None:
            return
        self._failures = self._hints = 0
        self._trouble = None
        try:
            request.settle(decode_outcomes(outcomes, len(request.items)))
        except SessionExpired as error:
            self._on_expired(request, error)
        except RingcastError as error:
            request.fail(error)
        self._room.set()
        self._flush_soon()

    def _on_expired(self, request: Request, error: SessionExpired) -> None:
        """Sent once it was not applied, and goes again; sent before, it may have been."""
        self._ended = True
        if request.attempts == 1:
            self._expired.append(request)
        else:
            request.fail(self._unknown(request))
        if not self._changes.sent and self._connection is not None:
            self._move(error, self._connection.endpoint)

    def _on_refused(self, lane: Lane, number: int, error: RingcastError) -> None:
        if isinstance(error, Unavailable):
            lane.again(number)
            self._turned_away(error)
            return
        request = lane.finish(number)
        if request is not None:
            request.fail(error)
            self._room.set()
            self._flush_soon()

    def _turned_away(self, error: Unavailable) -> None:
        """This replica does not take it now."""
        self._trouble = error
        if isinstance(error, NotLeader):
            leader, told = int(error.details.get("leader") or 0), str(error.details.get("address") or "")
            self._move(error, self.endpoints.client_of(leader, told))
        elif isinstance(error, Overloaded):
            self._rest()
        else:
            self._move(error)

    def _rest(self) -> None:
        """Send nothing for a while."""
        if self._pause is None:
            self._pause = self._loop.call_later(OVERLOADED_S * random.uniform(0.5, 1.5), self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._flush()
