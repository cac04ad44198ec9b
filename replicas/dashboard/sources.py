"""Who is asked, and how often: each member of the bus on a connection of its own, the product store, and /metrics.

A member that is away costs nobody else anything: each is asked by a task of its own, and what it said last stands until
it says something else. Everything is a question; nothing here changes anything.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ringcast
from replicas.bus.overview import MemberOverview
from replicas.clocks import wall_us
from replicas.dashboard.board import Board
from replicas.dashboard.measures import Measured, read_metrics
from replicas.dashboard.snapshot import NOT_ASKED, ProductReplica, Replica, Snapshot
from replicas.products.overview import look as look_at_products
from ringcast.endpoints import file_of

LOOK_INTERVAL_S = 0.2
#: The rarer ones: a connection each time, and a page of metrics.
PRODUCTS_INTERVAL_S = 1.0
MEASURE_INTERVAL_S = 1.0
SCRAPE_TIMEOUT_S = 0.5
#: One answer that is late is no loss: what a replica said last stands for so long.
LOST_AFTER_S = 2.0
METRICS_BYTES_MAX = 4 << 20
NO_METRICS = "latency is read from the replicas' /metrics: name a cluster.json that has their http addresses"


class Sources:
    """`async with Sources(cluster) as sources:` fills `sources.board` until it ends.

    `on_failure`: called when asking ended by an error of ours, which `failure` then is: a page that merely stands still
    would be taken for a cluster in which nothing happens.
    """

    def __init__(self, cluster: str, timeout_s: float = 5.0) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s
        self.file = file_of(cluster)
        self.board = Board(cluster, "" if replicas_of(self.file, "bus") else NO_METRICS)
        self._rows: dict[int, dict[str, Any]] = {}
        self._products: tuple[ProductReplica, ...] | None = None
        self._patience = Patience()
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = self.board.close
        self._askers: dict[int, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Sources":
        """Learn the members from any replica, and begin to ask. Raises Unreachable, and what `connect` raises."""
        async with ringcast.connect(self._cluster, timeout=self._timeout_s) as bus:
            self._follow((await bus.status()).members)
        loops: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._look, LOOK_INTERVAL_S),
            (self._measure, MEASURE_INTERVAL_S),
            (self._ask_products, PRODUCTS_INTERVAL_S),
        ]
        self._tasks = [self._begin(_each(work, interval_s)) for work, interval_s in loops]
        return self

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failure = failure
            self.on_failure()

    async def __aexit__(self, *_: object) -> None:
        self.board.close()
        tasks = [*self._tasks, *self._askers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -------------------------------------------------------------- the bus

    def _follow(self, members: tuple[int, ...]) -> None:
        """Ask these and no others (V12)."""
        for member in set(members) - self._askers.keys():
            self._rows[member] = {"replica": member, "error": NOT_ASKED}
            self._askers[member] = self._begin(self._ask(member))
        for member in self._askers.keys() - set(members):
            self._askers.pop(member).cancel()
            self._rows.pop(member, None)

    async def _ask(self, member: int) -> None:
        overview, patience = MemberOverview(self._cluster, member), Patience()

        async def ask() -> None:
            row = await overview.ask()
            if patience.believes(member, time.monotonic(), failed="error" in row):
                self._rows[member] = row

        try:
            await _each(ask, LOOK_INTERVAL_S)
        finally:
            await overview.close()

    async def _look(self) -> None:
        rows = [self._rows[member] for member in sorted(self._rows)]
        if any(row.get("error") == NOT_ASKED for row in rows) and not self.board.version:
            return  # the first look is of all, or what it lacks would look like found later
        snapshot = Snapshot(tuple(map(Replica.read, rows)), self._products)
        self.board.look(snapshot, wall_us())
        if snapshot.members and snapshot.heard and set(snapshot.members) != self._askers.keys():
            self._follow(snapshot.members)

    # -------------------------------------------------------------- beside it

    async def _ask_products(self) -> None:
        if not await asyncio.to_thread(replicas_of, self.file, "products"):
            return
        try:
            rows = await look_at_products(self._cluster, self._timeout_s)
        except ringcast.RingcastError as error:
            # Whoever is known is away, all of them.
            self._products = tuple(ProductReplica(one.id, str(error)) for one in self._products or ())
        else:
            now, last = time.monotonic(), {one.id: one for one in self._products or ()}
            found = map(ProductReplica.read, rows)
            self._products = tuple(
                one if self._patience.believes(one.id, now, failed=one.error is not None) else last.get(one.id, one)
                for one in found
            )

    async def _measure(self) -> None:
        places = await asyncio.to_thread(replicas_of, self.file, "bus")
        wanted = [(member, places[member]) for member in self._rows if places.get(member)]
        texts = await asyncio.gather(*(scrape(place) for _, place in wanted))
        found: dict[int, Measured] = {
            member: read_metrics(text) for (member, _), text in zip(wanted, texts, strict=True) if text is not None
        }
        self.board.measure(found, time.monotonic(), wall_us())


class Patience:
    """Whether a replica that does not answer is lost, or merely late."""

    def __init__(self) -> None:
        self._answered_s: dict[int, float] = {}

    def believes(self, member: int, now_s: float, *, failed: bool) -> bool:
        """Is this to be taken as the state of `member`? A failure is, when it has lasted."""
        if not failed:
            self._answered_s[member] = now_s
            return True
        return now_s - self._answered_s.setdefault(member, now_s) >= LOST_AFTER_S


async def _each(work: Callable[[], Awaitable[None]], interval_s: float) -> None:
    """Do it every so often, until cancelled; one that takes longer is not done twice at a time."""
    while True:
        due = time.monotonic() + interval_s
        await work()
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def replicas_of(file: Path | None, role: str) -> Mapping[int, str]:
    """Replica -> its http address ("": none is told), as cluster.json says now; empty where there is no such file."""
    if file is None:
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["replicas"]
        return {int(one["id"]): str(one.get("http", "")) for one in entries if one.get("role", "bus") == role}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # gone, or being written: the next time


async def scrape(http: str) -> str | None:
    """The text at /metrics of http://host:port; None if it does not answer in time."""
    place = urlsplit(http)
    try:
        async with asyncio.timeout(SCRAPE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
                answer = await _whole(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace") if head.split(b" ", 2)[1:2] == [b"200"] else None


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """To the end, which HTTP/1.0 marks by closing. Raises ValueError if it is more than any replica says."""
    found = bytearray()
    while part := await reader.read(1 << 16):
        found += part
        if len(found) > METRICS_BYTES_MAX:
            raise ValueError("too much")
    return bytes(found)
