"""Ports that a restart finds again, and who is to blame when one is taken.

A port from the kernel's ephemeral range may be the local end of anybody's outgoing connection at the very moment in
which a replica is restarted. So a cluster that picks its ports itself picks them below that range.
"""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom

from replicas.settings import ReplicaConfig

#: Above the well-known services, below Linux's default ephemeral range (32768-60999).
PORTS = range(20_000, 32_000)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"
#: What this process was given: who asked may bind it later, so nobody else gets it while other ports are left.
_given: set[int] = set()


class NoFreePort(OSError):
    """Fewer ports than needed can be bound."""


def free_ports(count: int, host: str) -> list[int]:
    """`count` different ports that can be bound on `host` now, outside the ephemeral range. Raises NoFreePort."""
    ephemeral = ephemeral_ports()
    usable = [port for port in PORTS if port not in ephemeral] or list(range(1_024, 65_536))
    SystemRandom().shuffle(usable)
    usable.sort(key=_given.__contains__)
    held: list[socket.socket] = []
    found: list[int] = []
    try:
        for port in usable:
            if len(found) == count:
                break
            listener = socket.socket()
            held.append(listener)
            try:
                listener.bind((host, port))
            except OSError:
                continue
            found.append(port)
    finally:
        for listener in held:
            listener.close()
    if len(found) < count:
        raise NoFreePort(f"{len(found)} of {count} ports of {usable[0]} ... can be bound on {host}: free some")
    _given.update(found)
    return found


def ephemeral_ports() -> range:
    """The kernel's range for outgoing connections; empty where it cannot be read."""
    try:
        low, high = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return range(0)
    return range(low, high + 1)


def keys_of(config: ReplicaConfig, endpoint: str) -> Sequence[str]:
    """The configuration keys that ask for an endpoint; more than one if they ask for the same."""
    address = endpoint.removeprefix("tcp://")
    binds = [name for name in type(config).model_fields if name.startswith("bind_")]
    return [name for name in binds if getattr(config, name) == address]


def blame(address: str) -> str:
    """Who has the port of host:port, and what to do; for an error message."""
    port = int(address.rpartition(":")[2]) if address.rpartition(":")[2].isdigit() else 0
    for listens in (True, False):
        for owner in _owners(port, listens=listens):
            if listens:
                return f"{owner} listens there: stop it, or configure another address"
            return f"an outgoing connection of {owner} has this port: configure one outside {_range_text()}"
    return "the process is not to be seen from here: free the address, or configure another one"


def _range_text() -> str:
    ephemeral = ephemeral_ports()
    return f"the ephemeral range {ephemeral.start}-{ephemeral.stop - 1}" if ephemeral else "the ephemeral range"


def _owners(port: int, *, listens: bool) -> Iterator[str]:
    inodes = set(_inodes(port, listens=listens))
    if not inodes:
        return
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(_inode(str(entry.readlink())) in inodes for entry in (process / "fd").iterdir()):
                yield f"process {process.name} ({(process / 'comm').read_text(encoding='utf-8').strip()})"
        except OSError:  # it ended meanwhile, or is another user's
            continue


def _inodes(port: int, *, listens: bool) -> Iterator[str]:
    """Sockets with this local port, from the kernel's tables (proc(5))."""
    for table in _TABLES:
        try:
            rows = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *_, inode = row.split()[:10]
            if int(local.rpartition(":")[2], 16) == port and (state == _LISTENS) == listens and inode != "0":
                yield inode


def _inode(link: str) -> str:
    return link.removeprefix("socket:[").removesuffix("]") if link.startswith("socket:[") else ""
