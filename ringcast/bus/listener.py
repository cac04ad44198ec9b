"""One subscription's place at the live feed: its position, and what waits for its consumer.

It holds no reference to its subscription. One that nobody has any more can go, and takes its place along; one that
somebody awaits lives, since the feed holds the listener, and the listener the future that is awaited.
"""

import asyncio
from collections import deque
from typing import Protocol

from ringcast.bus.batch import Pair, unpack
from ringcast.bus.commits import CursorCommits
from ringcast.bus.feed import Control, FeedBatch
from ringcast.bus.messages import Batch, batch_of
from ringcast.bus.reads import Fetched
from ringcast.bus.tail import Tail, Verdict

#: Feed messages that may wait for one consumer, and their bytes. Beyond that all go, and are fetched when it comes.
WAITING_MAX = 1_000
WAITING_BYTES_MAX = 4 << 20


class Held:
    """A feed message that listeners keep. All share one; `holders`: so many still do."""

    __slots__ = ("_pairs", "holders", "item", "last", "size")

    def __init__(self, item: FeedBatch | Control, size: int, last: int = -1) -> None:
        self.item = item
        self.size = size
        #: Of a control message: `last_changed` of the listener's pattern.
        self.last = last
        self.holders = 0
        self._pairs: list[Pair] | None = None

    def batch(self, item: FeedBatch, position: int, cursor: CursorCommits | None) -> Batch:
        """What of it is at or above a position. It was checked, so it can be unpacked."""
        if self._pairs is None:
            self._pairs = unpack(item.packed, item.info.messages)
        return batch_of(item.info, item.packed, position, cursor, self._pairs)


class Feed(Protocol):
    """What a listener asks of the feed that it is at."""

    #: Everything below was told by control messages without a gap.
    end: int
    held_bytes: int

    def check_open(self) -> None:
        """Raise what ended it."""

    def look_at(self, listener: "Listener") -> None:
        """Hand it the next control messages whatever they say."""

    def knows(self, listener: "Listener") -> None:
        """Hand it those control messages that name what it reads."""

    def leave(self, listener: "Listener") -> None:
        """It listens no more."""


class Listener:
    """Invariants: `waiting_bytes` = the sizes in `_waiting`; `synced` only if it is not `behind`.

    behind: something is missing, or may be: fetch from `position` before anything else is taken.
    synced: every control message since was looked at for it, so it has what matches below the feed's `end` as soon as
    nothing waits.
    """

    __slots__ = ("__weakref__", "_feed", "_tail", "_waiter", "_waiting", "behind", "closed", "fetching", "loop",
                 "synced", "waiting_bytes")  # fmt: skip

    def __init__(self, feed: Feed, pattern: str, position: int) -> None:
        self.behind = True
        self.synced = False
        self.closed = False
        #: The fetch that was asked for and not taken yet.
        self.fetching: asyncio.Task[Fetched] | None = None
        self.loop = asyncio.get_running_loop()
        self.waiting_bytes = 0
        self._feed = feed
        self._tail = Tail(pattern, position)
        self._waiting: deque[Held] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def pattern(self) -> str:
        return self._tail.pattern

    @property
    def position(self) -> int:
        """Everything that matches below it was taken."""
        self._settle()
        return self._tail.position

    @property
    def has_waiting(self) -> bool:
        """Does the feed know of something that was not taken?"""
        return bool(self._waiting)

    def fetch(self, task: "asyncio.Task[Fetched]") -> "asyncio.Task[Fetched]":
        """Wait for this one, with what the feed brings meanwhile."""
        self.fetching = task
        task.add_done_callback(lambda _: self.wake())
        return task

    def advance(self, position: int) -> None:
        """A fetch brought everything below."""
        self._tail.advance(position)

    # ---- from the feed ----

    def hear(self, held: Held) -> None:
        """A batch that may match."""
        if self.behind:
            if self.fetching is None:
                return  # the fetch that comes will bring it
        elif not self._waiting:
            self._settle()
        self._keep(held)
        self.wake()

    def hear_other(self, held: Held) -> None:
        """A batch of another topic: for a pattern it may fill the space in between."""
        if self._waiting:
            self._keep(held)
        elif not self.behind and isinstance(held.item, FeedBatch):
            self._settle()
            self._tail.on_batch(held.item)

    def hear_control(self, control: Control, last: int) -> None:
        """What the replica has delivered; `last`: `last_changed` of the pattern."""
        if self.behind:
            if self.fetching is not None:
                self._keep(Held(control, 0, last))
        elif self._waiting:
            self._keep(Held(control, 0, last))
        else:
            self._settle()
            if self._tail.on_control(control, last) is Verdict.HOLE:
                # It stays until the fetch has brought what it tells of: a replica's log may lag behind its feed.
                self._keep(Held(control, 0, last))
                self.fall_behind()
            elif not self.synced:
                self._sync()

    def fall_behind(self) -> None:
        """Something may be missing: the consumer is to fetch."""
        self._settle()
        self.behind = True
        if self.synced:
            self.synced = False
            self._feed.look_at(self)
        self.wake()

    def shed(self) -> None:
        """Drop what waits: it will be fetched."""
        self.fall_behind()  # while the position knows that something waits
        while self._waiting:
            self._release(self._waiting.popleft())

    def _keep(self, held: Held) -> None:
        self._waiting.append(held)
        self.waiting_bytes += held.size
        if not held.holders:
            self._feed.held_bytes += held.size
        held.holders += 1
        if len(self._waiting) > WAITING_MAX or self.waiting_bytes > WAITING_BYTES_MAX:
            self.shed()

    def _release(self, held: Held) -> None:
        self.waiting_bytes -= held.size
        held.holders -= 1
        if not held.holders:
            self._feed.held_bytes -= held.size

    def _settle(self) -> None:
        if self.synced and not self._waiting:
            self._tail.advance(self._feed.end)

    def _sync(self) -> None:
        self.synced = True
        self._feed.knows(self)

    # ---- to the consumer ----

    def take(self, cursor: CursorCommits | None) -> Batch | None:
        """The next batch that continues the position. None: `wait`, or fetch if it is `behind` now."""
        waiting, tail = self._waiting, self._tail
        while waiting:
            held = waiting[0]
            item, position = held.item, tail.position
            verdict = tail.on_control(item, held.last) if isinstance(item, Control) else tail.on_batch(item)
            if verdict is Verdict.HOLE:
                self.fall_behind()
                return None
            self._release(waiting.popleft())
            if isinstance(item, Control) and not self.synced and item.next_offset >= self._feed.end:
                self._sync()  # it is the newest one; later ones may have been dropped while a fetch was due
            if verdict is Verdict.TAKE and isinstance(item, FeedBatch):
                return held.batch(item, position, cursor)
        return None

    async def wait(self) -> None:
        """Return when there may be something to do. Raises what ended the feed. Safe to cancel."""
        self._feed.check_open()
        if self._waiter is not None:
            await asyncio.wait({self._waiter})  # another task iterates over the same subscription
            return
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """The consumer looks again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Leave the feed; an iteration ends. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self.fetching = None
        self.shed()
        self._feed.leave(self)
