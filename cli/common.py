"""What the commands share: the cluster option, the --json option, exit codes, and errors that say the next step.

Exit codes of every command but `serve` (which lists its own):
0 done; 1 the answer is no (not found, unhealthy, replicas differ); 2 wrong usage or configuration; 3 nobody can answer
now (unreachable, no quorum, timeout): try again; 4 refused: correct the request; 5 the fate of a publish or change is
unknown; 6 another protocol, version or cluster; 7 a process on this machine did not do what it should; 130 interrupted.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

import ringcast
from cli import render
from replicas.keys import KeysError
from replicas.local.files import LocalClusterError
from replicas.settings import ConfigError
from store.errors import BackupDamaged, ForeignBackup, StoreError

OK, NO, USAGE, UNAVAILABLE, REFUSED, UNKNOWN, PROTOCOL, LOCAL, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_FOLDER = Path("ringcast-data")

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="FILE|ENDPOINTS",
        help="cluster.json, its folder, or tcp://host:port,... (default: RINGCAST_CLUSTER, else ./ringcast-data)",
        rich_help_panel="Cluster",
    ),
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="Our key file, or its folder (default: RINGCAST_KEYS, else what cluster.json names).",
        rich_help_panel="Cluster",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Output")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait.", rich_help_panel="Cluster")
]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of the local cluster.")]

_global_cluster: list[str] = []


def use_cluster(cluster: str | None) -> None:
    """Remember `ringcast --cluster ... command`; an option behind the command's name wins."""
    _global_cluster[:] = [cluster] if cluster else []


def cluster_of(cluster: str | None) -> str:
    """Where the cluster is: option, else environment, else the folder of `up`."""
    named = cluster or next(iter(_global_cluster), None) or os.environ.get("RINGCAST_CLUSTER")
    if named:
        return named
    if not (DEFAULT_FOLDER / "cluster.json").exists():
        raise typer.BadParameter(
            f"no cluster named and none in ./{DEFAULT_FOLDER}: start one with `ringcast up`, or name one with "
            "--cluster or RINGCAST_CLUSTER",
            param_hint="--cluster",
        )
    return str(DEFAULT_FOLDER)


def code_of(error: BaseException) -> int:
    """The exit code of an error."""
    table: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], int], ...] = (
        ((ConfigError, KeysError, ringcast.KeysUnusable), USAGE),
        (LocalClusterError, LOCAL),
        ((BackupDamaged, ForeignBackup), REFUSED),
        (StoreError, LOCAL),
        (ringcast.Unavailable, UNAVAILABLE),
        ((ringcast.PublishUnknown, ringcast.OutcomeUnknown), UNKNOWN),
        (ringcast.Refused, REFUSED),
        (ringcast.ProtocolError, PROTOCOL),
    )
    return next((code for kind, code in table if isinstance(error, kind)), NO)


def reported(function: Callable[P, R]) -> Callable[P, R]:
    """A command whose expected errors become one line on stderr and an exit code."""

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except (ringcast.RingcastError, LocalClusterError, ConfigError, KeysError, StoreError) as error:
            render.error(str(error))
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # `ringcast subscribe ... | head`: nobody reads any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(OK) from None

    run.__doc__ = flowing(function.__doc__ or "")
    return run


def flowing(docstring: str) -> str:
    """A docstring whose lines end at paragraphs alone: typer keeps line ends, and a terminal has a width of its own."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(docstring).split("\n\n"))


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine of a command; Ctrl-C is KeyboardInterrupt."""
    return asyncio.run(work)
