"""Run seeds, over processes if asked; count what they reached; say how a failing one is replayed."""

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

from sequencer.core import Core
from sequencer.simulator.checkers import Violation
from sequencer.simulator.cluster import Cluster, Options
from sequencer.simulator.trace import Trace

T = TypeVar("T")
CHUNK = 20  # seeds that one task of a pool runs
SUMS = (
    "committed",
    "acknowledged",
    "view_changes",
    "crashes",
    "holder_crashes",
    "partitions",
    "learners",
    "snapshots",
    "torn_disks",
    "lasting_cuts",
    "member_changes",
    "disks_replaced",
)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed did. `violation` is empty if every checker was content."""

    seed: int
    members: int
    violation: str
    digest: int
    counts: dict[str, int]
    rules: tuple[str, ...]
    extra: frozenset[str] = frozenset()


@dataclass(slots=True)
class Report:
    """What a set of seeds did."""

    results: list[SeedResult] = field(default_factory=list)

    @property
    def failing(self) -> list[SeedResult]:
        """Seeds with a violation."""
        return [result for result in self.results if result.violation]

    def median(self, name: str) -> int:
        """The median over seeds of one of `SUMS`."""
        values = sorted(result.counts[name] for result in self.results)
        return values[len(values) // 2] if values else 0

    def share(self, *names: str) -> float:
        """The share of seeds in which each of the named counts is above 0."""
        hard = sum(all(result.counts[name] for name in names) for result in self.results)
        return hard / max(1, len(self.results))

    def as_json(self) -> dict[str, object]:
        """The report for machines; sums over seeds, and for each rule the number of seeds that reached it."""
        rules = Counter(rule for result in self.results for rule in result.rules)
        return {
            "seeds": len(self.results),
            "violations": len(self.failing),
            **{name: sum(result.counts[name] for result in self.results) for name in SUMS},
            "rules_reached": {name: rules[name] for name in sorted(rules, key=rule_order)},
            "failing": [
                {"seed": result.seed, "violation": result.violation, "replay": replay(result)}
                for result in self.failing
            ],
        }

    def as_text(self) -> str:
        """The report for people."""
        shown = self.as_json()
        lines = [f"{name:>16}  {shown[name]}" for name in ("seeds", "violations", *SUMS)]
        lines.append(f"{'per seed':>16}  median {self.median('committed')} slots committed")
        hard = self.share("crashes", "partitions", "view_changes")
        lines.append(f"{'hard':>16}  {hard:.0%} of seeds have a crash, a partition and a view change")
        rules = shown["rules_reached"]
        if isinstance(rules, dict):
            lines.append(f"{'rules reached':>16}  " + "  ".join(f"{name} {count}" for name, count in rules.items()))
        for result in self.failing[:20]:
            lines += [f"seed {result.seed}: {result.violation}", f"  replay: {replay(result)}"]
        return "\n".join(lines)


def rule_order(name: str) -> tuple[str, int, str]:
    """A2 before A10."""
    digits = "".join(filter(str.isdigit, name))
    return (name[:1], int(digits or 0), name)


def replay(result: SeedResult) -> str:
    """The command that shows a seed again."""
    faults = f" --faults {','.join(sorted(result.extra))}" if result.extra else ""
    return f"python -m sequencer.simulator --members {result.members}{faults} --trace {result.seed}"


def run_seed(seed: int, options: Options, trace: Trace | None = None) -> SeedResult:
    """Run one seed to its end, or to its first violation; what the core raises is one too."""
    cluster = Cluster(seed, options, trace)
    violation = ""
    try:
        cluster.run()
    except Violation as broken:
        violation = f"{broken} (at {cluster.now / 1e6:.6f} s)"
    except Exception as error:  # noqa: BLE001 - whatever a core raises is a finding
        violation = f"{type(error).__name__}: {error} (at {cluster.now / 1e6:.6f} s, {_where(error)})"
    counts = cluster.counts
    return SeedResult(
        seed,
        len(cluster.config.members),
        violation,
        cluster.digest.value,
        {
            "committed": cluster.order.end,
            "view_changes": cluster.view_changes,
            "steps": counts.steps,
            "member_changes": len(cluster.order.changes),
            **{name: getattr(counts, name) for name in SUMS if hasattr(counts, name)},
        },
        tuple(sorted(cluster.rules)),
        options.extra,
    )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    frames = []
    while trace:
        frames.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(frames[-4:])


def _run_chosen(members: int, extra: frozenset[str], seed: int) -> SeedResult:
    return run_seed(seed, Options(Core, members=members, extra=extra))


def _run_chunk(run: Callable[[int], T], seeds: Sequence[int]) -> list[T]:
    return [run(seed) for seed in seeds]


def run_seeds(
    seeds: Iterable[int], members: int = 0, jobs: int = 1, extra: frozenset[str] = frozenset()
) -> Iterator[SeedResult]:
    """Run seeds of the core; see `spread`."""
    return spread(partial(_run_chosen, members, extra), seeds, jobs)


def spread(run: Callable[[int], T], seeds: Iterable[int], jobs: int) -> Iterator[T]:
    """Run seeds one after the other, or over `jobs` processes; results come as they are ready, in order."""
    remaining = iter(seeds)
    if jobs <= 1:
        yield from map(run, remaining)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: list[Future[list[T]]] = []
        try:
            while True:
                while len(waiting) < 2 * jobs and (chunk := list(islice(remaining, CHUNK))):
                    waiting.append(pool.submit(_run_chunk, run, chunk))
                if not waiting:
                    return
                yield from waiting.pop(0).result()
        finally:
            if waiting:  # nobody wants their results any more
                for process in multiprocessing.active_children():
                    process.terminate()


def simulate(
    seeds: Iterable[int], members: int = 0, jobs: int = 1, seconds: float = 0, extra: frozenset[str] = frozenset()
) -> Report:
    """Run seeds and report. `members` 0: drawn from each seed. `seconds` > 0: stop after so much wall time."""
    report = Report()
    begun = time.monotonic()
    for result in run_seeds(seeds, members, jobs, extra):
        report.results.append(result)
        if result.violation:
            sys.stderr.write(f"seed {result.seed}: {result.violation}\n  replay: {replay(result)}\n")
        if seconds and time.monotonic() - begun >= seconds:
            break
    return report


def trace_seed(seed: int, members: int = 0, extra: frozenset[str] = frozenset()) -> SeedResult:
    """Run one seed and print what happens."""
    options = Options(Core, members=members, extra=extra)
    return run_seed(seed, options, Trace(lambda line: sys.stdout.write(line + "\n")))
