"""`ringcast keys`: who is let in, and what each key may do (replicas/keys.py, docs/operations.md "Keys")."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli import render
from cli.common import JsonOption, reported
from replicas.keys import ADMIN_FILE, KeyFolder, KeysError, Rights
from replicas.local.files import BUS, PRODUCTS

DEFAULT_KEYS = Path("ringcast-keys")

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", envvar="RINGCAST_KEYS", help="The folder of keys.")
]
NameArgument = Annotated[str, typer.Argument(help="A client's name, bus-N or products-N, or server.")]
PublishOption = Annotated[
    list[str] | None, typer.Option("--publish", metavar="PATTERN", help="May publish: a.b, a.b.> or >; repeat it.")
]
SubscribeOption = Annotated[
    list[str] | None, typer.Option("--subscribe", metavar="PATTERN", help="May read: a.b, a.b.> or >; repeat it.")
]
CursorOption = Annotated[
    list[str] | None,
    typer.Option("--cursor", metavar="PATTERN", help="May move cursors so named (default: NAME and NAME.>)."),
]
AdminOption = Annotated[bool, typer.Option("--admin", help="May do everything, and change the cluster.")]

keys_app = typer.Typer(help="Keys: who is let in, and what each may do.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `keys`."""
    app.add_typer(keys_app, name="keys")


def _open(folder: Path) -> KeyFolder:
    """RINGCAST_KEYS may name a client's file in it."""
    return KeyFolder.open(folder.parent if folder.is_file() else folder)


def _rights(
    name: str,
    publish: Iterable[str] | None,
    subscribe: Iterable[str] | None,
    cursors: Iterable[str] | None,
    admin: bool,
) -> Rights:
    """Who reads has cursors of its own, unless it says which."""
    own = (name, f"{name}.>") if subscribe and cursors is None else ()
    return Rights(tuple(publish or ()), tuple(subscribe or ()), tuple(cursors or own), admin)


def _wrote(folder: KeyFolder, file: Path, said: str, json: bool) -> None:
    if json:
        render.as_json({"folder": str(folder.folder), "file": str(file)})
    else:
        typer.echo(f"{file}: {said}")


@keys_app.command("init")
@reported
def init(
    folder: FolderOption = DEFAULT_KEYS,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=7, help="Members of the bus.")] = 3,
    products: Annotated[int, typer.Option("--products", min=0, max=7, help="Of the product store.")] = 3,
    json: JsonOption = False,
) -> None:
    """Make the keys of a new cluster: its servers', its members', its interfaces', and those of a client `admin`.

    The folder is what replicas read (RINGCAST_KEYS=DIR), and what goes into a Kubernetes Secret as it is. Give each
    client its own file alone (client-NAME.key).
    """
    members = {BUS.name: range(1, replicas + 1), PRODUCTS.name: range(1, products + 1)}
    made = KeyFolder.create(folder, {role: ids for role, ids in members.items() if ids})
    if json:
        render.as_json({"folder": str(folder), "owners": [owner.name for owner in made.owners()]})
        return
    typer.echo(f"{folder}: keys of {', '.join(owner.name for owner in made.owners())}")
    typer.echo(f"replicas: RINGCAST_KEYS={folder}   operators: RINGCAST_KEYS={folder / ADMIN_FILE}")
    typer.echo("others:   ringcast keys add NAME --publish PATTERN --subscribe PATTERN")


@keys_app.command("add")
@reported
def add(
    name: NameArgument,
    publish: PublishOption = None,
    subscribe: SubscribeOption = None,
    cursor: CursorOption = None,
    admin: AdminOption = False,
    folder: FolderOption = DEFAULT_KEYS,
    json: JsonOption = False,
) -> None:
    """Let one more in: a client with its rights, or a member (bus-4). Running replicas take it within two seconds.

    `>` leaves out names that begin with `_`. `_products` stands for the product store: to publish = to change it.
    """
    keys = _open(folder)
    role, _, member = name.partition("-")
    if role in {BUS.name, PRODUCTS.name} and member.isdigit():
        if publish or subscribe or cursor or admin:
            raise KeysError(f"{name} is a member, which has no rights of clients: leave the options out")
        _wrote(keys, keys.add_member(role, int(member)), "for this member alone", json)
        return
    file = keys.add_client(name, _rights(name, publish, subscribe, cursor, admin))
    _wrote(keys, file, f"for {name} alone; it connects with keys= or RINGCAST_KEYS", json)


@keys_app.command("grant")
@reported
def grant(
    name: NameArgument,
    publish: PublishOption = None,
    subscribe: SubscribeOption = None,
    cursor: CursorOption = None,
    admin: AdminOption = False,
    folder: FolderOption = DEFAULT_KEYS,
    json: JsonOption = False,
) -> None:
    """Say anew what a client may do: what is not named is taken away. Its connections are made again."""
    rights = _rights(name, publish, subscribe, cursor, admin)
    _open(folder).grant(name, rights)
    if json:
        render.as_json({"name": name, **rights._asdict()})
    else:
        typer.echo(f"{name}: {_said(rights)}")


@keys_app.command("list")
@reported
def list_keys(folder: FolderOption = DEFAULT_KEYS, json: JsonOption = False) -> None:
    """Who is let in, with how many keys, and what clients may do."""
    keys = _open(folder)
    owners = keys.owners()
    if json:
        rows = [{**one._asdict(), "rights": one.rights and one.rights._asdict()} for one in owners]
        render.as_json({"owners": rows, "revoked": keys.revoked()})
        return
    table = [(one.name, one.kind, len(one.keys), escape(one.keys[0]), _said(one.rights)) for one in owners]
    render.console().print(render.table(("owner", "kind", "keys", "newest", "may"), table))
    typer.echo(f"{len(keys.revoked())} keys are revoked")


@keys_app.command("rotate")
@reported
def rotate(name: NameArgument, folder: FolderOption = DEFAULT_KEYS, json: JsonOption = False) -> None:
    """Give an owner a new key; the old one is valid until `keys retire NAME`.

    A client takes the new file at its next connection. A replica takes its own, and `server`, at its next start.
    """
    keys = _open(folder)
    _wrote(keys, keys.rotate(name), f"the new key of {name}; then: ringcast keys retire {name}", json)


@keys_app.command("retire")
@reported
def retire(name: NameArgument, folder: FolderOption = DEFAULT_KEYS, json: JsonOption = False) -> None:
    """End the old key of an owner that was rotated; its connections are cut within two seconds."""
    _ended(name, _open(folder).retire(name), json)


@keys_app.command("revoke")
@reported
def revoke(name: NameArgument, folder: FolderOption = DEFAULT_KEYS, json: JsonOption = False) -> None:
    """End every key of a client or member; its connections are cut within two seconds of the replicas' having it."""
    _ended(name, _open(folder).revoke(name), json)


def _ended(name: str, count: int, json: bool) -> None:
    if json:
        render.as_json({"name": name, "revoked": count})
    else:
        typer.echo(f"{name}: {count} {'key is' if count == 1 else 'keys are'} revoked")


def _said(rights: Rights | None) -> str:
    if rights is None:
        return ""
    if rights.admin:
        return "everything"
    parts = (("publish", rights.publish), ("subscribe", rights.subscribe), ("cursors", rights.cursors))
    return "; ".join(f"{role} {' '.join(patterns)}" for role, patterns in parts if patterns)
