"""`ringcast explain OFFSET`: the way of one message, for whoever asks why it stands where it stands."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from replicas.bus.explanation import Copy, Explanation
from replicas.bus.explanation import explain as look


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


@reported
def explain(
    offset: Annotated[int, typer.Argument(min=0, help="The message's place in the order.")],
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Who sent the message at OFFSET, which holder ordered it in which slot and view, and which replicas have it.

    The holder and the times at each replica are remembered for minutes only. Exit code 1: a replica that delivered it
    has another one (`ringcast verify` says more). 4: there is no such message, or retention removed it.
    """
    found = run(look(cluster_of(cluster), offset, timeout))
    differs = any(copy.delivered and not copy.same and not copy.error for copy in found.copies)
    if json:
        copies = [asdict(one) for one in found.copies]
        render.as_json({**found.record, "holder": found.holder or None, "copies": copies})
    else:
        _show(found)
    if differs:
        render.error("a replica has delivered another message there: stop publishing, and run `ringcast verify`")
        raise typer.Exit(NO)


def _show(found: Explanation) -> None:
    record = found.record
    counter, proposer = record["view"]
    holder = f"member {found.holder}" if found.holder else "a member that nobody remembers (it was minutes ago)"
    first, last = record["first_offset"], record["first_offset"] + record["messages"] - 1
    sent = f"client {bytes(record['client']).hex()}, in its batch {record['sequence']} (offsets {first}-{last})"
    run_number = record["incarnation"][0]
    typer.echo(f"offset {record['offset']} on topic {record['topic']}")
    typer.echo(f"sent     by {sent}")
    typer.echo(f"taken in by member {record['sender']}, as request {record['lsn']} of its run {run_number}")
    typer.echo(f"ordered  by {holder} in slot {record['slot']} of view {counter}.{proposer}")
    typer.echo(f"         at {_time(record['time_us'])} by the ring's clock")
    rows = [_row(copy) for copy in found.copies]
    render.console().print(render.table(("replica", "stored", "since", "delivered", "at", "same"), rows))
    for copy in found.copies:
        if copy.error:
            render.error(f"replica {copy.replica}: {copy.error}")


def _row(copy: Copy) -> tuple[object, ...]:
    if copy.error:
        return (copy.replica, *("-",) * 5)
    yes = ("no", "yes")
    return (
        copy.replica,
        yes[copy.stored],
        _time(copy.stored_us),
        yes[copy.delivered],
        _time(copy.delivered_us),
        yes[copy.same],
    )


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="microseconds") if us else "-"
