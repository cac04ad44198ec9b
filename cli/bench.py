"""`ringcast bench bus|products|marketplace`: what this machine does with Ringcast, beside other systems (bench/)."""

import signal
from collections.abc import Callable, Iterable
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
    curve: Annotated[bool, typer.Option("--curve", help="Ringcast with keys too, beside it without.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny counts: shows that it works, measures nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write NAME.json, NAME.md, NAME.svg there.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the files of --out.")] = "results",
    json: JsonOption = False,
) -> None:
    """Throughput, latency, failover gap, CPU and memory, with other systems in the same run; needs a source checkout.

    A system that is not installed is said and skipped. Exit code 1 if something of Ringcast could not be measured.
    """
    try:
        from bench.errors import BenchError, PeerMissing
        from bench.options import Options
        from bench.report import document_of, tables, write
        from bench.run import Run
    except ModuleNotFoundError as error:
        render.error(f"bench needs {error.name!r}: run it in a source checkout of Ringcast, after `make bench` once")
        raise typer.Exit(LOCAL) from None
    try:
        options = Options(
            replicas,
            payload,
            durability.value,
            _names(against),
            repetitions=repetitions,
            kills=kills,
            curve=curve,
        )
    except BenchError as error:
        render.error(str(error))
        raise typer.Exit(USAGE) from None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    document = document_of(Run(_with(options, extras, kills), _say, quick=quick).go())
    if out is not None:
        try:
            write(document, out, name=name)
        except PeerMissing as error:
            _say(str(error))
    _show(document, json, tables)
    if document["systems"]["ringcast"]["not_measured"]:
        raise typer.Exit(NO)


@bench.command("marketplace")
@reported
def marketplace(
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="Of each database; 3 or 5.")] = 3,
    interfaces: Annotated[int, typer.Option("--interfaces", min=2, max=7, help="For sellers, and for buyers.")] = 4,
    scenarios: Annotated[
        str, typer.Option("--scenarios", metavar="NAMES", help="Of the six; with --out they add up in one file.")
    ] = "normal,interfaces,product_replica,product_leader,bus_replica,token_holder",
    clients: Annotated[str, typer.Option("--clients", metavar="COUNTS", help="Concurrent clients.")] = "1,10,100",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Of each function, at least.")] = 200,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute of all functions mixed, with one kill in the middle.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write marketplace.json, .md and .svg.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Response times of all twenty functions of the marketplace, also while replicas are killed.

    Needs a source checkout. Exit code 1 if a client saw an error, an acknowledged change was lost, or the audit is not
    clean.
    """
    try:
        from bench.errors import PeerMissing
        from bench.market_report import tables, write
        from bench.market_run import SCENARIOS, MarketOptions, good, run
    except ModuleNotFoundError as error:
        render.error(f"bench needs {error.name!r}: run it in a source checkout of Ringcast")
        raise typer.Exit(LOCAL) from None
    names, counts = _names(scenarios), _names(clients)
    unknown = [name for name in names if name not in SCENARIOS] + [one for one in counts if not one.isdigit()]
    if unknown or not names or not counts or "0" in counts:
        render.error(f"{unknown or 'nothing'} to measure: scenarios are {', '.join(SCENARIOS)}, clients are numbers")
        raise typer.Exit(USAGE)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    options = MarketOptions(replicas, interfaces, names, tuple(map(int, counts)), samples)
    document = run(options, _say, quick=quick)
    if out is not None and not quick:
        try:
            document = write(document, out)
        except PeerMissing as error:
            _say(str(error))
    if json:
        render.as_json(document)
    else:
        console = render.console()
        for table in tables(document):
            console.print(render.table(table.columns, table.rows, table.title))
            console.print()
        console.print("the audit is clean" if document["audit"]["clean"] else f"violations: {document['audit']}")
    if not good(document):
        raise typer.Exit(NO)


@bench.command("products")
@reported
def products(
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="Of each system; 3 or 5.")] = 3,
    against: Annotated[
        str, typer.Option("--against", metavar="NAMES", help="Of etcd,pysyncobj; '' = none.")
    ] = "etcd,pysyncobj",
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Medians are of so many.")] = 3,
    kills: Annotated[int, typer.Option("--kills", min=0, help="kill -9 of the leader; 0 = no gaps.")] = 20,
    parts: Annotated[
        str, typer.Option("--parts", metavar="NAMES", help="Of compare,gaps,search,catch_up,million.")
    ] = "compare,gaps,search,catch_up,million",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny counts: shows that it works, measures nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write results.json, results.md, results.svg.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """The product store's writes, reads, searches, failover gap and memory, beside etcd and PySyncObj.

    With --parts, results.json of --out keeps what it has of the other parts. A system that is not installed is said and
    skipped. Exit code 1 if something of Ringcast could not be measured.
    """
    try:
        from bench.errors import BenchError, PeerMissing
        from bench.options import Options
        from bench.products import PARTS, WORKLOAD, ProductsRun, merged
        from bench.products_report import GOALS, tables
        from bench.report import document_of, write
    except ModuleNotFoundError as error:
        render.error(f"bench needs {error.name!r}: run it in a source checkout of Ringcast, after `make bench` once")
        raise typer.Exit(LOCAL) from None
    wanted, names = _names(parts), _names(against)
    try:
        if unknown := set(wanted) - set(PARTS):
            raise BenchError(f"parts {', '.join(sorted(unknown))}: they are {', '.join(PARTS)}")
        options = Options(replicas, against=names, repetitions=repetitions, kills=kills, **WORKLOAD)
    except BenchError as error:
        render.error(str(error))
        raise typer.Exit(USAGE) from None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    run = ProductsRun(_with(options, extras=True, kills=kills), _say, parts=wanted, quick=quick)
    document = document_of(run.go(), GOALS)
    if out is not None:
        document = merged(out, document, GOALS)
        try:
            write(document, out, tables, "draw_store")
        except PeerMissing as error:
            _say(str(error))
    _show(document, json, tables)
    if document["systems"].get("products", {}).get("not_measured"):
        raise typer.Exit(NO)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _with(options: Any, extras: bool, kills: int) -> Any:
    from dataclasses import replace

    stopped = options.stops if kills else 0
    return replace(options, extras=extras, stops=stopped, peer_kills=options.peer_kills if kills else 0)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _show(document: dict[str, Any], json: bool, tables: Callable[[dict[str, Any]], Iterable[Any]]) -> None:
    if json:
        render.as_json(document)
        return
    console = render.console()
    if document["quick"]:
        console.print("A quick run: it shows that everything works, its numbers mean nothing.\n")
    for table in tables(document):
        console.print(render.table(table.columns, table.rows, table.title))
        console.print()
