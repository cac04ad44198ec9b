"""`ringcast demo`: replicas order a real text, lose the token holder to a kill -9, and agree (replicas/demo.py)."""

import asyncio
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.common import LOCAL, NO, JsonOption, reported
from cli.demo_view import DemoView, result_table

TERMINATED = 143  # as a shell says of a process that SIGTERM ended
#: Public-domain texts, bundled with the package.
BUNDLED = files("cli") / "data" / "demo.txt"


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo)


@reported
def demo(
    text: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Publish its lines [default: a bundled text].")
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="How many; 3 or 5 are sensible.")] = 3,
    json: JsonOption = False,
) -> None:
    """Start replicas, publish lines of a text from four clients, kill -9 the token holder half way, compare all orders.

    Exit code 0 only if every replica delivered the same order, and nothing acknowledged was lost or delivered twice.
    """
    from replicas.demo import DemoError, read_lines, run_demo

    view = DemoView(silent=json)
    try:
        with as_file(BUNDLED) as bundled:
            lines = read_lines(text or bundled)
        with view:
            result = asyncio.run(run_demo(lines, replicas, view.show))
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    except DemoError as error:
        render.error(str(error))
        raise typer.Exit(LOCAL) from None
    if json:
        render.as_json(asdict(result))
    else:
        render.console().print(result_table(result))
    if not result.good:
        raise typer.Exit(NO)
