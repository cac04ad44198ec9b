"""Several events in one turn of a member's loop (`--faults bursts`): a flush on the loop, a busy machine, a long read.

While the loop is held up a member takes no step; its disk, the network and its clients go on. Then all that came is
taken in one step, in the order in which sockets are drained: each socket by itself, and local events in between. Links
stall, and then bring all at once what was sent meanwhile.
Readers come in bursts too, for they share a READ only where several come close together (K3).
"""

from typing import TYPE_CHECKING

from sequencer.messages import Broadcast
from sequencer.output import Event, Received
from sequencer.simulator.extras import Extra
from sequencer.simulator.stalls import draw_late_links, draw_stall

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster  # noqa: F401 - named in a string

MS = 1_000
HOLD_US_MAX = 40 * MS
STALL_EVERY_US = 120 * MS
READERS_MAX = 6


class Bursts(Extra["Cluster"]):
    """Holds loops up, and lets readers come in groups."""

    def plan(self) -> None:
        """From the start on: what comes together at the birth of a cluster is one of its rare moments."""
        for link, span in draw_late_links(self.random, list(self.cluster.members)):
            self.cluster.network.stall(link, self.cluster.now + span)
        self._stall()
        self._hold()
        self._read()

    def _stall(self) -> None:
        cluster = self.cluster
        if not cluster.healing:
            drawn = draw_stall(self.random, list(cluster.members))
            if drawn is not None:
                cluster.network.stall(drawn[0], cluster.now + drawn[1])
            cluster.after(self.random.randint(1, STALL_EVERY_US), self._stall)

    def _hold(self) -> None:
        cluster, random = self.cluster, self.random
        if not cluster.healing:
            member = random.choice(list(cluster.members.values()))
            span = min(100 + int(random.expovariate(1 / (3 * MS))), HOLD_US_MAX)
            if member.alive and not member.paused:
                member.hold(cluster.now + span, self.arrange)
            cluster.after(random.randint(1, 15 * MS), self._hold)

    def _read(self) -> None:
        cluster, random = self.cluster, self.random
        if not cluster.healing:
            member = random.choice(list(cluster.members.values()))
            for _ in range(random.randint(2, READERS_MAX)):
                cluster.after(random.randint(1, 2 * MS), member.ask_to_read)
            cluster.after(random.randint(5 * MS, 40 * MS), self._read)

    def arrange(self, events: list[Event]) -> list[Event]:
        """What came in a turn, socket by socket; local events keep their order, and stand anywhere between frames."""
        random = self.random
        frames = [event for event in events if isinstance(event, Received)]
        local = [event for event in events if not isinstance(event, Received)]
        if random.random() < 0.5:
            published_first = random.random() < 0.5
            frames.sort(key=lambda event: isinstance(event.message, Broadcast) is not published_first)
        found: list[Event] = list(frames)
        places = sorted(random.randint(0, len(frames)) for _ in local)
        for shift, (place, event) in enumerate(zip(places, local, strict=True)):
            found.insert(place + shift, event)
        return found
