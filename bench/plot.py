"""The picture for docs/performance.md: throughput and latency of each system, side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.goals import at

RATES = {"pipelined": "receipt for each message", "batched": "the system's batches", "tasks": "concurrent publishes"}
LATENCIES = ("p50", "p99")
_BAR = 0.8
_INCHES = (11.0, 4.5)


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Write the picture; its format follows from the suffix (.svg, .png)."""
    mpl.rcParams["svg.hashsalt"] = "ringcast"  # the same numbers give the same file
    figure = Figure(figsize=_INCHES, layout="constrained")
    rates, latencies = figure.subplots(1, 2)
    _bars(rates, document, {text: ("workloads", name, "messages_per_second") for name, text in RATES.items()})
    rates.set(title="Messages a second (more is better)", xscale="log")
    _bars(latencies, document, {name: ("workloads", "one", "latency_ms", name) for name in LATENCIES})
    latencies.set(title="One outstanding publish, ms (less is better)", xscale="log")
    # No date in the file: two runs with the same numbers are the same picture.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(axes: Any, document: Mapping[str, Any], series: Mapping[str, tuple[str, ...]]) -> None:
    """Horizontal bars, a group for each system that has any of them."""
    names = [
        name
        for name in document["systems"]
        if any(at(document, "systems", name, *path) is not None for path in series.values())
    ]
    height = _BAR / len(series)
    for place, (label, path) in enumerate(series.items()):
        found = [at(document, "systems", name, *path) or 0.0 for name in names]
        positions = [index + place * height for index in range(len(names))]
        axes.barh(positions, found, height=height, label=label)
    middle = (_BAR - height) / 2
    axes.set_yticks([index + middle for index in range(len(names))], [document["systems"][n]["label"] for n in names])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
