"""Operators who change the members (V12): newcomers, removals, replacements, several at once; and what that allows.

Everything is drawn from a stream of its own, so that a seed without changes is the run it was before there were any.
"""

from random import Random
from typing import TYPE_CHECKING

from sequencer.config import MEMBERS_MAX
from sequencer.output import ChangeMembersAsked
from sequencer.quorum import majority

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster
    from sequencer.simulator.member import Member

MS = 1_000
IDS_MAX = 12  # that ever belong to one cluster


class Operators:
    """They look at what is committed, ask somewhere, and ask again; disks fail only within what is promised (V12)."""

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.random = Random(f"members {cluster.seed}")
        self.active = self.random.random() < cluster.options.member_changes
        self.founders = cluster.config.members
        self.settled = self.founders  # the members of the newest view that a majority of them has installed
        self.asked: set[tuple[int, tuple[int, ...]]] = set()  # (since, new) that a log may hold, or will

    @property
    def members(self) -> tuple[int, ...]:
        """The configuration as committed."""
        return self.cluster.order.reference.configuration.members or self.founders

    def possible(self) -> list[tuple[int, ...]]:
        """Every configuration that may count now: a view's, the committed one, and what may be stored after it."""
        since = self.cluster.order.reference.configuration.slot
        return [self.settled, self.members, *(new for at, new in sorted(self.asked) if at == since)]

    def spares(self, count_also: "Member | None" = None) -> bool:
        """May one more disk be lost (this one, if said), in every configuration that may count?"""
        for members in self.possible():
            impaired = sum(self.spoiled(self.cluster.members[one]) for one in members)
            lost = 1 if count_also is None or count_also.id in members else 0
            if impaired + lost > len(members) - majority(members):
                return False
        return True

    def spoiled(self, member: "Member") -> bool:
        """Its disk does not hold all that it should: it counts for no quorum, or for no copy (V0, D6, C3)."""
        return bool(member.impaired) or (self.cluster.guards_copies and not member.disk.whole)

    def file_of(self, one: int) -> tuple[int, ...]:
        """What the file says of a process with a new disk: the members of today and itself.

        With the file of an older day the founder of a ring of one would found another cluster (V0).
        """
        others = [member for member in self.members if member != one]
        return tuple(sorted([*others[: MEMBERS_MAX - 1], one]))

    # ------------------------------------------------------------------ plans

    def plan(self) -> None:
        """Draw what is wanted, and when."""
        if not self.active:
            return
        random = self.random
        end = self.cluster.options.safety_us
        kinds = (self.add, self.remove, self.replace, self.quarrel, self.hurry)
        for kind in random.choices(
            kinds, random.choice(((5, 2, 3, 3, 3), (2, 5, 3, 3, 3), (3, 3, 3, 3, 3))), k=random.randint(2, 9)
        ):
            self.cluster.at(random.randint(150 * MS, end), self._begin, kind.__name__)

    def _begin(self, kind: str) -> None:
        if not self.cluster.healing:
            self.note(kind)
            getattr(self, kind)()

    def note(self, text: str) -> None:
        """For the trace."""
        if self.cluster.trace:
            self.cluster.trace.line(self.cluster.now, 0, f"OPERATOR {text}")

    def add(self) -> None:
        """One more member: a new id, or one that was removed, with its old disk or a new one."""
        outside = [one for one in self.cluster.members if one not in self.members and one not in self.settled]
        if outside and (self.random.random() < 0.5 or len(self.cluster.members) >= IDS_MAX):
            one = self.random.choice(outside)
            if self.random.random() < 0.5:
                self.give_new_disk(one)
        elif len(self.cluster.members) < IDS_MAX and len(self.members) < MEMBERS_MAX:
            one = self.random.choice([one for one in range(1, IDS_MAX + 10) if one not in self.cluster.members])
        else:
            return
        self.introduce(one)
        self.cluster.after(self.random.randint(1, 400) * MS, self.pursue, one, True, 8)

    def remove(self) -> None:
        """One less: anyone, one that is down, or the holder."""
        down = [
            one for one in self.members if not self.cluster.members[one].alive or self.cluster.members[one].impaired
        ]
        draw = self.random.random()
        holder = self.cluster.holder[2]
        if down and draw < 0.4:
            one = self.random.choice(down)
        elif holder in self.members and draw < 0.6:
            one = holder
        else:
            one = self.random.choice(self.members)
        self.pursue(one, False, 5)

    def replace(self) -> None:
        """A member goes; the same id comes back with a new disk, or another one instead."""
        one = self.random.choice(self.members)
        self.pursue(one, False, 6)
        self.cluster.after(self.random.randint(200, 900) * MS, self._come_back, one)

    def _come_back(self, one: int) -> None:
        if self.cluster.healing:
            return
        if one in self.members or one in self.settled or self.random.random() < 0.3:
            self.add()
            return
        self.give_new_disk(one)
        self.introduce(one)
        self.pursue(one, True, 8)

    def quarrel(self) -> None:
        """Several operators want several things at several members, at once."""
        for _ in range(self.random.randint(2, 4)):
            self.random.choice((self.add, self.remove))()

    def hurry(self) -> None:
        """One wish on top of the other at one member, as if the one before were done (V12: no two at once)."""
        member = self.random.choice(list(self.cluster.members.values()))
        members = set(self.members)
        delay = 1
        for _ in range(self.random.randint(2, 4)):
            outside = [one for one in self.cluster.members if one not in members]
            if outside and self.random.random() < 0.4:
                members.add(self.random.choice(outside))
            elif len(members) > 1:
                members.discard(self.random.choice(sorted(members)))
            self.cluster.after(delay, self._ask_if_allowed, member, tuple(sorted(members)))
            delay += self.random.choice((100, 500, 2_000))

    def _ask_if_allowed(self, member: "Member", new: tuple[int, ...]) -> None:
        if not self.cluster.healing and self.allows(new):
            self.ask(member, new)

    # ------------------------------------------------------------------ acts

    def introduce(self, one: int) -> None:
        """See that a process of this id runs."""
        cluster = self.cluster
        if one not in cluster.members:
            cluster.enter(one, Random(self.random.getrandbits(64)))
        cluster.revive(cluster.members[one])

    def give_new_disk(self, one: int) -> None:
        """An id that is in no configuration starts again with nothing."""
        member = self.cluster.members[one]
        if any(one in members for members in self.possible()) or member.restarting:
            return
        member.crash()
        member.impaired = "wipe"
        member.disk.format()
        self.cluster.claims.forget(one)

    def pursue(self, one: int, wanted: bool, tries: int) -> None:
        """Ask for a member to be added or removed, again and again until it is so."""
        if self.cluster.healing or not tries or (one in self.members) == wanted:
            return
        new = tuple(sorted({*self.members, one} if wanted else {*self.members} - {one}))
        if self.allows(new):
            alive = [member for member in self.cluster.members.values() if member.alive]
            for member in self.random.sample(alive, min(len(alive), self.random.choice((1, 1, 2)))):
                self.ask(member, new)
        self.cluster.after(self.random.randint(40, 250) * MS, self.pursue, one, wanted, tries - 1)

    def allows(self, new: tuple[int, ...]) -> bool:
        """Those who lost their disks must stay few enough; a newcomer is one of them until it is let in."""
        if not 1 <= len(new) <= MEMBERS_MAX:
            return False
        impaired = [self.cluster.members[one] for one in new if self.cluster.members[one].impaired]
        if len(self.members) == 1 and len(new) == 2:  # nobody can let the second one in later: its disk must be known
            return all(member.disk.stable is not None and member.disk.stable.cluster for member in impaired)
        return len(impaired) <= len(new) - majority(new)

    def ask(self, member: "Member", new: tuple[int, ...]) -> None:
        """Ask one member. From now on the change may be in a log."""
        self.note(f"asks {member.id} for {new}")
        self.asked.add((self.cluster.order.reference.configuration.slot, new))
        member.receive(ChangeMembersAsked(new, bytes(new), accept_loss=not self.cluster.guards_copies))

    def took(self, new: tuple[int, ...], since: int) -> None:
        """A core ordered the change."""
        self.asked.add((since, new))
