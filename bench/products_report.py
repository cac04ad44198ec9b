"""What the product store wants to reach, and the tables of its results."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.goals import AT_LEAST, AT_MOST, Document, Goal, Value, at, rate, ratio
from bench.products import KEYWORDS
from bench.report import NOTHING, Table, gaps_table, goals_table, missing_table, number

OURS = "products"
RATES = {
    "pipelined": "writes, pipelined/s",
    "batched": "import, or transactions of 128: writes/s",
    "tasks": "writes in tasks/s",
    "read": "linearizable reads/s",
    "local": "local reads/s",
}
LATENCIES = {"one": "write", "read_one": "linearizable read", "local_one": "local read"}


def _rates(ours: str, system: str, theirs: str) -> Value:
    return lambda document: ratio(rate(document, OURS, ours), rate(document, system, theirs))


def _p50(document: Document, system: str, workload: str) -> float | None:
    return at(document, "systems", system, "workloads", workload, "latency_ms", "p50")


def _latencies(ours: str, system: str, theirs: str) -> Value:
    return lambda document: ratio(_p50(document, OURS, ours), _p50(document, system, theirs))


def _gap(name: str) -> Value:
    return lambda document: at(document, "systems", OURS, "gap", name)


GOALS = (
    Goal("single writes, pipelined : etcd's single puts", AT_LEAST, 3, "x", _rates("pipelined", "etcd", "pipelined")),
    Goal("single writes, pipelined : PySyncObj with a journal, not synced", AT_LEAST, 1, "x",
         _rates("pipelined", "pysyncobj", "pipelined")),
    Goal("import : etcd in transactions of 128", AT_LEAST, 1, "x", _rates("batched", "etcd", "batched")),
    Goal("one outstanding write, p50 : etcd", AT_MOST, 0.9, "x", _latencies("one", "etcd", "one")),
    Goal("linearizable reads : etcd's", AT_LEAST, 0.8, "x", _rates("read", "etcd", "read")),
    Goal("local read, p50 : linearizable read, p50", AT_MOST, 0.5, "x", _latencies("local_one", OURS, "read_one")),
    Goal("local reads : linearizable reads", AT_LEAST, 1, "x", _rates("local", OURS, "read")),
    Goal("gap, kill -9 of the leader, median", AT_MOST, 300, "ms", _gap("median_ms")),
    Goal("gap, kill -9 of the leader, worst", AT_MOST, 1_000, "ms", _gap("worst_ms")),
)  # fmt: skip


def tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """All tables of a document."""
    yield goals_table(document)
    yield _throughput(document)
    yield _latency(document)
    for table in (gaps_table(document), _searches(document), _alone(document)):
        if table.rows:
            yield table
    yield from missing_table(document)


def _throughput(document: Mapping[str, Any]) -> Table:
    rows = []
    for name, system in document["systems"].items():
        found = [_rate(document, name, workload) for workload in RATES]
        cpu = at(document, "systems", name, "workloads", "pipelined", "cpu_s_per_100k")
        memory = at(document, "systems", name, "peak_memory_mb_per_replica")
        rows.append((system["label"], *found, number(cpu), number(memory), system["remark"]))
    columns = ("system", *RATES.values(), "CPU s / 100 k writes", "MB / replica", "remark")
    return Table("Throughput (w: window, the best of those tried)", columns, rows)


def _rate(document: Mapping[str, Any], system: str, workload: str) -> str:
    found = rate(document, system, workload)
    window = at(document, "systems", system, "workloads", workload, "window")
    return NOTHING if found is None else f"{number(found)} (w {number(window)})"


def _latency(document: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{system['label']}: {text}",
            *(
                number(at(document, "systems", name, "workloads", workload, "latency_ms", part))
                for part in ("p50", "p95", "p99")
            ),
        )
        for name, system in document["systems"].items()
        for workload, text in LATENCIES.items()
        if _p50(document, name, workload) is not None
    ]
    return Table("One outstanding, ms", ("what", "p50", "p95", "p99"), rows)


def _searches(document: Mapping[str, Any]) -> Table:
    rows = []
    for place, kinds in (("search", KEYWORDS), ("million", {"search": 3})):
        for kind, keywords in kinds.items():
            found = document.get(place, {}).get(kind)
            if found:
                what = f"{number(document[place]['items'])} items, {keywords} keywords"
                rows.append((what, *(number(found[name]) for name in ("p50_ms", "p99_ms", "entries"))))
    return Table("A page of 100 of a search, ms", ("what", "p50", "p99", "entries found"), rows)


ALONE = {
    ("catch_up", "items"): "an empty member: items",
    ("catch_up", "seconds"): "an empty member: from its first answer until it has all, s",
    ("catch_up", "seconds_from_start"): "an empty member: from the start of its process, s",
    ("million", "items"): "loaded: items",
    ("million", "load_per_second"): "loaded: items/s",
    ("million", "snapshot_seconds"): "its snapshot, s",
    ("million", "snapshot_mb"): "its snapshot, MB",
    ("million", "peak_mb"): "peak memory of the largest replica, with the pages of files that it had mapped, MB",
    ("million", "anonymous_mb"): "memory of the largest replica that no file holds, at the end, MB",
}


def _alone(document: Mapping[str, Any]) -> Table:
    rows = [(text, number(found)) for path, text in ALONE.items() if (found := at(document, *path)) is not None]
    return Table("Ringcast alone", ("what", "measured"), rows)
