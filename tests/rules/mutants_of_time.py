"""What D7 forbids, one double each."""

from collections.abc import Iterable
from typing import Any

from sequencer.clocks import Clocks, reached_by
from sequencer.core import Core
from sequencer.messages import Clock
from sequencer.rules import Rules
from sequencer.types import ClockReset, View
from tests.rules.doubles import gets_wrong


@gets_wrong("D7 the own clock")
class OwnClock(Core):
    def slot_time_us(self, reset: ClockReset | None = None) -> int:
        return max(self.window.time_us, self.wall_us)


@gets_wrong("D7 the latest clock")
class LatestClock(Rules):
    def quorum_time(self, clocks: Iterable[int], quorum: int) -> int | None:
        known = list(clocks)
        return max(known) if len(known) >= quorum else None


@gets_wrong("D7 the quorum of those that are known")
class KnownQuorum(Rules):
    def quorum_time(self, clocks: Iterable[int], quorum: int) -> int | None:
        known = list(clocks)
        return reached_by(known, min(quorum, len(known)))


@gets_wrong("D7 back without a reset")
class GoesBack(Rules):
    def slot_time(self, last_us: int, quorum_us: int | None, carried_us: int, latest_us: int) -> int:
        return quorum_us or last_us


@gets_wrong("D7 stands still")
class StandsStill(Rules):
    def slot_time(self, last_us: int, quorum_us: int | None, carried_us: int, latest_us: int) -> int:
        return max(last_us, quorum_us or 0)


@gets_wrong("D7 carries on without a clock")
class RunsAway(Rules):
    def slot_time(self, last_us: int, quorum_us: int | None, carried_us: int, latest_us: int) -> int:
        return max(last_us, quorum_us or 0, carried_us)


@gets_wrong("D7 carries on beside the clocks")
class CarriesAlways(Rules):
    def slot_time(self, last_us: int, quorum_us: int | None, carried_us: int, latest_us: int) -> int:
        return max(last_us, quorum_us or 0, min(carried_us, latest_us))


class _NewestLead(Clocks):
    def hear(self, member: int, wall_us: int, told_us: int, now_us: int) -> None:
        self.forget(member)
        super().hear(member, wall_us, told_us, now_us)


@gets_wrong("D7 the newest lead")
class NewestLead(Core):
    def init_ring_time(self) -> None:
        super().init_ring_time()
        self.clocks = _NewestLead(self.config.clock_window_ms * 1_000)


class _LargestLead(Clocks):
    def hear(self, member: int, wall_us: int, told_us: int, now_us: int) -> None:
        super().hear(member, wall_us, wall_us, now_us)  # the step can't be seen


@gets_wrong("D7 sees no step")
class SeesNoStep(Core):
    def init_ring_time(self) -> None:
        super().init_ring_time()
        self.clocks = _LargestLead(self.config.clock_window_ms * 1_000)


@gets_wrong("D7 believes the process before")
class BelievesThePast(Core):
    def init_ring_time(self) -> None:
        super().init_ring_time()
        self.clocks.forget = lambda member: None  # type: ignore[method-assign]


@gets_wrong("D7 knows silent clocks")
class KnowsSilentClocks(Core):
    def init_ring_time(self) -> None:
        super().init_ring_time()
        self.clocks = Clocks(1 << 60)


@gets_wrong("D7 tells no clock")
class TellsNoClock(Core):
    def step(self, *arguments: Any) -> Any:
        out = super().step(*arguments)
        out.sends = [send for send in out.sends if not isinstance(send.message, Clock)]
        return out


@gets_wrong("D7 orders before it knows the clocks")
class NeverWaits(Core):
    def leaves_slot(self, view: View, *, waiting: bool) -> bool:
        return self.quorum_time_us() is not None and super().leaves_slot(view, waiting=waiting)


@gets_wrong("D7 waits for clocks that never come")
class WaitsForever(Core):
    def leaves_slot(self, view: View, *, waiting: bool) -> bool:
        return self.quorum_time_us() is None or super().leaves_slot(view, waiting=waiting)


@gets_wrong("D7 any clock is right")
class AnyClockIsRight(Rules):
    def clock_is_right(self, offset_us: int, bound_us: int) -> bool:
        return True


@gets_wrong("D7 keeps the token")
class KeepsTheToken(Core):
    def hands_on(self) -> bool:
        return False


@gets_wrong("D7 leaves slots without end")
class LeavesWithoutEnd(Core):
    def leaves_slot(self, view: View, *, waiting: bool) -> bool:
        return super().leaves_slot(view, waiting=False)


@gets_wrong("D7 leaves slots to nobody")
class LeavesToNobody(Core):
    def is_right_elsewhere(self, view: View) -> bool:
        return True


@gets_wrong("D7 never resets")
class NeverResets(Rules):
    def resets_time(self, reset: ClockReset, last_us: int) -> bool:
        return False


@gets_wrong("D7 resets again")
class ResetsAgain(Rules):
    def resets_time(self, reset: ClockReset, last_us: int) -> bool:
        return True


@gets_wrong("D7 orders a reset without clocks")
class ResetsWithoutClocks(Core):
    def change_waits(self, change: Any) -> bool:
        return not isinstance(change, ClockReset) and super().change_waits(change)
