"""`ringcast clock reset` at a replica: the query `reset_clock` (D7, docs/wire.md, "Queries").

The wish goes to the core as an event, its answer comes back as a fact of that step. The core says why it refuses; here
stands what to do about it. That the reset took effect is seen in `clock` of the query `status`.
"""

from collections.abc import Callable

from broker.gateway import Reply
from ringcast.errors import ChangeRefused, RingcastError, Unavailable
from ringcast.strict import Plain
from ringcast.wire import Answer, Query
from sequencer.clocks import ClockStatus
from sequencer.output import ClockResetAsked, Fact
from sequencer.ring_time import CLOCKS_DISAGREE, CLOCKS_UNKNOWN, NOT_SERVING, NOTHING_TO_RESET, UNTOLD

QUERY = "reset_clock"
FACTS = frozenset({"clock_reset_asked", "clock_reset_refused"})
ADVICE = {
    CLOCKS_UNKNOWN: "try again in a few seconds",
    CLOCKS_DISAGREE: "mend the clocks that `ringcast clock` shows beyond the bound first (chrony, or another NTP)",
    UNTOLD: "finish the rolling upgrade first: a replica of an older version cannot read a reset",
}


class ClockQueries:
    """Who waits for the core's answer. `trouble`: why nothing can be ordered here now."""

    def __init__(self, ask: Callable[[ClockResetAsked], None], trouble: Callable[[], RingcastError]) -> None:
        self._ask = ask
        self._trouble = trouble
        self._waiting: list[tuple[int, Reply]] = []

    def take(self, query: Query, reply: Reply) -> None:
        """Answered by this turn's step."""
        self._waiting.append((query.request, reply))
        if len(self._waiting) == 1:
            self._ask(ClockResetAsked())

    def tell(self, fact: Fact) -> None:
        """What the core decided: asked, or why not."""
        why = str(fact.fields.get("why", ""))
        waiting, self._waiting = self._waiting, []
        for request, reply in waiting:
            if why in {"", NOTHING_TO_RESET}:
                reply(Answer(request, {"asked": not why}, 0), ())
            else:
                reply(self._refusal(why), ())

    def _refusal(self, why: str) -> RingcastError:
        trouble = self._trouble()
        if why == NOT_SERVING and isinstance(trouble, Unavailable):
            return trouble
        change, passes = "a reset of the ring's time", why == CLOCKS_UNKNOWN
        return ChangeRefused(change=change, why=why, next=ADVICE.get(why, "try again"), passes=passes)

    def abandon(self, error: RingcastError) -> None:
        """The core is made anew: whoever waits asks again."""
        waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            reply(error, ())


def shown(status: ClockStatus) -> dict[str, Plain]:
    """`clock` of the query `status`."""
    return {
        "ring_us": status.ring_us,
        "quorum_us": status.quorum_us,
        "last_us": status.last_us,
        "ahead_us": status.ahead_us,
        "bound_us": status.bound_us,
        "offsets_us": {str(member): offset for member, offset in status.offsets_us.items()},
        "beyond": status.beyond,
    }
