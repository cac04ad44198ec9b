"""What operators ask of the core: the queries `recover` (D2, V0), `members` and `change_members` (V12), `trace`.

And `reset_clock` (D7).

The wish goes to the core as an event, the answer comes back as a fact of that step.
"""

from collections.abc import Callable

from broker.gateway import Reply
from replicas.bus import accepted_loss, clock_reset, members
from replicas.bus.directory import Directory
from replicas.timings import Timings
from ringcast.errors import NotReady, RingcastError
from ringcast.wire import Answer, Fetch, Query
from sequencer.core import Core
from sequencer.output import Event, Fact

#: What this replica remembers of a slot (replicas/bus/traces.py).
TRACE = "trace"


class Operators:
    """One replica's; `trouble`: why nothing can be ordered here now, None if it can."""

    def __init__(
        self,
        ask: Callable[[Event], None],
        core: Callable[[], Core],
        directory: Directory,
        trouble: Callable[[], RingcastError | None],
        timings: Timings,
    ) -> None:
        self._core = core
        self._traces = timings.traces
        self._recovers = accepted_loss.RecoverQueries(ask)
        self._clocks = clock_reset.ClockQueries(ask, lambda: trouble() or self._restarting())
        self.members = members.MembersQueries(ask, core, directory, lambda: trouble() or self._restarting())

        self._takers: dict[str, Callable[[Query, Reply], None]] = {
            accepted_loss.QUERY: self._recovers.take,
            clock_reset.QUERY: self._clocks.take,
            **dict.fromkeys(members.QUERIES, self.members.take),
        }

    def take(self, request: Fetch | Query, reply: Reply) -> bool:
        """Answer such a query, now or in this turn's step; False: it is another one."""
        name = request.name if isinstance(request, Query) else ""
        if isinstance(request, Query) and name == TRACE:
            slot = request.arguments.get("slot")
            found = self._traces.find(slot) if type(slot) is int else {}
            reply(Answer(request.request, {**found}, 0), ())
            return True
        if not isinstance(request, Query) or name not in self._takers:
            return False
        self._takers[name](request, reply)
        return True

    def tell(self, fact: Fact, next_offset: int) -> None:
        """The core answered, if it is such a fact."""
        if fact.name in accepted_loss.FACTS:
            self._recovers.tell(fact, self._core(), next_offset)
        elif fact.name in members.FACTS:
            self.members.tell(fact)
        elif fact.name in clock_reset.FACTS:
            self._clocks.tell(fact)

    def abandon(self) -> None:
        """The core is made anew: whoever waits asks again."""
        self._recovers.abandon(self._restarting())
        self._clocks.abandon(self._restarting())
        self.members.abandon()

    def _restarting(self) -> NotReady:
        return NotReady(replica=self._core().me, state="restarting")
