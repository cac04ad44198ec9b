"""A replica whose disk is slow: `python -P slow_disk.py CONFIG LOW_MS HIGH_MS`; LocalCluster starts it for `slow`.

The shipped code knows nothing of it: each commit and each flush of the journal takes so much longer.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from replicas.bus import replica as bus
from replicas.bus.config import load
from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalReplica
from store.log import LmdbStore


class SlowCluster(LocalCluster):
    """`slow`: member -> least and most milliseconds of a sync of its disk."""

    supervised = False
    slow: ClassVar[Mapping[int, tuple[float, float]]] = {2: (2.0, 16.0)}

    def command(self, replica: LocalReplica) -> list[str]:
        spans = self.slow.get(replica.id)
        if spans is None:
            return super().command(replica)
        return [sys.executable, "-P", __file__, replica.config, *map(str, spans)]


def slowed(method: Callable[..., Any], random: Random, low_ms: float, high_ms: float) -> Callable[..., Any]:
    """The same method, some milliseconds later."""

    def slow(*arguments: Any) -> Any:
        found = method(*arguments)
        time.sleep(random.uniform(low_ms, high_ms) / 1_000)
        return found

    return slow


def main(config: str, low_ms: str, high_ms: str) -> int:
    """Run the replica until it is stopped; its exit code."""
    random = Random(1)
    for name in ("commit", "journal"):
        setattr(LmdbStore, name, slowed(getattr(LmdbStore, name), random, float(low_ms), float(high_ms)))
    loaded = load(Path(config), {})
    return bus.run(loaded, lambda: loaded.config)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
