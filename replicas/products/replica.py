"""The product store's replica: one process, one member of its Raft group. Exit codes and signals: hosting.py."""

import asyncio
import os
from collections.abc import Mapping
from random import SystemRandom
from typing import Any

import zmq

from broker.security import CLIENTS
from broker.sockets import SocketLimits, bind, open_socket
from replicas.asides import Asides
from replicas.clocks import wall_us
from replicas.health import HealthServer
from replicas.hosting import DISK, HALTED, REMOVED, ReplicaProcess, host
from replicas.products.config import MemberAddress, ProductsConfig
from replicas.products.gateway import ProductGateway
from replicas.products.health import ProductMetrics, ProductTimings, checks, readiness
from replicas.products.member import ProductMember
from replicas.products.scrub import scrubber_of
from replicas.raft.configuration import RaftConfiguration
from replicas.raft.errors import RaftError, SettingRefused
from replicas.raft.node import RaftNode
from replicas.raft.transport import RaftTransport
from replicas.settings import ConfigError
from ringcast.product_store.wire import REQUEST_BYTES_MAX
from sequencer.errors import InvariantError
from store.aside import lost, remember_and_set_aside
from store.errors import StoreDamaged, StoreError
from store.products.machine import ProductMachine
from store.products.tables import TABLES
from store.raft_log import RaftStore

RING = 0
REVIEW_S = 0.1
NEXT = (
    "it comes back through the others; if a majority has set its folder aside, bring one back or restore a backup "
    "(`ringcast products restore`); look at the disk before you trust it again"
)
#: A frame holds a request, and what its envelope and its parts' heads add.
_FRAME_BYTES_MAX = REQUEST_BYTES_MAX + (1 << 20)


class ProductsReplica(ReplicaProcess[ProductsConfig]):
    """Everything that a process of the product store holds."""

    def __init__(self, config: ProductsConfig) -> None:
        super().__init__(config, role="products")
        self._loop = asyncio.get_running_loop()
        self._timings = ProductTimings()
        self._loop.set_exception_handler(self._raised)

    async def start(self) -> None:
        config = self.config
        raft = RaftConfiguration(
            on_leader=self._led, on_follower=lambda: self.log.info("leads_no_more"), **config.raft_settings
        )
        self.transport = RaftTransport(RING, config.id, lambda address: MemberAddress.parse(address).peer_endpoint)
        self.node = self._open(raft)
        security = self.open_security("products", config.id)
        self.transport.open(self._context, f"tcp://{config.bind_peer}", self.node, security=security, guard=self.guard)
        self.asides = Asides(config.data, config.id)
        self.scrubber = scrubber_of(config, self.store, self.node)
        self.member = ProductMember(
            self.node, self.store, lambda: len(self.transport.connected), self.asides, self.scrubber
        )
        router = open_socket(self._context, zmq.ROUTER, SocketLimits.of_clients(_FRAME_BYTES_MAX))
        if security is not None:
            security.listen(router, CLIENTS)
        client = bind(router, f"tcp://{config.bind_client}")
        self.gateway = ProductGateway(
            router,
            self.member,
            replica=config.id,
            clock_us=self.node.time.time_us,
            observe=self._timings.change.observe,
            security=security,
            guard=self.guard,
        )
        self.health = HealthServer(
            lambda: readiness(self.member),
            lambda: ProductMetrics(self.member, self.gateway, self._timings, self._counters),
            role="products",
            checks=lambda: checks(self.member),
        )
        self.http = await self.start_health(self.health, config.bind_http)
        status = self.node.status()
        self.node.start()
        self.background(self._review())
        self.background(self.scrubber.run())
        self.background(self.asides.watch(lambda: self.node.state.cluster if self.member.is_back else 0))
        self.log.info(
            "replica_started",
            pid=os.getpid(),
            data=str(config.data),
            peers={member: str(address) for member, address in config.peers.items()},
            term=status.term,
            base=status.base,
            applied=status.applied,
            last=status.last,
            client=client,
            http=self.http,
        )

    def _open(self, raft: RaftConfiguration) -> RaftNode:
        """A folder that cannot be trusted is set aside: the member comes back with a new disk (V0)."""
        try:
            return self._node(raft)
        except StoreDamaged as error:
            aside = remember_and_set_aside(self.config.data, error.why, wall_us())
            self.log.critical("data_set_aside", moved_to=str(aside.folder), why=error.why, rule="D6", next=NEXT)
        return self._node(raft)

    def _node(self, raft: RaftConfiguration) -> RaftNode:
        config = self.config
        self.store = RaftStore(
            config.data, config.id, TABLES, ProductMachine, self._loop, observe=self._timings.sync.observe
        )
        return RaftNode(
            config.id,
            {member: str(address) for member, address in config.peers.items()},
            raft,
            loop=self._loop,
            random=SystemRandom(),
            transport=self.transport,
            store=self.store,
            on_failure=self._disk_failed,
            wall_us=wall_us,
            lost=lost(config.data) is not None,
        )

    # -------------------------------------------------------------- while it runs

    def _led(self) -> None:
        self.log.info("leads", term=self.node.state.term)

    async def _review(self) -> None:
        """Tell the clients where the members are, and end when the members go on without this one (R16)."""
        state = self.node.state
        was_member = full = False
        distrusted = ""
        while True:
            self.gateway.tell_members(self.member.endpoints())
            self.gateway.sets_back = self.member.sets_back()
            log = state.log
            member = log.members.find(self.config.id) is not None
            if was_member and not member and log.members_index <= log.commit and log.members:
                self.log.warning("replica_removed", members=log.members.voters)
                self.gateway.leave("removed from the cluster")
                self.finish(REMOVED)
                return
            was_member = was_member or member
            if self.node.suspected:
                self.node.suspect(self.node.suspected)
            if state.filling.distrusted != distrusted:
                distrusted = state.filling.distrusted
                if distrusted:
                    self.log.error("state_damaged", why=distrusted, rule="R24", next="the leader fills it again")
                else:
                    self.log.warning("state_refilled", rule="R24")
                    self.scrubber.again()
            if state.full != full:
                full = state.full
                self.log.error("disk_full" if full else "disk_freed", data=str(self.config.data), rule="D5")
            await asyncio.sleep(REVIEW_S)

    def _counters(self) -> Mapping[str, Mapping[str, float]]:
        return {
            "security": self.security.all_counters() if self.security is not None else {},
            "raft": self.node.state.counters,
            "transport": self.transport.counters,
            "gateway": self.gateway.counters,
        }

    # -------------------------------------------------------------- the end

    def _disk_failed(self, error: Exception) -> None:
        self.halt(DISK, f"the disk failed, nothing is written any more (D5): {error}")

    def _raised(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raised. A broken invariant ends the process with the disk as it is."""
        error = context.get("exception")
        if isinstance(error, InvariantError):
            self.halt(HALTED, f"an invariant is broken: {error}")
        elif isinstance(error, StoreError):
            self._disk_failed(error)
        else:
            self.log.error("callback_failed", what=context.get("message"), exc_info=error)

    async def leave(self) -> None:
        """Hand the leadership over, send the clients on, answer what is pending: `drain_timeout_ms` at most."""
        started = self._loop.time()
        handed: int | None = None
        try:
            async with asyncio.timeout(self.config.drain_timeout_ms / 1_000):
                if self.node.leads and len(self.member.voters) > 1:
                    handed = await self.node.transfer()
                self.gateway.leave("stopping")
                while self.gateway.bytes:  # noqa: ASYNC110 - once in the life of a process
                    await asyncio.sleep(0.005)
        except (RaftError, TimeoutError) as error:
            self.log.warning("not_handed_over", why=str(error) or "the time is over")
            self.gateway.leave("stopping")
        self.log.info(
            "replica_leaves",
            handed_to=handed,
            unanswered_bytes=self.gateway.bytes,
            seconds=round(self._loop.time() - started, 3),
        )

    def close_parts(self) -> None:
        if hasattr(self, "health"):
            self.health.close()
        if hasattr(self, "gateway"):
            self.gateway.close()
        if hasattr(self, "node"):
            self.transport.close()
            self.node.stop()
            self.log.info("replica_stopped")


def run(config: ProductsConfig) -> int:
    """Run one replica in this process until it is told to stop; returns the exit code. Raises ConfigError."""
    try:
        RaftConfiguration(**config.raft_settings)
    except SettingRefused as error:
        raise ConfigError(f"raft: {error}") from None
    return host(ProductsReplica, config)
