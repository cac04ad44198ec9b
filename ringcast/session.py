"""A bus's standing with the cluster: one connection at a time, failover, resending, requests and their answers (K2).

Nothing here gives up by itself: batches and requests stay until they are answered, through any number of connections.
Time limits are the callers', and a caller that leaves leaves its batch pending.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import zmq

from ringcast import wire
from ringcast.connection import Connection
from ringcast.endpoints import Endpoints
from ringcast.errors import (
    Closed,
    Disconnected,
    NotInQuorum,
    ProtocolError,
    RingcastError,
    Timeout,
    Unavailable,
    Unreachable,
)
from ringcast.joining import Joiner
from ringcast.outbox import Action, Outbox, Pending
from ringcast.types import Receipt

RING = 0
HELLO_TIMEOUT_S = 1.0
BACKOFF_FIRST_S = 0.02
BACKOFF_MAX_S = 1.0
#: A replica that answers PING but no PUBLISH for so long is left for another one.
STALLED_S = 10.0

Reply = tuple[wire.Fetched | wire.Answer, list[bytes]]


class Session:
    """Connects to one replica at a time, or only to the one with id `replica`: of `endpoints`, and of the members that
    replicas tell of, so that it outlives every replica that it was given (V12).

    `on_attach` callbacks are called with each WELCOME. Use: `await start()`, then anything, then `await close()`.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoints: Endpoints,
        *,
        replica: int | None = None,
        credit_wanted: int = 0,
    ) -> None:
        self.outbox = Outbox()
        self._joiner = Joiner(self._add)
        self.on_attach: list[Callable[[wire.Welcome], None]] = []
        self.cluster = endpoints.cluster
        self.failovers = 0
        self._context = context
        self._given = endpoints.addresses
        self._told: tuple[str, ...] = ()  # where the members are that we were not given
        self._replica = replica
        self._credit_wanted = credit_wanted
        self._welcome: wire.Welcome | None = None
        self._connection: Connection | None = None
        self._requests: dict[int, tuple[wire.Fetch | wire.Query, asyncio.Future[Reply]]] = {}
        self._next_request = 1
        self._room: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._trouble: RingcastError | None = None
        self._failures = 0
        self._progress_at = 0.0
        self._closed = False
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner: asyncio.Task[None] | None = None

    @property
    def welcome(self) -> wire.Welcome:
        """The newest WELCOME; there is one once `start` has returned."""
        assert self._welcome is not None
        return self._welcome

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where replicas may be: those that we were given, then those that we were told of."""
        return self._given + self._told

    @property
    def attached(self) -> bool:
        """Is there a connection now?"""
        return self._connection is not None

    @property
    def context(self) -> "zmq.Context[zmq.Socket[bytes]]":
        return self._context

    async def start(self, timeout_s: float) -> None:
        """Wait for the first connection. Raises what all replicas refuse us with, else Unreachable in time."""
        self._runner = asyncio.create_task(self._run(), name="ringcast session")
        await asyncio.wait({self._first, self._runner}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._runner.done():
            self._runner.result()
        if self._first.done():
            self._first.result()
            return
        reason = str(self._trouble) if self._trouble else None
        raise Unreachable(endpoints=", ".join(self.addresses), seconds=timeout_s, reason=reason)

    async def close(self) -> None:
        """End it: requests raise Closed, sent batches PublishUnknown."""
        self._joiner.flush()
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner
        self.outbox.close()
        for _, answer in self._requests.values():
            if not answer.done():
                answer.set_exception(Closed(what="bus"))
        self._wake_room()

    def publish(
        self, topic: str, packed: bytes, messages: int, receipt: "asyncio.Future[Receipt] | None" = None
    ) -> Pending:
        """Number a batch and send it as soon as the window allows. `receipt`: the future to use, else a new one.

        The caller has waited for `room`. Raises Closed.
        """
        if self._closed:
            raise Closed(what="bus")
        self._joiner.flush()  # what was published before stays before
        return self._add(topic, packed, messages, receipt)

    async def publish_one(self, topic: str, payload: bytes, headers: bytes, size: int, seconds: float) -> Receipt:
        """One message, which others of this loop turn may join, and its receipt. `headers` packed; `size` with them.

        Raises as `within`, and Closed. A timer and a future each: a task's whole stack of contexts would cost more than
        the message.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if self._room or not self.outbox.has_room(size, self._joiner.open_bytes):
            async with self.within(f"the publish on {topic}", seconds):
                await self.room(size)
        if self._closed:
            raise Closed(what="bus")
        waiter = self._joiner.add(topic, payload, headers, self.welcome.limits.batch_count_max)
        if math.isinf(seconds):
            return await waiter
        timer = loop.call_at(deadline, self._expire, waiter, topic, seconds)
        try:
            return await waiter
        finally:
            timer.cancel()

    def _expire(self, waiter: "asyncio.Future[Receipt]", topic: str, seconds: float) -> None:
        if not waiter.done():
            waiter.set_exception(self._late(f"the publish on {topic}", seconds))

    def _add(
        self, topic: str, packed: bytes, messages: int, receipt: "asyncio.Future[Receipt] | None" = None
    ) -> Pending:
        batch = self.outbox.add(topic, packed, messages, receipt)
        self._flush()
        return batch

    async def room(self, size: int) -> None:
        """Wait until `size` more bytes may be pending, in order of arrival. Safe to cancel."""
        if self._room or not self.outbox.has_room(size, self._joiner.open_bytes):
            turn = asyncio.get_running_loop().create_future()
            self._room.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                # A turn that was granted and not taken belongs to who waits behind.
                asyncio.get_running_loop().call_soon(self._wake_room)
                raise
        if self._closed:
            raise Closed(what="bus")

    async def request(self, make: Callable[[int], wire.Fetch | wire.Query]) -> Reply:
        """Ask, through failovers, until there is an answer. Raises the replica's refusal. Safe to cancel."""
        if self._closed:
            raise Closed(what="bus")
        number = self._next_request
        self._next_request += 1
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        message = make(number)
        self._requests[number] = (message, answer)
        if self._connection is not None:
            self._connection.send(message)
        try:
            return await answer
        finally:
            del self._requests[number]

    @asynccontextmanager
    async def within(self, what: str, seconds: float) -> AsyncIterator[None]:
        """A time limit. Raises NotInQuorum if that is why nobody answers, else Timeout."""
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds) as limit:
                yield
        except TimeoutError as error:
            if isinstance(error, RingcastError) or not limit.expired():
                raise
            raise self._late(what, seconds) from None

    def _late(self, what: str, seconds: float) -> RingcastError:
        """What a time limit that passed means."""
        if isinstance(self._trouble, NotInQuorum):
            return NotInQuorum(**self._trouble.details)
        return Timeout(what=what, seconds=seconds, reason=str(self._trouble) if self._trouble else None)

    def move(self, reason: RingcastError) -> None:
        """Leave this replica for another one."""
        if self._connection is not None:
            self._connection.lose(reason)

    # ---- connections ----

    async def _run(self) -> None:
        address = random.choice(self._given)
        refused: dict[str, ProtocolError] = {}
        while True:
            try:
                await self._serve(address)
                refused.clear()
            except ProtocolError as error:
                refused[address] = error
                self._trouble = error
            except RingcastError as error:
                refused.pop(address, None)
                self._trouble = error
            if len(refused) == len(self.addresses) and not self._first.done():
                # Waiting helps no one: every replica is of another cluster or version.
                self._first.set_exception(next(iter(refused.values())))
            if self._failures >= len(self.addresses):
                await asyncio.sleep(self._backoff_s() * random.uniform(0.5, 1.0))
            address = self._after(address)

    def _after(self, address: str) -> str:
        """The next one of the round; what we are told changes the round, not our place in it."""
        addresses = self.addresses
        place = addresses.index(address) + 1 if address in addresses else 0
        return addresses[place % len(addresses)]

    def _learn(self, members: tuple[wire.Endpoint, ...]) -> None:
        """V12: the members of now. Those that we were given stay: they may be reached where the told ones are not."""
        if members:
            self._told = tuple(one.address for one in members if one.address not in self._given)

    def _backoff_s(self) -> float:
        rounds = self._failures // len(self.addresses)
        return 0.0 if rounds == 0 else min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(rounds, 16))

    async def _serve(self, address: str) -> None:
        """One connection from HELLO to its end."""
        self._failures += 1
        connection = Connection(self._context, address, self.cluster, RING, self._on_message)
        welcome = await connection.open(self.outbox.client, self._credit_wanted, HELLO_TIMEOUT_S)
        self._learn(welcome.members)
        try:
            if self._replica not in (None, welcome.replica):
                # Not to hide what the wanted one said: that is why nobody answers.
                why = f"it is replica {welcome.replica} and not {self._replica}"
                self._trouble = self._trouble or Disconnected(endpoint=address, why=why)
                return
            while True:
                self._attach(connection, welcome)
                reason = await asyncio.shield(connection.lost)
                if self.outbox.opened is not None:
                    break
                # The client id is a new one (K2): open it here, this replica is not to blame.
                self._connection = None
                connection.close()
                connection = Connection(self._context, address, self.cluster, RING, self._on_message)
                welcome = await connection.open(self.outbox.client, self._credit_wanted, HELLO_TIMEOUT_S)
            self._trouble = reason
            self.failovers += 1
        finally:
            self._connection = None
            connection.close()

    def _attach(self, connection: Connection, welcome: wire.Welcome) -> None:
        self.cluster = connection.cluster
        self._welcome = welcome
        self._connection = connection
        self._progress_at = asyncio.get_running_loop().time()
        self.outbox.connected(welcome)
        self._flush()
        for message, answer in self._requests.values():
            if not answer.done():
                connection.send(message)
        if not self._first.done():
            self._first.set_result(None)
        for callback in self.on_attach:
            callback(welcome)

    def _flush(self) -> None:
        if self._connection is None or self.outbox.opened is None:
            return
        for header, packed in self.outbox.take():
            self._connection.send(header, packed)

    def _wake_room(self) -> None:
        """Grant what fits to who waits, first come first served; on close everybody goes."""
        granted = 0
        while self._room:
            size, turn = self._room[0]
            if not turn.done():
                if not self._closed and not self.outbox.has_room(size, granted):
                    return
                turn.set_result(None)
                granted += size
            self._room.popleft()

    # ---- messages ----

    def _on_message(self, message: wire.Message, payloads: list[bytes]) -> None:
        match message:
            case wire.Receipt():
                self.outbox.on_receipt(message)
                self._progress()
                self._flush()
            case wire.Refused():
                self._on_refused(message)
            case wire.Fetched() | wire.Answer():
                _, answer = self._requests.get(message.request, (None, None))
                if answer is not None and not answer.done():
                    answer.set_result((message, payloads))
                self._progress()
            case wire.Failed():
                self._on_failed(message)
            case wire.Pong():
                self._on_pong(message)
            case wire.Members():
                self._learn(message.members)
            case _:
                pass  # a replica sends nothing else after WELCOME; not ours to punish

    def _progress(self) -> None:
        self._failures = 0
        self._trouble = None
        self._progress_at = asyncio.get_running_loop().time()
        if self._room:
            self._wake_room()

    def _on_refused(self, message: wire.Refused) -> None:
        action, error = self.outbox.on_refused(message)
        if action is Action.SEND:
            self._flush()
        else:
            self._trouble = error
            self.move(error)
        self._wake_room()

    def _on_failed(self, message: wire.Failed) -> None:
        error = wire.error_of(message)
        _, answer = self._requests.get(message.request, (None, None))
        if answer is None or answer.done():
            return
        if isinstance(error, Unavailable):
            # Somebody else may know; the request goes with us.
            self._trouble = error
            self.move(error)
        else:
            answer.set_exception(error)

    def _on_pong(self, message: wire.Pong) -> None:
        now = asyncio.get_running_loop().time()
        if not self.outbox.sent_bytes:
            self._progress_at = now
        if message.serving:
            self._failures = 0
            self._trouble = None
            self.outbox.credit = message.credit
            self._flush()
            if now - self._progress_at > STALLED_S:
                self.move(Timeout(what="the oldest batch", seconds=STALLED_S))
            return
        replica = self.welcome.replica
        self._trouble = NotInQuorum(replica=replica, connected="too few", quorum="a quorum")
        if self._replica is None and len(self.addresses) > 1:
            self.move(self._trouble)
