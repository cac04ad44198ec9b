"""`ringcast recover --accept-loss`: a view although too few replicas remember what they acknowledged (D2, V0)."""

import asyncio
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import NO, UNAVAILABLE, USAGE, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from replicas.bus.accepted_loss import QUERY

ASK_AGAIN_S = 2.0
POLL_S = 0.05
#: A member that started a moment ago is heard within so long.
HEARD_WITHIN_S = 2.0
WHAT_IT_DOES = (
    "recover makes a view from the promises of all replicas, wiped and new ones included: the log of the one that has "
    "most becomes everybody's. What was acknowledged and is in no log any more is lost, and `status` says `possible "
    "loss` from then on. Start every replica, with its old data folder if there is one; then say --accept-loss"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recover")(recover)


@reported
def recover(
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Yes: messages may be lost.")] = False,
    replica: Annotated[int | None, typer.Option("--replica", metavar="ID", help="Ask this one (default: any).")] = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Bring a cluster back that lost the memory of too many replicas. All of them must run.

    For durability=memory after a power cut, or when most disks are gone; `status` and `health` say when it is needed.
    Nothing is done to a cluster that serves. Exit codes: 0 it serves again; 1 it serves anyway, nothing was done;
    2 --accept-loss is missing; 3 a replica is not heard, or it took too long.
    """
    if not accept_loss:
        _report({"recovered": False, "why": WHAT_IT_DOES}, WHAT_IT_DOES, json, USAGE)
    found = run(_recover(cluster_of(cluster), replica, timeout))
    if found["recovered"]:
        view = ".".join(map(str, found["view"]))
        text = f"possible loss: the cluster serves again from view {view} with {found['next_offset']} messages"
        _report(found, text, json, 0)
    _report(found, found["why"], json, NO if found["healthy"] else UNAVAILABLE)


def _report(document: dict[str, Any], text: str, json: bool, code: int) -> None:
    if json:
        render.as_json(document)
    elif code:
        render.error(text)
    else:
        typer.echo(text)
    raise typer.Exit(code)


async def _recover(where: str, replica: int | None, timeout_s: float) -> dict[str, Any]:
    """Ask until a view runs: a number may fail against another one, and members may be late."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    patient_until = loop.time() + min(HEARD_WITHIN_S, timeout_s)
    began = False
    async with ringcast.connect(where, replica=replica, timeout=timeout_s) as bus:
        before = (await bus.status()).view
        while True:
            left_s = max(0.1, deadline - loop.time())
            answer: dict[str, Any] = await bus.query(QUERY, {"accept_loss": True}, local=True, timeout=left_s)
            if answer["began"]:
                began = True
                await _wait_served(bus, min(deadline, loop.time() + ASK_AGAIN_S))
            status = await bus.status()
            if began and status.more["in_quorum"] and status.view > before:
                return {
                    "recovered": True,
                    "possible_loss": status.more["possible_loss"],
                    "view": status.view,
                    "ring": status.ring,
                    "committed": status.committed,
                    "next_offset": status.next_offset,
                }
            now = loop.time()
            if answer["healthy"] or now >= deadline or (not answer["began"] and now >= patient_until):
                why = answer["why"] or f"no view ran within {timeout_s:g} s: look at the replicas' logs, and try again"
                healthy = bool(answer["healthy"])
                return {"recovered": False, "healthy": healthy, "why": why, "missing": answer["missing"]}
            await asyncio.sleep(POLL_S)


async def _wait_served(bus: ringcast.Bus, deadline: float) -> None:
    """Wait until the asked replica orders, and has applied what its log began with, or until `deadline`."""
    loop = asyncio.get_running_loop()
    end: int | None = None
    while loop.time() < deadline:
        status = await bus.status()
        if status.more["in_quorum"]:
            end = status.end if end is None else end
            if int(str(status.more["applied"])) >= end:
                return
        await asyncio.sleep(POLL_S)
