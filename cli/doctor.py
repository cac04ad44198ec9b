"""`ringcast doctor` and `ringcast config`: is it set up well, and where does each value come from?"""

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from cli.serve import ConfigOption, FolderOption, MemberOption
from replicas.bus.overview import Overview
from replicas.clocks import wall_us
from replicas.doctor import Finding, compare, examine, examine_all, machine, worst
from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, BUYERS, PRODUCTS, SELLERS, LocalClusterError
from replicas.role_configs import LOADERS

_MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}


class RoleName(Enum):
    """Whose configuration."""

    BUS = BUS.name
    PRODUCTS = PRODUCTS.name
    SELLERS = SELLERS.name
    BUYERS = BUYERS.name


RoleOption = Annotated[RoleName, typer.Option("--role", help="Whose configuration --config is.")]
RoleArgument = Annotated[RoleName, typer.Argument(help="Whose configuration.")]

config_app = typer.Typer(help="The configuration of a replica on this machine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `doctor` and `config`."""
    app.command("doctor")(doctor)
    app.add_typer(config_app, name="config")


# ------------------------------------------------------------------ doctor


@reported
def doctor(
    config: ConfigOption = None,
    role: RoleOption = RoleName.BUS,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:
    """Look at versions, clock, disk, ports, keys and peers, each with what to do.

    With --config: one replica of this machine, whether it runs or not. Else the cluster: what its replicas say, and of
    a cluster that `up` made each replica's setup too. Exit codes: 0 nothing failed (there may be warnings); 1 something
    failed; 2 the configuration cannot be read.
    """
    found = {"this machine": machine()}
    if config is not None:
        loaded = LOADERS[role.value](config, None)
        found[f"{role.value} {loaded.config.id}"] = examine(loaded.config, role.value)
    else:
        where = cluster_of(cluster)
        found |= run(examine_all(_local_configs(where)))
        found["cluster"] = run(_cluster(where, timeout))
    everything = [finding for findings in found.values() for finding in findings]
    if json:
        rows = {who: [asdict(one) for one in findings] for who, findings in found.items()}
        render.as_json({"verdict": worst(everything), "findings": rows})
    else:
        _show(found)
    if worst(everything) == "failed":
        raise typer.Exit(NO)


def _local_configs(where: str) -> list[tuple[str, Any]]:
    """Of every replica of a cluster on this machine; none if it is elsewhere."""
    path = Path(where)
    folder = path.parent if path.is_file() else path
    try:
        parts = [LocalCluster.open(folder, role) for role in (BUS, PRODUCTS, SELLERS, BUYERS)]
    except LocalClusterError:
        return []
    entries = [(part.role.name, one.config) for part in parts for one in part.replicas.values()]
    return [(role, LOADERS[role](Path(file), None).config) for role, file in entries if Path(file).exists()]


async def _cluster(where: str, timeout_s: float) -> list[Finding]:
    try:
        async with Overview(where, timeout_s) as overview:
            asked_us = wall_us()
            return compare(await overview.look(), asked_us)
    except ringcast.RingcastError as error:
        return [Finding("replicas", "failed", str(error), "start the replicas, or correct the address or the key file")]


def _show(found: dict[str, list[Finding]]) -> None:
    for who, findings in found.items():
        typer.echo(f"{who}")
        for one in findings:
            typer.echo(f"  {_MARKS[one.verdict]:8} {one.check:10} {one.what}")
            if one.next:
                typer.echo(f"  {'':8} {'':10} -> {one.next}")
    everything = [finding for findings in found.values() for finding in findings]
    counts = {verdict: sum(one.verdict == verdict for one in everything) for verdict in _MARKS}
    typer.echo(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['failed']} failed")


# ------------------------------------------------------------------ config


@config_app.command("show")
@reported
def show(
    role: RoleArgument = RoleName.BUS,
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Every key, its value and where it came from: default, file, environment or flag."""
    loaded = LOADERS[role.value](config, {"id": member, "data": data})
    values = loaded.config.model_dump(mode="json")
    rows = [(key, value, loaded.sources.get(key, "default")) for key, value in values.items()]
    if json:
        render.as_json({key: {"value": value, "source": source} for key, value, source in rows})
        return
    width, text = max(map(len, values)), max(len(str(value)) for value in values.values())
    for key, value, source in rows:
        typer.echo(f"{key:{width}}  {value!s:{min(text, 40)}}  {source}")


@config_app.command("check")
@reported
def check(
    role: RoleArgument = RoleName.BUS,
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Is it valid? Exit code 2 if not: which key, its value, the bound, and where it came from."""
    loaded = LOADERS[role.value](config, {"id": member, "data": data})
    if json:
        render.as_json({"valid": True, "role": role.value, "id": loaded.config.id})
    else:
        typer.echo(f"the configuration of {role.value} {loaded.config.id} is valid; `ringcast doctor` does the rest")
