"""`ringcast serve bus|products|sellers|buyers`: one replica, in the worker of a supervisor."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import reported
from replicas.bus.config import load
from replicas.settings import ConfigError
from replicas.supervisor import VARIABLE

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file (default: RINGCAST_CONFIG).")
]
MemberOption = Annotated[int | None, typer.Option("--id", help="This member's id; before file and environment.")]
FolderOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.")]
LevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]

#: Taken before anything is imported (cli/__main__.py, replicas/supervisor.py); here for the help, and to be checked.
SuperviseOption = Annotated[
    bool | None,
    typer.Option(
        "--supervise/--no-supervise",
        envvar=VARIABLE,
        show_envvar=False,
        help="Start the role again when it crashes (default: RINGCAST_SUPERVISE, else yes).",
    ),
]

serve_app = typer.Typer(help="Run one role, and start it again when it crashes.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `serve`."""
    app.add_typer(serve_app, name="serve")


@serve_app.callback()
def _roles() -> None:
    """Run one role, and start it again when it crashes."""


@serve_app.command("bus")
@reported
def bus(
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    log_level: LevelOption = None,
    supervise: SuperviseOption = None,
) -> None:
    """Run one replica of the bus until SIGTERM.

    Every key comes from the file, RINGCAST_* variables or a flag (replicas/bus/config.py lists them). SIGTERM leaves
    the ring and drains the clients. Exit codes: 0 stopped in order; 2 wrong configuration; 3 the replica stopped itself
    to keep the order; 4 the disk failed; 5 the data folder is in use or another member's; 6 an address cannot be bound
    (the log says which key, which address, and who has it); 7 it was removed from the cluster.

    A replica that is to be added to a running cluster is started in the same way, with peers that name today's
    members and itself: it waits for `ringcast members add`. Who is a member stands in the log from then on.
    """
    del supervise
    flags = {"id": member, "data": data, "log_level": log_level}
    loaded = load(config, flags)
    from replicas.bus.replica import run

    raise typer.Exit(run(loaded, lambda: load(config, flags).config))


@serve_app.command("products")
@reported
def products(
    config: ConfigOption = None,
    member: MemberOption = None,
    data: FolderOption = None,
    log_level: LevelOption = None,
    supervise: SuperviseOption = None,
) -> None:
    """Run one replica of the product store until SIGTERM.

    Every key comes from the file, RINGCAST_* variables or a flag (replicas/products/config.py lists them). It needs
    raftos. SIGTERM hands the leadership over and drains the clients. Exit codes: 0 stopped in order; 2 wrong
    configuration, or raftos is missing; 3 the replica stopped itself, an invariant is broken; 4 the disk failed; 5 the
    data folder is in use or another member's; 6 an address cannot be bound; 7 it was removed from the cluster.
    """
    del supervise
    from replicas.products import config as products_config

    loaded = products_config.load(config, {"id": member, "data": data, "log_level": log_level})
    from replicas.raft.errors import RaftosMissing

    try:
        from replicas.products.replica import run
    except RaftosMissing as error:
        raise ConfigError(str(error)) from None
    raise typer.Exit(run(loaded.config))


@serve_app.command("sellers")
@reported
def sellers(
    config: ConfigOption = None,
    member: MemberOption = None,
    log_level: LevelOption = None,
    supervise: SuperviseOption = None,
) -> None:
    """Run one interface replica for sellers until SIGTERM.

    Every key comes from the file, RINGCAST_* variables or a flag (replicas/market/config.py lists them). It keeps
    nothing: customers live on the bus, items in the product store, and it waits until it reaches both. SIGTERM sends
    the clients on and finishes what is under way. Exit codes: 0 stopped in order; 2 wrong configuration, or a database
    refuses its keys; 3 it stopped itself, an error that nobody expected; 6 an address cannot be bound.
    """
    del supervise
    _interface("seller", config, member, log_level)


@serve_app.command("buyers")
@reported
def buyers(
    config: ConfigOption = None,
    member: MemberOption = None,
    log_level: LevelOption = None,
    supervise: SuperviseOption = None,
) -> None:
    """Run one interface replica for buyers until SIGTERM: as `serve sellers`; it also finishes orders that others left.

    Exit codes as there.
    """
    del supervise
    _interface("buyer", config, member, log_level)


def _interface(party: str, config: Path | None, member: int | None, log_level: str | None) -> None:
    from replicas.market import config as market_config
    from replicas.market.replica import run
    from ringcast.market.types import Party

    loaded = market_config.load(config, {"id": member, "log_level": log_level})
    raise typer.Exit(run(loaded.config, Party(party)))
