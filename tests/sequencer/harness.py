"""Cores without sockets: a host is a core, a toy disk and a toy shell that obeys each output.

A host alone is a bench for one core: the test speaks for all other members (`hear`), says when the disk is synced
(`sync`), and reads what left (`sends`). `check_invariants` runs after each step. Groups of hosts: group.py.
"""

from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from sequencer.config import GroupConfig
from sequencer.core import Core
from sequencer.messages import Clock, Message, Records
from sequencer.output import (
    Event,
    Fact,
    Output,
    Persisted,
    ReadReady,
    Received,
    Send,
    Serve,
    SnapshotMade,
    SnapshotOpened,
    Submitted,
    UseSnapshot,
)
from sequencer.rules import Rules
from sequencer.types import Incarnation, SlotRecord, StableState, View, ViewNumber
from sequencer.view_change import Proposal
from tests.sequencer.builders import CLUSTER, MS, ack, incarnation, new_view, stable, storage, view
from tests.sequencer.disk import Disk, Snapshot, World

M = TypeVar("M")
T = TypeVar("T")

WALL_US = 1_700_000_000_000_000


class Host:
    """One member: the core, its disk, and a shell that obeys each output (D4)."""

    def __init__(
        self,
        world: World,
        config: GroupConfig,
        member: int,
        disk: Disk | None = None,
        *,
        rules: type[Rules] = Rules,
        core: type[Core] = Core,
    ) -> None:
        self.world, self.config, self.member = world, config, member
        self.disk = disk or Disk(world)
        self._rules, self._core = rules, core
        self.core: Core | None = None
        self.starts = 0
        self.wall_offset_us = 0
        self.delivered: list[SlotRecord] = []  # over all runs, without repeats
        self.reads: list[ReadReady] = []
        self.facts: list[Fact] = []
        self.sends: list[Send] = []
        self.serves: list[Serve] = []
        self.halted = ""
        self.restart = False

    # ------------------------------------------------------------------ life

    def start(self, *, lost_memory: bool = False, lost: int | None = None) -> Output:
        """Start a process on the disk as it is; its first step."""
        self.starts += 1
        self.halted, self.restart = "", False
        self.disk.pending.clear()
        recovered = self.disk.recover()
        if lost_memory:
            recovered = replace(recovered, lost_memory=True)
        if lost is not None:
            recovered = replace(recovered, lost=lost)
        random = Random(self.member * 1_000 + self.starts)
        fresh = storage(self.member) if self.starts == 1 else random.getrandbits(63)
        self.core = self._core(
            self.config, self.member, recovered, random, self.world.now_us, fresh, rules=self._rules()
        )
        self.state = self.disk.state
        self.delivered = self.delivered[: self.state.applied] if not self.disk.first else self.delivered
        return self.step()

    def kill(self) -> None:
        """kill -9: what was not synced is gone."""
        self.disk.pending.clear()
        self.core = None

    @property
    def running(self) -> Core:
        """The core of a process that is up."""
        assert self.core is not None, f"member {self.member} is down"
        return self.core

    def proposal(self) -> Proposal | None:
        """The number that this member proposes at the moment."""
        return self.running.proposal

    def asks_restart(self) -> bool:
        """Has the core asked for a new start from what is durable?"""
        return self.restart

    def others(self) -> list[int]:
        """All configured members but this one."""
        return [member for member in self.config.members if member != self.member]

    def durable(self) -> StableState:
        """The stable state as it is on the disk."""
        assert self.disk.stable is not None, f"the disk of member {self.member} is new"
        return self.disk.stable

    @property
    def number(self) -> ViewNumber:
        """The number of the view that is installed here."""
        assert self.running.view is not None, f"member {self.member} has installed nothing"
        return self.running.view.number

    @property
    def wall_us(self) -> int:
        """What its wall clock shows."""
        return WALL_US + self.world.now_us + self.wall_offset_us

    def clock(self, sender: int, off_us: int = 0) -> Output:
        """One step that takes the clock of another member, which is so far off."""
        now_us = self.world.now_us
        return self.hear(sender, Clock(WALL_US + now_us + off_us, now_us))

    # ------------------------------------------------------------------ steps

    def step(self, *events: Event) -> Output:
        """One step now; the shell obeys, and forgets nothing of it."""
        out = self.running.step(self.world.now_us, self.wall_us, events)
        self.running.check_invariants()
        if out.persists:
            assert out.ticket, "D4: persists come under a ticket"
            self.disk.pending.append((out.ticket, list(out.persists)))
        self.sends += out.sends
        self.serves += out.serves
        self.reads += out.reads
        self.facts += out.facts
        for record in out.delivers:
            assert record.slot == self.state.applied, f"A5: slot {record.slot} delivered at {self.state.applied}"
            self.state = self.state.after(record)
            self.delivered.append(record)
        if out.delivers:
            self.disk.pending.append((0, [self.state]))
        self.halted, self.restart = self.halted or out.halt, self.restart or out.restart
        return out

    def hear(
        self,
        sender: int,
        *messages: Message,
        of: Incarnation | None = None,
        cluster: int = CLUSTER,
        of_counter: int = 1,
    ) -> Output:
        """One step that takes frames of another member."""
        envelope = of or incarnation(sender, of_counter)
        return self.step(*(Received(cluster, sender, envelope, message) for message in messages))

    def submit(self, *payloads: bytes) -> Output:
        """One step that takes a request for each payload."""
        return self.step(*(Submitted((b"headers", payload)) for payload in payloads))

    def sync(self, tickets: int | None = None) -> Output:
        """The disk syncs; the core hears of it."""
        opened = [op.snapshot for _, ops in self.disk.pending for op in ops if isinstance(op, UseSnapshot)]
        ticket = self.disk.sync(tickets)
        events: list[Event] = [Persisted(ticket)] if ticket else []
        for name in opened:
            self.state = state = self.disk.state
            senders = tuple(state.senders.items())
            events.append(SnapshotOpened(state.applied, state.chain, state.time_us, senders, state.configuration))
            assert name in self.world.snapshots
        return self.step(*events)

    def settle(self) -> list[Send]:
        """Sync until nothing waits; all that left meanwhile."""
        before = len(self.sends)
        while any(ticket for ticket, _ in self.disk.pending):
            self.sync()
        return self.sends[before:]

    def wait(self, ms: float, *, settle: bool = True) -> list[Send]:
        """Let time pass and the timers fire; all that left meanwhile."""
        before = len(self.sends)
        end = self.world.now_us + int(ms * MS)
        while (deadline := max(self.running.deadline(), self.world.now_us + 1)) <= end:
            self.world.now_us = deadline
            self.step()
            if settle:
                self.settle()
        self.world.now_us = end
        self.step()
        if settle:
            self.settle()
        return self.sends[before:]

    def install(self, announced: View, records: tuple[SlotRecord, ...] = ()) -> None:
        """Hear an announcement, and the records it lacks from the source, and install it."""
        proposer = announced.number.proposer if announced.number.proposer != self.member else announced.source
        self.hear(proposer, new_view(announced))
        if records:
            self.hear(announced.source, Records(announced.number, records[0].slot, records))
        self.settle()
        assert self.running.view == announced, f"member {self.member} did not install {announced.number}"

    # ------------------------------------------------------------------ snapshots

    def make_snapshot(self, *chunks: bytes) -> SnapshotMade:
        """A snapshot of what the state machine has applied, durable at once."""
        name = f"{self.member}-{self.starts}-{self.state.applied}"
        parts = chunks or (b"first half", b"second half")
        self.world.snapshots[name] = Snapshot(name, self.state, parts)
        self.disk.made = SnapshotMade(name, self.state.applied, self.state.chain, len(parts))
        self.step(self.disk.made)
        return self.disk.made


def bench(
    member: int = 1,
    *,
    members: int = 3,
    log: tuple[SlotRecord, ...] = (),
    installed: View | None = None,
    state: StableState | None = None,
    applied: int = 0,
    commit: int = 0,
    rules: type[Rules] = Rules,
    core: type[Core] = Core,
    **limits: Any,
) -> Host:
    """One started core whose disk holds `log` and had installed `installed`; the test speaks for the others."""
    world = World()
    disk = Disk(world, state or stable(member, installed), log)
    for record in log[:applied]:
        disk.state = disk.state.after(record)
    disk.commit = commit
    settings = GroupConfig(tuple(range(1, members + 1)), **{"clock_wait_ms": 0, **limits})
    host = Host(world, settings, member, disk, rules=rules, core=core)
    host.delivered = list(log[:applied])
    host.start()
    host.settle()
    host.sends.clear()
    return host


def running(
    member: int = 1,
    *,
    members: int = 3,
    base: tuple[SlotRecord, ...] = (),
    ring: tuple[int, ...] | None = None,
    **how: Any,
) -> Host:
    """A bench that runs view 2, installed just now over the log `base` of view 1; all others were heard just now."""
    proposer = 2 if member == 3 else 3  # never itself, and the same for members 1 and 2
    everyone = tuple(range(1, members + 1))
    before = view(1, members=members, ring=everyone, proposer=proposer, source=proposer)
    host = bench(member, members=members, log=base, installed=before, **how)
    now = view(2, base, members=members, ring=ring or everyone, proposer=proposer, source=proposer)
    for other in everyone:
        if other != member:
            host.hear(other, ack(before.number, runs=False))
    host.install(now)
    for other in everyone:
        if other != member:
            host.hear(other, ack(now.number, len(base), promised=now.number))
    host.settle()
    host.sends.clear()
    return host


# ---------------------------------------------------------------------- partial matching


def matching(sends: list[Send], kind: type[M], to: int | str | None = "anyone", **fields: object) -> list[M]:
    """The messages of a kind among `sends`, to `to` (None: published), whose named fields have these values."""
    found: list[M] = []
    for send in sends:
        message: object = send.message
        if not isinstance(message, kind) or to not in ("anyone", send.to):
            continue
        if all(getattr(message, name) == value for name, value in fields.items()):
            found.append(message)
    return found


def one(sends: list[Send], kind: type[M], to: int | str | None = "anyone", **fields: object) -> M:
    """The only match."""
    found = matching(sends, kind, to, **fields)
    assert len(found) == 1, f"{len(found)} {kind.__name__} to {to} with {fields} in {sends}"
    return found[0]


def persisted(out: Output, kind: type[T]) -> list[T]:
    """The operations of a kind that a step handed to the writer."""
    return [operation for operation in out.persists if isinstance(operation, kind)]
