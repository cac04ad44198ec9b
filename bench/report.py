"""The results as tables, which a terminal shows and a Markdown file keeps, and the files of `--out`."""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.errors import PeerMissing
from bench.goals import GOALS, Goal, at, evaluate, ratio
from bench.hops import ELSEWHERE, HERE, HOPS
from bench.results import Results

NOTHING = "-"
RESULTS = "results"  # the files' name
WORKLOADS = {"pipelined": "pipelined/s", "batched": "batches, messages/s", "tasks": "concurrent/s"}
FLOORS = {
    "lmdb_commit_ms": "LMDB, one synced commit of 100 B (median, ms)",
    "append_fdatasync_ms": "append to a preallocated file + fdatasync (median, ms)",
    "dealer_router_ms": "DEALER/ROUTER round trip (median, ms)",
    "pub_frames_per_second": "PUB to two SUBs, frames/s",
}
EXTRAS = {
    ("subscriber", "async_for_per_second"): "subscriber, async for, messages/s",
    ("subscriber", "batches_per_second"): "subscriber, batches, messages/s",
    ("idle", "worst_percent"): "idle, busiest replica, % of a core",
    ("catch_up", "mb_per_second"): "catch-up of an empty member, MB/s",
    ("catch_up", "seconds_from_start"): "catch-up from the start of its process, s",
    ("catch_up", "published_before_per_second"): "published before it started, messages/s",
    ("catch_up", "published_meanwhile_per_second"): "published meanwhile, messages/s",
    ("memory", "messages"): "memory: messages published past a slow member and a slow subscriber",
    ("memory", "early_mb"): "memory: the largest replica in the first half, MB",
    ("memory", "late_mb"): "memory: the largest replica in the second half, MB",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub shows it; the first column to the left, numbers to the right."""
        head = "| " + " | ".join(self.columns) + " |"
        rule = "|" + "|".join(["---", *("---:" for _ in self.columns[1:])]) + "|"
        rows = ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([f"### {self.title}", "", head, rule, *rows, ""])


def document_of(results: Results, goals: Sequence[Goal] = GOALS) -> dict[str, Any]:
    """The JSON document with the goals."""
    document = results.as_dict()
    return {**document, "goals": [outcome.as_dict() for outcome in evaluate(document, goals)]}


def number(value: float | None) -> str:
    """Three digits that mean something, thousands with commas."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """All tables of a document."""
    yield goals_table(document)
    yield _throughput(document)
    yield _latency(document)
    gaps = gaps_table(document)
    if gaps.rows:
        yield gaps
    yield Table("Floors of this machine, in this run", ("what", "measured"), list(_named(document["floors"], FLOORS)))
    if "hops" in document:
        yield _hops(document["hops"])
    extras = [(text, number(found)) for path, text in EXTRAS.items() if (found := at(document, *path)) is not None]
    if extras:
        yield Table("Ringcast alone", ("what", "measured"), extras)
    yield from missing_table(document)


def _named(values: Mapping[str, float | None], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in names.items():
        if name in values:
            yield text, number(values[name])


def goals_table(document: Mapping[str, Any]) -> Table:
    """What was wanted, and what was reached."""
    words = {True: "yes", False: "no", None: "not measured"}
    rows = [
        (
            one["name"],
            f"{one['relation']} {number(one['bound'])} {one['unit']}",
            number(one["reached"]),
            words[one["met"]],
        )
        for one in document["goals"]
    ]
    return Table("Goals", ("goal", "wanted", "reached", "met"), rows)


def _throughput(document: Mapping[str, Any]) -> Table:
    rows = []
    for name, system in document["systems"].items():
        rates = []
        for workload in WORKLOADS:
            found = at(document, "systems", name, "workloads", workload, "messages_per_second")
            window = at(document, "systems", name, "workloads", workload, "window")
            rates.append(NOTHING if found is None else f"{number(found)} (w {number(window)})")
        ours = at(document, "systems", "ringcast", "workloads", "pipelined", "messages_per_second")
        theirs = at(document, "systems", name, "workloads", "pipelined", "messages_per_second")
        factor = ratio(ours, theirs)
        cpu = at(document, "systems", name, "workloads", "pipelined", "cpu_s_per_100k")
        memory = at(document, "systems", name, "peak_memory_mb_per_replica")
        times = NOTHING if factor is None else f"{number(factor)} x"
        rows.append((system["label"], *rates, times, number(cpu), number(memory), system["remark"]))
    columns = ("system", *WORKLOADS.values(), "Ringcast : it", "CPU s / 100 k", "MB / replica", "remark")
    return Table("Throughput (median; w: window, the best of those tried)", columns, rows)


def _latency(document: Mapping[str, Any]) -> Table:
    rows = [
        (
            system["label"],
            *(
                number(at(document, "systems", name, "workloads", "one", "latency_ms", part))
                for part in ("p50", "p95", "p99")
            ),
            number(at(document, "systems", name, "workloads", "one", "messages_per_second")),
        )
        for name, system in document["systems"].items()
        if at(document, "systems", name, "workloads", "one", "latency_ms", "p50") is not None
    ]
    return Table("One outstanding publish, ms", ("system", "p50", "p95", "p99", "messages/s"), rows)


def gaps_table(document: Mapping[str, Any]) -> Table:
    """The gaps of each system."""
    rows = []
    for system in document["systems"].values():
        gap = system["gap"] or {}
        kinds = gap if "times" not in gap else {"kill -9 of the leader": gap}
        for kind, found in kinds.items():
            if found["times"]:
                figures = (found["times"], found["median_ms"], found["worst_ms"])
                each = ", ".join(number(one) for one in found["gaps_ms"])
                rows.append((f"{system['label']}: {kind.replace('_', ' ')}", *map(number, figures), each))
    columns = ("what happens", "times", "median", "worst", "each")
    return Table("Gap: longest time between two receipts, ms", columns, rows)


def _hops(found: Mapping[str, Any]) -> Table:
    kinds = [kind for kind in (HERE, ELSEWHERE) if found[kind]["messages"]]
    rows = [(hop, *(number(found[kind]["hops_us"][hop]) for kind in kinds)) for hop in HOPS]
    total = ("all", *(number(sum(found[kind]["hops_us"].values())) for kind in kinds))
    columns = ("hop", *(f"{kind} ({found[kind]['messages']} messages)" for kind in kinds))
    return Table("Where the time of one outstanding publish goes (medians, us)", columns, [*rows, total])


def missing_table(document: Mapping[str, Any]) -> Iterator[Table]:
    """What was not measured, if there is any."""
    missing = list(_missing(document))
    if missing:
        yield Table("Not measured", ("what", "why"), missing)


def _missing(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from document["skipped"].items()
    for system in document["systems"].values():
        for what, why in system["not_measured"].items():
            yield f"{system['label']}: {what}", why.partition("\n")[0]


Tables = Callable[[Mapping[str, Any]], Iterator[Table]]


def markdown(document: Mapping[str, Any], tables_of: Tables = tables) -> str:
    """The whole document for docs/performance.md."""
    machine, options = document["machine"], document["options"]
    head = (
        f"{machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}, Python {machine['python']}; "
        f"{options['payload']} B payload, durability {options['durability']}, median of {options['repetitions']}."
    )
    quick = ["**A quick run: it shows that everything works, its numbers mean nothing.**", ""]
    return "\n".join(
        [head, "", *(quick if document["quick"] else []), *(one.markdown() for one in tables_of(document))]
    )


def write(
    document: Mapping[str, Any], folder: Path, tables_of: Tables = tables, plot: str = "draw", name: str = RESULTS
) -> list[Path]:
    """NAME.json, NAME.md, and the plot NAME.svg; returns what was written.

    Raises OSError, and PeerMissing without matplotlib: the first two are there even then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.json", folder / f"{name}.md"]
    written[0].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    written[1].write_text(markdown(document, tables_of), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        raise PeerMissing("there is no plot: it needs pip install matplotlib")
    picture = folder / f"{name}.svg"
    getattr(import_module("bench.plot"), plot)(document, picture)
    return [*written, picture]
