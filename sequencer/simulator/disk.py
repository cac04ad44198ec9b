"""A member's disk: what is durable, what waits in the FIFO writer, and what a crash, a wipe or a rollback leaves.

Contract (D1, D4): the operations of one ticket are atomic; tickets become durable in order; several may share one
synced transaction. A crash drops what was not synced; a transaction in the middle of its sync is whole or absent.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

from sequencer.clients import ClientBounds, ClientRow, TableChanges
from sequencer.output import (
    AppendRecord,
    CutLog,
    Persist,
    PrependRecord,
    RepairRecord,
    ResetDisk,
    SaveStable,
    StageChunk,
    TrimLog,
    UseSnapshot,
)
from sequencer.simulator.checkers import Violation
from sequencer.simulator.machine import Saved, Snapshot, StateMachine
from sequencer.types import GENESIS_CHAIN, DamagedRun, Recovered, SlotRecord, StableState


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """The shell's own operation: keep a snapshot of the state machine."""

    snapshot: Snapshot


Operation = Persist | Saved | SaveSnapshot


class Log:
    """Contiguous records [first, end); `base` = chain(first - 1)."""

    __slots__ = ("base", "end", "first", "records")

    def __init__(self) -> None:
        self.records: dict[int, SlotRecord] = {}
        self.first = 0
        self.end = 0
        self.base = GENESIS_CHAIN

    def copy(self) -> "Log":
        """Another log with the same (immutable) records."""
        twin = Log()
        twin.records, twin.first, twin.end, twin.base = dict(self.records), self.first, self.end, self.base
        return twin

    def chain(self, end: int) -> bytes:
        """chain(end - 1)."""
        return self.records[end - 1].sequence.chain if end > self.first else self.base

    def append(self, record: SlotRecord, previous: bytes) -> None:
        """D1: contiguous records only; A10: each links to the one before."""
        slot = record.sequence.slot
        if slot != self.end:
            raise Violation("contiguous log", f"slot {slot} appended to a log that ends at {self.end}")
        if previous != self.chain(slot):
            raise Violation("contiguous log", f"slot {slot} does not link to the slot before it")
        self.records[slot] = record
        self.end = slot + 1

    def prepend(self, record: SlotRecord, previous: bytes) -> None:
        """C3: the slot before the first one, and it links."""
        slot = record.sequence.slot
        if slot != self.first - 1 or record.sequence.chain != self.base:
            raise Violation("contiguous log", f"slot {slot} put before a log that begins at {self.first}")
        self.records[slot] = record
        self.first, self.base = slot, previous

    def cut(self, end: int) -> None:
        """V7."""
        for slot in range(max(end, self.first), self.end):
            del self.records[slot]
        self.end = max(min(end, self.end), self.first)

    def trim(self, first: int) -> None:
        """C2."""
        if first > self.end:
            raise Violation("retention", f"trimmed to {first}, beyond the end {self.end}")
        if first > self.first:
            self.base = self.chain(first)
            for slot in range(self.first, first):
                del self.records[slot]
            self.first = first

    def begin(self, slot: int, chain: bytes) -> None:
        """Empty, beginning at `slot`."""
        self.records = {}
        self.first = self.end = slot
        self.base = chain


class Disk:
    """The durable state of one member."""

    machine_class = StateMachine

    def __init__(self, bounds: ClientBounds) -> None:
        self.bounds = bounds
        self.damaged: set[int] = set()  # slots in the log whose record fails its checksum (D6)
        self.format()

    def format(self) -> None:
        """A new disk."""
        self.stable: StableState | None = None
        self.commit = 0
        self.reset()

    def reset(self) -> None:
        """Empty the log and the state; the stable state stays (V0)."""
        self.log = Log()
        self.damaged.clear()
        self.snapshots: dict[str, Snapshot] = {}
        self.staged: dict[str, dict[int, bytes]] = {}
        self.saved = self.machine_class(self.bounds).save()
        self.rows: dict[bytes, ClientRow] = {}

    def copy(self) -> "Disk":
        """A backup, to be put back later (V0, last sentences)."""
        twin = type(self)(self.bounds)
        twin.stable, twin.commit, twin.log = self.stable, self.commit, self.log.copy()
        twin.damaged = set(self.damaged)
        twin.snapshots = dict(self.snapshots)
        twin.staged = {name: dict(chunks) for name, chunks in self.staged.items()}
        twin.saved, twin.rows = self.saved, dict(self.rows)
        return twin

    def apply(self, operation: Operation, snapshots: dict[str, Snapshot]) -> None:
        """Make one operation durable. `snapshots` is the cluster's registry: what a snapshot's chunks stand for."""
        match operation:
            case AppendRecord(record, previous):
                self.log.append(record, previous)
            case Saved():
                self.saved = operation
                self.rows.update(operation.changes.rows)
                for client in operation.changes.dropped:
                    self.rows.pop(client, None)
            case SaveStable(state, commit):
                self.stable = state
                self.commit = commit
            case CutLog(end):
                self.log.cut(end)
                self.damaged = {slot for slot in self.damaged if slot < end}
            case TrimLog(first):
                self.log.trim(first)
                self.damaged = {slot for slot in self.damaged if slot >= first}
            case RepairRecord(record, _):
                self.repair(record)
            case PrependRecord(record, previous):
                self.log.prepend(record, previous)
            case StageChunk(name, index, data):
                self.staged.setdefault(name, {})[index] = data
            case UseSnapshot(name, slot, chain):
                self.use(snapshots[name], slot, chain)
            case ResetDisk():
                self.reset()
            case SaveSnapshot(snapshot):
                self.keep(snapshot)

    def repair(self, record: SlotRecord) -> None:
        """D6: the same record or none."""
        slot = record.sequence.slot
        held = self.log.records.get(slot)
        if held is None or held.sequence.chain != record.sequence.chain:
            raise Violation("repair", f"slot {slot} was repaired with another record")
        self.damaged.discard(slot)

    def keep(self, snapshot: Snapshot) -> None:
        """Store a snapshot; the last two are kept, so that a transfer can end."""
        self.snapshots[snapshot.name] = snapshot
        while len(self.snapshots) > 2:
            del self.snapshots[next(iter(self.snapshots))]

    def use(self, snapshot: Snapshot, slot: int, chain: bytes) -> None:
        """C1: one durable switch; nothing of the member's own changes."""
        staged = self.staged.get(snapshot.name, {})
        if (snapshot.slot, snapshot.chain) != (slot, chain):
            raise Violation("snapshot", f"{snapshot.name} is of slot {snapshot.slot}, not of {slot}")
        if tuple(staged[index] for index in sorted(staged)) != snapshot.chunks:
            raise Violation("snapshot", f"{snapshot.name} was used with chunks {sorted(staged)}")
        self.staged = {}
        self.log.begin(slot, chain)
        self.damaged.clear()
        self.rows = dict(snapshot.rows)
        self.saved = state_of(snapshot)
        self.keep(snapshot)

    def recover(self) -> Recovered:
        """What a start reads (D6); with a stable state that is missing or damaged everything is gone."""
        if self.stable is None:
            return Recovered(None)
        log, saved = self.log, self.saved
        damage = self.runs()
        return Recovered(
            stable=self.stable,
            first=log.first,
            applied=saved.applied,
            end=log.end,
            end_chain=log.chain(log.end),
            chain=saved.chain,
            time_us=saved.time_us,
            commit=max(self.commit, saved.applied),
            senders=dict(saved.senders),
            tail=() if damage else tuple(log.records[slot] for slot in range(saved.applied, log.end)),
            damage=damage,
            configuration=saved.configuration,
            first_chain=log.base,
        )

    @property
    def whole(self) -> bool:
        """It says that it holds the whole retained log, or never held a part of one; nothing is damaged (C3)."""
        return not self.damaged and (self.stable is None or self.stable.whole or self.log.first == 0)

    def runs(self) -> tuple[DamagedRun, ...]:
        """The damaged slots as runs; chains stand apart from the records, so both ends of a run are known."""
        found: list[DamagedRun] = []
        slots = sorted(self.damaged)
        for index, slot in enumerate(slots):
            if index and slots[index - 1] == slot - 1:
                continue
            last = slot
            while last + 1 in self.damaged:
                last += 1
            found.append(DamagedRun(slot, last, self.log.chain(slot), self.log.chain(last + 1)))
        return tuple(found)

    def machine(self) -> StateMachine:
        """The state machine as it was last saved."""
        machine = self.machine_class(self.bounds)
        saved = self.saved
        machine.restore(
            saved.applied,
            saved.chain,
            saved.time_us,
            saved.senders,
            saved.digest,
            saved.changes.meta,
            self.rows,
            saved.configuration,
        )
        return machine


def state_of(snapshot: Snapshot) -> Saved:
    """The meta row that a used snapshot leaves."""
    changes = TableChanges({}, [], snapshot.meta)
    return Saved(
        snapshot.slot,
        snapshot.chain,
        snapshot.time_us,
        dict(snapshot.senders),
        snapshot.digest,
        changes,
        snapshot.configuration,
    )


class Writer:
    """The FIFO writer thread: while one transaction syncs, the next one gathers (D1)."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.queue: deque[tuple[int, list[Operation]]] = deque()
        self.syncing: list[tuple[int, list[Operation]]] = []
        self.full = False
        self.reported = False  # the core was told that the disk is full
        self.slowness = 1
        self.grouping = 0.9  # the share of transactions that take everything that waits

    def put(self, ticket: int, operations: list[Operation]) -> None:
        """Queue one atomic group; ticket 0: nobody waits for it."""
        self.queue.append((ticket, operations))

    def begin(self) -> int:
        """Start a transaction if one can start; its sync time in us, or 0."""
        if self.syncing or self.full or not self.queue:
            return 0
        take = len(self.queue)
        draw = self._random.random()
        if draw > self.grouping:
            take = self._random.randint(1, take)
        self.syncing = [self.queue.popleft() for _ in range(take)]
        return int((250 + 500 * draw) * self.slowness)

    def finish(self) -> list[tuple[int, list[Operation]]]:
        """The transaction that is durable now."""
        done, self.syncing = self.syncing, []
        return done

    def crash(self) -> list[tuple[int, list[Operation]]]:
        """Power is cut: the transaction that syncs is whole or absent, the queue is gone. Returns what is durable."""
        survived = self.syncing if self._random.random() < 0.5 else []
        self.syncing = []
        self.queue.clear()
        self.reported = False
        return survived

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing syncs."""
        return not self.syncing and not self.queue
