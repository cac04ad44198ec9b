"""`ringcast products members list|add|remove`: who votes, and changing that while the store serves (R16)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import UNAVAILABLE, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from cli.members import POLL_S, MemberArgument, StartOption, local_cluster, take_away
from cli.products import products_app
from replicas.local.cluster import LocalCluster
from replicas.local.files import PRODUCTS, LocalClusterError, peer_entry
from replicas.products.config import MemberAddress
from ringcast.product_store.admin import AddMember, RemoveMember

members_app = typer.Typer(help="List, add and remove the product store's replicas.", no_args_is_help=True)


def register(_: typer.Typer) -> None:
    """Add `members` to `products`."""
    products_app.add_typer(members_app, name="members")


@members_app.command("list")
@reported
def list_members(cluster: ClusterOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False) -> None:
    """Who is a member, where each is reached, whether it votes, and how far its log is behind the leader's."""

    async def ask() -> dict[str, Any]:
        async with ringcast.products(cluster_of(cluster), timeout=timeout) as store:
            return dict(await store.status(consistency="linearizable"))

    found = run(ask())
    rows = [{**one, **_progress(found, one["member"])} for one in found["members"]]
    if json:
        render.as_json({"leader": found["leader"], "term": found["term"], "members": rows})
        return
    shown = [
        (one["member"], one["standing"], one["address"], "-" if one["behind"] is None else one["behind"])
        for one in rows
    ]
    render.console().print(render.table(("member", "standing", "peer port, client port", "behind"), shown))


def _progress(found: Mapping[str, Any], member: int) -> dict[str, Any]:
    if member == found["replica"]:
        return {"standing": "leads", "behind": 0}
    votes = any(one["member"] == member and one["voter"] for one in found["members"])
    heard = found["followers"].get(str(member))
    return {"standing": "votes" if votes else "catches up", "behind": None if heard is None else found["last"] - heard}


@members_app.command("add")
@reported
def add_member(
    member: MemberArgument,
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="host:peer port[:client port], as the others reach it.")
    ] = None,
    start: StartOption = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Add a replica that runs already, one at a time; returns when it has caught up and votes.

    Start it first: `ringcast serve products`, a new id, an empty folder, and peers that name today's members and
    itself. Exit codes: 0 it votes, also if it did; 3 no replica answers, or it took longer than --timeout; 4 refused.
    """
    where = cluster_of(cluster)
    local = local_cluster(where, PRODUCTS)
    if start:
        run(_start(where, local, member, timeout))
    if address is None and local is not None and member in local.replicas:
        address = _address(local, member)
    if address is None:
        raise typer.BadParameter("say where it is reached: host:peer port[:client port]", param_hint="ADDRESS")
    found = run(_change(where, AddMember(member, address), timeout))
    _report(found, f"member {member} votes", json)


@members_app.command("remove")
@reported
def remove_member(
    member: MemberArgument, cluster: ClusterOption = None, timeout: TimeoutOption = 60.0, json: JsonOption = False
) -> None:
    """Remove a replica, dead or alive, one at a time; a leader hands over first.

    If it runs it ends by itself, with exit code 7. Exit codes: 0 it is no member, also if it was none; 3 nobody can
    answer, or it took longer than --timeout; 4 refused.
    """
    where = cluster_of(cluster)
    found = run(_change(where, RemoveMember(member), timeout))
    take_away(local_cluster(where, PRODUCTS), member)
    _report(found, f"member {member} is no member", json)


async def _change(where: str, instruction: AddMember | RemoveMember, timeout_s: float) -> dict[str, Any]:
    """Ask until it is done; another change that is on its way passes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    async with ringcast.products(where, timeout=timeout_s) as store:
        while True:
            try:
                await store.instruct(instruction, timeout=max(0.1, deadline - loop.time()))
                return dict(await store.status(consistency="linearizable"))
            except ringcast.ChangeRefused as refusal:
                if not refusal.details.get("passes") or loop.time() > deadline:
                    raise
            except ringcast.Timeout:
                advice = "if it is in the log it goes on by itself, `ringcast products members list` shows it"
                if isinstance(instruction, AddMember):
                    advice += f"; `ringcast products members remove {instruction.member}` takes a newcomer back out"
                render.error(f"not within {timeout_s:g} s: {advice}")
                raise typer.Exit(UNAVAILABLE) from None
            await asyncio.sleep(POLL_S)


def _report(found: Mapping[str, Any], text: str, json: bool) -> None:
    members = [one["member"] for one in found["members"]]
    if json:
        render.as_json({"leader": found["leader"], "members": found["members"]})
    else:
        typer.echo(f"{text}: the members are {' '.join(map(str, members))}")


def _address(local: LocalCluster, member: int) -> str:
    replica = local.replicas[member]
    return peer_entry(*(one.removeprefix("tcp://") for one in (replica.peer, replica.client)))


async def _start(where: str, local: LocalCluster | None, member: int, timeout_s: float) -> None:
    """Configure and start the new process."""
    if local is None:
        raise LocalClusterError(
            f"{where} is no cluster of this machine: start `ringcast serve products` where it is to run"
        )
    async with ringcast.products(where, timeout=timeout_s) as store:
        found = await store.status(consistency="linearizable")
    members: Any = found["members"]
    peers = {int(one["member"]): MemberAddress.parse(one["address"]) for one in members}
    if member not in local.replicas:
        local.add(member, {one: (at.peer_endpoint, at.client_endpoint) for one, at in peers.items()})
    local.start([member])
    await asyncio.to_thread(local.wait_live, [member], timeout_s)
    local.detach()
    render.note(f"products replica {member} runs; its log is {local.log_path(member)}")
