"""A member that is heard and stores nothing for long, and retention that goes on beside it (`--faults stuck`, C2).

Every member keeps few slots, and asks for a trim each few milliseconds, as the shell does: a snapshot is made when the
newest one stands in the way. Now and then one member's disk is full for longer than anything else lasts. The log of the
others must stay within the hard bound, and the member that was stuck must come back, by a snapshot if need be.
"""

from random import Random
from typing import TYPE_CHECKING

from sequencer.output import TrimAsked
from sequencer.simulator.checkers import Violation
from sequencer.simulator.extras import Extra

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster
    from sequencer.simulator.member import Member

MS = 1_000
KEPT_SLOTS = 12  # as `retention_bytes`
HARD_SLOTS = 24  # the hard bound
MARGIN_SLOTS = 16  # what may be ordered while a snapshot and a trim are made
PATIENCE_US = 400 * MS  # and how long that may take on a slow disk
LOOK_EVERY_US = 15 * MS


class Stuck(Extra["Cluster"]):
    """Fills a disk, asks for trims, and looks at the length of each log."""

    def __init__(self, cluster: "Cluster", random: Random) -> None:
        super().__init__(cluster, random)
        self._beyond_since: dict[int, int] = {}  # members whose log is too long, since when

    def plan(self) -> None:
        """One member is stuck at a time."""
        self.cluster.after(self.random.randint(100 * MS, 300 * MS), self._fill)
        self.cluster.after(LOOK_EVERY_US, self._look)

    def _fill(self) -> None:
        cluster, random = self.cluster, self.random
        if cluster.healing or len(cluster.members) < 3:
            return
        member = random.choice(list(cluster.members.values()))
        member.fill_disk()
        span = random.randint(300 * MS, 1_200 * MS)
        cluster.after(span, member.free_disk)
        cluster.after(span + random.randint(50 * MS, 300 * MS), self._fill)

    def _look(self) -> None:
        for member in list(self.cluster.members.values()):
            if self._may_trim(member):
                self._retain(member)
                self._check(member)
            else:
                self._beyond_since.pop(member.id, None)
        self.cluster.after(LOOK_EVERY_US, self._look)

    @staticmethod
    def _may_trim(member: "Member") -> bool:
        core = member.core
        busy = member.paused or member.restarting or member.writer.full or member.writer.slowness > 1
        return core is not None and not busy and not member.disk.damaged and core.in_quorum()

    @staticmethod
    def _retain(member: "Member") -> None:
        """The shell's retention turn."""
        wanted = member.applied - KEPT_SLOTS
        if wanted <= member.disk.log.first:
            return
        newest = max((one.slot for one in member.disk.snapshots.values()), default=0)
        if newest < wanted:
            member.make_snapshot()
        member.receive(TrimAsked(wanted, max(0, member.applied - HARD_SLOTS)))

    def _check(self, member: "Member") -> None:
        kept, now = member.applied - member.disk.log.first, self.cluster.now
        if kept <= HARD_SLOTS + MARGIN_SLOTS:
            self._beyond_since.pop(member.id, None)
        elif now - self._beyond_since.setdefault(member.id, now) > PATIENCE_US:
            raise Violation("retention", f"member {member.id} keeps {kept} slots, the hard bound is {HARD_SLOTS} (C2)")
