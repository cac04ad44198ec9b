"""The demo: replicas order a real text from concurrent publishers, lose the token holder to a kill -9, and agree.

Whoever shows it passes `watch`, which is called with the `Progress` at every change. What is claimed at the end is
measured from outside: digests by subscriber processes that see one replica each, lost and duplicated against the
publishers' own list of acknowledged ids.
"""

import asyncio
import contextlib
import math
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ringcast
from replicas.demo.publishers import TOPIC, Publishers
from replicas.demo.subscriber import Subscriber
from replicas.local.cluster import LocalCluster

BEFORE_KILL_S = 4.0
DOWN_S = 1.5
AFTER_RETURN_S = 1.0
#: Bounds; what is late shows in the result.
RECOVERY_TIMEOUT_S = 10.0
RETURN_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 15.0
POLL_S = 0.1
_STATUS_TIMEOUT_S = 0.5


class DemoError(Exception):
    """The demo could not be carried out; the text says what to do."""


@dataclass(slots=True)
class ReplicaProgress:
    """What is known of one replica. `lag`: acknowledged messages that its own subscriber has not received yet."""

    replica: int
    state: str = "starting"
    view: tuple[int, int] = (0, 0)
    ring: tuple[int, ...] = ()
    end: int = 0
    committed: int = 0
    delivered: int = 0
    lag: int = 0
    digest: str = ""


@dataclass(slots=True)
class Progress:
    """What the demo has seen so far. `events`: one line for each thing that happened."""

    replicas: dict[int, ReplicaProgress]
    events: list[str] = field(default_factory=list)
    published: int = 0
    messages_per_second: float = 0.0
    killed: int | None = None
    gap_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The outcome; fields as the JSON keys. `delivered` and `digests` by replica; `latency_ms`: p50, p99, max.

    `lost`: acknowledged ids that some replica's subscriber did not receive. `duplicated`: received more than once.
    `failover_gap_ms`: the longest time after the kill in which no publisher got any receipt.
    """

    replicas: int
    published: int
    delivered: dict[str, int]
    digests: dict[str, str]
    identical: bool
    lost: int
    duplicated: int
    view_changes: int
    failover_gap_ms: float
    messages_per_second: int
    latency_ms: dict[str, float]

    @property
    def good(self) -> bool:
        """Same order everywhere, nothing lost, nothing twice."""
        return self.identical and self.lost == 0 and self.duplicated == 0


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file, without their ends. Raises DemoError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DemoError(f"cannot read {path}: {error.strerror}; name a text file with --input") from None
    if not lines:
        raise DemoError(f"{path} is empty: name a text file with at least one line")
    return lines


class Demo:
    """One run; `await run()` once."""

    def __init__(self, lines: Sequence[bytes], replicas: int, folder: Path, watch: Callable[[Progress], None]) -> None:
        self.progress = Progress({member: ReplicaProgress(member) for member in range(1, replicas + 1)})
        self._watch = watch
        self._cluster = LocalCluster.create(folder, replicas)
        self._publishers = Publishers(self._cluster.path, lines)
        self._subscribers = {
            member: Subscriber(member, replica.client, folder / f"subscriber-{member}.ids")
            for member, replica in self._cluster.replicas.items()
        }
        self._views: set[tuple[int, int]] = set()

    async def run(self) -> DemoResult:
        """Everything from the first process to the last. Raises LocalClusterError, RingcastError."""
        try:
            async with AsyncExitStack() as stack:
                await self._start(stack)
                publishing = asyncio.create_task(self._publishers.run())
                stack.push_async_callback(_cancelled, publishing)
                polling = asyncio.create_task(self._poll_for_ever())
                stack.push_async_callback(_cancelled, polling)
                story = asyncio.create_task(self._story())
                stack.push_async_callback(_cancelled, story)
                await asyncio.wait({publishing, story}, return_when=asyncio.FIRST_COMPLETED)
                if publishing.done():
                    await publishing  # it ends before the story only by an error
                await story
                self._publishers.stop()
                await publishing
                self.say(f"{len(self._publishers.acknowledged):,} messages published and acknowledged")
                return await self._finish()
        finally:
            await asyncio.to_thread(self._cluster.stop)

    # ---- the story ----

    async def _start(self, stack: AsyncExitStack) -> None:
        members = list(self._cluster.replicas)
        self.say(f"starting {len(members)} replicas")
        self._cluster.start()
        await asyncio.to_thread(self._cluster.wait_ready)
        self._buses = {
            member: await stack.enter_async_context(ringcast.connect(replica.client, replica=member))
            for member, replica in self._cluster.replicas.items()
        }
        for subscriber in self._subscribers.values():
            stack.push_async_callback(subscriber.close)
            await subscriber.start()
        self.say(f"ready; 4 publishers and {len(members)} subscribers, each on a replica of its own")

    async def _story(self) -> None:
        publishers = self._publishers
        await asyncio.sleep(BEFORE_KILL_S)
        # Half way means half of a long file, too.
        await _until(lambda: publishers.first_pass_done >= 0.5, math.inf)
        if len(self._cluster.replicas) > 1:
            victim = await self._kill_holder()
            if self._survives:
                await self._end_gap()
            await self._bring_back(victim)
            if not self._survives:
                await self._end_gap()
        await asyncio.sleep(AFTER_RETURN_S)

    @property
    def _survives(self) -> bool:
        """Are the others a quorum? With two replicas they are not: nothing is acknowledged until the second is back."""
        count = len(self._cluster.replicas)
        return count - 1 >= count // 2 + 1

    async def _end_gap(self) -> None:
        acknowledged = len(self._publishers.acknowledged)
        await _until(lambda: len(self._publishers.acknowledged) > acknowledged, RECOVERY_TIMEOUT_S)
        self.progress.gap_ms = self._publishers.end_gap() * 1_000
        self.say(f"longest time without a receipt: {self.progress.gap_ms:.0f} ms")

    async def _kill_holder(self) -> int:
        victim = await self._holder()
        acknowledged = len(self._publishers.acknowledged)
        self._publishers.watch_gap()
        await asyncio.to_thread(self._cluster.kill, victim)
        self.progress.killed = victim
        self.say(f"kill -9 of replica {victim}, which held the token, after {acknowledged:,} messages")
        await asyncio.sleep(DOWN_S)
        return victim

    async def _holder(self) -> int:
        """Who holds the token: each replica says it of itself alone, and while it travels nobody does."""
        deadline_s = asyncio.get_running_loop().time() + RECOVERY_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline_s:
            for bus in self._buses.values():
                holder = (await bus.status()).token_holder
                if holder is not None:
                    return holder
        raise DemoError(
            f"no replica held the token when asked, for {RECOVERY_TIMEOUT_S:g} s: is this machine overloaded?"
        )

    async def _bring_back(self, victim: int) -> None:
        self._cluster.restart(victim)
        self.say(f"replica {victim} starts again on its old data")
        started_s = asyncio.get_running_loop().time()
        replica, others = self.progress.replicas[victim], [m for m in self._cluster.replicas if m != victim]

        def is_back() -> bool:
            newest = max(self.progress.replicas[member].delivered for member in others)
            return victim in replica.ring and replica.state == "serving" and replica.delivered >= newest * 0.99

        if await _until(is_back, RETURN_TIMEOUT_S):
            self.say(f"replica {victim} caught up and takes turns again after {_since(started_s):.1f} s")
        else:
            self.say(f"replica {victim} is not back in the ring after {RETURN_TIMEOUT_S:g} s; the demo goes on")

    async def _finish(self) -> DemoResult:
        async with ringcast.connect(self._cluster.path) as bus:
            ends = [topic.last_offset + 1 for topic in await bus.topics(TOPIC)]
        end, subscribers = max(ends, default=0), self._subscribers
        await asyncio.gather(*(one.finish(end, FINISH_TIMEOUT_S) for one in subscribers.values()))
        self._update()
        publishers, received = self._publishers, {member: one.ids() for member, one in subscribers.items()}
        lost = {name for ids in received.values() for name in publishers.acknowledged.keys() - set(ids)}
        twice = {name for ids in received.values() for name, times in Counter(ids).items() if times > 1}
        digests = {str(member): one.digest for member, one in subscribers.items()}
        return DemoResult(
            replicas=len(received),
            published=len(publishers.acknowledged),
            delivered={str(member): len(ids) for member, ids in received.items()},
            digests=digests,
            identical=len(set(digests.values())) == 1 and all(digests.values()),
            lost=len(lost),
            duplicated=len(twice),
            view_changes=max(0, len(self._views) - 1),
            failover_gap_ms=round(self.progress.gap_ms or 0.0, 1),
            messages_per_second=round(publishers.messages_per_second),
            latency_ms=_latencies_ms(publishers.latencies_s),
        )

    # ---- what is seen ----

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.gather(*map(self._ask, self._buses), asyncio.sleep(POLL_S))
            self._update()

    async def _ask(self, member: int) -> None:
        replica = self.progress.replicas[member]
        if not self._cluster.replicas[member].running:
            replica.state, replica.ring = "killed", ()
            return
        try:
            status = await self._buses[member].status(timeout=_STATUS_TIMEOUT_S)
        except ringcast.Unavailable:
            replica.state = "no answer"
            return
        replica.state, replica.view, replica.ring = status.state, status.view, status.ring
        replica.end, replica.committed = status.end, status.committed
        self._views.add(status.view)

    def _update(self) -> None:
        progress, publishers = self.progress, self._publishers
        progress.published = len(publishers.acknowledged)
        progress.messages_per_second = publishers.messages_per_second
        for member, subscriber in self._subscribers.items():
            replica = progress.replicas[member]
            replica.delivered, replica.digest = subscriber.delivered, subscriber.digest
            replica.lag = max(0, progress.published - subscriber.delivered)
        self._watch(progress)

    def say(self, event: str) -> None:
        """Add a line to the events."""
        self.progress.events.append(event)
        self._watch(self.progress)


async def run_demo(lines: Sequence[bytes], replicas: int, watch: Callable[[Progress], None]) -> DemoResult:
    """Run the demo in a temporary folder. Raises DemoError and LocalClusterError. SIGTERM cancels it.

    The folder, with the replicas' logs and data, stays if the result is not good; the last event says where.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="ringcast-demo-"))
    demo = Demo(lines, replicas, folder, watch)
    try:
        result = await demo.run()
    except asyncio.CancelledError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (ringcast.RingcastError, ExceptionGroup) as error:
        if not isinstance(first := _first(error), ringcast.RingcastError):
            raise
        raise DemoError(f"{first}; the replicas' logs are in {folder}") from None
    if result.good:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        demo.say(f"the replicas' logs and data stay in {folder}")
    return result


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


async def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline_s:
            return False
        await asyncio.sleep(POLL_S / 2)
    return True


def _since(started_s: float) -> float:
    return asyncio.get_running_loop().time() - started_s


def _latencies_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """The middle, the 99th of a hundred, and the worst, in milliseconds."""
    ordered = sorted(latencies_s) or [math.nan]
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(ordered[min(place, len(ordered) - 1)] * 1_000, 2) for name, place in places.items()}
