"""`ringcast compact`: give back to the file system what database files do not use (store/compaction.py)."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.cluster import OnlyOption, folder_of
from cli.common import ClusterOption, JsonOption, reported
from cli.serve import ConfigOption
from replicas.bus.config import load as load_bus
from replicas.local.cluster import LocalCluster
from replicas.local.compaction import Done, compact_cluster
from replicas.local.files import BUS, PRODUCTS
from replicas.products.config import load as load_products
from replicas.settings import StoredConfig
from store.compaction import compact_folder


class Kind(Enum):
    """Which database."""

    BUS = BUS.name
    PRODUCTS = PRODUCTS.name


@dataclass
class _Row:
    role: str
    done: Done


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compact")(compact)


@reported
def compact(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The folder that `up` was given.")] = None,
    cluster: ClusterOption = None,
    only: OnlyOption = None,
    role: Annotated[Kind | None, typer.Option("--role", help="This database alone; with --config: which.")] = None,
    config: ConfigOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="One stopped replica, configured as for `serve`; --config implies it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Rewrite database files, which never shrink while they are used, without what they do not use.

    Of a cluster that `ringcast up` made: one replica after the other is stopped, its file copied and checked, and
    started again; the next one follows when it serves. With three replicas or more nothing stops meanwhile; with fewer,
    nothing is ordered while the file of one is copied. With --config FILE or --offline: the folder of one stopped
    replica.

    The copy needs as much space as the file uses. Nothing is lost if the command is killed: a replica that it had
    stopped is started with `ringcast up --only ID`. Exit code 7: too little space, a replica does not serve, or a
    folder is in use or damaged; it says which, and that folder is as it was.
    """
    if config is not None or offline:
        _show([_one(config, role or Kind.BUS)], json)
        return
    folder = folder_of(data, cluster, "compact stops")
    rows: list[_Row] = []
    roles = [BUS, PRODUCTS] if role is None else [BUS if role is Kind.BUS else PRODUCTS]
    for kind in roles if only is None or role is not None else [BUS]:
        replicas = LocalCluster.open(folder, kind)
        try:
            for done in compact_cluster(replicas, only):
                rows.append(_Row(kind.name, done))
                if not json:
                    _show(rows[-1:], json)
        finally:
            replicas.detach()
    if json:
        _show(rows, json)


def _one(config: Path | None, role: Kind) -> _Row:
    found: StoredConfig = (load_bus(config) if role is Kind.BUS else load_products(config)).config
    return _Row(role.value, Done(found.id, compact_folder(found.data, found.id)))


def _show(rows: list[_Row], json: bool) -> None:
    if json:
        listed = [{"role": one.role, "replica": one.done.member, **one.done.compacted._asdict()} for one in rows]
        render.as_json({"compacted": listed})
        return
    for row in rows:
        before, after = row.done.compacted
        typer.echo(f"{row.role} replica {row.done.member}: {before / 1e6:.1f} MB, now {after / 1e6:.1f} MB")
