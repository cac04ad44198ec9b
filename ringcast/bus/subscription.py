"""An ordered stream of one topic or pattern without holes or doubles, through failovers, with or without a cursor.

No task works ahead of the consumer, but for one fetch. It fetches until it is at the end, then lives on the session's
feed, whose messages wait in a bounded buffer; a hole, a lost tail, a silent feed or an overflow (a slow consumer) sends
it back to fetching. State changes only between two awaits, so a cancelled iteration loses and repeats nothing.

Nothing but its user refers to a subscription (see `Listener`): one that is left by `break` and forgotten is closed.
"""

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, TypeAlias

from ringcast.bus.commits import CursorCommits
from ringcast.bus.listener import Listener
from ringcast.bus.live import LiveFeed
from ringcast.bus.messages import Batch, Message, batch_of
from ringcast.bus.reads import fetch, field, query
from ringcast.bus.session import Session
from ringcast.errors import Closed, Compacted
from ringcast.strict import U63_MAX, Plain, integer
from ringcast.types import to_microseconds

#: Where a subscription begins: an offset, a time, or one end of the topic.
Start: TypeAlias = Literal["earliest", "latest"] | int | datetime

#: A replica whose log lags behind its own feed is asked again after this long.
FRUITLESS_PAUSE_S = 0.02

_OFFSET = integer()


class Subscription:
    """`async for message in subscription`, or `async for batch in subscription.batches()`.

    One iteration at a time; it may be left and taken up again where it stopped, also after a cancellation. Use it with
    `async with`, or `close()` it, if it ends before its bus does; an iteration over a closed one ends. One that is
    forgotten is closed with a ResourceWarning.
    """

    _listener: Listener | None = None

    def __init__(
        self,
        open_feed: Callable[[], Awaitable[LiveFeed]],
        pattern: str,
        start: Start,
        *,
        cursor: str | None,
        timeout_s: float,
        consistency: int,
    ) -> None:
        self.pattern = pattern
        self._open_feed = open_feed
        self._start = start
        self._cursor_name = cursor
        self._timeout_s = timeout_s
        self._consistency = consistency
        self._cursor: CursorCommits | None = None
        self._feed: LiveFeed | None = None
        self._fruitless = False
        self._ready: deque[Batch] = deque()
        self._messages: Iterator[Message] = iter(())
        self._closed = False

    @property
    def position(self) -> int | None:
        """Everything that matches below this offset is in hand; None before the first message was asked for."""
        return None if self._listener is None else self._listener.position

    @property
    def parked_bytes(self) -> int:
        """Bytes of the live feed that wait for the consumer; bounded, beyond that they are fetched again."""
        return 0 if self._listener is None else self._listener.waiting_bytes

    @property
    def dropped(self) -> int:
        """Messages of the live feed, which all subscriptions of a bus share, that were none of ours or broken."""
        return 0 if self._feed is None else self._feed.dropped

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
            listener = self._listener or await self._begin()
            if listener.closed:
                raise Closed(what="subscription")
            if listener.behind:
                await self._catch_up(listener)
            elif (batch := listener.take(self._cursor)) is not None:
                return batch
            elif not listener.behind:
                await listener.wait()
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
        if self._listener is None:
            await self._begin()

    async def close(self) -> None:
        """Stop. Safe to call twice, and while another task iterates: its iteration ends."""
        self._closed = True
        self._ready.clear()
        if self._listener is not None:
            self._listener.close()

    def __del__(self) -> None:
        listener = self._listener
        if listener is None or listener.closed:
            return
        # In the loop's thread and at its own time: this one may be any, and anywhere in the feed's own code.
        with suppress(RuntimeError):  # the loop has ended
            listener.loop.call_soon_threadsafe(listener.close)
        warnings.warn(
            f"a subscription of {self.pattern!r} was forgotten before it was closed: use `async with` (or `with`)",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    # ---- where to begin ----

    async def _begin(self) -> Listener:
        if self._closed:
            raise Closed(what="subscription")
        feed = await self._open_feed()
        session = feed.session
        async with session.within(f"the start of {self.pattern}", self._timeout_s):
            position = await self._first_offset(session)
        if self._closed:
            raise Closed(what="subscription")
        if self._listener is not None:
            return self._listener  # another task of ours was faster
        if self._cursor_name is not None:
            self._cursor = CursorCommits(session, self._cursor_name, self.pattern, self._timeout_s)
        self._feed, self._listener = feed, feed.listen(self.pattern, position)
        return self._listener

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

    async def _catch_up(self, listener: Listener) -> None:
        """Take one answer, and ask for the next one before anybody works on this one."""
        assert self._feed is not None
        if self._fruitless and listener.has_waiting:
            self._fruitless = False
            await asyncio.sleep(FRUITLESS_PAUSE_S)
        position = listener.position
        fetching = listener.fetching or listener.fetch(self._feed.fetch(self.pattern, position))
        while not fetching.done():
            await listener.wait()
            if listener.fetching is not fetching:
                return  # closed, or another task of ours has taken it
        listener.fetching = None
        try:
            answer, payloads = fetching.result()
        except Compacted as error:
            below = error.details.get("below")
            if self._start == "earliest" and position == 0 and isinstance(below, int):
                listener.advance(below)
                return
            raise
        for info, packed in zip(answer.batches, payloads, strict=True):
            if info.first_offset + info.messages > position:
                self._ready.append(batch_of(info, packed, position, self._cursor))
        listener.advance(answer.next_offset)
        self._fruitless = listener.position == position
        listener.behind = answer.next_offset < answer.end and not self._fruitless
        if listener.behind:
            listener.fetch(self._feed.fetch(self.pattern, listener.position))
