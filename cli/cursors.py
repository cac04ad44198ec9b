"""`ringcast cursors`: durable positions of named consumers."""

from typing import Annotated, Any

import typer

import ringcast
from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run

cursors_app = typer.Typer(help="Durable positions of consumers.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The cursor's name.")]


def register(app: typer.Typer) -> None:
    """Add `cursors`."""
    app.add_typer(cursors_app, name="cursors")


def _plain(cursor: ringcast.CursorInfo) -> dict[str, Any]:
    return {"name": cursor.name, "pattern": cursor.pattern, "offset": cursor.offset}


def _print(found: list[ringcast.CursorInfo]) -> None:
    rows = [(one.name, one.pattern, one.offset) for one in found]
    render.console().print(render.table(("cursor", "reads", "next offset"), rows))


@cursors_app.command("list")
@reported
def list_cursors(cluster: ClusterOption = None, timeout: TimeoutOption = 10.0, json: JsonOption = False) -> None:
    """Every cursor and its position."""

    async def ask() -> list[ringcast.CursorInfo]:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return await bus.cursors()

    found = run(ask())
    if json:
        render.as_json([_plain(one) for one in found])
    else:
        _print(found)


@cursors_app.command("show")
@reported
def show_cursor(
    name: NameArgument, cluster: ClusterOption = None, timeout: TimeoutOption = 10.0, json: JsonOption = False
) -> None:
    """One cursor. Exit code 1 if nobody has moved it yet."""

    async def ask() -> ringcast.CursorInfo | None:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return await bus.cursor(name)

    found = run(ask())
    if found is None:
        render.error(f"there is no cursor {name!r}: `ringcast cursors list` shows those there are")
        raise typer.Exit(NO)
    if json:
        render.as_json(_plain(found))
    else:
        _print([found])


@cursors_app.command("reset")
@reported
def reset_cursor(
    name: NameArgument,
    offset: Annotated[int, typer.Argument(min=0, help="The next offset to read.")],
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="What it reads (default: as it is).")
    ] = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Set a cursor's position, backwards too. Running consumers do not notice."""

    async def change() -> ringcast.CursorInfo | None:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            known = await bus.cursor(name)
            pattern = topic or (known.pattern if known is not None else None)
            if pattern is None:
                return None
            await bus.reset_cursor(name, pattern, offset)
            return await bus.cursor(name)

    found = run(change())
    if found is None:
        render.error(f"there is no cursor {name!r}: make one by naming what it reads with --topic")
        raise typer.Exit(NO)
    if json:
        render.as_json(_plain(found))
    else:
        _print([found])


@cursors_app.command("delete")
@reported
def delete_cursor(
    name: NameArgument, cluster: ClusterOption = None, timeout: TimeoutOption = 10.0, json: JsonOption = False
) -> None:
    """Forget a cursor."""

    async def change() -> None:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            await bus.delete_cursor(name)

    run(change())
    if json:
        render.as_json({"deleted": name})
    else:
        typer.echo(f"deleted {name}")
