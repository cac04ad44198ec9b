"""Several frames in one turn of a member's loop (`--faults bursts`): a long callback, a busy machine, a full socket.

While the loop is held up the network and the others go on. Then all that came is taken before the turn's one write
leaves, as where one wake of a socket brings many frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sequencer.simulator.extras import Extra
from sequencer.simulator.stalls import draw_late_links, draw_stall

if TYPE_CHECKING:
    from replicas.raft.simulator.cluster import Cluster, Process  # noqa: F401 - named in a string

MEAN_SECONDS = 0.003
HOLD_SECONDS_MAX = 0.04
PAUSE_SECONDS_MAX = 0.012
STALL_EVERY_SECONDS = 0.2


class Bursts(Extra["Cluster"]):
    """Holds loops up, from the first moment on: a cluster is founded once."""

    _healed = False

    def plan(self) -> None:
        for link, span in draw_late_links(self.random, sorted(self.cluster.disks)):
            self.cluster.network.stall(link, span)
        self._stall()
        self._hold()

    def healed(self) -> None:
        self._healed = True

    def _stall(self) -> None:
        if self._healed:
            return
        cluster = self.cluster
        drawn = draw_stall(self.random, sorted(cluster.disks))
        if drawn is not None:
            cluster.network.stall(drawn[0], int(cluster.loop.now * 1e6) + drawn[1])
        cluster.loop.call_later(self.random.random() * STALL_EVERY_SECONDS, self._stall)

    def _hold(self) -> None:
        if self._healed:
            return
        cluster, random = self.cluster, self.random
        running = sorted(cluster.processes)
        if running:
            process = cluster.processes[random.choice(running)]
            span = min(0.0001 + random.expovariate(1 / MEAN_SECONDS), HOLD_SECONDS_MAX)
            process.loop.hold()
            cluster.loop.call_later(span, self._release, process)
        cluster.loop.call_later(random.random() * PAUSE_SECONDS_MAX, self._hold)

    def _release(self, process: Process) -> None:
        process.loop.release(self.random)
