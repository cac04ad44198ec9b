"""`ringcast clock` and `ringcast clock reset`: the clocks of the replicas, and the ring's time (D7)."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import NO, UNAVAILABLE, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from replicas.bus.clock_reset import QUERY
from replicas.bus.overview import Overview
from replicas.clocks import wall_us

POLL_S = 0.1
#: A clock of this machine that is further off what the replicas' say: somebody is wrong.
DIFFERS_US = 60_000_000

clock_app = typer.Typer(help="Show the replicas' clocks and the ring's time; reset it.", invoke_without_command=True)
DiffersOption = Annotated[
    bool, typer.Option("--accept-difference", help="Reset although this machine's clock says another time.")
]


def register(app: typer.Typer) -> None:
    """Add `clock`."""
    app.add_typer(clock_app, name="clock")


@clock_app.callback()
@reported
def show(
    context: typer.Context, cluster: ClusterOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False
) -> None:
    """How far each replica's clock is off what a quorum's clocks say, and the ring's time.

    Exit codes: 0 all is within the bound; 1 a clock is beyond it, or the ring's time is ahead; 3 no replica answers, or
    too few clocks are known.
    """
    if context.invoked_subcommand is not None:
        return
    found = summary(run(_look(cluster_of(cluster), timeout)))
    if json:
        render.as_json(found)
    else:
        rows = [(one["replica"], _seconds(one["offset_us"]), one["standing"]) for one in found["replicas"]]
        render.console().print(render.table(("replica", "offset s", "standing"), rows))
        for line in _told(found):
            typer.echo(line)
    raise typer.Exit(UNAVAILABLE if found["quorum_us"] is None else NO if found["wrong"] else 0)


@clock_app.command("reset")
@reported
def reset(
    accept_difference: DiffersOption = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Order a reset: the ring's time goes back to what the clocks of a quorum say.

    For after an accident, when a quorum's clocks were ahead and are right again. Messages of the meantime keep the time
    that they were given. Exit codes: 0 the ring's time is right, also if it was; 2 this machine's clock differs by more
    than a minute; 3 no replica can answer, or it took longer than --timeout; 4 refused: it says why, and what to do.
    """
    where = cluster_of(cluster)
    before = summary(run(_look(where, timeout)))
    off_us = 0 if before["quorum_us"] is None else before["quorum_us"] - before["asked_us"]
    if abs(off_us) > DIFFERS_US and not accept_difference:
        raise typer.BadParameter(
            f"the clocks of the replicas say {_time(before['quorum_us'])}, this machine's says "
            f"{_time(before['asked_us'])}: mend the wrong one first, or add --accept-difference if it is this machine's"
        )
    found = run(_reset(where, timeout))
    if json:
        render.as_json(found)
    elif found["reset"]:
        typer.echo(f"the ring's time was {_seconds(before['ahead_us'])} s ahead and is {_time(found['ring_us'])} now")
    else:
        typer.echo(f"the ring's time is right: {_time(found['ring_us'])}; nothing was done")


async def _look(where: str, timeout_s: float) -> list[dict[str, Any]]:
    async with Overview(where, timeout_s) as overview:
        return await overview.look()


async def _reset(where: str, timeout_s: float) -> dict[str, Any]:
    """Ask, and wait until the log's time is no further ahead."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        asked = bool((await bus.query(QUERY, timeout=timeout_s))["asked"])
        while True:
            clock: Any = (await bus.query("status", timeout=max(0.1, until - loop.time())))["clock"]
            if not asked or clock["ahead_us"] <= clock["bound_us"]:
                return {"reset": asked, "ring_us": clock["ring_us"]}
            if loop.time() > until:
                render.error(f"not within {timeout_s:g} s: the reset was asked for and is not ordered yet")
                raise typer.Exit(UNAVAILABLE)
            await asyncio.sleep(POLL_S)


def summary(replicas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What each replica says of its clock; the ring's part is told by one that knows the clocks of a quorum."""
    told = [one["clock"] for one in replicas if one.get("clock")]
    known = next((clock for clock in told if clock["quorum_us"] is not None), None)
    rows = list(_rows(replicas))
    ahead_us = 0 if known is None else known["ahead_us"]
    wrong = any(row["standing"] == BEYOND for row in rows) or (known is not None and ahead_us > known["bound_us"])
    return {
        "asked_us": wall_us(),
        "ring_us": None if known is None else known["ring_us"],
        "quorum_us": None if known is None else known["quorum_us"],
        "ahead_us": ahead_us,
        "bound_us": None if known is None else known["bound_us"],
        "wrong": wrong,
        "replicas": rows,
    }


BEYOND = "beyond the bound: orders nothing"


def _rows(replicas: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in replicas:
        clock, member = one.get("clock"), one["replica"]
        offset = clock["offsets_us"].get(str(member)) if clock else None
        if "error" in one:
            standing = str(one["error"])
        elif clock is None:
            standing = "older version"
        elif offset is None:
            standing = "knows too few clocks"
        else:
            standing = BEYOND if member in clock["beyond"] else "within the bound"
        yield {"replica": member, "offset_us": offset, "standing": standing}


def _told(found: Mapping[str, Any]) -> Iterator[str]:
    if found["quorum_us"] is None:
        yield "no replica that answers knows the clocks of a quorum"
        return
    yield f"ring's time {_time(found['ring_us'])}, bound {_seconds(found['bound_us'])} s"
    if found["ahead_us"] > found["bound_us"]:
        yield (
            f"the ring's time is {_seconds(found['ahead_us'])} s ahead of the clocks of a quorum: "
            "when they are right, run `ringcast clock reset`"
        )


def _seconds(us: int | None) -> str:
    return "-" if us is None else f"{us / 1e6:.3f}"


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(sep=" ", timespec="milliseconds")
