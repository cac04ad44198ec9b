"""Links that stay broken (docs/faults.md, 12): after the liveness phase, any that leave a quorum connected.

Of the members a quorum at least keeps all links between them. Of the other links each direction may go, one way too,
in silence or with the connection seen to break, one after the other, while clients publish and a member may be killed.
Then the number of view changes is bounded, one view stays, who is in its ring has everything and answers its clients,
and who is not says whom it does not hear, or who does not hear it. When the links work again, all are in one ring.
"""

from random import Random
from typing import TYPE_CHECKING

from sequencer.quorum import majority
from sequencer.simulator.checkers import Violation
from sequencer.simulator.extras import Extra
from sequencer.simulator.member import Member
from sequencer.simulator.network import Link
from sequencer.types import NO_VIEW, View

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster

MS = 1_000
SECOND = 1_000_000
BREAKING_US = 1_500 * MS  # within so long all of the links break
STABLE_US = 8 * SECOND  # longer than the longest back-off and the longest pause that a seed draws
SETTLE_US = 60 * SECOND
VIEWS_MAX = 30  # from the first broken link to the last view; without the rules it is hundreds
STEPS = 60_000


def break_links(members: tuple[int, ...], random: Random) -> list[Link]:
    """Directions to cut: all members of one quorum, drawn too, go on hearing each other."""
    whole = set(random.sample(members, random.randint(majority(members), len(members) - 1)))
    share = random.choice((0.3, 0.6, 1.0))
    broken = [
        (one, other)
        for one in members
        for other in members
        if one != other and not whole.issuperset((one, other)) and random.random() < share
    ]
    if random.random() < 0.5:  # both directions, as where a cable is pulled
        broken = sorted({*broken, *((other, one) for one, other in broken)})
    return broken


class Partial(Extra["Cluster"]):
    """The last phase of a run."""

    def __init__(self, cluster: "Cluster", random: Random) -> None:
        super().__init__(cluster, random)
        self.chosen: list[Link] = []  # by a test, in place of what is drawn
        self.links: list[Link] = []  # that are broken
        self.begun = NO_VIEW  # views above it were made since the links broke

    def demands(self, member: Member) -> bool:
        """While links are broken: of the ring alone; who is in none may not even be reached."""
        if not self.links:
            return True
        view = self.newest()
        return view is not None and member.id in view.ring

    def newest(self) -> View | None:
        """The newest view that anyone has installed."""
        return max(self.cluster.installs, key=lambda view: view.number, default=None)

    def ended(self) -> None:
        """Break links, wait until all is still, look."""
        cluster = self.cluster
        members = cluster.operators.members
        if len(members) < 3:
            return
        newest = self.newest()
        self.begun = newest.number if newest is not None else NO_VIEW
        cluster.steps_max += STEPS
        cluster.publish_again()
        self.break_one_by_one(self.chosen or break_links(members, self.random))
        cluster.run_until(cluster.now + BREAKING_US + 2 * SECOND)
        cluster.stop_publishing()
        self.wait_until_still()
        cluster.demand_progress()
        self.look(members)
        self.heal(members)

    def heal(self, members: tuple[int, ...]) -> None:
        """No member is locked out for good, whatever it promised and however often it was let in for nothing (V9)."""
        cluster = self.cluster
        cluster.network.unblock(self.links)
        self.links = []
        until = cluster.now + SETTLE_US
        while cluster.now < until:
            cluster.run_until(cluster.now + SECOND)
            view = self.newest()
            if view is not None and view.ring == members and cluster.installs[view].issuperset(members):
                cluster.demand_progress()
                return
        raise Violation("views", f"no ring of all members {SETTLE_US // SECOND} s after the links work again")

    def break_one_by_one(self, links: list[Link]) -> None:
        """The order in which they break decides who is in the ring; who restarts meanwhile finds them broken."""
        cluster, random = self.cluster, self.random
        self.links = links
        cluster.counts.lasting_cuts += len(links)
        at_once = random.random() < 0.3
        seen = random.random() < 0.5
        for link in links:
            cluster.after(1 if at_once else random.randint(1, BREAKING_US), self.cut, link, seen)
        if random.random() < 0.5:
            victim = cluster.members[random.choice(cluster.operators.members)]
            cluster.after(random.randint(1, BREAKING_US), self.restart, victim)

    def cut(self, link: Link, seen: bool) -> None:
        """Nothing passes in this direction any more; a connection that breaks is not made again."""
        cluster = self.cluster
        if cluster.trace:
            cluster.trace.line(cluster.now, 0, f"LASTING CUT {link[0]} -> {link[1]}")
        cluster.network.block([link])
        if seen:
            for observer, other in (link, link[::-1]):
                if (observer, other) not in cluster.lost:
                    cluster.lost.add((observer, other))
                    cluster.members[observer].lost(other)

    def restart(self, member: Member) -> None:
        """kill -9, and a start soon after."""
        self.cluster.faults.kill(member, self.random.randint(1, 300) * MS)

    def wait_until_still(self) -> None:
        """No view for longer than any back-off; the number of views until then is bounded."""
        cluster = self.cluster
        until = cluster.now + SETTLE_US
        while True:
            before = len(cluster.installs), [self.promised(member) for member in cluster.configured()]
            cluster.run_until(cluster.now + STABLE_US)
            if before == (len(cluster.installs), [self.promised(member) for member in cluster.configured()]):
                break
            if cluster.now > until:
                raise Violation("views", f"no view is stable {SETTLE_US // SECOND} s after {self.links} broke")
        made = sum(view.number > self.begun for view in cluster.installs)
        if made > VIEWS_MAX:
            raise Violation("views", f"{made} views since {self.links} broke, at most {VIEWS_MAX} are right")

    @staticmethod
    def promised(member: Member) -> object:
        """Of the running process; None while it is down."""
        stable = member.disk.stable
        return stable.promised if stable is not None else None

    def look(self, members: tuple[int, ...]) -> None:
        """Every member of the ring runs it; every other one names somebody of it."""
        view = self.newest()
        if view is None:
            raise Violation("views", "no member has installed a view")
        for one in members:
            core = self.cluster.members[one].core
            status = core.status() if core is not None else None
            if status is None or (one in view.ring and status.view != view):
                raise Violation("views", f"member {one} of the ring {view.ring} does not run it")
            if one not in view.ring and not {*status.unheard, *status.unheard_by}.intersection(view.ring):
                raise Violation("views", f"member {one} is in no ring and does not say whom it does not hear")
