"""What the page shows: the last snapshot, some minutes of history and the last events, and what of it is new to whom.

It does no I/O and reads no clock. Readers wait for the next version and then take all that is new to them at once, so
that a slow one skips looks, never events or points, and nothing is queued for anybody.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from secrets import token_hex
from typing import Any, NamedTuple

from replicas.dashboard.events import differences, view_name
from replicas.dashboard.measures import PUBLISH, ROTATION, Buckets, Measured, added, together
from replicas.dashboard.snapshot import Snapshot

#: One point a second: five minutes.
POINTS_MAX = 300
#: Quantiles are of so many seconds: of one, some would be of three publishes.
LATENCY_POINTS = 5
EVENTS_MAX = 200


class Point(NamedTuple):
    """One second of the charts; None: not known. `at_us`: wall clock. `turns_per_s`: of all members together."""

    at_us: int
    messages_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    turns_per_s: float | None
    rotation_ms: float | None


class Seen(NamedTuple):
    """What a reader has: numbers of the last version, point and event."""

    version: int = 0
    point: int = 0
    event: int = 0


class Board:
    """`version` grows with each change; `closed`: there will be none any more."""

    def __init__(self, cluster: str, latency_source: str) -> None:
        """`cluster`: as the page names the place. `latency_source`: "" if there is one, else why there is none."""
        self.run = token_hex(8)  # a page that meets another one begins anew
        self.version = 0
        self.closed = False
        self._cluster = cluster
        self._latency_source = latency_source
        self._snapshot: Snapshot | None = None
        self._at_us = 0
        self._holder: int | None = None
        self._identity: dict[str, Any] = {}
        self._points: deque[tuple[int, Point]] = deque(maxlen=POINTS_MAX)
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=EVENTS_MAX)
        self._counted = 0
        self._measured: dict[int, Measured] = {}
        self._published: deque[Buckets] = deque(maxlen=LATENCY_POINTS)
        self._offset: tuple[float, int] | None = None
        self._measured_s: float | None = None
        self._changed = asyncio.Event()

    # -------------------------------------------------------------- what comes in

    def look(self, snapshot: Snapshot, at_us: int) -> None:
        """Take a look, and note what happened since the last one."""
        snapshot = snapshot.after(self._snapshot)
        if self._snapshot is not None:
            for event in differences(self._snapshot, snapshot):
                self._counted += 1
                self._events.append((self._counted, {"number": self._counted, "at_us": at_us, **event._asdict()}))
        self._snapshot, self._at_us = snapshot, at_us
        # The token moves faster than anybody looks: whoever has it now, else whoever had it last, if it is in the ring.
        leading = snapshot.leading
        holders = [one for one in snapshot.heard if one.holds_token]
        newest = max(holders, key=lambda one: (one.view, one.end), default=None)
        if newest is not None:
            self._holder = newest.id
        elif leading is None or self._holder not in leading.ring:
            self._holder = None
        named = next(iter(snapshot.heard), None)
        if named is not None:
            self._identity = {"id": named.cluster, "name": named.cluster_name, "durability": named.durability}
        self._tell()

    def measure(self, measured: Mapping[int, Measured], now_s: float, at_us: int) -> None:
        """Take what the replicas count (replica -> histograms), and make a point of what was added. `now_s` grows."""
        parts = {
            name: together(
                added(self._measured.get(member, {}).get(name), found[name])
                for member, found in measured.items()
                if name in found
            )
            for name in (PUBLISH, ROTATION)
        }
        self._published.append(parts[PUBLISH])
        publish, rotation = together(self._published), parts[ROTATION]
        elapsed = now_s - self._measured_s if self._measured_s is not None else 0.0
        point = Point(
            at_us,
            self._throughput(now_s),
            _ms(publish.quantile(0.5)),
            _ms(publish.quantile(0.99)),
            rotation.observed / elapsed if measured and elapsed > 0 else None,
            _ms(rotation.mean_s),
        )
        self._measured = {**self._measured, **measured}
        self._measured_s = now_s
        self._points.append((self._points[-1][0] + 1 if self._points else 1, point))
        self._tell()

    def _throughput(self, now_s: float) -> float | None:
        """Messages a second since the last point: the order's end then and now."""
        before, offset = self._offset, self._snapshot.next_offset if self._snapshot is not None else None
        if offset is None:
            self._offset = None
            return None
        self._offset = (now_s, offset)
        if before is None or now_s <= before[0] or offset < before[1]:
            return None
        return (offset - before[1]) / (now_s - before[0])

    def close(self) -> None:
        """Readers end."""
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -------------------------------------------------------------- what goes out

    async def newer(self, seen: Seen) -> None:
        """Wait until there is something newer, or the end."""
        if self.version <= seen.version and not self.closed:
            await self._changed.wait()

    def news(self, seen: Seen) -> tuple[dict[str, Any], Seen]:
        """A document with the state of now and with the points and events that are new; what its reader has then."""
        points = [point for number, point in self._points if number > seen.point]
        events = [event for number, event in self._events if number > seen.event]
        document = {"run": self.run, "first": seen == Seen(), **self._state(), "points": points, "events": events}
        last = self._points[-1][0] if self._points else 0
        return document, Seen(self.version, last, self._counted)

    def _state(self) -> dict[str, Any]:
        found = self._snapshot
        common = {"at_us": self._at_us, "place": self._cluster, "latency_source": self._latency_source}
        if found is None:
            return {**common, "health": "unknown", "replicas": [], "products": None}
        leading = found.leading
        return {
            **common,
            "cluster": self._identity,
            "health": found.health if found.heard else "unreachable",
            "serving": found.serving,
            "quorum": found.quorum,
            "members": found.members,
            "view": view_name(leading.view) if leading is not None else None,
            "ring": leading.ring if leading is not None else (),
            "holder": self._holder,
            "committed": found.committed,
            "next_offset": found.next_offset,
            "replicas": [{**asdict(one), "lag": found.lag(one), "view": view_name(one.view)} for one in found.replicas],
            "products": None if found.products is None else [asdict(one) for one in found.products],
            "products_leader": found.products_leader.id if found.products_leader is not None else None,
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1_000
