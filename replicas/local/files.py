"""Files of a cluster on this machine: an entry of cluster.json and the configuration for each replica, of any role."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from replicas.bus.addresses import NoFreePort, free_ports
from replicas.local.processes import is_running

HOST = "127.0.0.1"


class LocalClusterError(Exception):
    """The cluster on this machine cannot do that; the text says what to do."""


class Role(NamedTuple):
    """How the replicas of a role are named. `binds`: its addresses; others reach a member at the first two of them.

    `files`: of its files and its folder, which end in its id. `cluster_key`: of the group's id in cluster.json.
    """

    name: str
    files: str
    title: str
    binds: tuple[str, ...]
    cluster_key: str


BUS = Role("bus", "replica", "replica", ("peer", "pub", "client", "feed", "http"), "cluster")
PRODUCTS = Role("products", "products", "products replica", ("peer", "client", "http"), "products_cluster")
SELLERS = Role("sellers", "sellers", "sellers interface", ("client", "http"), "sellers_cluster")
BUYERS = Role("buyers", "buyers", "buyers interface", ("client", "http"), "buyers_cluster")
#: Of the marketplace; they keep nothing, and one that runs is enough.
INTERFACES = (SELLERS, BUYERS)


@dataclass(frozen=True, slots=True)
class LocalReplica:
    """One entry of `replicas` in cluster.json. Endpoints as ZeroMQ addresses, `http` as a URL; pid 0: never started.

    `pid` is the replica itself, so that signals, limits and measurements reach it; its supervisor's next worker writes
    its own here. `peer`, `feed`: "" where the role has none.
    """

    role: str
    id: int
    pid: int
    started: str
    config: str
    peer: str
    client: str
    feed: str
    http: str
    data: str

    @property
    def running(self) -> bool:
        """Does this very process run?"""
        return is_running(self.pid, self.started)


def addresses(role: Role, hosts: Mapping[int, str]) -> dict[int, list[str]]:
    """Free host:port for each of the role's addresses, by member. Raises LocalClusterError."""
    ports = _free_ports(len(hosts) * len(role.binds))
    return {member: [f"{host}:{next(ports)}" for _ in role.binds] for member, host in hosts.items()}


def _free_ports(count: int) -> Iterator[int]:
    try:
        return iter(free_ports(count, HOST))
    except NoFreePort as error:
        raise LocalClusterError(str(error)) from None


def peer_entry(first: str, second: str) -> str:
    """An entry of [peers]: host:port:second port."""
    return f"{first}:{second.rpartition(':')[2]}"


def peers_of(role: Role, found: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """The table [peers]: where others reach each of these replicas."""
    return {member: own[0] if role in INTERFACES else peer_entry(*own[:2]) for member, own in found.items()}


def write_replica(
    role: Role,
    folder: Path,
    member: int,
    found: Sequence[str],
    peers: Mapping[int, str],
    settings: Mapping[str, object],
) -> LocalReplica:
    """A replica's file, and its entry of cluster.json. `found`: host:port for each of the role's addresses."""
    path, data = folder / f"{role.files}-{member}.toml", folder / f"{role.files}-{member}"
    bound = dict(zip(role.binds, found, strict=True))
    tables = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    lines = [f"id = {member}", f"data = {_toml(str(data))}"]
    lines += [f"bind_{name} = {_toml(address)}" for name, address in bound.items()]
    lines += [f"{key} = {_toml(value)}" for key, value in settings.items() if key not in tables]
    for name, table in {"peers": peers, **tables}.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return LocalReplica(
        role=role.name,
        id=member,
        pid=0,
        started="",
        config=str(path),
        peer=f"tcp://{bound['peer']}" if "peer" in bound else "",
        client=f"tcp://{bound['client']}",
        feed=f"tcp://{bound['feed']}" if "feed" in bound else "",
        http=f"http://{bound['http']}",
        data=str(data),
    )


def read_settings(path: Path) -> dict[str, object]:
    """What a replica's file says and is not its own."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    own = {"id", "data", "peers", *(key for key in found if key.startswith(("bind_", "advertise_")))}
    return {key: value for key, value in found.items() if key not in own}


def _toml(value: object) -> str:
    """A number, a bool or a text as TOML; JSON's forms of these are TOML's too."""
    return json.dumps(value)
