"""The demo's publishers: several clients of their own, each with a share of the lines, and what they were promised."""

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import ringcast

TOPIC = "demo.lines"
PUBLISHERS = 4
#: Messages that one publisher has unanswered: enough to keep the ring busy, few enough to see latency and not a queue.
OUTSTANDING_MAX = 32

_Sent = tuple[str, float, ringcast.Ticket]


class Publishers:
    """Publish `lines` over and over, each message with an id in its headers, until `stop()` and once through at least.

    Everything said here was acknowledged: `acknowledged` maps id -> offset, `latencies_s` holds send to receipt.
    """

    def __init__(self, cluster: Path, lines: Sequence[bytes]) -> None:
        self.acknowledged: dict[str, int] = {}
        self.latencies_s: list[float] = []
        self.started_s = 0.0
        #: When the newest receipt came, by the loop's clock.
        self.newest_s = 0.0
        self._cluster = cluster
        self._lines = lines
        self._stopping = False
        self._gap_from_s: float | None = None
        self._gap_s = 0.0

    async def run(self) -> None:
        """Until all is published and acknowledged. Raises RingcastError if anything was not."""
        self.started_s = self.newest_s = _now_s()
        async with asyncio.TaskGroup() as group:
            for publisher in range(PUBLISHERS):
                group.create_task(self._publish(publisher))

    def stop(self) -> None:
        """Publish no more, but the rest of the first pass."""
        self._stopping = True

    @property
    def first_pass_done(self) -> float:
        """The acknowledged part of one pass through the lines, 0 to 1."""
        return min(1.0, len(self.acknowledged) / max(1, len(self._lines)))

    @property
    def messages_per_second(self) -> float:
        """Acknowledged messages over the whole time so far, the gap included."""
        elapsed_s = self.newest_s - self.started_s
        return len(self.acknowledged) / elapsed_s if elapsed_s > 0 else 0.0

    # ---- the gap: the longest time without any receipt at any publisher ----

    def watch_gap(self) -> None:
        """Begin now: the time until the next receipt counts too."""
        self._gap_from_s = _now_s()
        self._gap_s = 0.0

    def end_gap(self) -> float:
        """Seconds of the longest time without a receipt since `watch_gap`."""
        self._extend_gap(_now_s())
        self._gap_from_s = None
        return self._gap_s

    @property
    def gap_s(self) -> float:
        """What `end_gap` would say now."""
        running_s = 0.0 if self._gap_from_s is None else _now_s() - self._gap_from_s
        return max(self._gap_s, running_s)

    def _extend_gap(self, now_s: float) -> None:
        if self._gap_from_s is not None:
            self._gap_s = max(self._gap_s, now_s - self._gap_from_s)
            self._gap_from_s = now_s

    # ---- one publisher ----

    async def _publish(self, publisher: int) -> None:
        sent: asyncio.Queue[_Sent | None] = asyncio.Queue(OUTSTANDING_MAX)
        async with ringcast.connect(self._cluster) as bus, asyncio.TaskGroup() as group:
            group.create_task(self._collect(sent))
            pipeline = bus.publisher(TOPIC)
            numbers = count(1)
            share = self._lines[publisher::PUBLISHERS]
            first = True
            while share and (first or not self._stopping):
                for line in share:
                    if self._stopping and not first:
                        break
                    name = f"{publisher}-{next(numbers)}"
                    began_s = _now_s()
                    ticket = await pipeline.send(line, {"id": name})
                    await sent.put((name, began_s, ticket))
                first = False
            await pipeline.close()
            await sent.put(None)

    async def _collect(self, sent: "asyncio.Queue[_Sent | None]") -> None:
        while (one := await sent.get()) is not None:
            name, began_s, ticket = one
            receipt = await ticket
            now_s = self.newest_s = _now_s()
            self.acknowledged[name] = receipt.offset
            self.latencies_s.append(now_s - began_s)
            self._extend_gap(now_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
