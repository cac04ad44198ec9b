"""Run seeds, count what they reached, say how a failing one is replayed."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from replicas.raft.simulator.cluster import Cluster, Options
from sequencer.simulator.run import spread


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed did. `violation` is empty if every checker was content."""

    seed: int
    violation: str
    counts: Counter[str]
    extra: frozenset[str] = frozenset()


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

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "seeds": len(self.results),
            "violations": len(self.failing),
            **dict(sorted(self.counts.items())),
            "failing": [
                {"seed": result.seed, "violation": result.violation, "replay": replay(result)}
                for result in self.failing
            ],
        }

    def as_text(self) -> str:
        """For people."""
        lines = [f"{name:>16}  {value}" for name, value in self.as_json().items() if name != "failing"]
        for result in self.failing[:20]:
            lines += [f"seed {result.seed}: {result.violation}", f"  replay: {replay(result)}"]
        return "\n".join(lines)


def replay(result: SeedResult) -> str:
    """The command that shows a seed again."""
    faults = f"--faults {','.join(sorted(result.extra))} " if result.extra else ""
    return f"python -m replicas.raft.simulator {faults}--trace {result.seed}"


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
    return SeedResult(seed, violation, counts, options.extra)


def _run(options: Options, seed: int) -> SeedResult:
    return run_seed(seed, options)


def simulate(seeds: Iterable[int], options: Options | None = None, *, jobs: int = 1, seconds: float = 0) -> Report:
    """Run seeds and report; `seconds` > 0: as many as fit."""
    report = Report()
    begun = time.monotonic()
    for result in spread(partial(_run, options or Options()), seeds, jobs):
        report.results.append(result)
        if seconds and time.monotonic() - begun >= seconds:
            break
    return report
