"""`ringcast market seller|buyer|seed|audit`: the reference application. Sessions are kept in a file of mode 0600."""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from ringcast.endpoints import find
from ringcast.market import Buyer, Party, Seller

T = TypeVar("T")
C = TypeVar("C", Seller, Buyer)

SessionOption = Annotated[
    Path | None,
    typer.Option("--session", metavar="FILE", help="Where the login is kept (default: in the user's folder)."),
]
PasswordOption = Annotated[
    str,
    typer.Option(
        "--password-file",
        metavar="FILE|-",
        help="The password is its first line; - is stdin (default: ask for it). Never a word of the command line.",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="The item's id.")]
AfterOption = Annotated[str, typer.Option("--after", metavar="CURSOR", help="Where the page before ended.")]

market_app = typer.Typer(help="The marketplace: sellers and buyers.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from cli import market_buyer, market_seller

    market_app.add_typer(market_seller.seller_app, name="seller")
    market_app.add_typer(market_buyer.buyer_app, name="buyer")
    app.add_typer(market_app, name="market")


# ------------------------------------------------------------------ sessions and passwords


def session_file(named: Path | None, party: Party) -> Path:
    """Where the login of a party is kept."""
    return named or Path(typer.get_app_dir("ringcast")) / f"market-{party}.json"


def load_session(path: Path, cluster: str) -> bytes | None:
    """The login at a cluster, None without one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return bytes.fromhex(found[cluster])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_session(path: Path, cluster: str, session: bytes | None) -> None:
    """Keep a login, or forget it. The file is the owner's alone from its first byte on."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = {key: value for key, value in kept.items() if key != cluster} if isinstance(kept, dict) else {}
    if session is not None:
        kept[cluster] = session.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.tmp")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(kept, file)
    half.replace(path)


def password_of(source: str) -> str:
    """From a file, stdin or the terminal."""
    if not source:
        return str(typer.prompt("Password", hide_input=True))
    try:
        text = sys.stdin.readline() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {source}: {error}", param_hint="--password-file") from None
    return text.partition("\n")[0].removesuffix("\r")


def on(
    client: type[C],
    cluster: str | None,
    timeout: float,
    session: Path | None,
    work: Callable[[C], Awaitable[T]],
) -> T:
    """Do something with a client that goes on with the kept login; what it changes of the login is kept."""
    where, path = cluster_of(cluster), session_file(session, client.party)
    key = _key_of(where, client.party)

    async def connected() -> T:
        before = load_session(path, key)
        async with client(where, timeout=timeout, session=before) as entered:
            found = await work(entered)
            if entered.session != before:
                save_session(path, key, entered.session)
            return found

    return run(connected())


def _key_of(cluster: str, party: Party) -> str:
    """What a login belongs to: the cluster's id where a file says it, else its endpoints."""
    endpoints = find(cluster, f"{party}s")
    return f"{endpoints.cluster:016x}" if endpoints.cluster else ",".join(endpoints.addresses)


# ------------------------------------------------------------------ what both parties do


def add_account_commands(app: typer.Typer, client: type[C]) -> None:
    """create-account, login, logout."""

    @app.command("create-account")
    @reported
    def create_account(
        name: NameArgument,
        password: PasswordOption = "",
        cluster: ClusterOption = None,
        timeout: TimeoutOption = 10.0,
        json: JsonOption = False,
    ) -> None:
        """Make an account; print its id. Then log in."""
        secret = password_of(password)
        account = on(client, cluster, timeout, None, lambda one: one.create_account(name, secret))
        done({"account": account, "name": name}, account, json=json)

    @app.command("login")
    @reported
    def login(
        name: NameArgument,
        password: PasswordOption = "",
        session: SessionOption = None,
        cluster: ClusterOption = None,
        timeout: TimeoutOption = 10.0,
        json: JsonOption = False,
    ) -> None:
        """Log in, for the commands that follow; print the account's id."""
        secret = password_of(password)
        account = on(client, cluster, timeout, session, lambda one: one.login(name, secret))
        done({"account": account, "name": name}, account, json=json)

    @app.command("logout")
    @reported
    def logout(
        session: SessionOption = None,
        cluster: ClusterOption = None,
        timeout: TimeoutOption = 10.0,
        json: JsonOption = False,
    ) -> None:
        """End the login."""
        on(client, cluster, timeout, session, lambda one: one.logout())
        done({"logged_out": True}, "", json=json)


def done(document: dict[str, Any], text: object, *, json: bool) -> None:
    """The outcome of a command that has no table."""
    if json:
        render.as_json(document)
    elif text != "":
        typer.echo(text)


def money(minor: int) -> str:
    """A price for the eye."""
    return f"{minor // 100}.{minor % 100:02}"


# ------------------------------------------------------------------ seed and audit


@market_app.command("seed")
@reported
def seed(
    sellers: Annotated[int, typer.Option("--sellers", min=1, max=1_000, metavar="N", help="How many.")] = 5,
    items: Annotated[int, typer.Option("--items", min=1, max=1_000_000, metavar="M", help="In all.")] = 100,
    buyers: Annotated[int, typer.Option("--buyers", min=0, max=10_000, metavar="K", help="How many.")] = 10,
    number: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same items.")] = 1,
    cluster: ClusterOption = None,
    json: JsonOption = False,
) -> None:
    """Make accounts (seller-000 ..., buyer-000 ..., all with the password 'correct horse'), items and purchases."""
    from replicas.market.seed import seed as work

    where = cluster_of(cluster)
    found = run(work(where, sellers=sellers, items=items, buyers=buyers, number=number, told=render.note))
    if json:
        units = sum(found.units.values())
        summary = {"sellers": found.sellers, "buyers": found.buyers, "items": len(found.units), "units": units}
        render.as_json({**summary, "purchases": found.purchases, "feedback": found.feedback})
        return
    typer.echo(
        f"{len(found.sellers)} sellers, {len(found.units)} items, {len(found.buyers)} buyers, "
        f"{found.purchases} purchases, {found.feedback} thumbs"
    )
    place = "" if cluster is None else f" --cluster {cluster}"
    typer.echo(f"try:  ringcast market buyer login buyer-000{place}\n      (the password is 'correct horse')")


@market_app.command("audit")
@reported
def audit(
    settle: Annotated[
        float, typer.Option("--settle", min=0, metavar="SECONDS", help="What orders that are under way get.")
    ] = 25.0,
    cluster: ClusterOption = None,
    json: JsonOption = False,
) -> None:
    """Check that histories and stock agree: every order once in both, no stock lost, none held for ever.

    Exit code 1 if they do not.
    """
    from replicas.market.audit import audit as work

    found = run(work(cluster_of(cluster), settle_s=settle))
    if json:
        render.as_json(found.document())
    else:
        rows = [(name, value) for name, value in found.document().items() if type(value) is int]
        render.console().print(render.table(("", "count"), rows))
        for one in found.violations:
            render.error(one)
        typer.echo("the audit is clean" if found.clean else f"{len(found.violations)} violations")
    if not found.clean:
        raise typer.Exit(NO)
