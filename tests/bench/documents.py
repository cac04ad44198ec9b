"""A results document made by hand: what goals and tables are tried on."""

from typing import Any

from bench.job import Sample
from bench.options import Options
from bench.results import Results, SystemResult

LATENCY = {"p50": 1.0, "p95": 2.0, "p99": 4.0, "max": 8.0}


def sample(workload: str, rate: int, *, scale: float = 1.0) -> Sample:
    """One second of `rate` messages; a latency of LATENCY times `scale` for one outstanding."""
    latency = {name: value * scale for name, value in LATENCY.items()} if workload == "one" else None
    return Sample(workload, 256, rate, 1.0, 0.3 * rate / 100_000, 0.1, latency)


def gap(median_ms: float, worst_ms: float) -> dict[str, Any]:
    """As bench/gap.py says it."""
    return {
        "times": 2,
        "median_ms": median_ms,
        "worst_ms": worst_ms,
        "without_receipt": 0,
        "gaps_ms": [median_ms, worst_ms],
    }


def results() -> Results:
    """Ringcast ten times as fast as NATS, and with half its latency; etcd is missing."""
    ours = SystemResult("Ringcast, 3 replicas", "synced", peaks_mb=[60.0, 70.0, 65.0])
    ours.samples = {
        "pipelined": [sample("pipelined", rate) for rate in (300_000, 100_000, 200_000)],
        "batched": [sample("batched", 600_000)],
        "tasks": [sample("tasks", 20_000)],
        "one": [sample("one", 900, scale=0.5)],
    }
    ours.gap = {
        "client_on_survivor": gap(50.0, 90.0),
        "client_on_killed": gap(75.0, 120.0),
        "holder_stopped": gap(300.0, 700.0),
    }
    nats = SystemResult("NATS JetStream R3", "sync_interval always", peaks_mb=[30.0])
    nats.samples = {"pipelined": [sample("pipelined", 20_000)], "one": [sample("one", 500)]}
    nats.not_measured = {"batched": "this nats-server has no atomic batch publish"}
    nats.gap = gap(4_000.0, 7_000.0)
    return Results(
        Options(),
        systems={"ringcast": ours, "nats": nats},
        skipped={"etcd": "etcd is not installed"},
        floors=[{"lmdb_commit_ms": 0.2}, {"lmdb_commit_ms": 0.4}, {"lmdb_commit_ms": 0.3}],
        extras={"subscriber": {"async_for_per_second": 400_000.0, "batches_per_second": 900_000.0}},
    )
