"""Snapshots and retention of one shell (C1, C2): when to make one, and how far the log may go.

The core has the last word: it trims never past the newest snapshot, nor past a member seen within `retention_grace`.
"""

import asyncio
from collections.abc import Callable

import structlog

from replicas.bus.config import BusConfig
from replicas.bus.rows import key_number, time_key
from sequencer import output as o
from store.contract import LogStore, SnapshotFile
from store.errors import DiskFull, StoreClosed, StoreError

CHECK_INTERVAL_S = 1.0


class Retention:
    """Looks at the log each second. `state()` gives the present store, `applied()` the next slot to apply."""

    def __init__(
        self,
        config: BusConfig,
        *,
        store: Callable[[], LogStore],
        applied: Callable[[], int],
        busy: Callable[[], bool],
        flush: Callable[[], "asyncio.Future[None]"],
        feed_event: Callable[[o.Event], None],
        wall_us: Callable[[], int],
    ) -> None:
        self._config = config
        self._store = store
        self._applied = applied
        self._busy = busy
        self._flush = flush
        self._feed_event = feed_event
        self._wall_us = wall_us
        self._log = structlog.get_logger().bind(member=config.id, ring_id=config.ring)
        self._bytes_at_snapshot: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            if self._busy():
                continue
            try:
                await self.check()
            except StoreClosed:
                continue  # the core is being restarted
            except DiskFull as error:
                self._log.warning("snapshot_failed", why=str(error))
            except StoreError as error:
                self._log.error("snapshot_failed", why=str(error))

    async def check(self) -> None:
        """Make a snapshot if one is due, ask for a trim if the log is beyond its bounds."""
        store = self._store()
        newest = next(iter(store.snapshots()), None)
        if self._due(store, newest):
            newest = await self.make_snapshot()
        if newest is not None:
            first = min(self._first_kept(store), newest.slot)
            if first > store.bounds()[0]:
                self._feed_event(o.TrimAsked(first))

    def _due(self, store: LogStore, newest: SnapshotFile | None) -> bool:
        applied, size = self._applied(), store.log_bytes()
        if self._bytes_at_snapshot is None or newest is None:
            self._bytes_at_snapshot = self._bytes_at_snapshot or 0
        since = applied - (newest.slot if newest is not None else store.bounds()[0])
        if since <= 0:
            return False
        return since >= self._config.snapshot_slots or size - self._bytes_at_snapshot >= self._config.snapshot_bytes

    async def make_snapshot(self) -> SnapshotFile:
        """One snapshot of the state as it stands; the log goes on meanwhile."""
        store = self._store()
        await self._flush()
        made = await asyncio.to_thread(store.make_snapshot, self._config.snapshot_chunk_bytes)
        self._bytes_at_snapshot = store.log_bytes()
        self._feed_event(o.SnapshotMade(made.name, made.slot, made.chain, made.chunks))
        self._log.info("snapshot_made", name=made.name, slot=made.slot, bytes=made.size_bytes)
        return made

    def _first_kept(self, store: LogStore) -> int:
        """The first slot that retention keeps, by bytes and by age."""
        first, end = store.bounds()
        kept = first
        size, limit = store.log_bytes(), self._config.retention_bytes
        if size > limit and end > first:
            kept = min(end, first + -(-(size - limit) * (end - first) // size))
        if self._config.retention_age is not None:
            horizon = self._wall_us() - self._config.retention_age * 1_000_000
            young = next(iter(store.rows("times", time_key(max(0, horizon)), limit=1)), None)
            kept = max(kept, key_number(young[0][8:]) if young is not None else self._applied())
        return kept
