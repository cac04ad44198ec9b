"""`ringcast bench bus`: Ringcast beside other replicated logs, on this machine (bench/)."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import render
from cli.cluster import Durability
from cli.common import LOCAL, NO, USAGE, JsonOption, reported

bench = typer.Typer(name="bench", help="Measure this machine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `bench`."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Measure this machine."""


@bench.command("bus")
@reported
def bus(
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="Of each system; 3 or 5.")] = 3,
    payload: Annotated[int, typer.Option("--payload", min=1, metavar="BYTES", help="Of each message.")] = 100,
    durability: Annotated[Durability, typer.Option("--durability", help="Of Ringcast.")] = Durability.MAJORITY,
    against: Annotated[
        str, typer.Option("--against", metavar="NAMES", help="Of nats,etcd,pysyncobj,redis; '' = none.")
    ] = "nats,etcd,pysyncobj,redis",
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Medians are of so many.")] = 3,
    kills: Annotated[int, typer.Option("--kills", min=0, help="kill -9 of the token holder, twice; 0 = no gaps.")] = 20,
    extras: Annotated[
        bool, typer.Option("--extras/--no-extras", help="Readers, idle, catch-up, memory, n = 5.")
    ] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny counts: shows that it works, measures nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write results.json, results.md, results.svg.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Throughput, latency, failover gap, CPU and memory, with other systems in the same run; needs a source checkout.

    A system that is not installed is said and skipped. Exit code 1 if something of Ringcast could not be measured.
    """
    try:
        from bench.errors import BenchError, PeerMissing
        from bench.options import Options
        from bench.report import document_of, write
        from bench.run import Run
    except ModuleNotFoundError as error:
        render.error(f"bench needs {error.name!r}: run it in a source checkout of Ringcast, after `make bench` once")
        raise typer.Exit(LOCAL) from None
    names = tuple(name.strip() for name in against.split(",") if name.strip())
    try:
        options = Options(replicas, payload, durability.value, names, repetitions=repetitions, kills=kills)
    except BenchError as error:
        render.error(str(error))
        raise typer.Exit(USAGE) from None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    document = document_of(Run(_with(options, extras, kills), _say, quick=quick).go())
    if out is not None:
        try:
            write(document, out)
        except PeerMissing as error:
            _say(str(error))
    _show(document, json)
    if document["systems"]["ringcast"]["not_measured"]:
        raise typer.Exit(NO)


def _with(options: Any, extras: bool, kills: int) -> Any:
    from dataclasses import replace

    stopped = options.stops if kills else 0
    return replace(options, extras=extras, stops=stopped, peer_kills=options.peer_kills if kills else 0)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _show(document: dict[str, Any], json: bool) -> None:
    if json:
        render.as_json(document)
        return
    from bench.report import tables

    console = render.console()
    if document["quick"]:
        console.print("A quick run: it shows that everything works, its numbers mean nothing.\n")
    for table in tables(document):
        console.print(render.table(table.columns, table.rows, table.title))
        console.print()
