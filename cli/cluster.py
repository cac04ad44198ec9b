"""`ringcast up` and `down`: a cluster of child processes on this machine (replicas/local/cluster.py)."""

import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli import render
from cli.common import DEFAULT_FOLDER, UNAVAILABLE, ClusterOption, DataOption, JsonOption, cluster_of, reported
from replicas.local.cluster import KEYS_NAME, LocalCluster, MemoryLost
from replicas.local.files import BUS, BUYERS, INTERFACES, PRODUCTS, SELLERS, LocalClusterError, Role
from replicas.local.market import create_interfaces
from replicas.local.registry import FILE_NAME
from replicas.raft.errors import RaftosMissing

_WATCH_S = 0.5


class Durability(Enum):
    """What a publish waits for (D2)."""

    MAJORITY = "majority"
    MEMORY = "memory"


class OnlyRole(Enum):
    """Whose id --only names."""

    BUS = BUS.name
    PRODUCTS = PRODUCTS.name
    SELLERS = SELLERS.name
    BUYERS = BUYERS.name


OnlyOption = Annotated[int | None, typer.Option("--only", metavar="ID", help="This replica alone.")]
SellersOption = Annotated[
    int | None,
    typer.Option("--sellers", min=0, max=7, help="Interfaces for sellers; 2 for a new cluster, 0: none."),
]
BuyersOption = Annotated[
    int | None,
    typer.Option("--buyers", min=0, max=7, help="Interfaces for buyers; 2 for a new cluster, 0: none."),
]
RoleOption = Annotated[OnlyRole, typer.Option("--role", help="Whose replica --only names.")]


@dataclass
class _Part:
    """The replicas of one role: those that `up` was asked for, and what it did."""

    cluster: LocalCluster
    wanted: list[int]
    started: list[int]
    before: set[int]

    def ours(self) -> list[int]:
        """What Ctrl-C ends: what was started here, and what `members add --start` started since."""
        self.cluster.reload()
        return [member for member in self.cluster.replicas if member in self.started or member not in self.before]

    @property
    def has_quorum(self) -> bool:
        """As far as processes go; of interfaces one is enough."""
        running = len(self.cluster.running())
        return running > 0 if self.cluster.role in INTERFACES else 2 * running > len(self.cluster.replicas)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)


@reported
def up(
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, max=7, help="How many; 3 for a new cluster (default: as it is).")
    ] = None,
    products: Annotated[
        int | None,
        typer.Option(
            "--products", min=0, max=7, help="Of the product store; 3 for a new cluster, 0: none (default: as it is)."
        ),
    ] = None,
    sellers: SellersOption = None,
    buyers: BuyersOption = None,
    data: DataOption = DEFAULT_FOLDER,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; `down` ends it.")] = False,
    only: OnlyOption = None,
    role: RoleOption = OnlyRole.BUS,
    durability: Annotated[
        Durability | None,
        typer.Option("--durability", help="Of a new cluster: a publish waits for a majority's disks, or memory."),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Of a new cluster: encrypt and authenticate everything; makes DIR/keys.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start a cluster on this machine, or what of it does not run: the bus, the product store, the marketplace.

    Writes DIR/cluster.json, which every command and client takes. Without --detach it runs until Ctrl-C.

    Without raftos the bus runs alone; one line says how to get it.

    Exit code 3: it runs, but too few replicas remember what they acknowledged; it says what to do.
    """
    new = not (data / FILE_NAME).exists()
    bus = _open_or_create(data, replicas, durability, secure=secure)
    found = [bus, _products(data, products, new=new)]
    if found[1] is not None:
        found += [_interfaces(data, one, count, new=new) for one, count in ((SELLERS, sellers), (BUYERS, buyers))]
    parts = [_part(one, only, role) for one in found if one is not None]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    for part in parts:
        part.started = part.cluster.start(part.wanted)
    advice, up_and_said = None, False
    try:
        advice = _settle(parts)
        if not detach:
            up_and_said = True
            _show(parts, advice, json)
            if any(part.started for part in parts):
                _watch(parts)
    except BaseException as error:
        for part in parts:
            part.cluster.stop(part.ours())
        if not (up_and_said and isinstance(error, KeyboardInterrupt)):
            raise
    else:
        for part in parts:
            part.cluster.detach()
        if detach:  # whoever reads what we say may be gone already (`| head`); the cluster stays
            _show(parts, advice, json)
        if advice is not None:
            raise typer.Exit(UNAVAILABLE)


def _part(cluster: LocalCluster, only: int | None, role: OnlyRole) -> _Part:
    everyone = list(cluster.replicas)
    wanted = everyone if only is None else [only] if cluster.role.name == role.value else []
    return _Part(cluster, wanted, [], set(everyone))


def _settle(parts: Sequence[_Part]) -> str | None:
    """Wait until it serves, or as far as it can come; what an operator must do, if only an operator can."""
    advice = None
    for part in parts:
        if part.cluster.role in INTERFACES and not all(one.has_quorum for one in parts[:2]):
            part.cluster.wait_live(part.wanted)
        elif part.has_quorum:
            try:
                part.cluster.wait_ready(part.wanted)
            except MemoryLost as lost:
                advice = str(lost) if advice is None else f"{advice}\n{lost}"
        elif part.cluster.role not in INTERFACES:
            part.cluster.wait_live(part.wanted)
            what = "ordered" if part.cluster.role is BUS else "sold"
            render.note(f"less than a quorum runs: nothing is {what} until more replicas are started")
    return advice


def _open_or_create(data: Path, replicas: int | None, durability: Durability | None, *, secure: bool) -> LocalCluster:
    if not (data / FILE_NAME).exists():
        settings = {} if durability is None else {"durability": durability.value}
        return LocalCluster.create(data, replicas or 3, settings, secure=secure)
    cluster = LocalCluster.open(data)
    if durability is not None and durability.value != cluster.durability:
        raise LocalClusterError(
            f"{data} holds a cluster with durability={cluster.durability}: leave --durability out; to change it, end "
            "the cluster in order and set the key in each replica-*.toml"
        )
    if secure and not (data / KEYS_NAME).exists():
        raise LocalClusterError(
            f"{data} holds a cluster without keys: `ringcast keys init --folder DIR`, set keys = DIR in each file of a "
            "replica, and start all of them again; or name another folder with --data"
        )
    _check_count(cluster, replicas, "--replicas", "ringcast members add")
    return cluster


def _check_count(cluster: LocalCluster, wanted: int | None, option: str, command: str) -> None:
    found = len(cluster.replicas)
    if wanted is not None and wanted != found:
        raise LocalClusterError(
            f"{cluster.folder} holds {found} {cluster.role.title}s, not {wanted}: leave {option} out, name another "
            f"folder with --data, or change the running cluster's members: `{command} ID --start`"
        )


def _products(data: Path, count: int | None, *, new: bool) -> LocalCluster | None:
    """The product store of the folder, made if it is asked for; None if there is none, or raftos is missing."""
    cluster = LocalCluster.open(data, PRODUCTS)
    if not cluster.replicas and not (3 if count is None and new else count):
        return None
    if find_spec("raftos") is None:
        render.error(str(RaftosMissing()))
        return None
    if not cluster.replicas:
        return LocalCluster.create(data, count or 3, role=PRODUCTS)
    _check_count(cluster, count, "--products", "ringcast products members add")
    return cluster


def _interfaces(data: Path, role: Role, count: int | None, *, new: bool) -> LocalCluster | None:
    """The folder's interfaces of a kind, made if they are asked for; None if there are none."""
    cluster = LocalCluster.open(data, role)
    if cluster.replicas:
        _check_count(cluster, count, f"--{role.name}", "ringcast up --data OTHER")
        return cluster
    wanted = 2 if count is None and new else count
    return create_interfaces(data, role, wanted) if wanted else None


def _show(parts: Sequence[_Part], advice: str | None, json: bool) -> None:
    bus = parts[0].cluster
    if json:
        document: dict[str, object] = {
            "cluster": bus.cluster,
            "file": str(bus.path),
            "advice": advice,
            "started": parts[0].started,
        }
        for role in (PRODUCTS, *INTERFACES):
            started = [member for part in parts if part.cluster.role is role for member in part.started]
            document[f"{role.name}_started"] = started
        replicas = [asdict(replica) for part in parts for replica in part.cluster.replicas.values()]
        render.as_json({**document, "replicas": replicas})
        return
    rows = [
        (one.role, one.id, one.pid if one.running else "-", *map(_address, (one.client, one.feed, one.http)))
        for part in parts
        for one in part.cluster.replicas.values()
    ]
    render.console().print(render.table(("role", "replica", "pid", "clients", "feed", "health"), rows))
    if advice is not None:
        render.error(f"the replicas run, but nothing is ordered: {advice}")
        return
    state = "is ready" if all(part.has_quorum for part in parts) else "has no quorum yet"
    typer.echo(f"\ncluster {bus.cluster} {state}: {bus.path}  durability {bus.durability}")
    place = "" if bus.folder == DEFAULT_FOLDER.resolve() else f" --cluster {bus.folder}"
    typer.echo(f'try:  ringcast publish orders "42 apples"{place}\n      ringcast subscribe orders{place}')
    if len(parts) > 1:
        typer.echo(f"      ringcast products put Lamp --seller ann --category home --price 1999{place}")


def _address(endpoint: str) -> str:
    return endpoint.partition("//")[2]


def _watch(parts: Sequence[_Part]) -> None:
    """Until KeyboardInterrupt (Ctrl-C, SIGTERM or SIGHUP), or until the last process ended."""
    render.note("\nCtrl-C ends it")
    while any(set(part.ours()) & set(part.cluster.running()) for part in parts):
        time.sleep(_WATCH_S)
    raise LocalClusterError(f"every replica ended; see {parts[0].cluster.folder}/*.log")


@reported
def down(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The folder that `up` was given.")] = None,
    cluster: ClusterOption = None,
    only: OnlyOption = None,
    role: RoleOption = OnlyRole.BUS,
    json: JsonOption = False,
) -> None:
    """End a cluster on this machine; its data stays. Only processes that `up` started there are signalled."""
    folder = folder_of(data, cluster, "down ends")
    parts = [_part(LocalCluster.open(folder, one), only, role) for one in (*INTERFACES[::-1], PRODUCTS, BUS)]
    stopped = {part.cluster.role.name: part.cluster.stop(part.wanted) for part in parts}
    if json:
        others = {f"{one.name}_stopped": stopped[one.name] for one in (PRODUCTS, *INTERFACES)}
        render.as_json({"stopped": stopped[BUS.name], **others})
        return
    for part in parts:
        if members := stopped[part.cluster.role.name]:
            title = part.cluster.role.title
            typer.echo(f"stopped {title} {', '.join(map(str, members))}; the data stays in {part.cluster.folder}")
    if not any(stopped.values()):
        typer.echo("nothing was running")


def folder_of(data: Path | None, named: str | None, does: str) -> Path:
    """As every command finds the cluster, but it must be on this machine."""
    if data is not None:
        return data
    where = cluster_of(named)
    if "://" in where:
        raise LocalClusterError(f"{does} processes of this machine, {where} may be others: name a folder (--data)")
    return Path(where).parent if Path(where).is_file() else Path(where)
