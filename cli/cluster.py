"""`ringcast up` and `down`: a cluster of child processes on this machine (replicas/local_cluster.py)."""

import signal
import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.common import DEFAULT_FOLDER, UNAVAILABLE, ClusterOption, DataOption, JsonOption, cluster_of, reported
from replicas.local_cluster import FILE_NAME, LocalCluster, MemoryLost
from replicas.local_files import LocalClusterError

OnlyOption = Annotated[int | None, typer.Option("--only", metavar="ID", help="This replica alone.")]
_WATCH_S = 0.5


class Durability(Enum):
    """What a publish waits for (D2)."""

    MAJORITY = "majority"
    MEMORY = "memory"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)


@reported
def up(
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, max=7, help="How many; 3 for a new cluster [default: as it is].")
    ] = None,
    data: DataOption = DEFAULT_FOLDER,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; `down` ends it.")] = False,
    only: OnlyOption = None,
    durability: Annotated[
        Durability | None,
        typer.Option("--durability", help="Of a new cluster: a publish waits for a majority's disks, or memory."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a cluster on this machine, or what of it does not run.

    Writes DIR/cluster.json, which every command and client takes. Without --detach it runs until Ctrl-C.
    Exit code 3: it runs, but too few replicas remember what they acknowledged; it says what to do.
    """
    cluster = _open_or_create(data, replicas, durability)
    wanted = list(cluster.replicas) if only is None else [only]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    started = cluster.start(wanted)
    advice, up_and_said, before = None, False, set(cluster.replicas)
    try:
        advice = _settle(cluster, wanted)
        up_and_said = True
        _show(cluster, started, advice, json)
        if not detach and started:
            _watch(cluster, started, before)
    except BaseException as error:
        cluster.stop(_ours(cluster, started, before))
        if not (up_and_said and isinstance(error, KeyboardInterrupt)):
            raise
    else:
        cluster.detach()
        if advice is not None:
            raise typer.Exit(UNAVAILABLE)


def _settle(cluster: LocalCluster, wanted: list[int]) -> str | None:
    """Wait until it serves, or as far as it can come; what an operator must do, if only an operator can."""
    if 2 * len(cluster.running()) > len(cluster.replicas):
        try:
            cluster.wait_ready(wanted)
        except MemoryLost as lost:
            return str(lost)
    else:
        cluster.wait_live(wanted)
        render.note("less than a quorum runs: nothing is ordered until more replicas are started")
    return None


def _open_or_create(data: Path, replicas: int | None, durability: Durability | None) -> LocalCluster:
    if not (data / FILE_NAME).exists():
        settings = {} if durability is None else {"durability": durability.value}
        return LocalCluster.create(data, replicas or 3, settings)
    cluster = LocalCluster.open(data)
    if durability is not None and durability.value != cluster.durability:
        raise LocalClusterError(
            f"{data} holds a cluster with durability={cluster.durability}: leave --durability out; to change it, end "
            "the cluster in order and set the key in each replica-*.toml"
        )
    if replicas is not None and replicas != len(cluster.replicas):
        raise LocalClusterError(
            f"{data} holds a cluster of {len(cluster.replicas)} replicas, not {replicas}: leave --replicas out, name "
            "another folder with --data, or change the running cluster's members: `ringcast members add ID --start`"
        )
    return cluster


def _show(cluster: LocalCluster, started: list[int], advice: str | None, json: bool) -> None:
    if json:
        document = {"cluster": cluster.cluster, "file": str(cluster.path), "started": started, "advice": advice}
        render.as_json({**document, "replicas": [asdict(replica) for replica in cluster.replicas.values()]})
        return
    rows = [
        (one.id, one.pid if one.running else "-", *map(_address, (one.client, one.feed, one.http)))
        for one in cluster.replicas.values()
    ]
    render.console().print(render.table(("replica", "pid", "clients", "feed", "health"), rows))
    if advice is not None:
        render.error(f"the replicas run, but nothing is ordered: {advice}")
        return
    state = "is ready" if 2 * len(cluster.running()) > len(cluster.replicas) else "has no quorum yet"
    typer.echo(f"\ncluster {cluster.cluster} {state}: {cluster.path}  durability {cluster.durability}")
    place = "" if cluster.folder == DEFAULT_FOLDER.resolve() else f" --cluster {cluster.folder}"
    typer.echo(f'try:  ringcast publish orders "42 apples"{place}\n      ringcast subscribe orders{place}')


def _address(endpoint: str) -> str:
    return endpoint.partition("//")[2]


def _ours(cluster: LocalCluster, started: list[int], before: set[int]) -> list[int]:
    """What Ctrl-C ends: what was started here, and what `members add --start` started since."""
    cluster.reload()
    return [member for member in cluster.replicas if member in started or member not in before]


def _watch(cluster: LocalCluster, started: list[int], before: set[int]) -> None:
    """Until KeyboardInterrupt (Ctrl-C, SIGTERM or SIGHUP), or until the last process ended."""
    render.note("\nCtrl-C ends it")
    while set(_ours(cluster, started, before)) & set(cluster.running()):
        time.sleep(_WATCH_S)
    raise LocalClusterError(f"every replica ended; see {cluster.folder}/replica-*.log")


@reported
def down(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The folder that `up` was given.")] = None,
    cluster: ClusterOption = None,
    only: OnlyOption = None,
    json: JsonOption = False,
) -> None:
    """End a cluster on this machine; its data stays. Only processes that `up` started there are signalled."""
    _end(LocalCluster.open(_folder_of(data, cluster)), only, json=json)


def _folder_of(data: Path | None, named: str | None) -> Path:
    """As every command finds the cluster, but it must be on this machine."""
    if data is not None:
        return data
    where = cluster_of(named)
    if "://" in where:
        raise LocalClusterError(f"down ends processes of this machine, {where} may be others: name a folder (--data)")
    return Path(where).parent if Path(where).is_file() else Path(where)


def _end(cluster: LocalCluster, only: int | None, *, json: bool) -> None:
    stopped = cluster.stop(None if only is None else [only])
    if json:
        render.as_json({"stopped": stopped})
    elif stopped:
        typer.echo(f"stopped replica {', '.join(map(str, stopped))}; the data stays in {cluster.folder}")
    else:
        typer.echo("nothing was running")
