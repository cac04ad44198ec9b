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
#: A process draws from blocks of so many ports. It holds a block's first port as long as it lives, so that two clusters
#: that are made at the same time, or one whose replica is down for a moment, never draw the same port.
BLOCK = 240
#: What this process was given: who asked may bind it later, so nobody else gets it while other ports are left.
_given: set[int] = set()
#: Its blocks, by host and first port: the descriptor that holds it. They end with the process.
_blocks: dict[tuple[str, int], int] = {}


class NoFreePort(OSError):
    """Fewer ports than needed can be bound."""


def free_ports(count: int, host: str) -> list[int]:
    """`count` different ports that can be bound on `host` now, outside the ephemeral range. Raises NoFreePort."""
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        for port in _candidates(host):
            if len(found) == count:
                break
            listener = _bound(host, port)
            if listener is not None:
                held.append(listener)
                found.append(port)
    finally:
        for listener in held:
            listener.close()
    if len(found) < count:
        raise NoFreePort(f"{len(found)} of {count} ports of {_usable()[0]} ... can be bound on {host}: free some")
    _given.update(found)
    return found


def _candidates(host: str) -> Iterator[int]:
    """Of our blocks, then of blocks that nobody has, then any; what was given before comes last in each."""
    usable, random = _usable(), SystemRandom()
    blocks = [usable[start : start + BLOCK] for start in range(0, len(usable), BLOCK)]
    random.shuffle(blocks)
    blocks.sort(key=lambda block: (host, block[0]) not in _blocks)
    tried: set[int] = set()
    for block in blocks:
        if (host, block[0]) not in _blocks:
            guard = _bound(host, block[0])
            if guard is None:
                continue
            _blocks[host, block[0]] = guard.detach()
        ports = block[1:]
        random.shuffle(ports)
        fresh = [port for port in ports if port not in _given]
        tried.update(fresh)
        yield from fresh
    random.shuffle(usable)
    yield from sorted((port for port in usable if port not in tried), key=_given.__contains__)


def _usable() -> list[int]:
    ephemeral = ephemeral_ports()
    return [port for port in PORTS if port not in ephemeral] or list(range(1_024, 65_536))


def _bound(host: str, port: int) -> socket.socket | None:
    listener = socket.socket()
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        return None
    return listener


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
    return [name for name, bound in config.binds.items() if bound == address]


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
