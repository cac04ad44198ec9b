"""The marketplace's table: on a terminal, as Markdown and as a picture; runs of single scenarios add up in a file."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.errors import PeerMissing
from bench.market_load import FUNCTIONS
from bench.market_run import SCENARIOS
from bench.report import Table, number

JSON_NAME, MARKDOWN_NAME, PLOT_NAME = "marketplace.json", "marketplace.md", "marketplace.svg"

Document = Mapping[str, Any]


def merged(document: Document, path: Path) -> dict[str, Any]:
    """The document with the scenarios that an earlier run of the same format and deployment left in a file."""
    found = dict(document)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return found
    if any(before.get(key) != found.get(key) for key in ("format", "deployment", "machine")):
        return found
    both = {**before.get("scenarios", {}), **found.get("scenarios", {})}
    found["scenarios"] = {name: both[name] for name in SCENARIOS if name in both}
    if "mix" not in found and "mix" in before:
        found["mix"] = before["mix"]
    found["audit"] = {**found["audit"], "clean": found["audit"]["clean"] and before["audit"]["clean"]}
    return found


def tables(document: Document) -> Iterator[Table]:
    """One for each scenario; of each number of clients mean, p50 and p99."""
    for scenario in document.get("scenarios", {}).values():
        cells = scenario["clients"]
        columns = ["function", *(f"{name}, {clients}" for clients in cells for name in ("mean", "p50", "p99"))]
        rows = []
        for function in FUNCTIONS:
            found = [cell["functions"].get(function, {}) for cell in cells.values()]
            rows.append([function, *(number(one.get(name)) for one in found for name in ("mean", "p50", "p99"))])
            if any("mean_without_hash" in one for one in found):
                bare = [text for one in found for text in (number(one.get("mean_without_hash")), "", "")]
                rows.append([f"{function}, without the password's hash", *bare])
        for title, key in (("longest gap", "longest_gap_ms"), ("errors", "errors"), ("lost", "lost")):
            rows.append([title, *(text for cell in cells.values() for text in (number(cell[key]), "", ""))])
        yield Table(f"Response time in ms, by number of clients: {scenario['title']}", columns, rows)
    mix = document.get("mix")
    if mix:
        row = [mix["clients"], mix["functions_per_second"], mix["longest_gap_ms"], mix["errors"], mix["lost"]]
        columns = ["clients", "functions/s", "longest gap, ms", "errors", "lost"]
        yield Table("All functions mixed, 70% reads, no passwords", columns, [[number(one) for one in row]])
    hops = list(_hops(document))
    if hops:
        roles = list(hops[0][1])
        rows = [[title, *(number(cpu[role]) for role in roles), number(sum(cpu.values()))] for title, cpu in hops]
        yield Table("CPU ms a call, by hop (all replicas of a role together)", ["clients", *roles, "all"], rows)


def _hops(document: Document) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Where the time goes while nothing fails."""
    for clients, cell in document.get("scenarios", {}).get("normal", {}).get("clients", {}).items():
        if "cpu_ms_per_call" in cell:
            yield f"{clients}, every function", cell["cpu_ms_per_call"]
    mix = document.get("mix", {})
    if "cpu_ms_per_call" in mix:
        yield f"{mix['clients']}, mixed", mix["cpu_ms_per_call"]


def markdown(document: Document) -> str:
    """The file for docs/performance/."""
    machine, deployment = document["machine"], document["deployment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    replicas = ", ".join(f"{count} {role}" for role, count in deployment.items())
    audit = "clean" if document["audit"]["clean"] else "NOT CLEAN"
    text = f"""# The marketplace

`ringcast bench marketplace` on {machine["cores"]} cores of {machine["processor"]}, Linux {machine["kernel"]}, Python
{machine["python"]}; {versions}. Replicas: {replicas}, and the clients, all on this machine. Failures are kill -9 in the
middle of the measured window; errors and lost changes are counted after the clients' own retries. Audit after
everything: {audit}.

"""
    return text + "\n".join(table.markdown() for table in tables(document))


def write(document: Document, folder: Path) -> dict[str, Any]:
    """JSON, Markdown and the picture; returns the document with what was there before. Raises PeerMissing, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    found = merged(document, folder / JSON_NAME)
    (folder / JSON_NAME).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (folder / MARKDOWN_NAME).write_text(markdown(found), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        raise PeerMissing("there is no plot: it needs pip install matplotlib")
    import_module("bench.market_plot").draw(found, folder / PLOT_NAME)
    return found
