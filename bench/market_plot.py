"""The picture of the marketplace's table: the mean of each function, by scenario, a panel for each client count."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.market_load import FUNCTIONS, HASHED

_BAR = 0.8
_INCHES = (15.0, 9.0)


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Write it; the format follows from the suffix. Passwords are left out: their hash would hide the rest."""
    mpl.rcParams["svg.hashsalt"] = "ringcast"  # the same numbers give the same file
    scenarios = document["scenarios"]
    counts = sorted({clients for one in scenarios.values() for clients in one["clients"]}, key=int)
    functions = [name for name in FUNCTIONS if name not in HASHED]
    figure = Figure(figsize=_INCHES, layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    height = _BAR / max(1, len(scenarios))
    for axes, clients in zip(panels, counts, strict=True):
        for place, (name, scenario) in enumerate(scenarios.items()):
            rows = scenario["clients"].get(clients, {}).get("functions", {})
            values = [rows.get(function, {}).get("mean", 0.0) for function in functions]
            positions = [index + place * height for index in range(len(functions))]
            axes.barh(positions, values, height=height, label=name.replace("_", " "))
        axes.set(title=f"{clients} client{'' if clients == '1' else 's'}: mean, ms")
        axes.grid(axis="x", alpha=0.3)
    middle = (_BAR - height) / 2
    panels[0].set_yticks([index + middle for index in range(len(functions))], functions)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(scenarios))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
