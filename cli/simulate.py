"""`ringcast simulate`: the core or Raft under one seed after another (sequencer/simulator, replicas/raft/simulator)."""

import signal
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add `simulate`."""
    app.command("simulate")(simulate)


def simulate(
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="A..B", help="One seed or a range.")] = None,
    members: Annotated[int | None, typer.Option("--members", min=1, max=7, help="(default: by seed)")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Run seeds for so long.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes (default: one for each CPU).")] = None,
    trace: Annotated[int | None, typer.Option("--trace", metavar="SEED", help="Run one seed and print it.")] = None,
    faults: Annotated[
        str | None, typer.Option("--faults", metavar="NAME,...", help="Add: partial, clocks, bursts, stuck.")
    ] = None,
    raft: Annotated[bool, typer.Option("--raft", help="Simulate the product store's Raft instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run the core, or Raft, in a faulty cluster that lives in one process. Exit code 1 if a seed finds a violation."""
    if raft:
        from replicas.raft.simulator.__main__ import main
    else:
        from sequencer.simulator.__main__ import main
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the other processes end with this one
    options = {
        "--seeds": seeds,
        "--members": members,
        "--seconds": seconds,
        "--jobs": jobs,
        "--trace": trace,
        "--faults": faults,
    }
    arguments = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    raise typer.Exit(main([*arguments, *(["--json"] if json else [])]))
