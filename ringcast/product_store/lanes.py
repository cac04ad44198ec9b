"""Requests of the product store's client: what leaves together, what is unanswered, what goes again. No I/O.

A lane numbers the requests of one kind. What tasks add in one loop turn leaves in one request; while IN_FLIGHT_MAX of
them are unanswered, what is added joins the next one: the slower the store, the larger the requests. A request is
resent as it is, on each new connection, until it is answered.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from ringcast.errors import RingcastError
from ringcast.product_store.wire import ITEM_BYTES, OPERATIONS_MAX, REQUEST_BYTES_MAX, WINDOW, size_of

IN_FLIGHT_MAX: Final = 8
#: Bytes that may wait in one lane before callers do.
PENDING_BYTES_MAX: Final = 4 << 20


class Request:
    """Operations or questions with one number. `attempts`: how often it was sent."""

    __slots__ = ("attempts", "items", "number", "size", "waiters")

    def __init__(self) -> None:
        self.number = 0
        self.items: list[bytes] = []
        self.waiters: list[asyncio.Future[bytes]] = []
        self.size = size_of(())
        self.attempts = 0

    def settle(self, outcomes: Iterable[bytes]) -> None:
        """Each waiter gets its outcome."""
        for waiter, outcome in zip(self.waiters, outcomes, strict=True):
            if not waiter.done():
                waiter.set_result(outcome)

    def fail(self, error: RingcastError) -> None:
        """All of them get this error."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class Lane:
    """Unanswered requests of one kind, by number.

    A request is *open* (the last one, still taking), *waiting* or *sent* (on the present connection); sent and waiting
    ones have a number. `size`: bytes of all of them.
    """

    def __init__(self) -> None:
        self.size = 0
        self._next = 1
        self._waiting: deque[Request] = deque()
        self._sent: dict[int, Request] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def sent(self) -> int:
        """Requests that an answer may come for."""
        return len(self._sent)

    @property
    def full(self) -> bool:
        """Let callers wait."""
        return self.size >= PENDING_BYTES_MAX

    @property
    def acknowledged(self) -> int:
        """Every number up to it is answered."""
        unanswered = [*self._sent, *(one.number for one in self._waiting if one.number)]
        return min(unanswered, default=self._next) - 1

    def add(self, item: bytes, *, alone: bool = False) -> "asyncio.Future[bytes]":
        """One more operation or question, and the future of its outcome. `alone`: in a request of its own."""
        size = len(item) + ITEM_BYTES
        last = self._waiting[-1] if self._waiting else None
        if (
            last is None
            or last.number
            or alone
            or len(last.items) == OPERATIONS_MAX
            or last.size + size > REQUEST_BYTES_MAX
        ):
            last = Request()
            self.size += last.size
            self._waiting.append(last)
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        last.items.append(item)
        last.waiters.append(waiter)
        last.size += size
        self.size += size
        if alone:
            self._close(last)
        return waiter

    def _close(self, request: Request) -> None:
        """Number it, and with it those before it: nothing is added to them any more."""
        for one in self._waiting:
            if not one.number:
                one.number = self._next
                self._next += 1
            if one is request:
                return

    def take(self) -> Request | None:
        """The next request to send; None: nothing waits, or enough is under way. What nobody waits for is left out."""
        while self._waiting and len(self._sent) < IN_FLIGHT_MAX:
            request = self._waiting[0]
            if not request.attempts:
                self._prune(request)
            self._close(request)
            if request.number > self.acknowledged + WINDOW:
                return None  # the store would refuse it: an older one has to be answered first
            self._waiting.popleft()
            if all(waiter.done() for waiter in request.waiters):
                self.size -= request.size
                continue
            self._sent[request.number] = request
            request.attempts += 1
            return request
        return None

    def _prune(self, request: Request) -> None:
        """Leave out what was given up before it was ever sent."""
        kept = [pair for pair in zip(request.items, request.waiters, strict=True) if not pair[1].done()]
        if len(kept) < len(request.items):
            request.items, request.waiters = [item for item, _ in kept], [waiter for _, waiter in kept]
            self.size -= request.size
            request.size = size_of(request.items)
            self.size += request.size

    def finish(self, number: int) -> Request | None:
        """An answer came: whose it is; None if nobody waits for it any more."""
        request = self._sent.pop(number, None)
        if request is not None:
            self.size -= request.size
        return request

    def again(self, number: int) -> None:
        """A request was turned away: send it again."""
        request = self._sent.pop(number, None)
        if request is not None:
            self._waiting.appendleft(request)

    def disconnected(self) -> None:
        """All that was sent goes again, in order."""
        self._waiting.extendleft(self._sent[number] for number in sorted(self._sent, reverse=True))
        self._sent.clear()

    def drain(self) -> list[Request]:
        """Take everything out, in order."""
        self.disconnected()
        requests = list(self._waiting)
        self._waiting.clear()
        self.size = 0
        return requests

    def restart(self, requests: Iterable[Request]) -> None:
        """Numbers begin anew, with these requests, of which none was ever applied; the lane is empty."""
        self._next = 1
        for request in requests:
            request.attempts = request.number = 0
            self.size += request.size
            self._waiting.append(request)
