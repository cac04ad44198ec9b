"""The picture for docs/performance.md: throughput, latency and failover gap of each system, side by side."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure

from bench.gap import SURVIVOR
from bench.goals import Document, at, latency, rate

RATES = {"pipelined": "receipt for each message", "batched": "the system's batches", "tasks": "concurrent publishes"}
STORE_RATES = {
    "pipelined": "writes, pipelined",
    "batched": "import, or transactions",
    "read": "reads",
    "local": "local",
}
STORE_LATENCIES = {"one": "write", "read_one": "linearizable read", "local_one": "local read"}
LATENCIES = ("p50", "p99")
GAPS = ("median", "worst")
_BAR = 0.8
_INCHES = (14.0, 5.0)

Value = Callable[[str], float | None]


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Write the picture; its format follows from the suffix (.svg, .png). All axes begin at 0."""
    series = {
        "messages a second": {text: partial(_rate, document, name) for name, text in RATES.items()},
        "one outstanding publish, ms": {name: partial(_latency, document, name) for name in LATENCIES},
    }
    _draw(document, path, series)


def draw_store(document: Mapping[str, Any], path: Path) -> None:
    """The same of a document of bench/products.py."""
    series = {
        "operations a second": {text: partial(_rate, document, name) for name, text in STORE_RATES.items()},
        "one outstanding, p50, ms": {text: partial(_p50, document, name) for name, text in STORE_LATENCIES.items()},
    }
    _draw(document, path, series)


def _draw(document: Mapping[str, Any], path: Path, series: Mapping[str, Mapping[str, Value]]) -> None:
    mpl.rcParams["svg.hashsalt"] = "ringcast"  # the same numbers give the same file
    figure = Figure(figsize=_INCHES, layout="constrained")
    gaps: dict[str, Value] = {name: partial(_gap, document, name) for name in GAPS}
    whole = {**series, "gap after kill -9, ms": gaps}
    for axes, (title, bars) in zip(figure.subplots(1, len(whole)), whole.items(), strict=True):
        _bars(axes, document, bars)
        axes.set(title=title)
    # No date in the file: two runs with the same numbers are the same picture.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _rate(document: Document, workload: str, system: str) -> float | None:
    return rate(document, system, workload)


def _latency(document: Document, name: str, system: str) -> float | None:
    return latency(document, system, name)


def _p50(document: Document, workload: str, system: str) -> float | None:
    return at(document, "systems", system, "workloads", workload, "latency_ms", "p50")


def _gap(document: Document, name: str, system: str) -> float | None:
    ours = at(document, "systems", system, "gap", SURVIVOR, f"{name}_ms")
    return at(document, "systems", system, "gap", f"{name}_ms") if ours is None else ours


def _bars(axes: Any, document: Document, series: Mapping[str, Value]) -> None:
    """Horizontal bars, a group for each system that has any of them."""
    names = [name for name in document["systems"] if any(value(name) is not None for value in series.values())]
    height = _BAR / len(series)
    for place, (label, value) in enumerate(series.items()):
        positions = [index + place * height for index in range(len(names))]
        axes.barh(positions, [value(name) or 0.0 for name in names], height=height, label=label)
    middle = (_BAR - height) / 2
    axes.set_yticks([index + middle for index in range(len(names))], [document["systems"][n]["label"] for n in names])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}" if max(axes.get_xlim()) > 100 else "{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08))
