"""A replica as a process, whatever its role: signals, the loop, the exit code, and what the log says if it can't start.

Exit codes (documented in `ringcast serve ROLE --help`):
0 stopped in order; 2 its keys cannot be used, a database refuses it for good, or libzmq is too old; 3 it stopped
itself, an invariant is broken (V7); 4 the disk failed or is damaged (D5); 5 the data folder is in use, another
member's, or of another format or engine; 6 an address cannot be bound; 7 it was removed from the cluster (V12, R16).

Signals: SIGTERM, SIGINT leave the group and stop (V11), a second one stops at once.
"""

import asyncio
import gc
import importlib
import os
import signal
import socket as sockets
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic

import structlog
import zmq

from broker import kernel
from broker.guard import Guard, GuardLimits, raise_descriptors
from broker.security import Security
from broker.sockets import AddressRefused
from replicas import limits, logs, supervisor
from replicas.bus.addresses import blame, keys_of
from replicas.health import HealthServer
from replicas.settings import Config, ConfigError, ReplicaConfig
from ringcast.errors import KeysUnusable, ProtocolError
from store.errors import EngineMissing, FolderInUse, StoreError, WrongFolder

STOPPED, CONFIGURATION, HALTED, DISK, FOLDER, ADDRESS, REMOVED = 0, 2, 3, 4, 5, 6, 7
#: The writer's thread needs the interpreter for microseconds between two syncs: it must not wait 5 ms for them.
SWITCH_INTERVAL_S = 0.0005
CLOSE_TIMEOUT_S = 10.0
LIBZMQ_MIN = (4, 3, 2)


class ReplicaProcess(ABC, Generic[Config]):
    """Everything that a process holds. `start`, then `finished` says the exit code, then `close`."""

    def __init__(self, config: Config, **bound: Any) -> None:
        """`bound`: said with every line of the log, beside the member."""
        self.config = config
        self.log = structlog.get_logger().bind(member=config.id, **bound)
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self.security: Security | None = None
        self.guard = Guard(_guard_limits(config))
        limits.guarded_by(self.guard)
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: asyncio.Task[None] | None = None
        self.background(self.guard.failed())

    @abstractmethod
    async def start(self) -> None:
        """Open the folder, bind every address, take part. Raises StoreError, AddressRefused."""

    @abstractmethod
    async def leave(self) -> None:
        """SIGTERM, SIGINT: hand over, drain the clients (V11); bounded. Then the process stops."""

    @abstractmethod
    def close_parts(self) -> None:
        """Close what `start` opened, however far it came."""

    def open_security(self, role: str, member: int | None) -> Security | None:
        """The keys of this process, before any socket is bound; None: it is to speak plain. Raises ConfigError."""
        folder = self.config.keys
        if folder is None:
            self.log.warning("no_keys", next="set RINGCAST_KEYS, or keep every port on a network that you trust whole")
            return None
        try:
            self.security = Security(self._context, folder, role, member)
        except KeysUnusable as error:
            raise ConfigError(f"keys: {error}") from None
        self.background(self.security.watch())
        return self.security

    async def start_health(self, health: HealthServer, bind_http: str) -> str:
        """Listen; returns host:port. Raises AddressRefused."""
        host, _, port = bind_http.rpartition(":")
        try:
            return await health.start(host.strip("[]"), 0 if port == "*" else int(port))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise AddressRefused(f"tcp://{bind_http}", why) from error

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the end. What it raises ends the process: half of a replica must not live on in silence."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_background_end)
        self._tasks.append(task)

    def _on_background_end(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None or self._leaving is not None:
            return
        if isinstance(error, ProtocolError):
            self.halt(CONFIGURATION, f"every replica of a database refuses this one, and would again: {error}")
        elif isinstance(error, StoreError):
            self.halt(DISK, str(error))
        else:
            self.log.error("background_failed", exc_info=error)
            self.halt(HALTED, repr(error))

    def finish(self, code: int) -> None:
        """End the process; the first code counts."""
        if not self.finished.done():
            self.finished.set_result(code)

    def halt(self, code: int, reason: str) -> None:
        """It cannot go on."""
        self.log.error("replica_halted", code=code, reason=reason)
        self.finish(code)

    def ask_to_stop(self) -> None:
        """Leave, then end; asked a second time, end at once."""
        if self._leaving is not None:
            self.finish(STOPPED)
            return
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        await self.leave()
        self.finish(STOPPED)

    def close(self) -> None:
        """Close sockets, write what is queued, close the store."""
        for task in self._tasks:
            task.cancel()
        self.close_parts()
        if self.security is not None:
            self.security.close()
        self.guard.close()
        self._context.destroy(linger=0)


def _guard_limits(config: ReplicaConfig) -> GuardLimits:
    """Half of the descriptors at most are the reserve, however few there are; and no container's limit is passed."""
    descriptors = raise_descriptors()
    reserve = min(config.descriptor_reserve, descriptors // 2)
    memory_bytes = min(config.memory_bytes, kernel.memory_limit() or config.memory_bytes)
    return GuardLimits(memory_bytes, config.connection_bytes, config.port_bytes, descriptors, reserve)


def advertised(bound: str, address: str | None) -> str:
    """The endpoint for others: as configured, else as bound, with this machine's name instead of a wildcard."""
    if address is not None:
        return f"tcp://{address}"
    return bound.replace("//0.0.0.0:", f"//{sockets.gethostname()}:").replace("//[::]:", f"//{sockets.gethostname()}:")


async def _main(make: Callable[[Config], ReplicaProcess[Config]], config: Config) -> int:
    replica = make(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.ask_to_stop)
    try:
        await replica.start()
        supervisor.came_up()
        if (past := supervisor.restarts()).times:
            replica.log.error("replica_restarted", restarts=past.times, reason=past.reason)
        gc.collect()
        gc.freeze()
        return await replica.finished
    except (FolderInUse, WrongFolder, EngineMissing) as error:
        replica.log.critical("data_refused", why=str(error))
        return FOLDER
    except StoreError as error:
        replica.log.critical("data_unusable", why=str(error))
        return DISK
    except AddressRefused as error:
        key, address = " and ".join(keys_of(config, error.endpoint)), error.endpoint.removeprefix("tcp://")
        replica.log.critical("address_refused", key=key, address=address, why=error.why, next=blame(address))
        return ADDRESS
    except ConfigError as error:
        replica.log.critical("configuration_refused", why=str(error))
        return CONFIGURATION
    finally:
        replica.close()


def check_libzmq(version: tuple[int, int, int] = zmq.zmq_version_info()) -> None:
    """Random bytes on a port of an older libzmq run code: CVE-2019-6250, CVE-2019-13132. Raises ConfigError."""
    if version < LIBZMQ_MIN:
        found, needed = (".".join(map(str, one)) for one in (version, LIBZMQ_MIN))
        raise ConfigError(f"libzmq is {found}, {needed} or newer is needed: install pyzmq from its wheel")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return asyncio.new_event_loop


def host(make: Callable[[Config], ReplicaProcess[Config]], config: Config) -> int:
    """Run one replica in this process until it is told to stop; returns the exit code."""
    check_libzmq()
    logs.configure(config.log_level, config.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_main(make, config))
