"""K3 in the shell: reads wait until the state machine has applied what the ring had stored when they were asked.

Readers that come before a step share its READ (`sequencer.read_rounds`). A read that gets no answer within
`READ_TIMEOUT_S` fails with the reason (no quorum, most of the time) and its client asks another replica.
"""

import asyncio
from collections.abc import Callable

from broker.gateway import Reply
from replicas.bus.queries import Queries
from replicas.bus.rows import RowError
from ringcast.errors import NotReady, RingcastError
from ringcast.wire import LOCAL, Fetch, Query
from sequencer.output import ReadAsked
from sequencer.read_rounds import ReadRounds, Round
from store.errors import StoreError

READ_TIMEOUT_S = 3.0


class _Reader:
    """A request that waits for its round."""

    __slots__ = ("reply", "request")

    def __init__(self, request: Fetch | Query, reply: Reply) -> None:
        self.request = request
        self.reply = reply


class Reads:
    """Linearizable and local reads of one shell.

    `queries()` is the state at the time of the read, which a snapshot may have replaced since the request came (C1).
    `plan_step` sees to a step, which must `take` what has gathered. `trouble()`: why nothing can be ordered here now.
    """

    rounds_class: type[ReadRounds[_Reader]] = ReadRounds

    def __init__(
        self,
        member: int,
        queries: Callable[[], Queries],
        plan_step: Callable[[], None],
        trouble: Callable[[], RingcastError | None],
    ) -> None:
        self._member = member
        self._loop = asyncio.get_running_loop()
        self._queries = queries
        self._plan_step = plan_step
        self._trouble = trouble
        self._rounds = self.rounds_class()
        self._timers: dict[Round[_Reader], asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._rounds)

    def answer(self, request: Fetch | Query, reply: Reply) -> None:
        """Answer now, or when everything that was acknowledged before now is applied here."""
        if request.consistency == LOCAL:
            self._read(request, reply)
            return
        one = self._rounds.join(_Reader(request, reply))
        if len(one.readers) == 1:
            self._timers[one] = self._loop.call_later(READ_TIMEOUT_S, self._expire, one)
            self._plan_step()

    def take(self) -> list[ReadAsked]:
        """For the step that begins now, with its other events."""
        return self._rounds.take()

    def ready(self, nonce: int, slot: int) -> None:
        """The core's answer to a ReadAsked."""
        self._rounds.ready(nonce, slot)

    def applied(self, slot: int) -> None:
        """The state machine has applied every slot below `slot`."""
        for one in self._rounds.due(slot):
            self._timers.pop(one).cancel()
            for reader in one.readers:
                self._read(reader.request, reader.reply)

    def abandon(self, error: RingcastError) -> None:
        """The core that was asked is gone: whoever waits asks again, elsewhere."""
        for one in self._rounds.drop_all():
            self._timers.pop(one).cancel()
            self._fail(one, error)

    def _expire(self, one: Round[_Reader]) -> None:
        del self._timers[one]
        self._rounds.drop(one)
        self._fail(one, self._trouble() or self._not_ready("asking the ring for its newest slot"))

    @staticmethod
    def _fail(one: Round[_Reader], error: RingcastError) -> None:
        for reader in one.readers:
            reader.reply(error, ())

    def _not_ready(self, state: str) -> NotReady:
        return NotReady(replica=self._member, state=state)

    # ------------------------------------------------------------------ reading what is applied

    def _read(self, request: Fetch | Query, reply: Reply) -> None:
        if isinstance(request, Query):
            try:
                reply(self._queries().query(request), ())
            except RingcastError as error:
                reply(error, ())
            except (StoreError, RowError) as error:
                reply(self._not_ready(f"unable to read its disk: {error}"), ())
            return
        task = self._loop.create_task(self._fetch(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, request: Fetch, reply: Reply) -> None:
        queries = self._queries()
        try:
            found, payloads = await queries.fetch(request)
        except RingcastError as error:
            reply(error, ())
        except (StoreError, RowError) as error:
            reply(self._not_ready(f"unable to read its disk: {error}"), ())
        else:
            # A walk gives the loop back: if a snapshot replaced the log meanwhile, what was found may have holes (C1).
            whole = queries is self._queries()
            reply(*(found, payloads) if whole else (self._not_ready("catching up"), ()))
