"""The paced background scrub: read what no start check and no client reads, and name what is damaged (D6, A10).

Each part (rows, snapshot files, records of a log) is read from its beginning to its end, pass after pass, at a bounded
pace. The scrubber decides nothing: it tells a part's owner what is damaged, and the owner repairs it.

Known limit: it sees what the operating system gives. A page that the page cache holds is not read from the disk again.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from replicas.clocks import wall_us
from ringcast.strict import Plain
from store.errors import StoreClosed, StoreDamaged, StoreError

#: A step of a pass reads about this much: a few milliseconds of the interpreter.
STEP_BYTES: Final = 64 << 10
#: The store is closed while a core restarts; look again after this.
RETRY_S: Final = 1.0


class Step(NamedTuple):
    """What one read of a pass looked at, and the names of what it found damaged (`slot 17`, `row 6c of 'items'`)."""

    size_bytes: int
    damaged: tuple[str, ...] = ()


class Part(NamedTuple):
    """One kind of data that is scrubbed.

    `steps()` begins a pass: an iterator that runs in a thread and may hold no transaction or lock between two steps.
    `total_bytes()`: about what a whole pass reads. `found(name)`: called on the loop for each damaged thing, once until
    it is mended or found whole.
    """

    name: str
    steps: Callable[[], Iterator[Step]]
    total_bytes: Callable[[], int]
    found: Callable[[str], object] = lambda _: None


class Progress:
    """How far the pass over one part is, and what is known to be damaged."""

    def __init__(self) -> None:
        self.passes = 0
        self.read_bytes = 0  # ever
        self.found = 0  # ever
        self.mended = 0  # ever
        self.damaged: set[str] = set()
        self.pass_bytes = 0
        self.total_bytes = 0
        self.pass_ended_us = 0  # by the wall clock; 0: no whole pass yet

    @property
    def ratio(self) -> float:
        """Of the present pass; 1 between two passes."""
        if self.total_bytes <= 0:
            return 1.0
        return min(1.0, self.pass_bytes / self.total_bytes)


class Scrubber:
    """Made and used on the loop; `run` it in the background.

    `bytes_per_second` 0: no scrub. `pause_s`: between two passes over everything.
    """

    def __init__(self, member: int, parts: Sequence[Part], *, bytes_per_second: int, pause_s: float) -> None:
        self._parts = tuple(parts)
        self._bytes_per_second = bytes_per_second
        self._pause_s = pause_s
        self._log = structlog.get_logger().bind(member=member)
        self._wake = asyncio.Event()
        self.progress = {part.name: Progress() for part in self._parts}

    async def run(self) -> None:
        """Pass after pass, until cancelled."""
        while self._bytes_per_second:
            closed = False
            for part in self._parts:
                closed = not await self.scrub(part) or closed
            self._wake.clear()
            try:
                async with asyncio.timeout(RETRY_S if closed else self._pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def again(self) -> None:
        """Begin the next pass now: something was repaired, or damage was met elsewhere."""
        self._wake.set()

    async def scrub(self, part: Part) -> bool:
        """One pass over one part; False if it ended early, since the store was closed or could not be read."""
        progress = self.progress[part.name]
        progress.pass_bytes, progress.total_bytes = 0, part.total_bytes()
        seen: set[str] = set()
        try:
            steps = part.steps()
            while (step := await asyncio.to_thread(next, steps, None)) is not None:
                progress.pass_bytes += step.size_bytes
                progress.read_bytes += step.size_bytes
                for name in step.damaged:
                    seen.add(name)
                    self.damage(part.name, name)
                await asyncio.sleep(step.size_bytes / self._bytes_per_second)
        except StoreClosed:
            return False
        except StoreDamaged as error:
            self.damage(part.name, error.why)
            return False
        except StoreError as error:
            self._log.warning("scrub_failed", part=part.name, why=str(error))
            return False
        for name in progress.damaged - seen:
            self.mended(part.name, name)
        progress.passes += 1
        progress.total_bytes = 0
        progress.pass_ended_us = wall_us()
        self._log.debug("scrub_passed", part=part.name, bytes=progress.pass_bytes, damaged=len(progress.damaged))
        return True

    def damage(self, part: str, name: str) -> None:
        """Something is damaged; also for who met it elsewhere than in a pass (a read, an apply)."""
        progress = self.progress[part]
        if name not in progress.damaged:
            progress.damaged.add(name)
            progress.found += 1
            self._log.error("scrub_damage_found", part=part, what=name, rule="D6")
            next(one for one in self._parts if one.name == part).found(name)

    def mended(self, part: str, name: str) -> None:
        """It is whole again."""
        progress = self.progress[part]
        if name in progress.damaged:
            progress.damaged.discard(name)
            progress.mended += 1
            self._log.info("scrub_damage_mended", part=part, what=name)

    @property
    def damaged(self) -> int:
        """How many things are damaged, as far as is known."""
        return sum(len(progress.damaged) for progress in self.progress.values())

    def status(self) -> dict[str, Plain]:
        """For `status`: by part, the passes, the progress of this one, and what is damaged (at most ten names)."""
        return {
            name: {
                "passes": progress.passes,
                "progress": round(progress.ratio, 4),
                "passed_us": progress.pass_ended_us,
                "damaged": tuple(sorted(progress.damaged)[:10]),
                "damaged_count": len(progress.damaged),
                "mended": progress.mended,
            }
            for name, progress in self.progress.items()
        }

    def metrics(self, labels: dict[str, str]) -> Iterator[Metric]:
        """`ringcast_scrub_*`, labelled with the part."""
        gauges: dict[str, tuple[str, Callable[[Progress], float]]] = {
            "scrub_damaged": ("things that are damaged and not repaired yet", lambda one: len(one.damaged)),
            "scrub_progress_ratio": ("of the present pass; 1 between passes", lambda one: one.ratio),
            "scrub_passed_timestamp_seconds": (
                "when the newest whole pass ended, 0 before the first",
                lambda one: one.pass_ended_us / 1e6,
            ),
        }
        counters: dict[str, tuple[str, Callable[[Progress], float]]] = {
            "scrub_bytes": ("bytes read", lambda one: one.read_bytes),
            "scrub_passes": ("whole passes", lambda one: one.passes),
            "scrub_found": ("damaged things that were found", lambda one: one.found),
            "scrub_mended": ("of them, those that are whole again", lambda one: one.mended),
        }
        for kind, families in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
            for name, (text, value) in families.items():
                family = kind(f"ringcast_{name}", f"Scrub: {text}", labels=[*labels, "part"])
                for part, progress in self.progress.items():
                    family.add_metric([*labels.values(), part], value(progress))
                yield family
