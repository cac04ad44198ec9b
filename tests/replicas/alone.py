"""A replica of each role, alone in this process, with its real sockets and its HTTP server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from replicas.bus.config import BusConfig, PeerAddress
from replicas.bus.replica import BusReplica
from replicas.hosting import ReplicaProcess
from replicas.market.config import MarketConfig
from replicas.market.replica import MarketReplica
from replicas.products.config import MemberAddress, ProductsConfig
from replicas.products.replica import ProductsReplica
from ringcast.market.types import Party

ANY = "127.0.0.1:*"
#: Nobody connects to the only member.
UNUSED = ("127.0.0.1", 1, 2)


def bus(folder: Path) -> BusReplica:
    """A ring of one."""
    binds: dict[str, Any] = {f"bind_{name}": ANY for name in ("peer", "pub", "client", "feed", "http")}
    return BusReplica(BusConfig(id=1, data=folder, peers={1: PeerAddress(*UNUSED)}, **binds))


def products(folder: Path) -> ProductsReplica:
    """A Raft group of one."""
    binds: dict[str, Any] = {f"bind_{name}": ANY for name in ("peer", "client", "http")}
    return ProductsReplica(ProductsConfig(id=1, data=folder, peers={1: MemberAddress(*UNUSED)}, **binds))


def _interface(party: Party, folder: Path, **settings: Any) -> MarketReplica:
    """An interface that waits for databases that never come."""
    nobody = "127.0.0.1:1"
    more: dict[str, Any] = {"bind_client": ANY, "bind_http": ANY, **settings}
    return MarketReplica(MarketConfig(id=1, data=folder, bus=nobody, products=nobody, **more), party=party)


ROLES: dict[str, Callable[..., ReplicaProcess[Any]]] = {
    "bus": bus,
    "products": products,
    "sellers": partial(_interface, Party.SELLER),
    "buyers": partial(_interface, Party.BUYER),
}
DATABASES = ("bus", "products")


@asynccontextmanager
async def running(role: str, folder: Path, **settings: Any) -> AsyncIterator[Any]:
    """Started, and closed at the end. `settings`: of an interface's configuration."""
    replica = ROLES[role](folder, **settings)
    await replica.start()
    try:
        yield replica
    finally:
        if role not in DATABASES:
            await replica.leave()  # its clients of both databases
        replica.close()


async def get(address: str, path: str) -> tuple[int, str]:
    """The status and the body of a GET, in this loop."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


async def ready(address: str) -> str:
    """The body of /readyz once it says yes."""
    async with asyncio.timeout(20):
        while True:
            status, body = await get(address, "/readyz")
            if status == 200:
                return body
            await asyncio.sleep(0.01)


async def metric_names(role: str, folder: Path) -> set[str]:
    """Names of everything that a replica of the role exports, as Prometheus stores it."""
    async with running(role, folder) as replica:
        _, text = await get(replica.http, "/metrics")
    types = [line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE ")]
    parts = ("", "_bucket", "_sum", "_count")  # a histogram that has seen nothing shows none of them
    names = {name + part for name, kind in types for part in (parts if kind == "histogram" else parts[:1])}
    series = {line.split()[0].partition("{")[0] for line in text.splitlines() if line and not line.startswith("#")}
    return {name for name in names | series if not name.endswith("_created")}
