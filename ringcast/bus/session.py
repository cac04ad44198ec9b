"""A bus's standing with the cluster: one connection at a time, failover, resending, requests and their answers (K2).

Nothing here gives up by itself: batches and requests stay until they are answered, through any number of connections.
Time limits are the callers', and a caller that leaves leaves its batch pending.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

import zmq

from ringcast import wire
from ringcast.bus.batch import unpack
from ringcast.bus.joining import Joiner
from ringcast.bus.outbox import Action, Outbox, Pending
from ringcast.connection import Connection
from ringcast.endpoints import Endpoints
from ringcast.errors import BadFrame, Closed, Disconnected, NotInQuorum, RingcastError, Timeout, Unavailable, again
from ringcast.failover import HELLO_TIMEOUT_S, Failover
from ringcast.forks import Origin
from ringcast.types import Receipt

RING = 0
#: A replica that answers PING but no PUBLISH for so long is left for another one.
STALLED_S = 10.0

Reply = tuple[wire.Fetched | wire.Answer, list[bytes]]


class Session(Failover):
    """Connects to one replica at a time, or only to the one with id `replica`.

    `on_attach` callbacks are called with each WELCOME, `on_end` ones when the replicas refuse us for good.
    Use: `await start()`, then anything, then `await close()`.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoints: Endpoints,
        *,
        replica: int | None = None,
        credit_wanted: int = 0,
    ) -> None:
        super().__init__(context, endpoints)
        self.outbox = Outbox()
        self._joiner = Joiner(self._add)
        self.on_attach: list[Callable[[wire.Welcome], None]] = []
        self.on_end: list[Callable[[], None]] = []
        self._ended: RingcastError | None = None
        self._only = replica
        self._credit_wanted = credit_wanted
        self._welcome: wire.Welcome | None = None
        self._connection: Connection | None = None
        self._requests: dict[int, tuple[wire.Fetch | wire.Query, asyncio.Future[Reply]]] = {}
        self._next_request = 1
        self._room: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._progress_at = 0.0
        self._closed = False
        self._origin = Origin("bus")

    @property
    def welcome(self) -> wire.Welcome:
        """The newest WELCOME; there is one once `start` has returned."""
        assert self._welcome is not None
        return self._welcome

    @property
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last."""
        return self.welcome.replica

    @property
    def attached(self) -> bool:
        """Is there a connection now?"""
        return self._connection is not None

    async def close(self) -> None:
        """End it: requests raise Closed, sent batches PublishUnknown."""
        self._joiner.flush()
        self._closed = True
        await self.stop()
        self._give_up(Closed(what="bus"))

    def _end(self, error: RingcastError) -> bool:
        self._joiner.flush()
        self._ended = error
        self._give_up(error)
        for callback in self.on_end:
            callback()
        return True

    def _give_up(self, error: RingcastError) -> None:
        """Tell all that wait."""
        self.outbox.close(error)
        for _, answer in self._requests.values():
            if not answer.done():
                answer.set_exception(again(error))
        self._wake_room()

    def publish(
        self, topic: str, packed: bytes, messages: int, receipt: "asyncio.Future[Receipt] | None" = None
    ) -> Pending:
        """Number a batch and send it as soon as the window allows. `receipt`: the future to use, else a new one.

        The caller has waited for `room`. Raises Closed.
        """
        self.check_open()
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
        self.check_open()
        waiter = self._joiner.add(topic, payload, headers, self.welcome.limits.batch_count_max)
        if math.isinf(seconds):
            return await waiter
        timer = loop.call_at(deadline, self._expire, waiter, topic, seconds)
        try:
            return await waiter
        finally:
            timer.cancel()

    def check_open(self) -> None:
        """Raise Closed; Forked in a forked child; what the replicas refuse us with for good."""
        self._origin.check()
        if self._ended is not None:
            raise again(self._ended)
        if self._closed:
            raise Closed(what="bus")

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
        self.check_open()

    async def request(self, make: Callable[[int], wire.Fetch | wire.Query]) -> Reply:
        """Ask, through failovers, until there is an answer. Raises the replica's refusal. Safe to cancel."""
        self.check_open()
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

    def move(self, reason: RingcastError) -> None:
        """Leave this replica for another one."""
        if self._connection is not None:
            self._connection.lose(reason)

    # ---- connections ----

    async def _serve(self, address: str) -> None:
        connection = Connection(self._context, address, self.cluster, RING, self._on_message, self.credentials)
        welcome = await connection.open(self.outbox.client, self._credit_wanted, HELLO_TIMEOUT_S)
        self._learn(welcome.members)
        try:
            if self._only not in (None, welcome.replica):
                # Not to hide what the wanted one said: that is why nobody answers.
                why = f"it is replica {welcome.replica} and not {self._only}"
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
                connection = Connection(self._context, address, self.cluster, RING, self._on_message, self.credentials)
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
        self._attached()
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
                over = self._closed or self._ended is not None
                if not over and not self.outbox.has_room(size, granted):
                    return
                turn.set_result(None)
                granted += size
            self._room.popleft()

    # ---- messages ----

    def _on_message(self, message: wire.Message, payloads: list[bytes]) -> None:
        match message:
            case wire.Receipt():
                self.outbox.on_receipt(message, _answers(message, payloads))
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
        if self._only is None and len(self.addresses) > 1:
            self.move(self._trouble)


def _answers(receipt: wire.Receipt, payloads: list[bytes]) -> tuple[bytes, ...]:
    """What a state machine answered to each message of a batch; none of them if they are not as many."""
    try:
        return tuple(answer for answer, _ in unpack(payloads[0], receipt.messages)) if payloads else ()
    except BadFrame:
        return ()
