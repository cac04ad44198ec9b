"""The wall clocks of a group as one member knows them (D7). Pure: the two clocks of this member are arguments.

A clock is kept as its lead over this member's own *monotonic* clock. So a jump of the own wall clock moves nobody
else's, and the own wall clock is one of n, with no privilege. A frame's delay makes its sender's clock look late, never
early: of the frames of a while the largest lead is the truest. The sender's monotonic clock travels along: a step of
its wall clock shows as a step between the two, and what was told before it counts no more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: A wall clock that moved so far against its own monotonic one was set: no frame's delay is in that difference.
STEP_US = 50_000


class _Heard:
    """The largest lead of this window and of the one before; `told_us`: the sender's monotonic clock, newest first."""

    __slots__ = ("before_us", "heard_us", "lead_us", "own_lead_us", "since_us", "told_us")

    def __init__(self, lead_us: int, own_lead_us: int, told_us: int, now_us: int) -> None:
        self.lead_us = self.before_us = lead_us
        self.own_lead_us, self.told_us = own_lead_us, told_us
        self.since_us = self.heard_us = now_us


class Clocks:
    """What others told of their wall clocks, in microseconds. One that was not heard for `window_us` is not known."""

    def __init__(self, window_us: int) -> None:
        self._window_us = window_us
        self._heard: dict[int, _Heard] = {}

    def hear(self, member: int, wall_us: int, told_us: int, now_us: int) -> None:
        """A member's clocks showed `wall_us` and, the monotonic one, `told_us` when a frame left it that came now."""
        lead_us, own_lead_us = wall_us - now_us, wall_us - told_us
        known = self._heard.get(member)
        if known is not None and told_us < known.told_us:
            return  # overtaken by a newer one
        if known is None or abs(own_lead_us - known.own_lead_us) >= STEP_US:
            self._heard[member] = _Heard(lead_us, own_lead_us, told_us, now_us)
            return
        if now_us - known.since_us >= self._window_us:
            known.before_us, known.lead_us, known.since_us = known.lead_us, lead_us, now_us
        else:
            known.lead_us = max(known.lead_us, lead_us)
        known.own_lead_us, known.told_us, known.heard_us = own_lead_us, told_us, now_us

    def forget(self, member: int) -> None:
        """Another process speaks for it: what the one before told counts no more."""
        self._heard.pop(member, None)

    def showing(self, members: Collection[int], now_us: int) -> dict[int, int]:
        """The wall clocks of these members now, of those that told them lately."""
        return {
            member: now_us + max(heard.lead_us, heard.before_us)
            for member, heard in sorted(self._heard.items())
            if member in members and now_us - heard.heard_us < self._window_us
        }


def reached_by(clocks: Iterable[int], count: int) -> int | None:
    """The latest time that `count` of these clocks have reached; None if they are fewer."""
    falling = sorted(clocks, reverse=True)
    return falling[count - 1] if len(falling) >= count else None


class ShownClocks(NamedTuple):
    """The known clocks by member, and what those of a quorum have reached: None if too few are known. Microseconds."""

    clocks: Mapping[int, int]
    quorum_us: int | None

    def offsets_us(self) -> dict[int, int]:
        """Each clock less the time of the quorum; empty if that is not known."""
        quorum_us = self.quorum_us
        return {} if quorum_us is None else {member: shown - quorum_us for member, shown in self.clocks.items()}


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """What a human wants to see of the clocks, as one member sees them (D7). Microseconds since 1970.

    `ring_us`: what a slot would be given now. `quorum_us`: what the clocks of a quorum have reached, None if too few
    are known. `last_us`: the last slot's time. `offsets_us`: each known clock less `quorum_us`. `beyond`: the members
    whose offset is beyond `bound_us`.
    """

    ring_us: int = 0
    quorum_us: int | None = None
    last_us: int = 0
    bound_us: int = 0
    offsets_us: Mapping[int, int] = field(default_factory=dict)
    beyond: tuple[int, ...] = ()

    @property
    def ahead_us(self) -> int:
        """How far the log's time is ahead of the clocks of a quorum; 0 if it is not, or they are not known."""
        return max(0, self.last_us - self.quorum_us) if self.quorum_us is not None else 0
