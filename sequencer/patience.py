"""V2, V9: who waits, and how long: proposers without success, members that are put out, joiners let in for nothing."""

from dataclasses import dataclass

from sequencer.config import MS
from sequencer.state import NEVER
from sequencer.suspicion import Suspicion
from sequencer.types import BackOff, View

TRIES_AT_ONCE = 3  # proposals of one member in a row before it pauses (V2)


@dataclass(slots=True)
class Absence:
    """V9: a member's back-off, as this member keeps it."""

    level: int
    until_us: int
    in_ring_since_us: int = NEVER


class Patience(Suspicion):
    """Pauses that grow; each ring member keeps the back-offs of all, and NEW_VIEW carries them on."""

    absences: dict[int, Absence]
    tries = 0  # proposals of our own since the last view that was installed here

    def init_patience(self) -> None:
        """Per-instance containers."""
        self.absences: dict[int, Absence] = {}

    def pause_ms(self) -> int:
        """V2: one whose proposals come to nothing again and again asks more and more seldom."""
        doublings = min(max(0, self.tries - TRIES_AT_ONCE), 16)
        return min(self.config.propose_delay_ms * ((1 << doublings) - 1), self.config.back_off_max_ms)

    def backed_off(self) -> list[int]:
        """Those that wait now."""
        return [member for member, absence in self.absences.items() if self.now_us < absence.until_us]

    def next_back_offs(self, ring: tuple[int, ...], out: set[int]) -> tuple[BackOff, ...]:
        """V9: a member that is suspected out of the ring, or let in for nothing, waits longer each time."""
        levels = {member: absence.level for member, absence in self.absences.items()}
        for member in out:
            if member not in ring and not ((s := self.peer(member).status) is not None and s.leaving):
                levels[member] = levels.get(member, -1) + 1
        return tuple(BackOff(member, level) for member, level in sorted(levels.items()) if level >= 0)

    def begin_back_offs(self, view: View) -> None:
        """V9: those that NEW_VIEW carries begin at the install; they reset after a while in the ring."""
        self.tries = 0
        before, self.absences = self.absences, {}
        for member, level in view.back_offs:
            if member in view.ring:
                since = before[member].in_ring_since_us if member in before else NEVER
                since = self.now_us if since == NEVER else since
                if self.now_us - since < self.config.back_off_reset_ms * MS:
                    self.absences[member] = Absence(level, NEVER, since)
            else:
                wait_ms = min(self.config.back_off_base_ms << min(level, 16), self.config.back_off_max_ms)
                old = before.get(member)
                until = old.until_us if old and old.level == level else self.now_us + wait_ms * MS
                self.absences[member] = Absence(level, until)
