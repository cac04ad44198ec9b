"""A toy disk: what is durable, and what waits until the test says `sync`."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sequencer.configuration import after
from sequencer.output import (
    AppendRecord,
    CutLog,
    Persist,
    PrependRecord,
    RepairRecord,
    ResetDisk,
    SaveStable,
    SnapshotMade,
    StageChunk,
    TrimLog,
    UseSnapshot,
)
from sequencer.types import (
    FOUNDERS,
    GENESIS_CHAIN,
    Configuration,
    DamagedRun,
    Ordered,
    Recovered,
    SlotRecord,
    StableState,
)


@dataclass(frozen=True, slots=True)
class State:
    """What the state machines' rows say: the position, the A2 table and the configuration there."""

    applied: int = 0
    chain: bytes = GENESIS_CHAIN
    time_us: int = 0
    configuration: Configuration = FOUNDERS
    senders: Mapping[int, Ordered] = field(default_factory=dict)

    def after(self, record: SlotRecord) -> "State":
        """The state behind one more slot."""
        ordered = {entry.sender: Ordered(entry.incarnation, entry.last_lsn) for entry in record.sequence.entries}
        sequence = record.sequence
        members = after(self.configuration, record)
        return State(sequence.slot + 1, sequence.chain, sequence.time_us, members, {**self.senders, **ordered})


class Snapshot(NamedTuple):
    """A state and the chunks that stand for it."""

    name: str
    state: State
    chunks: tuple[bytes, ...]


@dataclass
class World:
    """What hosts share: the clock, and which state a snapshot's name stands for."""

    now_us: int = 1_000_000
    snapshots: dict[str, Snapshot] = field(default_factory=dict)


class Disk:
    """A toy disk: operations wait until `sync`; a crash drops those that wait."""

    def __init__(self, world: World, state: StableState | None = None, log: tuple[SlotRecord, ...] = ()) -> None:
        self.world = world
        self.stable = state
        self.commit = 0
        self.records = {record.slot: record for record in log}
        self.first, self.end = 0, len(log)
        self.base = GENESIS_CHAIN  # chain(first - 1)
        self.state = State()
        self.staged: dict[str, dict[int, bytes]] = {}
        self.made: SnapshotMade | None = None
        self.damaged: set[int] = set()
        self.pending: deque[tuple[int, list[Persist | State]]] = deque()

    def chain(self, end: int) -> bytes:
        """chain(end - 1)."""
        return self.records[end - 1].sequence.chain if end > self.first else self.base

    def sync(self, tickets: int | None = None) -> int:
        """Make the next groups durable, all unless told how many; the newest ticket among them, or 0."""
        newest = 0
        for _ in range(len(self.pending) if tickets is None else tickets):
            ticket, operations = self.pending.popleft()
            newest = ticket or newest
            for operation in operations:
                self.apply(operation)
        return newest

    def apply(self, operation: Persist | State) -> None:
        """One operation; asserts what the store would refuse."""
        match operation:
            case State():
                self.state = operation
            case SaveStable(state, commit):
                self.stable, self.commit = state, commit
            case AppendRecord(record, previous):
                assert record.slot == self.end, f"D1: slot {record.slot} appended at end {self.end}"
                assert previous == self.chain(self.end), f"A10: slot {record.slot} does not link"
                self.records[record.slot] = record
                self.end += 1
            case CutLog(end):
                assert end >= self.first, f"V7: cut to {end} below the log's first slot {self.first}"
                for slot in range(end, self.end):
                    del self.records[slot]
                self.end = min(end, self.end)
                self.damaged = {slot for slot in self.damaged if slot < end}
            case TrimLog(first):
                assert self.first <= first <= self.end, f"C2: trim to {first} of [{self.first}, {self.end})"
                self.base = self.chain(first)
                for slot in range(self.first, first):
                    del self.records[slot]
                self.first = first
            case PrependRecord(record, previous):
                assert record.slot == self.first - 1, f"C3: slot {record.slot} put before first slot {self.first}"
                assert record.sequence.chain == self.base, f"C3: slot {record.slot} does not link"
                self.records[record.slot] = record
                self.first, self.base = record.slot, previous
            case RepairRecord(record, previous):
                assert previous == self.chain(record.slot), f"D6: slot {record.slot} does not link"
                assert record == self.records[record.slot], f"D6: slot {record.slot} repaired with another record"
                self.damaged.discard(record.slot)
            case StageChunk(name, index, data):
                self.staged.setdefault(name, {})[index] = data
            case UseSnapshot(name, slot, chain):
                snapshot = self.world.snapshots[name]
                staged = self.staged.pop(name)
                assert tuple(staged[index] for index in sorted(staged)) == snapshot.chunks, "C1: chunks are missing"
                assert (snapshot.state.applied, snapshot.state.chain) == (slot, chain), "C1: another snapshot"
                self.state, self.base = snapshot.state, chain
                self.records, self.first, self.end = {}, slot, slot
                self.damaged.clear()
            case ResetDisk():
                self.__init__(self.world, self.stable)  # type: ignore[misc]

    def recover(self) -> Recovered:
        """What a start finds."""
        runs: list[DamagedRun] = []
        for slot in sorted(self.damaged):
            before = runs.pop() if runs and runs[-1].last == slot - 1 else None
            first, chain = (before.first, before.chain_before) if before else (slot, self.chain(slot))
            runs.append(DamagedRun(first, slot, chain, self.chain(slot + 1)))
        return Recovered(
            stable=self.stable,
            first=self.first,
            applied=self.state.applied,
            end=self.end,
            end_chain=self.chain(self.end),
            chain=self.state.chain,
            time_us=self.state.time_us,
            commit=max(self.commit, self.state.applied),
            senders=dict(self.state.senders),
            configuration=self.state.configuration,
            tail=() if runs else tuple(self.records[slot] for slot in range(self.state.applied, self.end)),
            damage=tuple(runs),
            first_chain=self.base,
        )

    @property
    def log(self) -> tuple[SlotRecord, ...]:
        """All durable records."""
        return tuple(self.records[slot] for slot in range(self.first, self.end))
