"""An ordered stream of one topic or pattern without holes or doubles, through failovers, with or without a cursor.

No task works ahead of the consumer, but for one fetch. It fetches until it is at the end, then lives on the feed, whose
messages wait in a bounded buffer; a hole, a lost tail, a silent feed or an overflow (a slow consumer) sends it back to
fetching. State changes only between two awaits, so a cancelled iteration loses and repeats nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, TypeAlias

import zmq

from ringcast import wire
from ringcast.bus import feed
from ringcast.bus.batch import BATCH_BYTES_MAX, check
from ringcast.bus.commits import CursorCommits
from ringcast.bus.messages import Batch, Message, batch_of
from ringcast.bus.reads import Fetched, fetch, field, query
from ringcast.bus.session import RING, Session
from ringcast.bus.tail import Tail, Verdict
from ringcast.errors import BadFrame, Closed, Compacted, RingcastError
from ringcast.names import is_numeric, numeric
from ringcast.sockets import Watched
from ringcast.strict import U63_MAX, Plain, integer
from ringcast.types import to_microseconds

#: Where a subscription begins: an offset, a time, or one end of the topic.
Start: TypeAlias = Literal["earliest", "latest"] | int | datetime

#: Feed messages that may wait: in the socket, and here in bytes. Beyond that the oldest go, and their hole is fetched.
FEED_QUEUE_MAX = 1_000
PARKED_BYTES_MAX = 4 << 20
#: Four control intervals: a feed that is silent for so long is broken; ask instead.
FEED_SILENCE_S = 4 * feed.CONTROL_INTERVAL_MS / 1_000
FEED_RETRY_S = 0.2
#: A replica whose log lags behind its own feed is asked again after this long.
FRUITLESS_PAUSE_S = 0.02

_OFFSET = integer()


class Subscription:
    """`async for message in subscription`, or `async for batch in subscription.batches()`.

    One iteration at a time; it may be left and taken up again where it stopped, also after a cancellation. `close()` it
    (or use `async with`) if it ends before its bus does; an iteration over a closed one ends.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[Session]],
        pattern: str,
        start: Start,
        *,
        cursor: str | None,
        timeout_s: float,
        consistency: int,
        on_close: "Callable[[Subscription], None]",
    ) -> None:
        self.pattern = pattern
        #: Feed messages that were none of ours or broken.
        self.dropped = 0
        #: Bytes of the live feed that wait for the consumer; at most PARKED_BYTES_MAX.
        self.parked_bytes = 0
        self._open_session = open_session
        self._start = start
        self._cursor_name = cursor
        self._timeout_s = timeout_s
        self._consistency = consistency
        self._on_close = on_close
        self._session: Session | None = None
        self._cursor: CursorCommits | None = None
        self._tail: Tail | None = None
        self._behind = True
        self._fruitless = False
        self._fetching: asyncio.Task[Fetched] | None = None
        self._ready: deque[Batch] = deque()
        self._messages: Iterator[Message] = iter(())
        self._feed: Watched | None = None
        self._naming: asyncio.Task[None] | None = None  # the feed's name is being looked up
        self._parked: deque[feed.FeedBatch | feed.Control] = deque()
        self._wakeup = asyncio.Event()
        self._closed = False

    @property
    def position(self) -> int | None:
        """Everything that matches below this offset is in hand; None before the first message was asked for."""
        return None if self._tail is None else self._tail.position

    # ---- iteration ----

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message, however long it takes. Raises what `next_batch` raises."""
        while True:
            for message in self._messages:
                return message
            try:
                self._messages = iter(await self.next_batch())
            except Closed:
                raise StopAsyncIteration from None

    async def batches(self) -> AsyncIterator[Batch]:
        """The batches as they were published; the first may be the rest of one. Raises what `next_batch` raises."""
        with suppress(Closed):
            while True:
                yield await self.next_batch()

    async def next_batch(self) -> Batch:
        """The next batch, however long it takes. Safe to cancel.

        Raises Compacted if retention removed what comes next (the start offset, or we were too slow), Closed.
        """
        while not self._ready:
            if self._closed:
                raise Closed(what="subscription")
            tail = self._tail or await self._begin()
            if self._behind:
                await self._catch_up(tail)
            else:
                await self._follow(tail)
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        """Settle the start now, so that "latest" means now and not the first iteration."""
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def begin(self) -> None:
        """Settle where the subscription starts; otherwise the first iteration does. Raises Timeout, NotInQuorum."""
        if self._tail is None:
            await self._begin()

    async def close(self) -> None:
        """Stop. Safe to call twice, and while another task iterates: its iteration ends."""
        self._closed = True
        self._on_close(self)
        if self._session is not None:
            with suppress(ValueError):
                self._session.on_attach.remove(self._attach)
        self._detach()
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None
        self._parked.clear()
        self._wakeup.set()

    # ---- where to begin ----

    async def _begin(self) -> Tail:
        session = self._session = await self._open_session()
        async with session.within(f"the start of {self.pattern}", self._timeout_s):
            position = await self._first_offset(session)
        if self._cursor_name is not None:
            self._cursor = CursorCommits(session, self._cursor_name, self.pattern, self._timeout_s)
        self._tail = Tail(self.pattern, position)
        session.on_attach.append(self._attach)
        if session.attached:
            self._attach(session.welcome)
        return self._tail

    async def _first_offset(self, session: Session) -> int:
        if self._cursor_name is not None:
            result, _ = await query(session, "cursor", {"name": self._cursor_name})
            if result.get("offset") is not None:
                return int(field(result, "offset", _OFFSET))
        if isinstance(self._start, datetime):
            arguments: dict[str, Plain] = {"time_us": to_microseconds(self._start)}
            result, _ = await query(session, "offset_at", arguments, self._consistency)
            return int(field(result, "offset", _OFFSET))
        if self._start == "latest":
            answer, _ = await fetch(session, self.pattern, U63_MAX, consistency=self._consistency)
            return answer.end
        return 0 if self._start == "earliest" else self._start

    # ---- behind: fetch ----

    async def _catch_up(self, tail: Tail) -> None:
        """Take one answer, and ask for the next one before anybody works on this one."""
        assert self._session is not None
        position = tail.position
        fetching = self._fetching or self._ask(position)
        try:
            answer, payloads = await asyncio.shield(fetching)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise Closed(what="subscription") from None
            raise
        except RingcastError as error:
            self._fetching = None
            below = error.details.get("below")
            if isinstance(error, Compacted) and self._start == "earliest" and position == 0 and isinstance(below, int):
                tail.advance(below)
                return
            raise
        self._fetching = None
        for info, packed in zip(answer.batches, payloads, strict=True):
            if info.first_offset + info.messages > position:
                self._ready.append(batch_of(info, packed, position, self._cursor))
        tail.advance(answer.next_offset)
        self._fruitless = tail.position == position
        self._behind = answer.next_offset < answer.end and not self._fruitless
        if self._behind:
            self._ask(tail.position)

    def _ask(self, position: int) -> "asyncio.Task[Fetched]":
        assert self._session is not None
        self._fetching = asyncio.create_task(fetch(self._session, self.pattern, position), name="ringcast fetch")
        return self._fetching

    # ---- at the end: follow the feed ----

    async def _follow(self, tail: Tail) -> None:
        """Take what the feed brought, or wait for it; sets `behind` where the feed leaves a hole."""
        while self._parked:
            head = self._parked[0]
            position = tail.position
            verdict = tail.on_control(head) if isinstance(head, feed.Control) else tail.on_batch(head)
            if verdict is Verdict.HOLE:
                # The head stays: after the fetch it is either the next one or below the position.
                self._behind = True
                if self._fruitless:
                    await asyncio.sleep(FRUITLESS_PAUSE_S)
                return
            self._parked.popleft()
            if isinstance(head, feed.FeedBatch):
                self.parked_bytes -= len(head.packed)
                if verdict is Verdict.TAKE:
                    self._ready.append(batch_of(head.info, head.packed, position, self._cursor))
        if self._ready:
            return
        assert self._session is not None
        self._session.check_open()
        self._wakeup.clear()
        try:
            async with asyncio.timeout(FEED_SILENCE_S):
                await self._wakeup.wait()
        except TimeoutError:
            self._behind = True

    def _attach(self, welcome: wire.Welcome) -> None:
        """The session has a (new) replica: listen to its feed, and ask it what came meanwhile."""
        self._parked.clear()
        self.parked_bytes = 0
        self._behind = True
        self._wakeup.set()
        self._detach()
        assert self._session is not None
        address = self._session.endpoints.feed_of(welcome.replica, welcome.feed)
        if not address or self._closed:
            return
        if is_numeric(address):
            self._listen(address)
        else:
            self._naming = asyncio.create_task(self._listen_by_name(address), name="ringcast feed")

    def _detach(self) -> None:
        if self._naming is not None:
            self._naming.cancel()
            self._naming = None
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    async def _listen_by_name(self, address: str) -> None:
        try:
            self._listen(await numeric(address))
        except OSError:
            asyncio.get_running_loop().call_later(FEED_RETRY_S, self._retry_feed)

    def _listen(self, address: str) -> None:
        assert self._session is not None
        try:
            self._feed = Watched(
                self._session.context,
                zmq.SUB,
                address,
                on_frames=self._on_feed,
                on_lost=self._on_feed_lost,
                options={
                    zmq.RCVHWM: FEED_QUEUE_MAX,
                    zmq.MAXMSGSIZE: BATCH_BYTES_MAX,
                    **self._session.credentials.options(),
                },
            )
        except zmq.ZMQError:
            # An address that is none: FEED_SILENCE_S makes it a poll.
            return
        for prefix in {feed.CONTROL, feed.prefix(self.pattern)}:
            self._feed.subscribe(prefix)

    def _on_feed_lost(self, _event: int) -> None:
        """The feed broke alone, or before the session noticed: try again unless a new replica was attached."""
        if self._feed is None:
            return
        self._feed.close()
        self._feed = None
        asyncio.get_running_loop().call_later(FEED_RETRY_S, self._retry_feed)

    def _retry_feed(self) -> None:
        if self._feed is None and not self._closed and self._session is not None and self._session.attached:
            self._attach(self._session.welcome)

    def _on_feed(self, frames: list[bytes]) -> None:
        assert self._session is not None
        try:
            item = feed.decode(frames)
            if item.cluster != self._session.cluster or item.ring != RING:
                raise BadFrame(
                    what="the cluster of a feed message", value=item.cluster, limit=str(self._session.cluster)
                )
            if isinstance(item, feed.FeedBatch):
                check(item.packed, item.info.messages)
                self.parked_bytes += len(item.packed)
        except BadFrame:
            self.dropped += 1
            return
        self._parked.append(item)
        while self.parked_bytes > PARKED_BYTES_MAX or len(self._parked) > FEED_QUEUE_MAX:
            oldest = self._parked.popleft()
            if isinstance(oldest, feed.FeedBatch):
                self.parked_bytes -= len(oldest.packed)
        self._wakeup.set()
