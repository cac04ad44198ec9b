"""Run seeds, count what they reached, say how a failing one is replayed."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from replicas.raft.simulator.cluster import Cluster, Options


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed did. `violation` is empty if every checker was content."""

    seed: int
    violation: str
    counts: Counter[str]


@dataclass(slots=True)
class Report:
    """What a set of seeds did."""

    results: list[SeedResult] = field(default_factory=list)

    @property
    def failing(self) -> list[SeedResult]:
        """Seeds with a violation."""
        return [result for result in self.results if result.violation]

    @property
    def counts(self) -> Counter[str]:
        """Summed over the seeds."""
        return sum((result.counts for result in self.results), Counter())

    def as_text(self) -> str:
        """For people."""
        lines = [f"{'seeds':>16}  {len(self.results)}", f"{'violations':>16}  {len(self.failing)}"]
        lines += [f"{name:>16}  {count}" for name, count in sorted(self.counts.items())]
        lines += [f"seed {result.seed}: {result.violation}" for result in self.failing[:20]]
        return "\n".join(lines)


def run_seed(seed: int, options: Options) -> SeedResult:
    """Run one seed to its end, or to its first violation; what a node raises is one too."""
    cluster = Cluster(seed, options)
    violation = ""
    try:
        cluster.run()
    except Exception as error:  # noqa: BLE001 - whatever a node raises is a finding
        violation = f"{type(error).__name__}: {error} (at {cluster.loop.now:.6f} s)"
    counts = cluster.counts
    counts["applied"] = cluster.checker.end
    counts["elections"] = cluster.checker.leader_changes
    counts["answers"] = len(cluster.history)
    return SeedResult(seed, violation, counts)


def run_seeds(seeds: Iterable[int], options: Options, seconds: float = 0) -> Iterator[SeedResult]:
    """One after the other; `seconds` > 0: as many as fit."""
    begun = time.monotonic()
    for seed in seeds:
        yield run_seed(seed, options)
        if seconds and time.monotonic() - begun >= seconds:
            return


def simulate(seeds: Iterable[int], options: Options | None = None, seconds: float = 0) -> Report:
    """Run seeds and report."""
    return Report(list(run_seeds(seeds, options or Options(), seconds)))
