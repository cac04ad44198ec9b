"""The bus replica: one process, one member of the ring. Exit codes and signals: hosting.py."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from broker.feed import Feed, open_feed_socket
from broker.gateway import Gateway, GatewayLimits
from broker.intake import IntakeLimits
from broker.peers import PeerTransport
from broker.security import CLIENTS
from broker.sockets import SocketLimits, bind, open_socket
from replicas.bus.config import RETENTION_KEYS, BusConfig
from replicas.bus.directory import Addresses
from replicas.bus.health import ShellMetrics, checks, readiness
from replicas.bus.links import Links
from replicas.bus.peer_codec import PeerCodec
from replicas.bus.recovery import open_store
from replicas.bus.retention import retention_of
from replicas.bus.shell import INVARIANTS_INTERVAL_S, Shell
from replicas.bus.standing import staying
from replicas.bus.state_scrub import StateScrub
from replicas.bus.topics import TopicBounds
from replicas.health import HealthServer
from replicas.hosting import CLOSE_TIMEOUT_S, HALTED, REMOVED, ReplicaProcess, advertised, host
from replicas.scrubber import Scrubber
from replicas.settings import Loaded
from replicas.watching import SettingsWatch
from sequencer.errors import InvariantError
from sequencer.quorum import majority
from store.errors import StoreError

#: Without a quorum that stays there is nobody to hand on to: no waiting for a view without this member (V11).
ALONE_S = 0.5


class BusReplica(ReplicaProcess[BusConfig]):
    """Everything that a bus process holds."""

    def __init__(
        self, config: BusConfig, file: Path | None = None, read: Callable[[], BusConfig] | None = None
    ) -> None:
        """`file` and `read`: the file of settings, and how to read the configuration again when it changed."""
        super().__init__(config, ring_id=config.ring)
        self._file = file
        self._read = read
        self.settings_counters: Counter[str] = Counter()

    async def start(self) -> None:
        """Open the folder, bind every address, make the first step. Raises StoreError, AddressRefused."""
        config = self.config
        self.open_security("bus", config.id)
        opened = open_store(config, TopicBounds())
        self.shell = shell = Shell(config, opened, self.halt)
        shell.feed = self._feed(shell)
        shell.gateway = self._gateway(shell)
        self.links = Links(shell, self._removed)
        shell.transport = self._transport(shell)
        shell.on_configuration = self.links.configured
        shell.on_introduced = self.links.introduced
        self.health = HealthServer(
            lambda: readiness(shell),
            lambda: ShellMetrics(shell, self.security, self.settings_counters),
            role="bus",
            checks=lambda: checks(shell),
        )
        self.http = await self.start_health(self.health, config.bind_http)
        self.retention = retention_of(shell)
        shell.space = self.retention.space
        self._watch_settings()
        self._know_members()
        self.background(self.links.run())
        self.background(self.retention.run())
        self.state_scrub = StateScrub(shell, self.retention.make_snapshot)
        self.retention.on_damage = self.state_scrub.met
        self.state_scrub.scrubber = shell.retained.scrubber = self.scrubber = Scrubber(
            config.id,
            [shell.retained.part(), *self.state_scrub.parts()],
            bytes_per_second=config.scrub_bytes_per_second,
            pause_s=config.scrub_pause,
        )
        self.background(self.scrubber.run())
        self.background(self.state_scrub.run())
        self.background(shell.asides.watch(lambda: shell.cluster() if shell.core.takes_part and shell.core.view else 0))
        self.background(self._verify())
        if config.check_invariants:
            self.background(self._check_invariants())
        self.log.info(
            "replica_started",
            pid=os.getpid(),
            data=str(config.data),
            members=config.members,
            durability=config.durability,
            first=opened.recovered.first,
            applied=opened.recovered.applied,
            end=opened.recovered.end,
            damaged_runs=len(opened.recovered.damage),
            client=self.client_endpoint,
            feed=self.feed_endpoint,
            http=self.http,
        )

    def _feed(self, shell: Shell) -> Feed:
        config = self.config
        socket = open_feed_socket(self._context, self.security)
        bound = bind(socket, f"tcp://{config.bind_feed}")
        self.feed_endpoint = advertised(bound, config.advertise_feed)
        next_offset = shell.machine.topics.next_offset
        return Feed(
            socket, shell.cluster, ring=config.ring, next_offset=next_offset, security=self.security, guard=self.guard
        )

    def _gateway(self, shell: Shell) -> Gateway:
        config, group = self.config, shell.group
        batch_bytes_max = min(GatewayLimits().batch_bytes_max, group.request_bytes_max // 2)
        intake = IntakeLimits(request_bytes_max=min(IntakeLimits().request_bytes_max, group.request_bytes_max))
        limits = GatewayLimits(batch_bytes_max=batch_bytes_max, intake=intake)
        socket = open_socket(self._context, zmq.ROUTER, SocketLimits.of_clients(batch_bytes_max + (1 << 20)))
        if self.security is not None:
            self.security.listen(socket, CLIENTS)
        bound = bind(socket, f"tcp://{config.bind_client}")
        self.client_endpoint = advertised(bound, config.advertise_client)
        return Gateway(
            socket,
            shell,
            member=config.id,
            ring=config.ring,
            feed=self.feed_endpoint,
            limits=limits,
            observe=shell.timings.publish.observe,
            security=self.security,
            guard=self.guard,
        )

    def _transport(self, shell: Shell) -> PeerTransport[Any]:
        config = self.config
        return PeerTransport(
            self._context,
            bind_peer=f"tcp://{config.bind_peer}",
            bind_pub=f"tcp://{config.bind_pub}",
            peers={},  # whom to connect to is not the file's alone to say (V12): `links`
            codec=PeerCodec(config.ring, config.id, lambda: shell.core.wants_requests),
            on_events=shell.received,
            on_peer_lost=shell.peer_lost,
            on_peer_found=self.links.found,
            security=self.security,
            guard=self.guard,
        )

    def _watch_settings(self) -> None:
        """What bounds the log may change while the replica runs."""
        if self._file is None or self._read is None:
            return
        watch = SettingsWatch(self.config, self._file, RETENTION_KEYS, read=self._read, use=self.retention.use)
        self.settings_counters = watch.counters
        self.background(watch.run())

    def _know_members(self) -> None:
        """V12: who is a member stands in the log; the file is for the first day, and for addresses."""
        config, shell = self.config, self.shell
        own = config.peers[config.id]
        http = advertised(f"tcp://{self.http}", None).replace("tcp://", "http://")
        shell.directory.learn(
            config.id,
            Addresses(own.peer_endpoint, own.pub_endpoint, self.client_endpoint, self.feed_endpoint, http),
        )
        self.links.configured(shell.configuration)
        present = shell.core.next_members
        if shell.core.view is not None and present != config.members:
            self.log.warning(
                "members_differ",
                file=config.members,
                log=present,
                next="the log decides; name today's members in [peers], so that this replica finds them in any case",
            )

    def _removed(self) -> None:
        """V12: a quorum runs without this member, and nobody needs it any more."""
        shell = self.shell
        view = shell.core.newest_view
        self.log.warning(
            "replica_removed",
            members=view.members if view is not None else (),
            next="its data is not needed any more; to take part again, join under a new id with an empty folder",
        )
        if shell.gateway is not None:
            shell.gateway.leave("removed from the cluster")
        self.finish(REMOVED)

    async def _verify(self) -> None:
        """A10: what was not checked at start is checked in the background."""
        shell = self.shell
        first, _ = shell.store.bounds()
        if shell.verified_from <= first:
            return
        try:
            damaged = await asyncio.to_thread(shell.store.verify, first, shell.verified_from)
        except StoreError as error:
            self.log.warning("log_not_verified", why=str(error))
            return
        for run in damaged:
            self.log.error("record_damaged", first=run.first, last=run.last, rule="D6")
        shell.retained.damage_found(damaged)
        self.log.info("log_verified", first=first, end=shell.verified_from, damaged_runs=len(damaged))

    async def _check_invariants(self) -> None:
        while True:
            await asyncio.sleep(INVARIANTS_INTERVAL_S)
            try:
                self.shell.check_invariants()
            except InvariantError as error:
                self.shell.stop(HALTED, f"an invariant is broken: {error}")
                return

    # ------------------------------------------------------------------ the end

    async def leave(self) -> None:
        """At most `drain_timeout`; only what others can take over is waited for."""
        shell = self.shell
        loop = asyncio.get_running_loop()
        started = loop.time()
        shell.leave()
        alone_since: float | None = None
        while loop.time() - started < shell.group.drain_timeout_ms / 1_000 and not self.finished.done():
            drained = shell.gateway is None or not len(shell.gateway.intake)
            if shell.core.left and drained:
                break
            if shell.core.runs and staying(shell.core) >= majority(shell.core.members):
                alone_since = None
            elif alone_since is None:
                alone_since = loop.time()
            elif loop.time() - alone_since > ALONE_S:
                break
            await asyncio.sleep(0.01)
        pending = len(shell.gateway.intake) if shell.gateway else 0
        log = self.log.info if shell.core.left and not pending else self.log.warning
        log("replica_leaves", left_ring=shell.core.left, unanswered=pending, seconds=round(loop.time() - started, 3))

    def close_parts(self) -> None:
        if hasattr(self, "health"):
            self.health.close()
        shell: Shell | None = getattr(self, "shell", None)
        if shell is not None:
            clean = shell.close(CLOSE_TIMEOUT_S)
            for part in (shell.gateway, shell.feed, shell.transport):
                if part is not None:
                    part.close()
            self.log.info("replica_stopped", clean=clean)


def run(loaded: Loaded[BusConfig], read: Callable[[], BusConfig]) -> int:
    """Run one replica in this process until it is told to stop; returns the exit code."""
    return host(lambda config: BusReplica(config, loaded.path, read), loaded.config)
