"""Retention over a store in memory: the log is bounded in every cycle, ages are met, snapshots are made when due."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from replicas.bus import retention as retentions
from replicas.bus.config import BusConfig, PeerAddress
from replicas.bus.retention import AGE_HELD_US, SNAPSHOT_PAUSE_MAX_US, Retention
from replicas.bus.rows import number_key, time_key
from replicas.bus.space import log_bytes_hard, log_bytes_max
from sequencer import output as o
from store.contract import APPLIED_KEY, Append, DeleteRange, FoldRange, PutRow, TrimLog
from store.memory import MemoryStore
from store.snapshot import encode_slot
from tests.store.helpers import link

SECOND = 1_000_000
MIB = 1 << 20
KB = 1_000


class Replica:
    """A store, what stands for the core (C2), and a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.config = BusConfig(id=1, data=Path("data"), peers={1: PeerAddress("127.0.0.1", 1, 2)}, **settings)
        self.store = MemoryStore()
        self.store.recover()
        self.now = 1_000 * SECOND
        self.wall = 0  # what the newest slot says
        self.clocks = True  # those of a quorum are known, and right
        self.acked: dict[int, int] = {}  # members that lag
        self.snapshots = 0
        self.peak = 0
        self.full = False
        monkeypatch.setattr(retentions, "now_us", lambda: self.now)
        self.retention = Retention(
            self.config,
            store=lambda: self.store,
            applied=lambda: self.end,
            last_us=lambda: self.wall,
            quorum_us=lambda: self.now if self.clocks else None,
            lagging=lambda slot: [member for member, end in self.acked.items() if end < slot],
            busy=lambda: False,
            full=lambda: self.full,
            flush=self.flush,
            feed_event=self.take,
        )

    @property
    def first(self) -> int:
        return self.store.bounds()[0]

    @property
    def end(self) -> int:
        return self.store.bounds()[1]

    def order(self, *sizes: int) -> None:
        """One slot of each size; the ring's time goes with the clock."""
        self.wall = max(self.wall, self.now)
        for size in sizes:
            slot = self.end
            rows = [
                PutRow("meta", APPLIED_KEY, encode_slot(slot + 1)),
                PutRow("times", time_key(self.wall, slot), number_key(slot)),
            ]
            self.store.commit([Append(slot, link(slot), link(slot - 1), (bytes(size),)), *rows])
        self.peak = max(self.peak, self.store.log_bytes())

    def flush(self) -> "asyncio.Future[None]":
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def take(self, event: o.Event) -> None:
        if isinstance(event, o.SnapshotMade):
            self.snapshots += 1
            return
        assert isinstance(event, o.TrimAsked)
        newest = self.store.snapshots()[0].slot
        wanted = min(event.first, newest)
        held = min([wanted, *(end for end in self.acked.values() if end < wanted)])
        self.store.commit([TrimLog(min(wanted, max(held, event.overdue)))])

    async def turn(self, seconds: float = 0.1) -> None:
        """Time passes, and retention looks."""
        self.now += int(seconds * SECOND)
        await self.retention.check()

    async def until_idle(self, seconds: int) -> None:
        """Nothing is ordered for so long."""
        for _ in range(seconds * 2):
            await self.turn(0.5)


@pytest.mark.parametrize("sizes", [(50 * KB,), (200, 900 * KB, 200, 3 * KB)])
@pytest.mark.parametrize(("retention", "snapshot"), [(8 * MIB, 4 * MIB), (2 * MIB, 8 * MIB), (4 * MIB, 4 * MIB)])
async def test_the_log_is_bounded_in_every_cycle(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], retention: int, snapshot: int
) -> None:
    """The size at the last snapshot was noted before the trim: each peak was one `snapshot_bytes` above the last."""
    replica = Replica(monkeypatch, retention_bytes=retention, snapshot_bytes=snapshot, snapshot_slots=1 << 30)
    written = 0
    while written < 12 * (retention + snapshot):
        replica.order(*sizes)
        written += sum(sizes)
        await replica.turn()
        if written > retention:
            assert replica.store.log_bytes() >= retention - max(sizes) - 2 * KB or not replica.first
    assert replica.peak <= retention + snapshot
    assert replica.snapshots <= 2 + 5 * written // snapshot


async def test_a_snapshot_that_a_trim_needs_is_due_on_a_quiet_bus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound below `snapshot_bytes` did nothing until 1 GiB or 20,000 slots were ordered."""
    replica = Replica(monkeypatch, retention_bytes=MIB)
    replica.order(*[100 * KB] * 30)
    await replica.until_idle(60)
    assert 0 < replica.store.log_bytes() <= MIB
    assert replica.snapshots == 1


async def test_a_lowered_bound_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(monkeypatch)
    replica.order(*[100 * KB] * 60)
    await replica.until_idle(60)
    assert replica.first == 0
    replica.retention.use(replica.config.model_copy(update={"retention_bytes": 2 * MIB}))
    await replica.until_idle(60)
    assert replica.store.log_bytes() <= 2 * MIB


async def test_an_age_is_met_without_any_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the ring's time, to the last message, within a minute."""
    replica = Replica(monkeypatch, retention_age=100)
    replica.order(100, 100)
    await replica.until_idle(90)
    replica.order(100)
    assert replica.first == 0
    await replica.until_idle(70)
    assert replica.first == 2
    await replica.until_idle(90)
    assert (replica.first, replica.end) == (3, 3)
    assert replica.snapshots <= 3


async def test_an_age_is_met_under_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(monkeypatch, retention_age=10)
    for _ in range(200):
        replica.order(100)
        await replica.turn(1.0)
        assert replica.end - replica.first <= 10 + 60
    assert replica.end - replica.first >= 10
    assert replica.snapshots <= 2 + 200 * SECOND // 10_000_000


async def test_a_time_that_is_ahead_ages_nothing_until_it_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """D7: the clocks of a quorum were far ahead once: neither what was ordered before nor what came after is older."""
    replica = Replica(monkeypatch, retention_age=100)
    replica.order(100)
    replica.wall = 99_999 * SECOND
    for _ in range(60):
        replica.order(100)
        await replica.turn(1.0)
    assert replica.first == 0
    await replica.until_idle(300)
    assert replica.first == 1
    to = replica.now
    replica.store.commit([FoldRange("times", time_key(to + 1), number_key(to))])
    replica.wall = 0
    replica.order(100)
    await replica.until_idle(90)
    assert replica.first == 1
    await replica.until_idle(60)
    assert (replica.first, replica.end) == (62, 62)


async def test_what_is_young_and_not_in_the_index_yet_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the index are written a little later than records: without any, all seemed old."""
    replica = Replica(monkeypatch, retention_age=100)
    replica.order(100, 100)
    replica.store.commit([DeleteRange("times", b"", None)])
    await replica.until_idle(50)
    assert replica.first == 0
    await replica.until_idle(150)
    assert replica.first == 2


async def test_nothing_is_too_old_while_the_clocks_of_a_quorum_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(monkeypatch, retention_age=10)
    replica.order(100, 100)
    replica.clocks = False
    await replica.until_idle(100)
    assert replica.first == 0
    replica.clocks = True
    await replica.until_idle(20)
    assert replica.first == 2


async def test_on_a_full_disk_a_snapshot_is_made_for_a_trim_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: what waits for space is not waited for, and the space that was kept for it is used."""
    replica = Replica(monkeypatch, snapshot_slots=10)
    replica.order(*[100 * KB] * 30)
    released: list[bool] = []
    monkeypatch.setattr(replica.store, "release_reserve", lambda: released.append(True))
    replica.full = True
    monkeypatch.setattr(replica, "flush", None)
    await replica.until_idle(60)
    assert (replica.snapshots, replica.first, released) == (0, 0, [])
    replica.retention.use(replica.config.model_copy(update={"retention_bytes": MIB}))
    await replica.until_idle(60)
    assert (replica.snapshots, released) == (1, [True])
    assert replica.store.log_bytes() <= MIB


@pytest.mark.parametrize("snapshot", [2 * MIB, 8 * MIB])
async def test_a_member_that_is_stuck_holds_the_log_up_to_the_hard_bound(
    monkeypatch: pytest.MonkeyPatch, snapshot: int
) -> None:
    """C2: one full disk let the logs of all others grow without end."""
    group = {"window_bytes": MIB}
    replica = Replica(monkeypatch, retention_bytes=6 * MIB, snapshot_bytes=snapshot, group=group)
    replica.order(*[100 * KB] * 5)
    replica.acked = {3: replica.end}
    seen_held = False
    for _ in range(400):
        replica.order(100 * KB)
        await replica.turn()
        seen_held |= replica.first <= 5 and replica.retention.held_by == (3,)
    assert seen_held
    assert replica.store.log_bytes() >= log_bytes_hard(replica.config) - 200 * KB
    assert replica.first > 5
    assert replica.peak <= 6 * MIB + snapshot <= log_bytes_max(replica.config)
    replica.acked = {}
    await replica.until_idle(30)
    assert replica.retention.held_by == ()
    assert replica.store.log_bytes() <= 6 * MIB


async def test_a_member_that_is_stuck_holds_an_age_for_30_s_more(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(monkeypatch, retention_age=10)
    replica.order(100, 100)
    replica.acked = {3: 0}
    await replica.until_idle(30)
    assert replica.first == 0
    assert replica.retention.held_by == (3,)
    await replica.until_idle(AGE_HELD_US // SECOND)
    assert replica.first == 2


async def test_a_large_trim_goes_in_steps_and_slow_snapshots_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit waits behind one step at most; snapshots take a twentieth of the time, if only an age asks for them."""
    replica = Replica(monkeypatch, retention_age=10, snapshot_slots=1 << 30)
    make = replica.store.make_snapshot

    def slow(chunk_bytes: int) -> Any:
        replica.now += 10 * SECOND
        return make(chunk_bytes)

    monkeypatch.setattr(replica.store, "make_snapshot", slow)
    replica.order(*[10] * 5_000)
    firsts = [0]
    for _ in range(60):
        await replica.turn(1.0)
        firsts.append(replica.first)
    steps = {later - earlier for earlier, later in pairwise(firsts)} - {0}
    assert steps == {retentions.TRIM_SLOTS_MAX, 5_000 - 2 * retentions.TRIM_SLOTS_MAX}
    made = replica.snapshots
    for _ in range(SNAPSHOT_PAUSE_MAX_US // SECOND):
        replica.order(10)
        await replica.turn(1.0)
    assert replica.snapshots <= made + 2
