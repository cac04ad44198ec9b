"""K3 in the shell: reads wait until the state machine has applied what the ring had stored when they were asked.

Reads that come in the same turn share one nonce, and so one round trip of READ; a read that gets no answer within
`READ_TIMEOUT_S` fails with the reason (no quorum, most of the time) and its client asks another replica.
"""

import asyncio
import secrets
from collections.abc import Callable

from broker.gateway import Reply
from replicas.bus.queries import Queries
from replicas.bus.rows import RowError
from ringcast.errors import NotReady, RingcastError
from ringcast.wire import LOCAL, Fetch, Query
from store.errors import StoreError

READ_TIMEOUT_S = 3.0


class _Round:
    """Reads that share a nonce. `slot`: where the state machine must stand, None until the ring has said it."""

    __slots__ = ("calls", "slot", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.calls: list[Callable[[RingcastError | None], None]] = []
        self.slot: int | None = None
        self.timer = timer


class Reads:
    """Linearizable and local reads of one shell. `ask(nonce)` hands ReadAsked to the core."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ask: Callable[[int], None], trouble: Callable[[], RingcastError]
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._trouble = trouble
        self._rounds: dict[int, _Round] = {}
        self._gathering: int | None = None  # the nonce of this turn's reads
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._rounds)

    def answer(self, request: Fetch | Query, reply: Reply, queries: Queries) -> None:
        """Answer now, or when a linearizable read may be made."""
        if request.consistency == LOCAL:
            self._read(request, reply, queries)
            return

        def call(error: RingcastError | None) -> None:
            if error is None:
                self._read(request, reply, queries)
            else:
                reply(error, ())

        self.when_current(call)

    def when_current(self, call: Callable[[RingcastError | None], None]) -> None:
        """Call with None once everything that was acknowledged before now is applied here, or with the reason."""
        if self._gathering is None:
            nonce = self._gathering = secrets.randbits(63)
            self._rounds[nonce] = _Round(self._loop.call_later(READ_TIMEOUT_S, self._expire, nonce))
            self._loop.call_soon(self._gathered)
            self._ask(nonce)
        self._rounds[self._gathering].calls.append(call)

    def _gathered(self) -> None:
        self._gathering = None

    def ready(self, nonce: int, slot: int) -> None:
        """The core's answer: read once every slot below `slot` is applied."""
        waiting = self._rounds.get(nonce)
        if waiting is not None:
            waiting.slot = slot

    def applied(self, slot: int) -> None:
        """The state machine has applied every slot below `slot`."""
        if not self._rounds:
            return
        due = [nonce for nonce, one in self._rounds.items() if one.slot is not None and one.slot <= slot]
        for nonce in due:
            self._finish(nonce, None)

    def _expire(self, nonce: int) -> None:
        self._finish(nonce, self._trouble())

    def _finish(self, nonce: int, error: RingcastError | None) -> None:
        if self._gathering == nonce:
            self._gathering = None
        one = self._rounds.pop(nonce)
        one.timer.cancel()
        for call in one.calls:
            call(error)

    def _read(self, request: Fetch | Query, reply: Reply, queries: Queries) -> None:
        if isinstance(request, Query):
            try:
                reply(queries.query(request), ())
            except RingcastError as error:
                reply(error, ())
            except (StoreError, RowError) as error:
                reply(NotReady(state=f"unable to read its disk: {error}"), ())
            return
        task = self._loop.create_task(self._fetch(request, reply, queries))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, request: Fetch, reply: Reply, queries: Queries) -> None:
        try:
            found, payloads = await queries.fetch(request)
        except RingcastError as error:
            reply(error, ())
        except (StoreError, RowError) as error:
            reply(NotReady(state=f"unable to read its disk: {error}"), ())
        else:
            reply(found, payloads)
