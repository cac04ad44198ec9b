"""`ringcast demo`: replicas order a real text and lose the token holder; then a small marketplace loses two more."""

import asyncio
from dataclasses import asdict
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.common import LOCAL, NO, JsonOption, reported
from cli.demo_view import DemoView, market_verdict, result_table

TERMINATED = 143  # as a shell says of a process that SIGTERM ended
#: Public-domain texts, bundled with the package.
BUNDLED = files("cli") / "data" / "demo.txt"


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo)


@reported
def demo(
    text: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Publish its lines (default: a bundled text).")
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="How many; 3 or 5 are sensible.")] = 3,
    market: Annotated[bool, typer.Option("--market/--no-market", help="The marketplace too; needs raftos.")] = True,
    json: JsonOption = False,
) -> None:
    """Start replicas, publish lines of a text from four clients, kill -9 the token holder half way, compare all orders.

    Then a small marketplace sells while a buyers interface and the leader of the product store are killed.
    Exit code 0 only if every replica delivered the same order, nothing acknowledged was lost or delivered twice, and
    histories and stock agree.
    """
    from replicas.demo.market import MarketResult, run_demo_market
    from replicas.demo.run import DemoError, DemoResult, read_lines, run_demo

    view = DemoView(silent=json)
    sells = market and find_spec("raftos") is not None
    try:
        with as_file(BUNDLED) as bundled:
            lines = read_lines(text or bundled)

        async def both() -> tuple[DemoResult, MarketResult | None]:
            with view:
                ordered = await run_demo(lines, replicas, view.show)
            if not json:
                render.console().print(result_table(ordered))
            return ordered, await run_demo_market(view.say) if sells and ordered.good else None

        result, sold = asyncio.run(both())
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    except DemoError as error:
        render.error(str(error))
        raise typer.Exit(LOCAL) from None
    if json:
        render.as_json({**asdict(result), "market": None if sold is None else asdict(sold)})
    elif sold is not None:
        render.console().print(market_verdict(sold))
    elif market and not sells:
        render.note("the marketplace needs raftos, which is not installed: it was left out")
    if not result.good or (sold is not None and not sold.good):
        raise typer.Exit(NO)
