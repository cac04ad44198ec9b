"""What Ringcast wants to reach, most of it as a ratio to a peer of the same run, and what it reached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Document = Mapping[str, Any]
Value = Callable[[Document], float | None]

AT_LEAST, AT_MOST = ">=", "<="
#: Redis syncs too, but on the primary alone, which decides by itself.
SYNCED_PEERS = ("nats", "etcd")


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` gives what was reached, None where it was not measured."""

    name: str
    relation: str
    bound: float
    unit: str
    value: Value


@dataclass(frozen=True, slots=True)
class Outcome:
    """`met` is None where nothing was measured."""

    name: str
    relation: str
    bound: float
    unit: str
    reached: float | None
    met: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For the JSON document."""
        return asdict(self)


def at(document: Document, *path: str) -> float | None:
    """The number at a path, None where there is none."""
    found: Any = document
    for step in path:
        if not isinstance(found, Mapping) or found.get(step) is None:
            return None
        found = found[step]
    return float(found) if isinstance(found, int | float) else None


def rate(document: Document, system: str, workload: str) -> float | None:
    """Messages a second."""
    return at(document, "systems", system, "workloads", workload, "messages_per_second")


def latency(document: Document, system: str, name: str) -> float | None:
    """Of one outstanding publish, milliseconds."""
    return at(document, "systems", system, "workloads", "one", "latency_ms", name)


def ratio(part: float | None, whole: float | None) -> float | None:
    """None where one of them is missing."""
    return part / whole if part is not None and whole else None


def single(document: Document, system: str) -> float | None:
    """The better of a peer's two ways to publish single messages: pipelined, and in many tasks."""
    rates = [found for name in ("pipelined", "tasks") if (found := rate(document, system, name)) is not None]
    return max(rates, default=None)


def _to_single(ours: str, system: str) -> Value:
    return lambda document: ratio(rate(document, "ringcast", ours), single(document, system))


def _to_batches(ours: str, system: str) -> Value:
    return lambda document: ratio(rate(document, "ringcast", ours), rate(document, system, "batched"))


def _latencies(name: str) -> Value:
    def value(document: Document) -> float | None:
        peers = [found for peer in SYNCED_PEERS if (found := latency(document, peer, name)) is not None]
        return ratio(latency(document, "ringcast", name), min(peers, default=None))

    return value


def _gap(kind: str, name: str) -> Value:
    return lambda document: at(document, "systems", "ringcast", "gap", kind, name)


def _on_killed(document: Document) -> float | None:
    return ratio(_gap("client_on_killed", "median_ms")(document), _gap("client_on_survivor", "median_ms")(document))


def _at(*path: str) -> Value:
    return lambda document: at(document, *path)


def _curve(document: Document) -> float | None:
    return ratio(rate(document, "ringcast-curve", "pipelined"), rate(document, "ringcast", "pipelined"))


def _five(document: Document) -> float | None:
    return ratio(rate(document, "ringcast-5", "pipelined"), rate(document, "ringcast", "pipelined"))


GOALS = (
    Goal("send, pipelined : NATS single, sync always", AT_LEAST, 10, "x", _to_single("pipelined", "nats")),
    Goal("send, pipelined : etcd transactions of 128", AT_LEAST, 8, "x", _to_batches("pipelined", "etcd")),
    Goal("publish_many of 256 : NATS single, sync always", AT_LEAST, 25, "x", _to_single("batched", "nats")),
    Goal("publish_many of 256 : Redis + WAIT 1", AT_LEAST, 8, "x", _to_single("batched", "redis")),
    Goal("concurrent publish : NATS single, sync always", AT_LEAST, 1.5, "x", _to_single("tasks", "nats")),
    Goal("one outstanding, p50 : best synced peer", AT_MOST, 0.8, "x", _latencies("p50")),
    Goal("one outstanding, p99 : best synced peer", AT_MOST, 0.8, "x", _latencies("p99")),
    Goal("gap, kill -9 of the holder, median", AT_MOST, 100, "ms", _gap("client_on_survivor", "median_ms")),
    Goal("gap, kill -9 of the holder, worst", AT_MOST, 300, "ms", _gap("client_on_survivor", "worst_ms")),
    Goal("gap, SIGSTOP of the holder, worst", AT_MOST, 600, "ms", _gap("holder_stopped", "worst_ms")),
    Goal("gap, client on the killed replica : on a survivor", AT_MOST, 2, "x", _on_killed),
    Goal("CPU of all processes for 100 k messages", AT_MOST, 0.5, "s",
         _at("systems", "ringcast", "workloads", "pipelined", "cpu_s_per_100k")),
    Goal("subscriber, async for", AT_LEAST, 300_000, "/s", _at("subscriber", "async_for_per_second")),
    Goal("subscriber, batches", AT_LEAST, 1_000_000, "/s", _at("subscriber", "batches_per_second")),
    Goal("idle, busiest replica", AT_MOST, 2, "% of a core", _at("idle", "worst_percent")),
    Goal("5 replicas : 3 replicas, send pipelined", AT_LEAST, 0.6, "x", _five),
    Goal("with keys (CURVE) : without, send pipelined", AT_LEAST, 0.6, "x", _curve),
    Goal("catch-up of an empty member", AT_LEAST, 100, "MB/s", _at("catch_up", "mb_per_second")),
    Goal("publishing while it catches up : without", AT_LEAST, 0.7, "x", _at("catch_up", "publish_ratio")),
    Goal("memory, second half of 10 million messages : first", AT_MOST, 1.1, "x", _at("memory", "growth")),
)  # fmt: skip


def evaluate(document: Document, goals: Sequence[Goal] = GOALS) -> list[Outcome]:
    """Every goal against a document of bench/results.py."""
    outcomes = []
    for goal in goals:
        reached = goal.value(document)
        met = None if reached is None else reached >= goal.bound if goal.relation == AT_LEAST else reached <= goal.bound
        shown = None if reached is None else round(reached, 3)
        outcomes.append(Outcome(goal.name, goal.relation, goal.bound, goal.unit, shown, met))
    return outcomes
