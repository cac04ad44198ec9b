"""`ringcast status`, `health` and `verify`: what the replicas say of themselves, and whether they agree."""

import asyncio
from typing import Annotated, Any

import typer
from rich.live import Live

from cli import render
from cli.common import NO, OK, UNAVAILABLE, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from replicas.bus.overview import Overview, lacks, verdict
from replicas.bus.standing import OUTSIDE
from replicas.bus.verification import verify as compare
from sequencer.quorum import majority

WATCH_INTERVAL_S = 0.25


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("health")(health)
    app.command("verify")(verify)


@reported
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep it up to date until Ctrl-C.")] = False,
    disk: Annotated[bool, typer.Option("--disk", help="Also the size of log, file and snapshots.")] = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:
    """View, ring, token, slots, commit and lag of each replica."""
    where = cluster_of(cluster)
    run(_watch(where, timeout, json) if watch else _status(where, timeout, json, disk))


async def _status(where: str, timeout_s: float, json: bool, disk: bool) -> None:
    async with Overview(where, timeout_s) as overview:
        replicas = await overview.look()
    _show(replicas, json, disk)


def _show(replicas: list[dict[str, Any]], json: bool, disk: bool) -> None:
    if json:
        render.as_json({"cluster": _cluster(replicas), "replicas": replicas})
        return
    console = render.console()
    console.print(render.status_table(replicas))
    if disk:
        console.print("", render.disk_table(replicas))
    names = {str(one["durability"]) for one in replicas if "durability" in one}
    console.print(f"\ncluster {_cluster(replicas)}  durability {', '.join(sorted(names))}")
    if any(one.get("possible_loss") for one in replicas):
        console.print("possible loss: an operator made a view with `recover --accept-loss`")
    render.remarks(replicas)
    for one in replicas:
        if one.get("state") == OUTSIDE:
            _show_trouble(one)
    _show_missing(replicas)
    _show_advice(replicas)


def _show_missing(replicas: list[dict[str, Any]]) -> None:
    """C3: who is no copy yet."""
    for one in replicas:
        if found := lacks(one):
            render.error(f"replica {one['replica']} {found}")


def _show_trouble(one: dict[str, Any]) -> None:
    """Why it does not serve as it should, and whom it does not hear."""
    links = f" ({one['links']})" if one.get("state") == OUTSIDE else ""
    render.error(f"replica {one['replica']}: {one.get('error') or one.get('state')}{links}")


def _show_advice(replicas: list[dict[str, Any]]) -> None:
    """What to do when nothing mends itself, once."""
    for advice in {str(one["advice"]) for one in replicas if one.get("advice")}:
        render.error(advice)


def _cluster(replicas: list[dict[str, Any]]) -> str:
    return next((str(one["cluster"]) for one in replicas if "cluster" in one), "unknown")


async def _watch(where: str, timeout_s: float, json: bool) -> None:
    async with Overview(where, timeout_s) as overview:
        if json:
            while True:
                render.json_line({"replicas": await overview.look()})
                await asyncio.sleep(WATCH_INTERVAL_S)
        with Live(render.status_table(await overview.look()), console=render.console(), screen=False) as live:
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                live.update(render.status_table(await overview.look()))


@reported
def health(cluster: ClusterOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False) -> None:
    """Exit code 0 if every replica serves and is whole, 1 if some are not but a quorum serves, 3 if no quorum does.

    A replica is whole when it holds all that retention promises; on a new disk it fetches that from the others.
    """

    async def ask() -> list[dict[str, Any]]:
        async with Overview(cluster_of(cluster), timeout) as overview:
            return await overview.look()

    replicas = run(ask())
    serving = [one for one in replicas if one.get("in_quorum") and one.get("state") != OUTSIDE]
    members = [int(one["replica"]) for one in replicas]
    quorum, found = majority(members), verdict(len(serving), members)
    not_whole = [int(one["replica"]) for one in replicas if lacks(one)]
    if not_whole and found == "healthy":
        found = "degraded"
    if json:
        advice = next((one["advice"] for one in replicas if one.get("advice")), None)
        counts = {"serving": len(serving), "replicas": len(replicas), "quorum": quorum}
        render.as_json({"health": found, **counts, "not_whole": not_whole, "advice": advice})
    else:
        typer.echo(f"{found}: {len(serving)} of {len(replicas)} replicas serve, {quorum} are needed")
        for one in replicas:
            if one not in serving:
                _show_trouble(one)
        _show_missing(replicas)
        _show_advice(replicas)
    raise typer.Exit({"healthy": OK, "degraded": NO, "down": UNAVAILABLE}[found])


@reported
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Compare the chains alone, and read no records.")] = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Compare the chains over all replicas' logs, and have each replica read all of its records.

    Exit code 1, and the first slot that differs or the slots that are damaged; 3 if only one answers.
    """
    found = run(compare(cluster_of(cluster), timeout, read=not quick))
    alone = len(found.ends) == 1 and bool(found.unreachable)
    if json:
        render.as_json(
            {
                "identical": found.identical,
                "first": found.first,
                "end": found.end,
                "differs_at": found.differs_at,
                "state_differs_at": found.state_differs_at,
                "chains": found.chains,
                "ends": found.ends,
                "unreachable": found.unreachable,
                "damaged": found.damaged,
            }
        )
    elif found.differs_at is not None:
        typer.echo(f"the logs differ from slot {found.differs_at} on:")
        render.console().print(render.table(("replica", "chain"), found.chains.items()))
    elif found.state_differs_at is not None:
        typer.echo(f"the logs are the same, but the states differ at or below slot {found.state_differs_at}")
    elif alone:
        typer.echo("only one replica answered: there is nothing to compare it with")
    elif found.end <= found.first:
        typer.echo(f"{len(found.ends)} replicas have no slot in common yet")
    else:
        chain = next(iter(found.chains.values()))
        typer.echo(f"{len(found.ends)} replicas hold the same order: slots {found.first} to {found.end - 1}, {chain}")
    for member, why in found.unreachable.items():
        render.error(f"replica {member} was not compared: {why}")
    for member, slots in found.damaged.items():
        if slots:
            listed = ", ".join(map(str, slots[:10]))
            more = f" and {len(slots) - 10} more" if len(slots) > 10 else ""
            render.error(f"replica {member} cannot read slots {listed}{more}: they are fetched from the others")
    if not found.identical:
        raise typer.Exit(NO)
    if alone:
        raise typer.Exit(UNAVAILABLE)
