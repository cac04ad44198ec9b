"""Wall clocks that drift, jump and come back (D7), and a ring that sleeps: the extra faults "clocks".

At most a minority of the clocks is wrong at a time, but for the accidents: then a quorum's are, and an operator resets
the ring's time when they are right again. In true time no slot may be early, and after the healing none is late.
"""

from random import Random
from typing import TYPE_CHECKING

from sequencer.output import ClockResetAsked
from sequencer.quorum import majority
from sequencer.simulator.checkers import Violation
from sequencer.simulator.extras import Extra
from sequencer.types import SlotRecord, ViewNumber

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster
    from sequencer.simulator.member import Member

MS = 1_000
SECOND = 1_000 * MS
DAY = 86_400 * SECOND
WALL_US = 1_800_000_000 * SECOND  # true time at virtual time 0
RIGHT_US = 60 * MS  # a right clock is no further off
LATE_US = 500 * MS  # of a slot that was sequenced in fair weather, at most
JUMPS = (10 * 365 * DAY, DAY, 30 * SECOND, 2 * SECOND, -2 * SECOND, -DAY, -10 * 365 * DAY)
FAIR_US = 200 * MS  # of publishing in fair weather
#: What the limits are while clocks are thrown about: a run lasts some seconds.
LIMITS = {"clock_bound_ms": 500, "clock_interval_ms": 50, "clock_window_ms": 200, "clock_wait_ms": 300}
LINGERS_US = 400 * MS  # a clock that is right again, or a slot that was given its time, may be heard of so late


class ClockFaults(Extra["Cluster"]):
    """The true time, each member's wall clock, and who looks at the times of the slots."""

    def __init__(self, cluster: "Cluster", random: Random) -> None:
        super().__init__(cluster, random)
        self.slept_us = 0  # for so long all monotonic clocks stood still
        self.right: dict[int, tuple[int, int]] = {}  # member -> constant error in us, drift in parts per million
        self.wrong: dict[int, int] = {}  # member -> what its clock is off
        self.lingering = 0  # clocks that were wrong just now
        self.accident = False  # a quorum's clocks were wrong, and nobody has reset the ring's time since
        self.mended_us = 0
        self.fair_since = 0
        #: When each slot of a view was sequenced, in true time; None: not in fair weather.
        self.sequenced: dict[tuple[int, ViewNumber], int | None] = {}
        self.counts = {"wrong": 0, "accidents": 0, "sleeps": 0, "resets": 0, "checked_late": 0}

    def true_us(self) -> int:
        """What a clock without error shows."""
        return WALL_US + self.cluster.now + self.slept_us

    def wall(self, member: "Member") -> int:
        """What a member's wall clock shows."""
        if member.id not in self.right:
            self.right[member.id] = (self.random.randint(-40 * MS, 40 * MS), self.random.randint(-200, 200))
        error_us, drift = self.right[member.id]
        drifted_us = max(-15 * MS, min(15 * MS, self.cluster.now * drift // 1_000_000))
        return self.true_us() + error_us + drifted_us + self.wrong.get(member.id, 0)

    # ------------------------------------------------------------------ faults

    def plan(self) -> None:
        """Draw what happens in the safety phase."""
        cluster, random, end = self.cluster, self.random, self.cluster.options.safety_us
        for _ in range(random.randint(0, 3)):
            cluster.at(random.randint(100 * MS, end), self.sleep)
        if cluster.operators.active:
            return  # of members that change, who is a minority differs from view to view
        for _ in range(random.randint(2, 8)):
            cluster.at(random.randint(0, end), self.go_wrong)
        if random.random() < 0.25:
            cluster.at(random.randint(300 * MS, end), self.have_accident)

    def go_wrong(self) -> None:
        """One more clock is wrong, for a while."""
        ids = self.cluster.config.members
        if self.cluster.healing or self.accident or self.lingering + len(self.wrong) >= len(ids) - majority(ids):
            return
        self.counts["wrong"] += 1
        one = self.random.choice([one for one in ids if one not in self.wrong])
        self.wrong[one] = self.random.choice(JUMPS)
        self.cluster.after(self.random.randint(20, 1_500) * MS, self.get_right, one)

    def get_right(self, one: int) -> None:
        """The clock is set."""
        if self.wrong.pop(one, 0):
            self.lingering += 1
            self.cluster.after(LINGERS_US, self.forget)

    def forget(self) -> None:
        """Nobody believes any more what a clock showed."""
        self.lingering -= 1

    def have_accident(self) -> None:
        """The clocks of a quorum leap ahead together (a time server went mad)."""
        ids = self.cluster.config.members
        if self.cluster.healing:
            return
        self.counts["accidents"] += 1
        self.accident = True
        jump_us = self.random.choice([jump for jump in JUMPS if jump > 0])
        for one in self.random.sample(ids, majority(ids)):
            self.wrong[one] = jump_us
        self.cluster.after(self.random.randint(50, 600) * MS, self.mend)

    def mend(self) -> None:
        """All clocks are right again; an operator resets the ring's time."""
        self.wrong.clear()
        self.mended_us = self.cluster.now
        if self.accident:
            self.cluster.after(LINGERS_US, self.reset)

    def reset(self) -> None:
        """Ask a member, until the ring's time is right."""
        if not self.accident or self.settled():
            return
        alive = [member for member in self.cluster.members.values() if member.alive]
        if alive:
            self.random.choice(alive).receive(ClockResetAsked())
        self.cluster.after(100 * MS, self.reset)

    def sleep(self) -> None:
        """All machines are suspended: monotonic clocks stand still, wall clocks are right at the wake."""
        if not self.cluster.healing:
            self.counts["sleeps"] += 1
            self.slept_us += self.random.choice((3 * SECOND, 3_600 * SECOND, 30 * DAY))

    # ------------------------------------------------------------------ what must hold

    def healed(self) -> None:
        """Clocks are right from now on."""
        self.fair_since = self.cluster.now
        self.mend()

    def ended(self) -> None:
        """Publish in fair weather: all clocks are right, and heard of."""
        cluster = self.cluster
        cluster.run_until(max(cluster.now, self.fair_from_us()))
        cluster.publish_again()
        cluster.run_until(cluster.now + FAIR_US)
        cluster.stop_publishing()
        cluster.demand_progress()

    def fair_from_us(self) -> int:
        """From when on, after the healing, every member knows every clock."""
        return self.fair_since + 3 * LIMITS["clock_window_ms"] * MS

    def appended(self, record: SlotRecord) -> None:
        """Note when a slot was sequenced: it may be delivered much later, after a view change."""
        fair = self.cluster.healing and self.cluster.now > self.fair_from_us()
        self.sequenced.setdefault((record.slot, record.sequence.view), self.true_us() if fair else None)

    def delivered(self, record: SlotRecord) -> None:
        """D7: while at most a minority of the clocks was wrong no slot is early; in fair weather none is late."""
        time_us, true_us = record.sequence.time_us, self.true_us()
        self.counts["resets"] += self.cluster.order.reset_at == record.slot
        if self.accident:
            return
        if time_us > true_us + RIGHT_US:
            raise Violation("ring time", f"slot {record.slot} is {time_us - true_us} us early")
        sequenced_us = self.sequenced.get((record.slot, record.sequence.view))
        if sequenced_us is not None:
            self.counts["checked_late"] += 1
            if time_us < sequenced_us - LATE_US:
                raise Violation("ring time", f"slot {record.slot} is {sequenced_us - time_us} us late")

    def settled(self) -> bool:
        """After an accident the ring's time is right only after a reset."""
        fair = self.cluster.healing and self.cluster.now - max(self.fair_since, self.mended_us) > LINGERS_US
        if self.accident and fair and self.cluster.order.time_us <= self.true_us() + RIGHT_US:
            self.accident = False
        return not self.accident
