"""What the demo shows: a live table on a terminal, one line for each event elsewhere, and a table at the end."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli import render

if TYPE_CHECKING:
    from replicas.demo.market import MarketResult
    from replicas.demo.run import DemoResult, Progress

REFRESH_HZ = 8


class DemoView:
    """A context manager; `show` is called with each `Progress`. `silent`: show nothing (the output is JSON)."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._live: Live | None = None
        self._shown = 0

    def __enter__(self) -> Self:
        if sys.stdout.isatty() and not self._silent:
            self._live = Live(console=render.console(), refresh_per_second=REFRESH_HZ, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, event: str) -> None:
        """One line, without a table."""
        if not self._silent:
            render.console().print(Text(f"  {event}", style="bold red" if "kill -9" in event else ""))

    def show(self, progress: "Progress") -> None:
        """Events stay on the screen above the live table; without a terminal they are all there is."""
        events, self._shown = progress.events[self._shown :], len(progress.events)
        if self._silent:
            return
        for event in events:
            if self._live is None:
                typer.echo(f"  {event}")
            else:
                self._live.console.print(Text(f"  {event}", style="bold red" if "kill -9" in event else ""))
        if self._live is not None:
            self._live.update(Group(Text(), _table(progress), _totals(progress)))


def _table(progress: "Progress") -> Table:
    rows = [
        (
            one.replica,
            one.state,
            ".".join(map(str, one.view)),
            " ".join(map(str, one.ring)) or "-",
            one.end,
            one.committed,
            one.delivered,
            one.lag,
        )
        for one in progress.replicas.values()
    ]
    table = render.table(("replica", "state", "view", "ring", "slots", "committed", "delivered", "lag"), rows)
    for row, one in zip(table.rows, progress.replicas.values(), strict=True):
        row.style = {"serving": "", "killed": "bold red"}.get(one.state, "yellow")
    return table


def _totals(progress: "Progress") -> Text:
    text = f"\n  {progress.published:,} acknowledged, {progress.messages_per_second:,.0f} a second"
    if progress.gap_ms is not None:
        text += f"; replica {progress.killed} was killed: {progress.gap_ms:.0f} ms without a receipt"
    return Text(text)


def result_table(result: "DemoResult") -> Group:
    """The outcome, and in one sentence whether it is good."""
    replicas = render.table(
        ("replica", "delivered", "digest of (offset, topic, payload)"),
        [(replica, result.delivered[replica], digest or "not finished") for replica, digest in result.digests.items()],
    )
    latency = result.latency_ms
    numbers = Table(box=None, pad_edge=False, show_header=False)
    numbers.add_column(no_wrap=True)
    numbers.add_column(no_wrap=True, justify="right")
    for row in (
        ("published, acknowledged", f"{result.published:,}"),
        ("lost", result.lost),
        ("duplicated", result.duplicated),
        ("view changes", result.view_changes),
        ("without a receipt after the kill", f"{result.failover_gap_ms:.0f} ms"),
        ("acknowledged a second", f"{result.messages_per_second:,}"),
        ("latency p50 / p99 / max", f"{latency['p50']} / {latency['p99']} / {latency['max']} ms"),
    ):
        numbers.add_row(*map(str, row))
    if result.good:
        verdict = Text(
            f"\n  The same order on all {result.replicas} replicas; nothing lost, nothing twice.", style="bold green"
        )
    else:
        verdict = Text("\n  THE REPLICAS DISAGREE, or a message was lost or doubled.", style="bold red")
    return Group(Text(), replicas, Text(), numbers, verdict)


def market_verdict(result: "MarketResult") -> Text:
    """In one sentence whether the marketplace's part is good."""
    if result.good:
        wait = f"the longest purchase took {result.longest_wait_ms:.0f} ms"
        return Text(
            f"\n  {result.purchases} purchases, each in the history and in the stock once; {wait}.", "bold green"
        )
    return Text("\n  HISTORIES AND STOCK DISAGREE: " + "; ".join(result.violations), style="bold red")
