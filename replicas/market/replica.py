"""An interface replica: one process, for sellers or for buyers. Exit codes and signals: hosting.py."""

import asyncio
import os
from functools import partial

import zmq

from broker.grants import BUYERS, SELLERS
from broker.security import CLIENTS
from broker.sockets import SocketLimits, bind, open_socket
from replicas import limits, supervisor
from replicas.health import HealthServer
from replicas.hosting import ReplicaProcess, host
from replicas.market.config import MarketConfig, endpoints
from replicas.market.functions import MarketFunctions
from replicas.market.gateway import MarketGateway
from replicas.market.health import MarketMetrics, readiness
from replicas.market.links import CustomersLink, ProductsLink
from replicas.market.passwords import Hasher
from replicas.products.front import Standing
from ringcast.bus.session import Session
from ringcast.errors import NotReady, RingcastError, Unavailable
from ringcast.market.types import Party
from ringcast.product_store.wire import REQUEST_BYTES_MAX
from ringcast.strict import Plain

PROBE_S = 0.5
#: Databases that were silent for so long do not serve.
SILENT_S = 3.0
CONNECT_TIMEOUT_S = 1e9  # until somebody stops us


class MarketReplica(ReplicaProcess[MarketConfig]):
    """Everything that an interface's process holds."""

    def __init__(self, config: MarketConfig, *, party: Party) -> None:
        super().__init__(config, role=f"{party}s")
        self.party = party
        self._loop = asyncio.get_running_loop()
        self._probe_trouble: RingcastError = NotReady(replica=config.id, state="connecting to the databases")

    async def start(self) -> None:
        config, party = self.config, self.party
        timeout_s = config.call_timeout_ms / 1_000
        security = self.open_security(f"{party}s", None)
        bus, store = (endpoints(addresses, config.client_keys(party)) for addresses in (config.bus, config.products))
        self.session = Session(self._context, bus)
        self.products = ProductsLink(store.addresses, timeout=timeout_s, keys=store.credentials.path)
        self.customers = CustomersLink(self.session, timeout_s)
        self.hasher = Hasher()
        self.functions = MarketFunctions(party, self.customers, self.products, self.hasher)
        router = open_socket(self._context, zmq.ROUTER, SocketLimits.of_clients(REQUEST_BYTES_MAX))
        if security is not None:
            security.listen(router, CLIENTS)
        client = bind(router, f"tcp://{config.bind_client}")
        self.gateway = MarketGateway(
            router,
            self.functions,
            replica=config.id,
            standing=self._standing,
            trouble=self.trouble,
            status=self._status,
            security=security,
            guard=self.guard,
            service={Party.SELLER: SELLERS, Party.BUYER: BUYERS}[party],
        )
        self.gateway.tell_members(config.members)
        labels = {"party": str(party), "member": str(config.id)}
        self.health = HealthServer(
            lambda: readiness(party, config.id, self.session.cluster, self.trouble()),
            lambda: MarketMetrics(self.gateway, labels, self.trouble, self.security),
            role=f"{party}s",
        )
        self.http = await self.start_health(self.health, config.bind_http)
        self.background(self._connect())
        self.log.info(
            "interface_started",
            pid=os.getpid(),
            bus=config.bus,
            products=config.products,
            client=client,
            http=self.http,
        )

    # -------------------------------------------------------------- while it runs

    async def _connect(self) -> None:
        """Both databases, in whatever order they come up; then look after them, and after orders."""
        await asyncio.gather(self.session.start(CONNECT_TIMEOUT_S), self._enter_products())
        self.log.info("interface_connected", bus=self.session.welcome.replica, products=self.products.replica)
        if self.party is Party.BUYER:
            self.background(self.functions.purchases.sweep())
        while True:
            try:
                await asyncio.gather(self.customers.probe(PROBE_S), self.products.probe(PROBE_S))
            except RingcastError as error:
                self._probe_trouble = error
            await asyncio.sleep(PROBE_S)

    async def _enter_products(self) -> None:
        """However long the store takes to come up: a call's time limit is none for that."""
        while True:
            try:
                await self.products.__aenter__()
            except Unavailable as error:
                self._probe_trouble = error
                await asyncio.sleep(PROBE_S)
            else:
                return

    def trouble(self) -> RingcastError | None:
        """Why nothing is served here now: a database was silent, and another interface may reach it."""
        if self._loop.time() - min(self.customers.heard_s, self.products.heard_s) < SILENT_S:
            return None
        return NotReady(replica=self.config.id, state=f"without a database: {self._probe_trouble}")

    def _standing(self) -> Standing:
        # ANY until the bus has told its id. A client id begins at the customers' offset and the products' index.
        return Standing(self.session.cluster, self.products.applied, 0, self.customers.offset)

    def _status(self) -> dict[str, Plain]:
        return {
            "replica": self.config.id,
            "party": str(self.party),
            "bus": self.session.welcome.replica,
            "products": self.products.replica,
            **limits.report(),
            "clients": self.gateway.connections,
            "busy": self.gateway.busy,
            "orders": dict(self.functions.purchases.counters),
            "hashes": {"made": self.hasher.made, "seconds": self.hasher.seconds},
            **supervisor.report(),
        }

    # -------------------------------------------------------------- the end

    async def leave(self) -> None:
        """Send the clients on, and finish what is under way: `drain_timeout_ms` at most."""
        self.gateway.leave("stopping")
        try:
            async with asyncio.timeout(self.config.drain_timeout_ms / 1_000):
                await self.gateway.drained()
                await self.functions.purchases.drained()
        except TimeoutError:
            self.log.warning("not_drained", busy=self.gateway.busy)
        await self.products.close()
        await self.session.close()

    def close_parts(self) -> None:
        for part in ("health", "gateway", "hasher"):
            if hasattr(self, part):
                getattr(self, part).close()
        self.log.info("interface_stopped")


def run(config: MarketConfig, party: Party) -> int:
    """Run one interface in this process until it is told to stop; returns the exit code."""
    return host(partial(MarketReplica, party=party), config)
