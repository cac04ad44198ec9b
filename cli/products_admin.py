"""`ringcast products status|transfer-leader|snapshot|backup|restore`: what operators need of the product store."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import (
    NO,
    UNAVAILABLE,
    ClusterOption,
    JsonOption,
    TimeoutOption,
    cluster_of,
    reported,
    run,
)
from cli.members import local_cluster
from cli.products import products_app
from replicas.local.files import PRODUCTS, LocalClusterError
from replicas.products import config as products_config
from replicas.products.overview import look
from ringcast.product_store.admin import MakeSnapshot, Transfer

POLL_S = 0.1
#: A replica that was told to lead does within an election timeout or two.
LEADS_WITHIN_S = 3.0


def register(_: typer.Typer) -> None:
    """Add the commands to `products`."""
    for name, command in (
        ("status", status),
        ("transfer-leader", transfer_leader),
        ("snapshot", snapshot),
        ("backup", backup),
        ("restore", restore),
    ):
        products_app.command(name)(command)


# ------------------------------------------------------------------ status


@reported
def status(cluster: ClusterOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False) -> None:
    """Term, leader, commit, applied, lag, log and snapshot of each replica.

    lag: entries that a replica has not applied of those that the leader committed. Exit codes: 1 some do not serve; 3
    none leads.
    """
    rows = run(look(cluster_of(cluster), timeout))
    leader = max((one for one in rows if one.get("role") == "leader"), key=lambda one: one["term"], default=None)
    commit = max(one.get("commit", 0) for one in rows)
    if json:
        render.as_json({**_group(leader), "replicas": rows})
    else:
        columns = (
            "replica",
            "state",
            "term",
            "leader",
            "commit",
            "applied",
            "lag",
            "log",
            "log MB",
            "snapshot",
            "items",
        )
        render.console().print(render.table(columns, [_status_row(one, commit) for one in rows]))
        render.remarks(rows)
    if leader is None:
        raise typer.Exit(UNAVAILABLE)
    if any(one.get("state") not in {"leading", "following"} for one in rows):
        raise typer.Exit(NO)


def _group(leader: Mapping[str, Any] | None) -> dict[str, Any]:
    if leader is None:
        return {"cluster": None, "leader": None, "term": None, "commit": None}
    return {key: leader[key] for key in ("cluster", "leader", "term", "commit")}


def _status_row(one: Mapping[str, Any], commit: int) -> list[object]:
    if "error" in one:
        return [one["replica"], "unreachable", *("-",) * 9]
    made = one["snapshot"]
    return [
        one["replica"],
        one["state"],
        one["term"],
        one["leader"] or "-",
        one["commit"],
        one["visible"],
        max(0, commit - one["visible"]),
        one["last"] - one["log_first"] + 1,
        f"{one['log_bytes'] / 1e6:.1f}",
        "-" if made is None else f"{made['index']} ({made['bytes'] / 1e6:.1f} MB)",
        one["items"],
    ]


# ------------------------------------------------------------------ the leader


@reported
def transfer_leader(
    to: Annotated[int, typer.Option("--to", min=0, max=63, help="Whom (default: who has most of the log).")] = 0,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Hand the leadership over, without an election's pause. Exit codes: 1 another one leads; 4 refused."""

    async def hand_over() -> tuple[int, int]:
        async with ringcast.products(cluster_of(cluster), timeout=timeout) as store:
            before = await _leader(store)
            await store.instruct(Transfer(before, to))
            after, deadline = before, asyncio.get_running_loop().time() + LEADS_WITHIN_S
            while after == before != to and asyncio.get_running_loop().time() < deadline:
                after = await _leader(store)
            return before, after

    before, after = run(hand_over())
    if json:
        render.as_json({"from": before, "leader": after})
    else:
        typer.echo(f"replica {after} leads" + ("" if after == before else f", {before} did"))
    if after != to if to else after == before:
        raise typer.Exit(NO)


async def _leader(store: ringcast.ProductStore) -> int:
    return int((await store.status(consistency="linearizable"))["replica"])  # type: ignore[arg-type]


# ------------------------------------------------------------------ snapshots and backups


@reported
def snapshot(cluster: ClusterOption = None, timeout: TimeoutOption = 120.0, json: JsonOption = False) -> None:
    """Have the leader write a snapshot into its data folder; `status` shows the newest of each replica.

    Nobody needs to: the tables are the state, the log is trimmed by itself, and a snapshot is made for a replica that
    lags. For a copy elsewhere use `backup`.
    """

    async def make() -> Any:
        async with ringcast.products(cluster_of(cluster), timeout=timeout) as store:
            return await store.instruct(MakeSnapshot())

    found = run(make())
    if json:
        render.as_json(found)
    else:
        size = f"{found['bytes'] / 1e6:.1f} MB"
        typer.echo(f"replica {found['replica']} wrote {found['name']}: entry {found['index']}, {size}")


@reported
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="A new one.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 120.0,
    json: JsonOption = False,
) -> None:
    """Write the whole store, as of now, into FILE: consistent, checked, there whole or not at all."""
    if file.exists() and not force:
        raise typer.BadParameter(f"{file} is there: name another file, or say --force", param_hint="FILE")

    from replicas.products.backup import back_up

    async def copy() -> dict[str, Any]:
        async with ringcast.products(cluster_of(cluster), timeout=timeout) as store:
            return await back_up(store, file)

    try:
        found = run(copy())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
    if json:
        render.as_json(found)
    else:
        size = f"{found['bytes'] / 1e6:.1f} MB"
        typer.echo(f"{file}: cluster {found['cluster']} as of entry {found['applied']}, {size}")


@reported
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="What `backup` wrote.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="TOML", help="Of one replica, not of a cluster that `up` made.")
    ] = None,
    only: Annotated[
        int | None, typer.Option("--only", metavar="ID", help="Which replica (default: the first).")
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
) -> None:
    """Make a new cluster of a backup, in the place of one that was lost as a whole. Nothing of it may run.

    One replica gets the backup's state, on a new disk, and alone votes until the others, which begin with empty
    folders, have everything. Folders of before are renamed, not deleted. What was done since the backup is lost. A
    single lost replica needs no restore: start it with an empty folder.
    Exit codes: 4 the file is damaged, or of another cluster; 7 a replica runs.
    """
    from replicas.products.restore import restore_local, restore_one  # LMDB, which no other command needs

    try:
        if config is not None:
            found = restore_one(file, products_config.load(config).config)
        else:
            where = cluster_of(cluster)
            local = local_cluster(where, PRODUCTS)
            if local is None:
                raise LocalClusterError(f"{where} is no cluster of this machine: name one replica's file with --config")
            found = restore_local(file, local, only)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or file}: {error.strerror}", param_hint="FILE") from None
    document = {"cluster": f"{found.cluster:016x}", "replica": found.member, "applied": found.applied}
    if json:
        render.as_json({**document, "aside": list(map(str, found.aside)), "others": found.others})
        return
    for folder in found.aside:
        typer.echo(f"kept what was there: {folder}")
    others = ", ".join(map(str, found.others))
    typer.echo(f"replica {found.member} has everything up to entry {found.applied}, as cluster {document['cluster']}")
    what = (
        "`ringcast up` starts it"
        if config is None
        else f"start it; empty the data folders of {others or 'no others'} first"
    )
    typer.echo(what + ("" if not others else f"; {others} vote once they have everything"))
