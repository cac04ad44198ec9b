"""Wall clocks that are wrong for a while, and machines that sleep (`--faults clocks`): what time does a leader give?

At most a minority of the founders' clocks is wrong at a time. In true time a leader's time is never early; in fair
weather it is not late either.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from replicas.raft.group_time import WINDOW_S
from sequencer.quorum import majority
from sequencer.simulator.checkers import Violation
from sequencer.simulator.extras import Extra

if TYPE_CHECKING:
    from replicas.raft.simulator.cluster import Cluster

SECOND = 1_000_000
DAY = 86_400 * SECOND
WALL_US = 1_800_000_000 * SECOND  # true time at virtual time 0
RIGHT_US = 60_000
LATE_US = 500_000
JUMPS = (3_650 * DAY, DAY, 30 * SECOND, 2 * SECOND, -2 * SECOND, -DAY)
LOOK_SECONDS = 0.01
#: What a clock showed when it was wrong is believed for so long where its member is not heard any more.
LINGERS_SECONDS = WINDOW_S + 0.5


class ClockFaults(Extra["Cluster"]):
    """The true time, the members' wall clocks, and a look at each leader's time now and then."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        super().__init__(cluster, random)
        self._slept_us = 0
        self._errors: dict[int, int] = {}
        self._wrong: dict[int, int] = {}
        self._lingering = 0
        self._healed_at = float("inf")

    def _true_us(self) -> int:
        return WALL_US + int(self.cluster.loop.now * 1e6) + self._slept_us

    def wall_us(self, member: int) -> int:
        """What a member's wall clock shows."""
        if member not in self._errors:
            self._errors[member] = self.random.randint(-40_000, 40_000)
        return self._true_us() + self._errors[member] + self._wrong.get(member, 0)

    # -------------------------------------------------------------- faults

    def plan(self) -> None:
        """From the first moment on, for the whole run."""
        self._go_wrong()
        if self.cluster.options.members != 1 and self.random.random() < 0.5:
            self.cluster.loop.call_later(self.random.random() * self.cluster.options.safety_seconds, self._sleep)
        self.cluster.loop.call_later(LOOK_SECONDS, self._look)

    def _go_wrong(self) -> None:
        cluster, random = self.cluster, self.random
        cluster.loop.call_later(random.random() * 1.5, self._go_wrong)
        founders = sorted(cluster.founders)
        voters = min([len(founders), *(len(one.node.state.log.members.voters) for one in cluster.processes.values())])
        few = len(founders) != voters or cluster.newest_member != len(founders)  # of members that change
        if few or len(self._wrong) + self._lingering >= len(founders) - majority(founders):
            return
        member = random.choice([one for one in founders if one not in self._wrong])
        self._wrong[member] = random.choice(JUMPS)
        cluster.counts["clocks_wrong"] += 1
        cluster.loop.call_later(0.05 + random.random(), self._get_right, member)

    def _get_right(self, member: int) -> None:
        del self._wrong[member]
        self._lingering += 1
        self.cluster.loop.call_later(LINGERS_SECONDS, self._forget)

    def _forget(self) -> None:
        self._lingering -= 1

    def _sleep(self) -> None:
        """All machines: their monotonic clocks stand still, their wall clocks are right at the wake."""
        self._slept_us += self.random.choice((3, 3_600, 30 * 86_400)) * SECOND

    # -------------------------------------------------------------- what must hold

    def healed(self) -> None:
        self._healed_at = self.cluster.loop.now

    def _look(self) -> None:
        cluster = self.cluster
        cluster.loop.call_later(LOOK_SECONDS, self._look)
        unchanged = cluster.newest_member == len(cluster.founders) and not cluster.removed
        for process in cluster.processes.values():
            time = process.node.time
            if not process.node.leads or process.paused or not time.settled or time.quorum_us() is None:
                continue
            off_us = time.time_us() - self._true_us()
            cluster.counts["leader_times"] += 1
            if off_us > RIGHT_US and unchanged:
                raise Violation("group time", f"member {process.member} gives a time that is {off_us} us early")
            fair = cluster.loop.now - self._healed_at > LINGERS_SECONDS
            if off_us < -LATE_US and fair and not self._wrong:
                raise Violation("group time", f"member {process.member} gives a time that is {-off_us} us late")
