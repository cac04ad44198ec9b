"""`ringcast`: the commands, each in a module of its own; no logic here."""

import os
from typing import Annotated

import typer

from cli import (
    backup,
    bench,
    clock,
    cluster,
    compact,
    cursors,
    dashboard,
    demo,
    doctor,
    explain,
    keys,
    market,
    members,
    products,
    products_admin,
    products_members,
    recover,
    serve,
    simulate,
    status,
    topics,
)
from cli.common import ClusterOption, JsonOption, KeysOption, use_cluster
from cli.render import as_json
from replicas.versions import our_version
from ringcast.keys import ENVIRONMENT

app = typer.Typer(
    name="ringcast",
    help="A totally ordered, durable broadcast bus: `ringcast up`, `ringcast publish`, `ringcast subscribe`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for module in (
    cluster,
    members,
    keys,
    topics,
    cursors,
    status,
    dashboard,
    explain,
    doctor,
    backup,
    compact,
    recover,
    clock,
    demo,
    products,
    products_admin,
    products_members,
    market,
    serve,
    simulate,
    bench,
):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(our_version())
        raise typer.Exit


@app.callback()
def _options(
    cluster: ClusterOption = None,
    keys: KeysOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    use_cluster(cluster)
    if keys is not None:
        os.environ[ENVIRONMENT] = str(keys)


@app.command("version")
def show_version(as_json_: JsonOption = False) -> None:
    """Print the version."""
    if as_json_:
        as_json({"version": our_version()})
    else:
        typer.echo(our_version())


def main() -> None:
    """The entry point behind `cli.__main__`."""
    app()
