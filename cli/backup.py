"""`ringcast backup` and `restore`: one replica of the bus, as a file (replicas/bus/backup.py)."""

from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.common import JsonOption, reported
from cli.serve import ConfigOption, FolderOption, MemberOption
from replicas.bus import backup as files
from replicas.bus.config import BusConfig, load
from replicas.local.files import LocalClusterError

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)


@reported
def backup(
    file: FileArgument,
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Write a stopped replica's data folder to FILE. The others go on meanwhile; start it again afterwards.

    Exit code 7: the replica runs, or its folder cannot be read.
    """
    found = _config(config, member, data)
    try:
        manifest = files.backup(found, file)
    except OSError as error:
        raise LocalClusterError(str(error)) from None
    _said(file, manifest, f"replica {found.id}", json)


@reported
def restore(
    file: FileArgument,
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Make a replica's data folder of FILE. It must be empty, and the cluster must run without this replica.

    The replica comes back as a learner: its log saves the way over the network, and it has no vote until the others
    have taken it in (V0). Too few others? Start everything that is left, then `ringcast recover`. Exit codes: 4 the
    file is damaged; 7 it is another replica's, or the folder is not empty.
    """
    found = _config(config, member, data)
    try:
        manifest = files.restore(found, file)
    except OSError as error:
        raise LocalClusterError(str(error)) from None
    _said(file, manifest, f"{found.data}, a learner until it is readmitted: start it", json)


def _config(config: Path | None, member: int | None, data: Path | None) -> BusConfig:
    return load(config, {"id": member, "data": data}).config


def _said(file: Path, manifest: files.Manifest, what: str, json: bool) -> None:
    size = sum(size for size, _ in manifest.files.values())
    if json:
        render.as_json({"file": str(file), "member": manifest.member, "bytes": size, "files": len(manifest.files)})
    else:
        typer.echo(f"{file}: {what}, {len(manifest.files)} files, {size / 1e6:.1f} MB")
