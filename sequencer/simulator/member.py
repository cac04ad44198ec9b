"""One simulated member: the core as a replica process runs it, and a shell that keeps the output's contract (D4)."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from sequencer.config import GroupConfig
from sequencer.messages import Clock, Message
from sequencer.output import (
    AppendRecord,
    CutLog,
    DiskFilled,
    DiskFreed,
    Event,
    LeaveAsked,
    Output,
    PeerFound,
    PeerLost,
    Persisted,
    PrependRecord,
    Received,
    ResetDisk,
    SaveStable,
    Serve,
    SnapshotMade,
    SnapshotOpened,
    TrimAsked,
    TrimLog,
    UseSnapshot,
)
from sequencer.simulator.checkers import Violation
from sequencer.simulator.core_like import CoreLike
from sequencer.simulator.disk import Disk, Log, Operation, SaveSnapshot, Writer
from sequencer.simulator.gateway import Gateway
from sequencer.simulator.machine import Answer, Header, Snapshot
from sequencer.simulator.moments import carries
from sequencer.simulator.serving import answer
from sequencer.types import Incarnation, SlotRecord

if TYPE_CHECKING:
    from sequencer.simulator.clients import Client
    from sequencer.simulator.cluster import Cluster

INBOX_MAX = 20_000  # frames that pile up at a paused member; beyond it the sockets' high-water mark drops them
DRAIN_US = 40  # from a frame's arrival to the step that takes it


class Member:
    """A process (while `core` is set) and the disk it runs on."""

    def __init__(self, cluster: "Cluster", number: int, disk: Disk, random: Random, config: GroupConfig) -> None:
        self.cluster = cluster
        self.config = config  # what its file says
        self.id = number
        self.disk = disk
        self.random = random
        self.writer = Writer(random)
        self.core: CoreLike | None = None
        self.machine = disk.machine()
        self.image = Log()  # the log with what waits in the writer: what the shell reads from
        self.inbox: list[Event] = []
        self.gateway = Gateway(cluster)
        self.epoch = 0  # rises at each start and crash: what was scheduled for an older process is void
        self.paused = False
        self.step_at = 0  # 0: no step is scheduled
        self.clock_offset = 0  # own monotonic clock minus virtual time
        self.wall_offset = random.randint(-2_000_000, 2_000_000)
        self.incarnation = Incarnation(0, 0)
        self.impaired = ""  # why its disk does not hold all it acknowledged; until it is readmitted (V0, D6)
        self.armed = ""  # crash at the next such moment (moments.MOMENTS)
        self.halts = 0
        self.restarting = False
        self.snapshots_made = 0
        self.reads = cluster.options.read_rounds()  # a reader: the end of the committed order when it asked (K3)
        self.held_until = 0  # its loop is busy: no step before
        self.arrange: Callable[[list[Event]], list[Event]] | None = None  # how the next step finds its events

    @property
    def alive(self) -> bool:
        """A process runs (it may be paused)."""
        return self.core is not None

    @property
    def applied(self) -> int:
        """Slots that this member's state machine has applied."""
        return self.machine.applied

    def uses(self, members: tuple[int, ...]) -> bool:
        """It runs a view with these members (V12)."""
        return self.core is not None and self.core.members == members

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start a process on the disk as it is."""
        cluster = self.cluster
        self.epoch += 1
        self.clock_offset = self.random.randint(1, 1 << 40)
        recovered = self.disk.recover()
        if recovered.stable is None:
            self.disk.format()
            self.config = replace(self.config, members=cluster.operators.file_of(self.id))
        self.image = self.disk.log.copy()
        self.machine = self.disk.machine()
        self.inbox.clear()
        self.reads = cluster.options.read_rounds()
        self.held_until = 0
        self.arrange = None
        self.step_at = 0
        self.paused = False
        self.restarting = False
        storage = self.random.getrandbits(64)
        core_random = Random(self.random.getrandbits(64))
        options = cluster.options
        now = cluster.now + self.clock_offset
        self.core = options.core(self.config, self.id, recovered, core_random, now, storage, options.rules)
        if cluster.trace:
            cluster.trace.line(
                cluster.now,
                self.id,
                f"START first={recovered.first} applied={recovered.applied} end={recovered.end} {recovered.damage}",
            )
        newest = max(self.disk.snapshots.values(), key=lambda snapshot: snapshot.slot, default=None)
        if newest and newest.slot >= self.disk.log.first:
            self.inbox.append(SnapshotMade(newest.name, newest.slot, newest.chain, len(newest.chunks)))
        self.wake(cluster.now)

    def crash(self) -> None:
        """kill -9 or power loss: what was not synced is gone."""
        if not self.core:
            return
        cluster = self.cluster
        if cluster.trace:
            cluster.trace.line(cluster.now, self.id, "CRASH")
        self.core = None
        self.epoch += 1
        self.armed = ""
        if not self.writer.idle:
            cluster.counts.torn_disks += 1
        for _, operations in self.writer.crash():
            self._make_durable(operations)
        self.inbox.clear()
        self.gateway.clear()
        cluster.crashed(self)

    def receive(self, event: Event) -> None:
        """An event arrives; it is taken by a step a little later, together with what arrives in between."""
        if self.core and len(self.inbox) < INBOX_MAX:
            self.inbox.append(event)
            if not self.paused:
                self.wake(self.cluster.now + DRAIN_US)

    def wake(self, at: int) -> None:
        """See that a step happens at `at` or before; while the loop is held up, right after."""
        at = max(at, self.held_until)
        if not self.step_at or at < self.step_at:
            self.step_at = at
            self.cluster.at(at, self._wake, self.epoch, at)

    def _wake(self, epoch: int, at: int) -> None:
        if epoch == self.epoch and at == self.step_at:
            self.step_at = 0
            if not self.paused:
                self.step()

    def hold(self, until: int, arrange: Callable[[list[Event]], list[Event]]) -> None:
        """The loop is busy until then: all that comes meanwhile is one turn's, as `arrange` orders it."""
        self.held_until = max(self.held_until, until)
        self.arrange = arrange
        if self.step_at and self.step_at < self.held_until:
            self.step_at = 0
            self.wake(self.held_until)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what has piled up goes into one step, before any timer that is due (V1)."""
        if self.paused:
            self.paused = False
            self.step_at = 0
            self.wake(self.cluster.now)
            self._begin_write()

    # ------------------------------------------------------------------ one step

    def step(self) -> None:
        """Drain, step, obey the output."""
        core = self.core
        if core is None:
            return
        cluster = self.cluster
        cluster.counts.steps += 1
        now = cluster.now + self.clock_offset
        events, self.inbox = self.inbox, []
        events += self.gateway.take(core)
        events += self.reads.take()
        if self.arrange is not None:
            events, self.arrange = self.arrange(events), None
        output = core.step(now, cluster.wall(self), events)
        if not cluster.tells_clocks:
            output.sends = [send for send in output.sends if type(send.message) is not Clock]
        core.check_invariants()
        if cluster.trace:
            cluster.trace.step(cluster.now, self.id, events, output)
        cluster.digest.mix(cluster.now, self.id, len(events) << 16 ^ len(output.sends) << 8 ^ output.ticket)
        self._obey(output)
        if self.core is core:
            self.wake(max(cluster.now + 1, core.deadline() - self.clock_offset))

    def _obey(self, output: Output) -> None:
        if output.persists:
            self._persist(output)
        sends = output.sends
        struck = bool(self.armed) and carries(output, self.armed)
        if (
            struck and sends
        ):  # the process dies in the middle of its sends, or a little later in the middle of its writes
            sends = sends[: self.random.randint(1, len(sends))]
        for to, message, cluster_id in sends:
            self._send(to, message, cluster_id)
        if struck:
            self.armed = ""
            if self.random.random() < 0.5:
                self.cluster.faults.struck(self)
                return
            self.cluster.after(self.random.randint(1, 2_000), self.cluster.faults.struck, self)
        for serve in output.serves:
            self._serve(serve)
        if output.delivers:
            self._deliver(output.delivers)
        for ready in output.reads:
            self.reads.ready(ready.nonce, ready.slot)
        for one in self.reads.due(self.machine.applied):
            for asked in one.readers:
                self.cluster.order.read(self.id, one.slot or 0, asked)
        for fact in output.facts:
            self.cluster.fact(fact)
        if output.halt:
            self.cluster.halted(self, output.halt)
        elif output.restart:
            self.core = None
            self.restarting = True
            self._restart_when_idle()
        elif self.core and self.core.left:
            self.cluster.halted(self, "left")
        else:
            self._begin_write()

    def _persist(self, output: Output) -> None:
        for persist in output.persists:
            match persist:
                case AppendRecord(record, previous):
                    self.image.append(record, previous)
                    for extra in self.cluster.extras:
                        extra.appended(record)
                case PrependRecord(record, previous):
                    self.image.prepend(record, previous)
                case SaveStable(state):
                    self.incarnation = state.incarnation
                case CutLog(end):
                    self.image.cut(end)
                case TrimLog(first):
                    self.image.trim(first)
                case UseSnapshot(_, slot, chain):
                    self.image.begin(slot, chain)
                case ResetDisk():
                    self.image = Log()
                    self.machine = self.disk.machine_class(self.cluster.bounds)
                case _:
                    pass
        self.writer.put(output.ticket, list(output.persists))

    def _send(self, to: int | None, message: Message, cluster_id: int) -> None:
        cluster = self.cluster
        cluster.claims.sent(self.id, self.incarnation, message, self.disk.stable, self.disk.log.end)
        frame = Received(cluster_id, self.id, self.incarnation, message)
        if to is None:
            for other in cluster.others[self.id]:
                cluster.transmit(self.id, other, frame)
        else:
            if to == self.id or to not in cluster.members:
                raise Violation("send", f"member {self.id} sent {type(message).__name__} to {to}")
            cluster.transmit(self.id, to, frame)

    def _serve(self, serve: Serve) -> None:
        message = answer(serve, self.image, self.disk, self.cluster.serve_slots)
        if message:
            self._send(serve.to, message, self.cluster_id)

    @property
    def cluster_id(self) -> int:
        """The cluster id for frames that the shell makes itself (records, chunks)."""
        return self.disk.stable.cluster if self.disk.stable else 0

    def _deliver(self, records: list[SlotRecord]) -> None:
        cluster, machine = self.cluster, self.machine
        answers: list[Answer] = []
        for record in records:
            sequence = record.sequence
            if sequence.slot != machine.applied:
                wrong = f"member {self.id} delivered slot {sequence.slot} after {machine.applied - 1}"
                raise Violation("total order", wrong)
            answers += machine.apply(record)
            if cluster.order.delivered(self.id, record, machine.digest):
                for extra in cluster.extras:
                    extra.delivered(record)
                view = self.disk.stable.view if self.disk.stable else None
                cluster.storage.committed(self.id, sequence.slot, sequence.chain, view)
        self.writer.put(0, [machine.save()])
        if answers:
            cluster.answer(self, answers)

    # ------------------------------------------------------------------ the writer

    def _begin_write(self) -> None:
        if self.paused:
            return
        if self.writer.full and not self.writer.reported:
            waiting = [ticket for ticket, _ in self.writer.queue if ticket]
            if waiting:
                self.writer.reported = True
                self.receive(DiskFilled(waiting[0]))
        delay = self.writer.begin()
        if delay:
            self.cluster.after(delay, self._end_write, self.epoch)

    def _end_write(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        ticket = 0
        for group, operations in self.writer.finish():
            self._make_durable(operations)
            ticket = group or ticket
        if ticket:
            if self.armed == "persisted" and self.random.random() < 0.3:  # F3: between the sync and the ACK
                self.cluster.faults.struck(self)
                return
            self.receive(Persisted(ticket))
        self._begin_write()
        if self.restarting:
            self._restart_when_idle()

    def _restart_when_idle(self) -> None:
        self._begin_write()
        if self.restarting and self.writer.idle:
            self.start()

    def _make_durable(self, operations: list[Operation]) -> None:
        cluster, disk = self.cluster, self.disk
        for operation in operations:
            match operation:
                case AppendRecord(record):
                    cluster.storage.stored(self.id, record)
                case TrimLog(first):
                    cluster.storage.trimmed_to = max(cluster.storage.trimmed_to, first)
                case CutLog(end):
                    cluster.claims.cut(self.id, end)
                    for slot in range(max(end, disk.log.first), disk.log.end):
                        if not (disk.stable and disk.stable.wiped):  # D6: what was damaged is fetched again
                            cluster.storage.cut(self.id, slot, disk.log.chain(slot + 1))
                case _:
                    pass
            disk.apply(operation, cluster.snapshots)
            match operation:
                case SaveStable(state):
                    cluster.saved(self, state)
                case UseSnapshot(name):
                    self._open(cluster.snapshots[name])
                case SaveSnapshot(snapshot):
                    self._made(snapshot)
                case _:
                    pass

    # ------------------------------------------------------------------ snapshots, disk faults, the gateway

    def make_snapshot(self) -> None:
        """The shell's retention turn (C1, C2): a snapshot of the state, durable before the core hears of it."""
        if (
            not self.core
            or self.paused
            or self.disk.damaged
            or not self.machine.applied
            or self.disk.log.first > self.machine.applied
        ):
            return
        self.snapshots_made += 1
        name = f"{self.id}-{self.epoch}-{self.snapshots_made}"
        snapshot = self.machine.snapshot(name, self.random.randint(1, 3))
        self.cluster.snapshots[name] = snapshot
        self.writer.put(0, [SaveSnapshot(snapshot)])
        self._begin_write()

    def _made(self, snapshot: Snapshot) -> None:
        self.receive(SnapshotMade(snapshot.name, snapshot.slot, snapshot.chain, len(snapshot.chunks)))
        self.receive(TrimAsked(max(0, snapshot.slot - self.random.randint(0, self.cluster.trim_margin))))

    def _open(self, snapshot: Snapshot) -> None:
        cluster = self.cluster
        cluster.order.snapshot_used(self.id, snapshot.slot, snapshot.chain, snapshot.digest)
        cluster.counts.snapshots += 1
        self.machine.open(snapshot)
        senders = tuple(sorted(snapshot.senders.items()))
        self.receive(SnapshotOpened(snapshot.slot, snapshot.chain, snapshot.time_us, senders, snapshot.configuration))
        self.receive(SnapshotMade(snapshot.name, snapshot.slot, snapshot.chain, len(snapshot.chunks)))

    def fill_disk(self) -> None:
        """ENOSPC (D5): the writer refuses what comes from now on, and keeps it."""
        self.writer.full = True

    def free_disk(self) -> None:
        """There is space again."""
        self.writer.full = False
        if self.writer.reported:
            self.writer.reported = False
            self.receive(DiskFreed())
        self._begin_write()

    def ask_to_read(self) -> None:
        """K3: someone wants to read what was committed before now."""
        if self.core:
            self.reads.join(self.cluster.order.end)
            if not self.paused:
                self.wake(self.cluster.now + DRAIN_US)

    def ask_to_leave(self) -> None:
        """SIGTERM (V11): it waits for a view without itself, at most `drain_timeout`."""
        self.receive(LeaveAsked())
        self.cluster.after(self.cluster.config.drain_timeout_ms * 1_000, self._drained, self.epoch)

    def _drained(self, epoch: int) -> None:
        if epoch == self.epoch and self.core:
            self.cluster.halted(self, "drain timeout")

    def lost(self, other: int) -> None:
        """The connection monitor: a peer is gone."""
        self.receive(PeerLost(other))

    def found(self, other: int) -> None:
        """The connection monitor: a peer is there."""
        self.receive(PeerFound(other))

    def accept(self, client: "Client", session: int, batches: list[tuple[Header, bytes]]) -> None:
        """Frames of a client arrive at the gateway."""
        if self.core:
            self.gateway.accept(client, session, batches)
            if not self.paused:
                self.wake(self.cluster.now + DRAIN_US)
