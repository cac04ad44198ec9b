"""What a process may spend on its connections: bytes of each and of all of a port, memory in all, and descriptors.

A thread hears of each connection, looks at the process's memory forty times a second, more often when it is short, and
at every connection when the memory grew or a second has passed: the loop may be busy with the very flood. A connection
beyond a bound is cut, counted and named in the log. When the memory is above its bound although each connection is
within its own (libzmq needs 64 bytes for an empty part), the one that holds most is cut.

The kernel gives each connection the lowest free descriptor: one with a number beyond `descriptors` less the reserve
means that only the reserve is left, which is for peers, HTTP and the disk.
"""

import asyncio
import resource
import select
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from broker import kernel
from broker.ports import SUBSCRIBER_BYTES, SUBSCRIBERS_BYTES, Accepted, Cut, Port, PortLimits
from broker.sockets import ZmqSocket

PAUSE_MS, PAUSE_SHORT_MS, LOOK_S = 25, 5, 1.0
#: So much more memory is a reason to look at every connection.
GROWTH_BYTES = 16 << 20
#: Who holds less is not worth a cut when memory is short.
WORTH_BYTES = 1 << 20
#: So much waits in the kernel of a connection whose other end does not read; libzmq's queue behind it is not seen.
UNSENT_BYTES = 64 << 10
#: Cut because memory is short: the next one only after so long, or when it has grown further.
CUT_PAUSE_S, CUTS_AT_ONCE = 0.1, 16
#: Free memory is given back when nothing waits and so much more is in use than at the start: after so long, then less
#: and less often as long as the memory does not grow further.
TRIM_S, TRIM_MAX_S, TRIM_BYTES = 5.0, 600.0, 64 << 20
LOG_INTERVAL_S = 10.0
#: Cuts that are remembered for `recent_cuts`.
CUTS_KEPT = 1_000


#: Where there is no limit.
DESCRIPTORS_MAX = 1 << 20


class GuardLimits(NamedTuple):
    """For one process. `descriptors`: how many it may open; `reserve` of them are not for clients."""

    memory_bytes: int = 1 << 30
    connection_bytes: int = 64 << 20
    port_bytes: int = 192 << 20
    descriptors: int = DESCRIPTORS_MAX
    reserve: int = 128


def raise_descriptors() -> int:
    """Allow this process as many descriptors as it may allow itself; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # a hard limit above what the kernel allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else DESCRIPTORS_MAX


def open_port(name: str, socket: ZmqSocket, guard: "Guard | None", *, clients: bool = True, reads: bool = True) -> Port:
    """The connections of a bound socket, to be closed before it; without a guard they have no bounds. On the loop."""
    port = Port(name, socket, reads=reads)
    if guard is None:
        port.read_on_loop()
    else:
        guard.watch(port, clients=clients)
        port.on_close = guard.forget
    return port


class Guard:
    """One process's. Made on the loop; ports are added as they are opened (`open_port`); `close` before the loop ends.

    `counters`: looks, trims, and of each port what it cut.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self._memory = kernel.Memory()
        self.memory_bytes = self._memory.anonymous_bytes()
        self._high_bytes = limits.memory_bytes * 3 // 4
        self.counters: Counter[str] = Counter()
        self.ports: list[Port] = []
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._log = structlog.get_logger()
        self._cuts: list[tuple[float, str, str]] = []
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="ringcast guard", daemon=True)
        self._looked_at, self._looked_bytes = 0.0, self.memory_bytes
        self._cut_at, self._cut_bytes = 0.0, 0
        self._trim_s, self._trimmed_at = TRIM_S, 0.0
        self._started_bytes = self._trimmed_bytes = self.memory_bytes

    async def failed(self) -> None:
        """Wait as long as the thread looks; raise what ended it."""
        await self._failure

    def watch(self, port: Port, *, clients: bool) -> None:
        """Keep a port within its bounds, from now on. `clients`: its connections leave the reserve alone."""
        limits = self.limits
        # A stranger at a peers' port may take of the reserve, but not what HTTP and the disk need.
        left = limits.reserve if clients else limits.reserve // 2
        one, every = limits.connection_bytes, limits.port_bytes
        if not port.reads:
            one, every = SUBSCRIBER_BYTES, SUBSCRIBERS_BYTES
        port.limits = PortLimits(one, every, limits.descriptors - left)
        port.on_cut = self._was_cut
        with self._lock:
            port.read_events()  # libzmq signals what comes after a look that found nothing, and not before it
            self.ports.append(port)
        if not self._thread.is_alive():
            self._thread.start()

    def forget(self, port: Port) -> None:
        """Its socket is about to be closed."""
        with self._lock:
            self.ports.remove(port)

    def close(self) -> None:
        """Look no more."""
        self._ending = True
        if self._thread.is_alive():
            self._thread.join()

    @property
    def connections(self) -> int:
        """Of all ports."""
        return sum(len(port.connections) for port in self.ports)

    def recent_cuts(self, now_s: float, within_s: float) -> "Counter[tuple[str, str]]":
        """How many connections were cut, by port and reason."""
        return Counter((port, why) for at_s, port, why in list(self._cuts) if now_s - at_s < within_s)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - whatever it is: no bound holds any more, the owner must hear of it
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _watch(self) -> None:
        while not self._ending:
            waiting = select.poll()
            with self._lock:
                for port in self.ports:
                    waiting.register(port.monitor.fileno(), select.POLLIN)
            waiting.poll(PAUSE_SHORT_MS if self.memory_bytes > self.limits.memory_bytes // 2 else PAUSE_MS)
            with self._lock:
                for port in self.ports:
                    port.read_events()
                self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        """Look at the memory, and at the connections if there is a reason to."""
        memory = self.memory_bytes = self._memory.anonymous_bytes()
        grew = memory - self._looked_bytes
        pause_s = CUT_PAUSE_S if memory > self._high_bytes else LOOK_S
        if grew < GROWTH_BYTES and now_s - self._looked_at < pause_s:
            self._looked_bytes = min(self._looked_bytes, memory)
            return
        self._looked_at, self._looked_bytes = now_s, memory
        self.counters["looks"] += 1
        alive = [(port, one) for port in self.ports for one in port.look(now_s)]
        relieved = memory > self._high_bytes and self._relieve(alive, memory, now_s)
        if not relieved and memory - self._started_bytes > TRIM_BYTES:
            self._trim(memory, now_s)

    def _relieve(self, alive: Sequence[tuple[Port, Accepted]], memory: int, now_s: float) -> bool:
        """Memory is short: cut the connection that holds most, else one that does not read its answers.

        Several where it is nearly at its limit. False: no connection is worth it.
        """
        worth = [pair for pair in alive if pair[1].held >= WORTH_BYTES or pair[1].unsent >= UNSENT_BYTES]
        if now_s - self._cut_at >= CUT_PAUSE_S or memory - self._cut_bytes >= GROWTH_BYTES:
            worth.sort(key=lambda pair: (pair[1].held if pair[1].held >= WORTH_BYTES else 0, pair[1].unsent))
            for port, one in worth[-CUTS_AT_ONCE if memory > self.limits.memory_bytes * 7 // 8 else -1 :]:
                self._cut_at, self._cut_bytes = now_s, memory
                port.cut(one, "memory_bytes", self._high_bytes)
        return bool(worth)

    def _trim(self, memory: int, now_s: float) -> None:
        """What a flood leaves: the allocator keeps it, in the arena of libzmq's thread above all."""
        if memory - self._trimmed_bytes > TRIM_BYTES // 4:
            self._trim_s = TRIM_S
        if now_s - self._trimmed_at > self._trim_s and sum(port.held for port in self.ports) < WORTH_BYTES:
            kernel.trim()
            self.counters["trims"] += 1
            self._trim_s = min(2 * self._trim_s, TRIM_MAX_S)
            self._trimmed_at, self._trimmed_bytes = now_s, self._memory.anonymous_bytes()

    def _was_cut(self, cut: Cut) -> None:
        self._cuts = [*self._cuts[-CUTS_KEPT:], (time.monotonic(), cut.port, cut.why)]
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, cut)

    # ------------------------------------------------------------------ on the loop

    def _tell(self, cut: Cut) -> None:
        """One line for each port and reason now and then, with a count."""
        now_s = self._loop.time()
        told_at, untold = self._told.get((cut.port, cut.why), (-LOG_INTERVAL_S, 0))
        if now_s - told_at < LOG_INTERVAL_S:
            self._told[cut.port, cut.why] = told_at, untold + 1
            return
        self._told[cut.port, cut.why] = now_s, 0
        self._log.warning(
            "connection_cut",
            port=cut.port,
            why=cut.why,
            address=cut.address,
            key=cut.key or None,
            held_bytes=cut.held,
            limit=cut.limit,
            more=untold,
        )
