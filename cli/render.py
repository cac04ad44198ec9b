"""Output: rich tables for humans, JSON for programs, one line on stderr for errors."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200
ASIDE_NEXT = "look at the disk, then move the folder away"


class _Output(Console):
    """rich's own ends the process when nobody reads any more; here that is the command's to answer (`reported`)."""

    def on_broken_pipe(self) -> None:
        """Called where the error is handled: it goes on to who printed."""
        raise  # noqa: PLE0704


def console() -> Console:
    """stdout, as wide as it is; a file or pipe gets its rows whole. Raises BrokenPipeError."""
    return _Output() if sys.stdout.isatty() else _Output(width=PIPE_COLUMNS)


def error(text: str) -> None:
    """One line on stderr."""
    typer.secho(f"ringcast: {text}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)


def note(text: str) -> None:
    """A remark on stderr, for humans only."""
    if sys.stderr.isatty():
        typer.secho(text, err=True, dim=True)


def as_json(value: object) -> None:
    """One JSON document."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def json_line(value: object) -> None:
    """One JSON object on a line of its own."""
    typer.echo(json.dumps(value, default=_plain, separators=(",", ":")))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def payload(data: bytes) -> str:
    """A payload for the eye: text if it is some, else hex."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "0x" + data.hex()


def payload_fields(data: bytes) -> dict[str, str]:
    """A payload in JSON: `payload` if it is text, else `payload_hex`."""
    try:
        return {"payload": data.decode()}
    except UnicodeDecodeError:
        return {"payload_hex": data.hex()}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """A plain table; numbers to the right."""
    listed = [[str(cell) for cell in row] for row in rows]
    found = Table(title=title, box=None, header_style="bold", pad_edge=False, title_justify="left")
    for index, column in enumerate(columns):
        numeric = all(row[index].lstrip("-").replace(",", "").isdigit() or row[index] == "-" for row in listed)
        found.add_column(column, justify="right" if numeric and listed else "left", no_wrap=True)
    for row in listed:
        found.add_row(*row)
    return found


def remarks(replicas: Iterable[Mapping[str, Any]]) -> None:
    """Below the table: who does not answer, and who crashed and was started again by its supervisor."""
    for one in replicas:
        if "error" in one:
            error(f"replica {one['replica']}: {one['error']}")
        elif one.get("restarts"):
            last = datetime.fromtimestamp(int(one["last_restart_us"]) / 1e6).astimezone()
            times = "once" if one["restarts"] == 1 else f"{one['restarts']} times"
            why = f"last after {one['last_restart']} at {last:%Y-%m-%d %H:%M:%S}"
            error(f"replica {one['replica']}: its supervisor has restarted it {times}, {why}; see its log")
        for sentence in one.get("limits", ()):
            error(f"replica {one['replica']}: {sentence}")
        clock = one.get("clock") or {}
        if one["replica"] in clock.get("beyond", ()):
            offset = clock["offsets_us"][str(one["replica"])] / 1e6
            error(
                f"replica {one['replica']}: its clock is {offset:+.1f} s off what a quorum's clocks say: mend it (D7)"
            )
        if one.get("log_held_by"):
            members = ", ".join(map(str, one["log_held_by"]))
            error(
                f"replica {one['replica']}: its log is {one['log_held_bytes'] / 1e6:.1f} MB beyond retention_bytes, "
                f"which member {members} still lacks: it gets a snapshot instead once the hard bound is reached (C2)"
            )
        _damage(one)


def _damage(one: Mapping[str, Any]) -> None:
    """What a replica says is damaged, and what it set aside (D6, R24)."""
    for aside in one.get("set_aside", ()):
        folder, why = aside["folder"], aside["why"]
        error(f"replica {one['replica']}: a damaged folder was set aside: {folder} ({why}); {ASIDE_NEXT}")
    for part, found in dict(one.get("scrub", {})).items():
        if count := found["damaged_count"]:
            names = ", ".join(map(str, found["damaged"]))
            error(f"replica {one['replica']}: {count} damaged in its {part}, not repaired yet: {names}")


def disk_table(replicas: Sequence[Mapping[str, Any]]) -> Table:
    """The log, its bound, the database file and what of it holds nothing, in MB, of each replica."""
    rows = []
    for one in replicas:
        if "file_bytes" not in one:
            rows.append([one["replica"], *("-",) * 6])
            continue
        names = ("log_bytes", "log_bytes_max", "file_bytes", "file_free_bytes", "snapshot_files_bytes")
        held = " ".join(map(str, one["log_held_by"])) or "-"
        rows.append([one["replica"], *(f"{one[name] / 1e6:.1f}" for name in names), held])
    columns = ("replica", "log MB", "at most", "file MB", "unused MB", "snapshots MB", "held back by")
    return table(columns, rows)


def status_table(replicas: Sequence[Mapping[str, Any]]) -> Table:
    """View, ring, token, slot, commit and lag of each replica."""
    committed = max((int(one.get("committed", 0)) for one in replicas), default=0)
    rows = []
    for one in replicas:
        if "error" in one:
            rows.append([one["replica"], "unreachable", *("-",) * 7])
            continue
        rows.append(
            [
                one["replica"],
                one["state"],
                ".".join(map(str, one["view"])),
                " ".join(map(str, one["ring"])),
                "●" if one.get("token_holder") == one["replica"] else "",
                one["end"],
                one["committed"],
                committed - int(one["applied"]),
                one["next_offset"],
            ]
        )
    return table(("replica", "state", "view", "ring", "token", "slots", "committed", "lag", "next offset"), rows)
