"""Whether a history of publishes and reads of one log is linearizable, by the offsets that clients were told.

A log that only grows has one right order, that of the offsets, so there is nothing to search: an order of all
operations exists exactly if offsets and reads agree with real time. Times are of one clock.
"""

from bisect import bisect_left
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple


class Published(NamedTuple):
    """A message and its receipt."""

    offset: int
    invoked: float
    returned: float


class Read(NamedTuple):
    """A read that saw every message below the offset `end`. `what` and `where` are for people."""

    end: int
    invoked: float
    returned: float
    what: str = ""
    where: int = 0


class Broken(NamedTuple):
    """What is wrong with an operation."""

    why: str
    operation: Published | Read


def violations(history: Iterable[Published | Read]) -> list[Broken]:
    """Each operation that no order explains, with the reason; empty if the history is linearizable."""
    operations = list(history)
    offsets = sorted(one.offset for one in operations if isinstance(one, Published))
    by_start = sorted(operations, key=lambda one: one.invoked)
    ended: list[tuple[float, int, Published | Read]] = []  # a heap of those begun, by their end
    stored = seen = 0  # messages that were acknowledged, or read, before the operation at hand began
    broken: list[Broken] = []
    for number, one in enumerate(by_start):
        while ended and ended[0][0] < one.invoked:
            before = heappop(ended)[2]
            if isinstance(before, Published):
                stored = max(stored, bisect_left(offsets, before.offset) + 1)
            else:
                seen = max(seen, bisect_left(offsets, before.end))
        heappush(ended, (one.returned, number, one))
        if isinstance(one, Read):
            count = bisect_left(offsets, one.end)
            if count < stored:
                broken.append(Broken("stale: it misses what was acknowledged before it began", one))
            elif count < seen:
                broken.append(Broken("stale: it misses what another read had seen before it began", one))
        elif bisect_left(offsets, one.offset) < max(stored, seen):
            broken.append(Broken("its place was acknowledged, or read, before it was published", one))
    return broken
