"""One PySyncObj node: `python -m bench.systems.pysyncobj_node EAGER JOURNAL OWN PARTNER...`, and what all share."""

import signal
import sys
import threading
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

from bench.systems import EAGER

#: A log of bytes that keeps all would be measured as memory; what is compared is the way into it.
KEPT_MAX = 1_000
RETRY_S = 0.2


class SharedLog(SyncObj):
    """Messages in the one order that Raft gives them."""

    def __init__(self, own: str, partners: list[str], *, journal: str, eager: bool, **settings: Any) -> None:
        self._kept: list[bytes] = []
        self._count = 0
        fixed = {"journalFile": journal, "connectionRetryTime": RETRY_S, "appendEntriesUseBatch": not eager}
        super().__init__(own, partners, SyncObjConf(**fixed, **settings))

    @replicated
    def add(self, payload: bytes) -> int:
        """Append; returns the message's number."""
        self._count += 1
        self._kept.append(payload)
        del self._kept[:-KEPT_MAX]
        return self._count


def main(eager: str, journal: str, own: str, partners: list[str]) -> None:
    """Run until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    node = SharedLog(own, partners, journal=journal, eager=eager == EAGER)
    ended.wait()
    node.destroy()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
