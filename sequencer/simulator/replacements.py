"""Disks are replaced one after the other, and old records rot: no retained slot may vanish (C3).

A disk is replaced only while enough others say that they are whole. So a member that says so too early, or fetches less
than it should, costs the last copy of a slot, and the check at the end finds it.
"""

from typing import TYPE_CHECKING

from sequencer.output import DamageFound
from sequencer.simulator.extras import Extra

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster  # noqa: F401 - the class names it
    from sequencer.simulator.member import Member

MS = 1_000
DAMAGED_MAX = 12


class Replacements(Extra["Cluster"]):
    """New disks, snapshots everywhere, damage below the snapshots."""

    NAME = "replacements"

    def plan(self) -> None:
        """Draw how often, and when."""
        end = self.cluster.options.safety_us
        for _ in range(self.random.randint(3, 9)):
            self.cluster.at(self.random.randint(200 * MS, end), self.replace)
        for _ in range(self.random.randint(0, 4)):
            self.cluster.at(self.random.randint(200 * MS, end), self.rot)
        for _ in range(self.random.randint(1, 3)):
            self.cluster.at(self.random.randint(150 * MS, end), self.snapshots)

    def snapshots(self) -> None:
        """Everybody makes one, and trims: whoever gets a new disk is filled by it."""
        for member in self.cluster.members.values():
            member.make_snapshot()

    def victim(self) -> "Member | None":
        """A member whose disk may go: the others keep what is retained on a quorum of disks."""
        cluster = self.cluster
        member = self.random.choice(list(cluster.members.values()))
        stable = member.disk.stable
        if (
            cluster.healing
            or cluster.operators.spoiled(member)
            or member.restarting
            or stable is None
            or stable.view is None
        ):
            return None
        return member if cluster.operators.spares(member) else None

    def replace(self) -> None:
        """A new, empty disk."""
        member = self.victim()
        if member is None:
            return
        cluster = self.cluster
        member.crash()
        member.impaired = "wipe"
        member.disk.format()
        cluster.claims.forget(member.id)
        cluster.counts.disks_replaced += 1
        cluster.after(self.random.randint(1, 80) * MS, cluster.revive, member)

    def rot(self) -> None:
        """Records below the newest snapshot go bad while the member runs; its scrub finds them (D6)."""
        member = self.victim()
        if member is None or not member.alive:
            return
        disk = member.disk
        newest = max((snapshot.slot for snapshot in disk.snapshots.values()), default=0)
        if newest <= disk.log.first:
            return
        first = self.random.randint(disk.log.first, newest - 1)
        last = min(newest - 1, first + self.random.randint(0, DAMAGED_MAX))
        disk.damaged.update(range(first, last + 1))
        member.receive(DamageFound(disk.runs()))

    def settled(self) -> bool:
        """Everybody has fetched what is retained."""
        return all(member.core is not None and member.core.whole for member in self.cluster.configured())

    def ended(self) -> None:
        """C3: every retained slot is on a quorum of disks."""
        members = self.cluster.configured()
        self.cluster.storage.retained({one.id: one.disk.log.records for one in members})
