"""The bus replica: one process, one member. `run(config)` binds, recovers, turns until SIGTERM, and says how it ended.

Exit codes of the process (documented in `ringcast serve --help`):
0 stopped in order; 3 the core stopped itself (divergence, V7); 4 the disk failed or is damaged (D5); 5 the data folder
is in use or another member's; 6 an address cannot be bound; 7 it was removed from the cluster (V12).

Signals: SIGTERM, SIGINT leave the ring and stop (V11), a second one stops at once.
"""

import asyncio
import gc
import importlib
import os
import signal
import socket as sockets
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import zmq

from broker.feed import FEED_LIMITS, Feed
from broker.gateway import Gateway, GatewayLimits
from broker.intake import IntakeLimits
from broker.peers import PeerTransport
from broker.sockets import AddressRefused, SocketLimits, bind, open_socket
from replicas import logs
from replicas.addresses import blame, keys_of
from replicas.config import BusConfig
from replicas.directory import Addresses
from replicas.health import HealthServer
from replicas.links import Links
from replicas.peer_codec import PeerCodec
from replicas.recovery import open_store
from replicas.retention import Retention
from replicas.shell import INVARIANTS_INTERVAL_S, Shell, wall_us
from replicas.standing import staying
from replicas.topics import TopicBounds
from sequencer.errors import InvariantError
from sequencer.quorum import majority
from store.errors import FolderInUse, StoreError, WrongFolder

STOPPED, HALTED, DISK, FOLDER, ADDRESS, REMOVED = 0, 3, 4, 5, 6, 7
#: The writer's thread needs the interpreter for microseconds between two syncs: it must not wait 5 ms for them.
SWITCH_INTERVAL_S = 0.0005
CLOSE_TIMEOUT_S = 10.0
#: Without a quorum that stays there is nobody to hand on to: no waiting for a view without this member (V11).
ALONE_S = 0.5


class BusReplica:
    """Everything that a bus process holds. `start`, then `finished` says the exit code."""

    def __init__(self, config: BusConfig) -> None:
        self.config = config
        self.log = structlog.get_logger().bind(member=config.id, ring_id=config.ring)
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the folder, bind every address, make the first step. Raises StoreError, AddressRefused."""
        config = self.config
        opened = open_store(config, TopicBounds())
        self.shell = shell = Shell(config, opened, self._stopped)
        shell.feed = self._feed(shell)
        shell.gateway = self._gateway(shell)
        self.links = Links(shell, self._removed)
        shell.transport = self._transport(shell)
        shell.on_configuration = self.links.configured
        shell.on_introduced = self.links.introduced
        self.health = HealthServer(lambda: self.shell)
        host, _, port = config.bind_http.rpartition(":")
        try:
            self.http = await self.health.start(host.strip("[]"), 0 if port == "*" else int(port))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise AddressRefused(f"tcp://{config.bind_http}", why) from error
        self.retention = Retention(
            config,
            store=lambda: shell.store,
            applied=lambda: shell.machine.topics.applied,
            busy=lambda: shell.disk.full or shell.core.opening or bool(shell.core.damage),
            flush=shell.flush_rows,
            feed_event=shell.feed_event,
            wall_us=wall_us,
        )
        self._know_members()
        self._background(self.links.run())
        self._background(self.retention.run())
        self._background(self._verify())
        if config.check_invariants:
            self._background(self._check_invariants())
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
        socket = open_socket(self._context, zmq.PUB, FEED_LIMITS)
        bound = bind(socket, f"tcp://{config.bind_feed}")
        self.feed_endpoint = _advertised(bound, config.advertise_feed)
        return Feed(socket, shell.cluster, ring=config.ring, next_offset=shell.machine.topics.next_offset)

    def _gateway(self, shell: Shell) -> Gateway:
        config, group = self.config, shell.group
        batch_bytes_max = min(GatewayLimits().batch_bytes_max, group.request_bytes_max // 2)
        intake = IntakeLimits(request_bytes_max=min(IntakeLimits().request_bytes_max, group.request_bytes_max))
        limits = GatewayLimits(batch_bytes_max=batch_bytes_max, intake=intake)
        socket = open_socket(self._context, zmq.ROUTER, SocketLimits(frame_bytes_max=batch_bytes_max + (1 << 20)))
        bound = bind(socket, f"tcp://{config.bind_client}")
        self.client_endpoint = _advertised(bound, config.advertise_client)
        return Gateway(socket, shell, member=config.id, ring=config.ring, feed=self.feed_endpoint, limits=limits)

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
        )

    def _know_members(self) -> None:
        """V12: who is a member stands in the log; the file is for the first day, and for addresses."""
        config, shell = self.config, self.shell
        own = config.peers[config.id]
        http = _advertised(f"tcp://{self.http}", None).replace("tcp://", "http://")
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
        if not self.finished.done():
            self.finished.set_result(REMOVED)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

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

    def _stopped(self, code: int, reason: str) -> None:
        self.log.error("replica_halted", code=code, reason=reason)
        if not self.finished.done():
            self.finished.set_result(code)

    def ask_to_stop(self) -> None:
        """SIGTERM, SIGINT: leave the ring, drain the clients, end (V11). A second signal ends at once."""
        if self._leaving is not None:
            if not self.finished.done():
                self.finished.set_result(STOPPED)
            return
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
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
        if not self.finished.done():
            self.finished.set_result(STOPPED)

    def close(self) -> None:
        """Close sockets, write what is queued, close the store."""
        for task in self._tasks:
            task.cancel()
        if hasattr(self, "health"):
            self.health.close()
        shell: Shell | None = getattr(self, "shell", None)
        if shell is not None:
            clean = shell.close(CLOSE_TIMEOUT_S)
            for part in (shell.gateway, shell.feed, shell.transport):
                if part is not None:
                    part.close()
            self.log.info("replica_stopped", clean=clean)
        self._context.destroy(linger=0)


def _advertised(bound: str, advertised: str | None) -> str:
    """The address for others: as configured, else as bound, with this machine's name instead of a wildcard."""
    if advertised is not None:
        return f"tcp://{advertised}"
    return bound.replace("//0.0.0.0:", f"//{sockets.gethostname()}:").replace("//[::]:", f"//{sockets.gethostname()}:")


async def _main(config: BusConfig) -> int:
    replica = BusReplica(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.ask_to_stop)
    try:
        await replica.start()
        gc.collect()
        gc.freeze()
        return await replica.finished
    except (FolderInUse, WrongFolder) as error:
        replica.log.critical("data_refused", why=str(error))
        return FOLDER
    except StoreError as error:
        replica.log.critical("data_unusable", why=str(error))
        return DISK
    except AddressRefused as error:
        key, address = " and ".join(keys_of(config, error.endpoint)), error.endpoint.removeprefix("tcp://")
        replica.log.critical("address_refused", key=key, address=address, why=error.why, next=blame(address))
        return ADDRESS
    finally:
        replica.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.new_event_loop


def run(config: BusConfig) -> int:
    """Run one replica in this process until it is told to stop; returns the exit code."""
    logs.configure(config.log_level, config.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_main(config))
