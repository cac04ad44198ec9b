"""The gateway of a simulated member: what its clients sent, until the next step takes it (A1)."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sequencer.output import Submitted
from sequencer.simulator.core_like import CoreLike
from sequencer.simulator.machine import Header, pack_headers

if TYPE_CHECKING:
    from sequencer.simulator.clients import Client
    from sequencer.simulator.cluster import Cluster

REQUEST_BATCHES_MAX = 16
REFUSAL_US = 200


class Gateway:
    """All batches that arrived in one turn share requests; without a quorum they are refused."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._waiting: deque[tuple[Client, int, Header, bytes]] = deque()

    def accept(self, client: "Client", session: int, batches: Iterable[tuple[Header, bytes]]) -> None:
        """Frames of a client arrived."""
        self._waiting.extend((client, session, header, body) for header, body in batches)

    def clear(self) -> None:
        """The process is gone, and what it had not submitted."""
        self._waiting.clear()

    def take(self, core: CoreLike) -> list[Submitted]:
        """For the step that begins now; what has no room waits for a later one."""
        waiting = self._waiting
        if not waiting:
            return []
        if not core.in_quorum():
            for client, session in {(id(item[0]), item[1]): item[:2] for item in waiting}.values():
                self._cluster.after(REFUSAL_US, client.refused, session)
            waiting.clear()
            return []
        found: list[Submitted] = []
        room = core.room()
        while waiting and room > 0:
            taken = [waiting.popleft() for _ in range(min(len(waiting), REQUEST_BATCHES_MAX))]
            frames = (pack_headers([item[2] for item in taken]), *(item[3] for item in taken))
            room -= sum(map(len, frames))
            found.append(Submitted(frames))
        return found
