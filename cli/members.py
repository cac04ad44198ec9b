"""`ringcast members list`, `add` and `remove`: who orders the messages, and changing that while they do (V12)."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import UNAVAILABLE, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from replicas.bus.members import CHANGE, LIST
from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, LocalClusterError, Role
from replicas.local.registry import FILE_NAME
from ringcast.strict import Plain

POLL_S = 0.1
#: What may pass by itself within moments: a process that starts, a replica that is not heard.
PATIENCE_S = 3.0
#: A removed replica hears of it, and ends by itself.
ENDS_WITHIN_S = 5.0
UNKNOWN = "-"

members_app = typer.Typer(help="List, add and remove the replicas that order messages.", no_args_is_help=True)
MemberArgument = Annotated[int, typer.Argument(metavar="ID", min=1, max=63, help="The member's id, 1 to 63.")]
StartOption = Annotated[
    bool, typer.Option("--start", help="Start its process here first: of a cluster that `up` made on this machine.")
]


def register(app: typer.Typer) -> None:
    """Add `members`."""
    app.add_typer(members_app, name="members")


@members_app.command("list")
@reported
def list_members(cluster: ClusterOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False) -> None:
    """Who is a member, where each is reached, who waits to be added, and whether a change is under way."""

    async def ask() -> dict[str, Any]:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return await bus.query(LIST)

    found = run(ask())
    if json:
        render.as_json({**found, "addresses": {one: _named(found, one) for one in found["addresses"]}})
        return
    rows = [(one, _standing(found, one), *_shown(found, one)) for one in _everyone(found)]
    render.console().print(render.table(("member", "standing", "peers", "clients", "feed", "health"), rows))


@members_app.command("add")
@reported
def add(
    member: MemberArgument,
    start: StartOption = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Add a replica that runs already, one at a time; returns when it has caught up and takes turns.

    Start it first: `ringcast serve bus`, a new id, an empty folder, and peers that name today's members and itself.
    It waits, and has told the members where it is. Exit codes: 0 it is a member, also if it was; 3 nobody can answer,
    or it took longer than --timeout; 4 refused: it says why, and what to do.
    """
    where = cluster_of(cluster)
    if start:
        run(_start(where, member, timeout))
    found = run(_change(where, member, timeout, adds=True))
    text = f"member {member} was added and takes turns" if found["changed"] else f"{member} is a member already"
    _report(found, f"{text}: {_members(found)}", json)


@members_app.command("remove")
@reported
def remove(
    member: MemberArgument,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also where what only this one holds of the log is lost.")
    ] = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Remove a replica, dead or alive, one at a time; returns when the others go on without it.

    It is refused while fewer than a quorum of those that stay hold the whole retained log: a new one fetches it first.
    If it runs it ends by itself, with exit code 7. Its id is not to be used again. Exit codes: 0 it is no member, also
    if it was none; 3 no replica can answer, or it took longer than --timeout; 4 refused: it says why, and what to do.
    """
    where = cluster_of(cluster)
    found = run(_change(where, member, timeout, adds=False, accept_loss=accept_loss))
    take_away(local_cluster(where), member)
    text = f"member {member} was removed" if found["changed"] else f"{member} is no member"
    _report(found, f"{text}: {_members(found)}", json)


def _report(found: dict[str, Any], text: str, json: bool) -> None:
    if json:
        render.as_json({key: found[key] for key in ("changed", "members", "ring")})
    else:
        typer.echo(text)


# ------------------------------------------------------------------ asking, and waiting


async def _change(
    where: str, member: int, timeout_s: float, *, adds: bool, accept_loss: bool = False
) -> dict[str, Any]:
    """Ask until the change is in use and, for a newcomer, until it takes turns; the last answer, and `changed`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    changed, said = False, ""
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        while True:
            found: dict[str, Any] = await bus.query(LIST, timeout=_left(began, timeout_s))
            if _is_done(found, member, adds=adds):
                return {**found, "changed": changed}
            refusal = None
            if (member in found["next_members"]) != adds:
                wish: dict[str, Plain] = {"add": member} if adds else {"remove": member}
                if accept_loss:
                    wish["accept_loss"] = True  # named only where it is wanted: an older replica knows no such argument
                refusal = await _ask(bus, wish, _left(began, timeout_s))
                changed = changed or refusal is None
            said = _tell_progress(found, member, said)
            waited = loop.time() - began
            if refusal is not None and not refusal.details.get("passes") and waited > PATIENCE_S:
                raise refusal
            if waited > timeout_s:
                late = _progress(found, member) if refusal is None else str(refusal)
                render.error(f"not within {timeout_s:g} s: {late}")
                raise typer.Exit(UNAVAILABLE)
            await asyncio.sleep(POLL_S)


def _is_done(found: dict[str, Any], member: int, *, adds: bool) -> bool:
    if found["members"] != found["next_members"]:
        return False
    return member in found["ring"] if adds else member not in found["members"]


async def _ask(bus: ringcast.Bus, wish: dict[str, Plain], seconds: float) -> ringcast.ChangeRefused | None:
    try:
        await bus.query(CHANGE, wish, timeout=seconds)
    except ringcast.ChangeRefused as refusal:
        return refusal
    return None


def _left(began: float, timeout_s: float) -> float:
    return max(0.1, began + timeout_s - asyncio.get_running_loop().time())


def _tell_progress(found: dict[str, Any], member: int, said: str) -> str:
    """A line for each step, for humans only."""
    text = _progress(found, member)
    if text != said:
        render.note(text)
    return text


def _progress(found: dict[str, Any], member: int) -> str:
    if found["members"] != found["next_members"]:
        return f"the change to {_ids(found['next_members'])} is ordered; a view that uses it is being made"
    if member in found["members"] and member not in found["ring"]:
        return (
            f"{member} is a member and catches up: it has {found['acked'].get(str(member), 0):,} of {found['end']:,} "
            "slots; it goes on by itself"
        )
    return f"the members are {_ids(found['members'])}"


# ------------------------------------------------------------------ a cluster of this machine


def local_cluster(where: str, role: Role = BUS) -> LocalCluster | None:
    """The cluster that `up` made here, if this is one."""
    folder = Path(where).parent if Path(where).is_file() else Path(where)
    return LocalCluster.open(folder, role) if "://" not in where and (folder / FILE_NAME).exists() else None


def take_away(local: LocalCluster | None, member: int) -> None:
    """A member that was removed: its process ends by itself, its files stay."""
    if local is not None and member in local.replicas:
        local.wait_gone([member], ENDS_WITHIN_S)
        local.stop([member])  # it hangs, if it has not ended by itself
        local.forget(member)


async def _start(where: str, member: int, timeout_s: float) -> None:
    """Configure and start the new process; the members hear of it from itself."""
    local = local_cluster(where)
    if local is None:
        raise LocalClusterError(f"{where} is no cluster of this machine: start `ringcast serve bus` where it is to run")
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        found: dict[str, Any] = await bus.query(LIST)
    if member in found["members"]:
        return
    if member not in local.replicas:
        peers = {int(one): (where[0], where[1]) for one, where in found["addresses"].items()}
        local.add(member, {one: peers[one] for one in found["members"] if one in peers})
    local.start([member])
    await asyncio.to_thread(local.wait_ready, [member], timeout_s)
    local.detach()
    render.note(f"replica {member} runs; its log is {local.log_path(member)}")


# ------------------------------------------------------------------ output


def _everyone(found: dict[str, Any]) -> list[int]:
    return sorted({*found["members"], *found["next_members"], *found["waiting"]})


def _standing(found: dict[str, Any], member: int) -> str:
    if member not in found["members"]:
        return "is being added" if member in found["next_members"] else "waits to be added"
    if member not in found["next_members"]:
        return "is being removed"
    if member in found["ring"] and member in found["heard"]:
        return "takes turns, not whole" if member in found.get("not_whole", ()) else "takes turns"
    if member in found["ring"]:
        return "is not heard"
    return "catches up" if member in found["heard"] else "is not heard"


def _named(found: dict[str, Any], member: str) -> dict[str, str]:
    return dict(zip(("peer", "pub", "client", "feed", "http"), found["addresses"][member], strict=True))


def _shown(found: dict[str, Any], member: int) -> list[str]:
    peer, _, client, feed, http = found["addresses"].get(str(member), ("",) * 5)
    return [one.partition("//")[2] or UNKNOWN for one in (peer, client, feed, http)]


def _members(found: dict[str, Any]) -> str:
    return f"the members are {_ids(found['members'])}"


def _ids(members: Any) -> str:
    return " ".join(map(str, members))
