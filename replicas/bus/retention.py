"""Snapshots and retention of one shell (C1, C2): when a snapshot is due, and how far the log may be trimmed.

Retention owes a trim while the log is larger than `retention_bytes` or its first slot is older than `retention_age`.
Sizes are those of the records on disk at the moment of the decision; nothing is carried from one trim to the next. A
snapshot is due after `snapshot_slots` or `snapshot_bytes`, and whenever the newest one stands in the way of a trim that
is owed. The core has the last word: it never trims past the newest snapshot, and up to the hard bound not past a member
that lags. docs/operations.md, "Disk space", says what follows for the size of the log.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from replicas.bus.config import BusConfig
from replicas.bus.rows import key_number, time_key
from replicas.bus.shell import Shell
from replicas.bus.space import log_bytes_hard, log_bytes_max
from replicas.clocks import now_us
from ringcast.strict import Plain
from sequencer import output as o
from store.contract import LogStore, SnapshotFile
from store.errors import DiskFull, RowDamaged, StoreClosed, StoreError

CHECK_INTERVAL_S = 0.1
#: What is owed is looked up so often; in a hurry at each check.
LOOK_INTERVAL_US = 1_000_000
#: A trim costs a commit: a small excess, and what has become too old, wait for the next of these.
TRIM_INTERVAL_US = 10_000_000
#: One transaction deletes no more slots than this: a commit behind it waits for some 10 ms, not for seconds.
TRIM_SLOTS_MAX = 2_048
#: A snapshot that only a small excess or an age asks for comes at most so often, and takes a twentieth of the time.
SNAPSHOT_PAUSE_US = 10_000_000
SNAPSHOT_PAUSE_MAX_US = 40_000_000
SNAPSHOT_SHARE = 20
#: So much older than `retention_age` a slot may become while a member lags (C2).
AGE_HELD_US = 30_000_000


class Owed(NamedTuple):
    """Where the log should begin: in any case below the hard bound, and at once beyond it (C2)."""

    first: int
    overdue: int


class Retention:
    """Looks at the log ten times a second.

    `store()` gives the present store, `applied()` the next slot to apply, `last_us()` the time of the slot before it,
    `quorum_us()` what the clocks of a quorum say, None if too few are known (D7): nothing is too old then.
    `lagging(slot)` are the members that the core would wait for, `busy()` says whether the core cannot trim, `full()`
    whether the disk has no space (D5).
    """

    def __init__(
        self,
        config: BusConfig,
        *,
        store: Callable[[], LogStore],
        applied: Callable[[], int],
        last_us: Callable[[], int],
        quorum_us: Callable[[], int | None],
        lagging: Callable[[int], Sequence[int]],
        busy: Callable[[], bool],
        full: Callable[[], bool],
        flush: Callable[[], "asyncio.Future[None]"],
        feed_event: Callable[[o.Event], None],
    ) -> None:
        self.config = config
        self.held_by: tuple[int, ...] = ()  # members that hold back a trim that is owed
        self._store = store
        self._applied = applied
        self._last_us = last_us
        self._quorum_us = quorum_us
        self._lagging = lagging
        self._busy = busy
        self._full = full
        self._flush = flush
        self._feed_event = feed_event
        self._log = structlog.get_logger().bind(member=config.id, ring_id=config.ring)
        self._measured = ("", 0, 0)  # snapshot, slot, bytes from the snapshot's slot to that slot
        self._snapshot_us = -SNAPSHOT_PAUSE_MAX_US
        self._pause_us = SNAPSHOT_PAUSE_US
        self._trim_us = -TRIM_INTERVAL_US
        self._looked_us = -LOOK_INTERVAL_US
        self._more = False  # a step of a large trim is made, and more is owed
        self._failed = False
        self._told = ""  # the snapshot that the core knows of
        self.on_damage: Callable[[str], object] = lambda _: None  # a row of the state machine, met by a snapshot

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            if self._busy():
                continue
            try:
                await self.check()
                self._failed = False
            except StoreClosed:
                continue  # the core is being restarted
            except StoreError as error:
                if isinstance(error, RowDamaged):
                    self.on_damage(error.why)
                self._fail(error)
                await asyncio.sleep(1.0)

    def _fail(self, error: StoreError) -> None:
        """Once in the log for each run of failures."""
        if not self._failed:
            (self._log.warning if isinstance(error, DiskFull) else self._log.error)("snapshot_failed", why=str(error))
        self._failed = True

    async def check(self) -> None:
        """Make a snapshot if one is due, ask for a trim if one is owed."""
        store = self._store()
        newest = next(iter(store.snapshots()), None)
        self._tell(newest)
        hurry = self._more or self._presses(store) or self._bytes_since(store, newest) >= self.config.snapshot_bytes
        if not hurry and now_us() - self._looked_us < LOOK_INTERVAL_US:
            return
        self._looked_us = now_us()
        owed = self._owed(store)
        if not self._full():
            store.keep_reserve()
        if self._due(store, newest, owed):
            newest = await self.make_snapshot()
        self._trim(store, newest, owed)

    def use(self, config: BusConfig) -> None:
        """The settings changed."""
        self.config = config

    def space(self) -> Mapping[str, Plain]:
        """The disk's part of the query `status` (docs/wire.md, "Queries")."""
        store = self._store()
        size, file = store.log_bytes(), store.file_size()
        return {
            "log_first": store.bounds()[0],
            "log_bytes": size,
            "log_bytes_max": log_bytes_max(self.config),
            "log_held_by": self.held_by,
            "log_held_bytes": max(0, size - self.config.retention_bytes) if self.held_by else 0,
            "retention_bytes": self.config.retention_bytes,
            "retention_age": self.config.retention_age,
            "file_bytes": file.size_bytes,
            "file_free_bytes": file.free_bytes,
            "snapshot_files_bytes": sum(made.size_bytes for made in store.snapshots()),
        }

    # ------------------------------------------------------------------ what is owed

    def _owed(self, store: LogStore) -> Owed:
        """By bytes and by age; a large trim goes in steps."""
        first = store.bounds()[0]
        size = store.log_bytes()
        by_bytes = self._beyond(store, size - self.config.retention_bytes)
        overdue = self._beyond(store, size - log_bytes_hard(self.config))
        now = self._quorum_us()
        if self.config.retention_age is not None and now is not None:
            horizon = now - self.config.retention_age * 1_000_000
            by_bytes = max(by_bytes, self._older_than(store, horizon))
            overdue = max(overdue, self._older_than(store, horizon - AGE_HELD_US))
        last = min(first + TRIM_SLOTS_MAX, self._applied())
        return Owed(min(by_bytes, last), min(overdue, last))

    @staticmethod
    def _beyond(store: LogStore, excess: int) -> int:
        """The slot below which records take `excess` bytes on disk."""
        first = store.bounds()[0]
        if excess <= 0:
            return first
        for slot, size in enumerate(store.record_bytes(first, TRIM_SLOTS_MAX), first + 1):
            excess -= size
            if excess <= 0:
                return slot
        return first + TRIM_SLOTS_MAX

    def _older_than(self, store: LogStore, horizon_us: int) -> int:
        """The first applied slot at or after a time; the next slot to apply if there is none."""
        young = next(iter(store.rows("times", time_key(max(0, horizon_us)), limit=1)), None)
        if young is not None:
            return key_number(young[0][8:])
        return self._applied() if self._last_us() < horizon_us else store.bounds()[0]  # its row is not written yet

    # ------------------------------------------------------------------ snapshots

    def _due(self, store: LogStore, newest: SnapshotFile | None, owed: Owed) -> bool:
        start = newest.slot if newest is not None else store.bounds()[0]
        if newest is None and start > 0:
            return True  # C3: the log begins with a snapshot, and no file of it is here: nobody could be filled from it
        since = self._applied() - start
        if since <= 0:
            return False
        bytes_since, paused = self._bytes_since(store, newest), now_us() - self._snapshot_us < self._pause_us
        full, blocked = self._full(), owed.first > start
        if not full and (since >= self.config.snapshot_slots or bytes_since >= self.config.snapshot_bytes):
            return True
        return blocked and ((self._presses(store) and not full) or not paused)

    def _presses(self, store: LogStore) -> bool:
        """The log is so far beyond its bound that it is trimmed now, not a few seconds later."""
        excess = store.log_bytes() - self.config.retention_bytes
        return excess >= min(self.config.snapshot_bytes * 3 // 4, self.config.retention_bytes // 2)

    def _bytes_since(self, store: LogStore, newest: SnapshotFile | None) -> int:
        """Bytes of the records above the newest snapshot; each is looked at once."""
        first = store.bounds()[0]
        name, start = (newest.name, max(newest.slot, first)) if newest is not None else ("", first)
        known, slot, size = self._measured
        if known != name or slot < start:
            slot, size = start, 0
        sizes = store.record_bytes(slot, TRIM_SLOTS_MAX)
        self._measured = (name, slot + len(sizes), size + sum(sizes))
        return self._measured[2]

    async def make_snapshot(self) -> SnapshotFile:
        """One snapshot of the state as it stands; the log goes on meanwhile."""
        store = self._store()
        started = self._snapshot_us = now_us()
        if self._full():  # it stands at what is durable, and has the space that was kept for it
            store.release_reserve()
        else:
            await self._flush()
        made = await asyncio.to_thread(store.make_snapshot, self.config.snapshot_chunk_bytes)
        self._pause_us = min(SNAPSHOT_PAUSE_MAX_US, max(SNAPSHOT_PAUSE_US, (now_us() - started) * SNAPSHOT_SHARE))
        self._tell(made)
        self._log.info("snapshot_made", name=made.name, slot=made.slot, bytes=made.size_bytes)
        return made

    def _tell(self, newest: SnapshotFile | None) -> None:
        """The core serves the newest file that is there; a damaged one may have been dropped."""
        name = newest.name if newest is not None else ""
        if newest is not None and name != self._told:
            self._feed_event(o.SnapshotMade(newest.name, newest.slot, newest.chain, newest.chunks))
        self._told = name

    # ------------------------------------------------------------------ trims

    def _trim(self, store: LogStore, newest: SnapshotFile | None, owed: Owed) -> None:
        first = store.bounds()[0]
        wanted = min(owed.first, newest.slot) if newest is not None else first
        if wanted <= first:
            self.held_by, self._more = (), False
            return
        self.held_by = tuple(self._lagging(wanted))
        now = now_us()
        self._more = wanted - first >= TRIM_SLOTS_MAX
        if not self._more and not self._presses(store) and now - self._trim_us < TRIM_INTERVAL_US:
            return
        self._trim_us = now
        self._feed_event(o.TrimAsked(wanted, owed.overdue))


def retention_of(shell: Shell) -> Retention:
    """The retention of a replica."""
    return Retention(
        shell.config,
        store=lambda: shell.store,
        applied=lambda: shell.machine.topics.applied,
        last_us=lambda: shell.machine.topics.time_us,
        quorum_us=lambda: shell.core.quorum_time_us(),  # noqa: PLW0108 - as below
        lagging=lambda slot: shell.core.lagging(slot),  # noqa: PLW0108 - the core is another one after a restart
        # While records go below the log, its first slot and its size may be of two moments: too much would be trimmed.
        busy=lambda: shell.core.opening or shell.core.prepending or bool(shell.core.damage),
        full=lambda: shell.disk.full,
        flush=shell.flush_rows,
        feed_event=shell.feed_event,
    )
