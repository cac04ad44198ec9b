"""Real cores on a loopback wire in virtual time: frames are dropped, held and released; disks sync in each turn."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from sequencer.config import GroupConfig
from sequencer.core import Core
from sequencer.messages import Backfilled, Chains, Message, Records, Retransmit, SnapshotChunk
from sequencer.output import (
    ChangeMembersAsked,
    PeerFound,
    PeerLost,
    Received,
    Send,
    Serve,
    ServeBackfill,
    ServeChunk,
    ServeRecords,
)
from sequencer.rules import Rules
from tests.sequencer.builders import MS
from tests.sequencer.disk import World
from tests.sequencer.harness import Host

TURN_US = 200  # one way on the wire, and one sync of a disk
CHAINS_MAX = 1_024
BACKFILL_SLOTS = 2  # of one answer


class Flight(NamedTuple):
    """A frame on the wire."""

    to: int
    frame: Received


Filter = Callable[[int, int, Message], bool]


class Group:
    """Real cores 1..n on a loopback wire; disks sync by themselves in each turn unless told otherwise."""

    def __init__(self, members: int = 3, *, rules: type[Rules] = Rules, core: type[Core] = Core, **limits: Any) -> None:
        self.world = World()
        self._rules, self._core = rules, core
        self.config = GroupConfig(tuple(range(1, members + 1)), **limits)
        self.hosts = {
            member: Host(self.world, self.config, member, rules=rules, core=core) for member in self.config.members
        }
        self.wire: list[Flight] = []
        self.held: list[Flight] = []
        self.drops: list[Filter] = []
        self.holds: list[Filter] = []
        self.unsynced: set[int] = set()  # members whose disk syncs on command only
        self._seen = dict.fromkeys(self.config.members, 0)
        self._served = dict.fromkeys(self.config.members, 0)

    def __getitem__(self, member: int) -> Host:
        return self.hosts[member]

    @property
    def up(self) -> Iterator[Host]:
        """Members whose process runs."""
        return (host for host in self.hosts.values() if host.core is not None)

    # ------------------------------------------------------------------ faults

    def drop(self, rule: Filter) -> Filter:
        """Lose frames for which rule(sender, receiver, message) holds, until `self.drops.remove(rule)`."""
        self.drops.append(rule)
        return rule

    def hold(self, rule: Filter) -> Filter:
        """Keep such frames back until `release`."""
        self.holds.append(rule)
        return rule

    def release(self) -> None:
        """Let everything that was held go on, and hold nothing more."""
        self.holds.clear()
        self.wire += self.held
        self.held = []

    def isolate(self, *members: int) -> Filter:
        """Lose every frame between these members and the rest."""
        return self.drop(lambda sender, receiver, _: (sender in members) != (receiver in members))

    def kill(self, member: int) -> None:
        """kill -9; the others' connections break."""
        self.hosts[member].kill()
        self.wire = [flight for flight in self.wire if flight.to != member]
        for host in self.up:
            host.step(PeerLost(member))

    def start(self, *members: int) -> None:
        """Start processes (all without arguments); connections stand again."""
        for member in members or self.config.members:
            self.hosts[member].start()
            for host in self.up:
                if host.member != member:
                    host.step(PeerFound(member))

    def enter(self, member: int, *file: int) -> None:
        """A newcomer with a new disk, whose file names these members and itself (V12); it starts."""
        config = replace(self.config, members=tuple(sorted({*file, member})))
        self.hosts[member] = Host(self.world, config, member, rules=self._rules, core=self._core)
        self._seen[member] = self._served[member] = 0
        self.start(member)

    def change(self, at: int, *new: int) -> str:
        """Ask a member for a configuration; why it refuses, or ""."""
        facts = self.hosts[at].step(ChangeMembersAsked(new, b"addresses")).facts
        return next(
            str(fact.fields.get("why", "")) for fact in facts if fact.name in ("change_asked", "change_refused")
        )

    def wish(self, at: int, *new: int) -> None:
        """Ask again and again until it is not refused any more."""
        answers = ["not asked yet"]

        def taken() -> bool:
            if answers[-1]:
                answers.append(self.change(at, *new))
            return not answers[-1]

        self.run_until(taken)

    def uses_all(self, *members: int) -> tuple[int, ...]:
        """The configuration of the one view that these run; empty if they do not."""
        return self.hosts[members[0]].running.members if self.runs(*members) else ()

    def uses(self, *members: int) -> bool:
        """Do all these members run one view of just these?"""
        return self.uses_all(*members) == members

    # ------------------------------------------------------------------ time

    def post(self, sender: int, send: Send) -> None:
        """Put a frame on the wire to each receiver."""
        frame = Received(send.cluster, sender, self.hosts[sender].running.stable.incarnation, send.message)
        receivers = [send.to] if send.to is not None else [m for m in self.hosts if m != sender]
        for to in receivers:
            assert to != sender, f"member {sender} sent {send.message} to itself"
            if any(rule(sender, to, send.message) for rule in self.drops):
                continue
            waits = any(rule(sender, to, send.message) for rule in self.holds)
            (self.held if waits else self.wire).append(Flight(to, frame))

    def turn(self, until_us: int) -> None:
        """Deliver what is on the wire, sync disks, fire timers; with nothing to do, jump to the next deadline."""
        arriving, self.wire = self.wire, []
        busy = bool(arriving) or any(host.disk.pending for host in self.up if host.member not in self.unsynced)
        deadlines = [host.running.deadline() for host in self.up]
        now = self.world.now_us
        self.world.now_us = now + TURN_US if busy else min(max([now + 1, min(deadlines, default=until_us)]), until_us)
        for host in list(self.up):
            frames = [frame for to, frame in arriving if to == host.member]
            if frames or host.running.deadline() <= self.world.now_us:
                host.step(*frames)
            if host.disk.pending and host.member not in self.unsynced:
                host.sync()
            self._collect(host)

    def _collect(self, host: Host) -> None:
        for send in host.sends[self._seen[host.member] :]:
            self.post(host.member, send)
        self._seen[host.member] = len(host.sends)
        for serve in host.serves[self._served[host.member] :]:
            answer = self.serve(host, serve)
            if answer is not None:
                self.post(host.member, Send(serve.to, answer, host.running.stable.cluster))
        self._served[host.member] = len(host.serves)
        if host.restart:
            host.disk.sync()
            host.start()
        elif host.halted or host.running.left:
            host.core = None

    def serve(self, host: Host, serve: Serve) -> Message | None:
        """What the shell reads from the disk for a peer."""
        disk = host.disk
        if isinstance(serve, ServeChunk):
            chunk = self.world.snapshots[serve.snapshot].chunks[serve.index]
            return SnapshotChunk(serve.view, serve.snapshot, serve.slot, serve.chain, serve.index, serve.count, chunk)
        if isinstance(serve, ServeBackfill):
            if not disk.first < serve.below <= disk.state.applied or disk.chain(serve.below) != serve.chain:
                return None
            first = max(serve.first, disk.first, serve.below - BACKFILL_SLOTS)
            found = tuple(disk.records[slot] for slot in range(first, serve.below))
            return Backfilled(first, disk.chain(first), found, (b"",) * len(found))
        assert isinstance(serve, ServeRecords)
        if not disk.first <= serve.first <= disk.end:
            return None
        if serve.chain is not None and disk.chain(serve.first) != serve.chain:
            lowest = max(serve.first - CHAINS_MAX, disk.first)
            return Chains(serve.view, lowest, tuple(disk.chain(slot + 1) for slot in range(lowest, serve.first)))
        records = tuple(disk.records[slot] for slot in range(serve.first, min(serve.end, disk.end)))
        if serve.retransmit:
            return Retransmit(serve.view, (), records)
        committed = 0 if serve.repair else serve.first + len(records)
        return Records(serve.view, serve.first, records, serve.repair, committed=committed)

    def run(self, ms: float) -> None:
        """Let virtual time pass."""
        self.run_until(lambda: False, ms, demand=False)

    def run_until(self, condition: Callable[[], object], ms: float = 5_000, *, demand: bool = True) -> None:
        """Let virtual time pass until the condition holds; fails if it does not within `ms`."""
        end = self.world.now_us + int(ms * MS)
        while not condition() and self.world.now_us < end:
            self.turn(end)
        assert condition() or not demand, f"not within {ms} ms: {[host.running.status() for host in self.up]}"

    # ------------------------------------------------------------------ what a test wants of a whole group

    def runs(self, *members: int) -> bool:
        """Do these members (all that are up) run one and the same view?"""
        cores = [self.hosts[member].running for member in members] or [host.running for host in self.up]
        return all(core.runs for core in cores) and len({core.view for core in cores}) == 1

    def begin(self) -> "Group":
        """A fresh group, started, in its first view."""
        self.start()
        self.run_until(self.runs)
        return self

    def publish(self, member: int, *payloads: bytes) -> None:
        """Submit at a member, and wait until it, and every member that is in quorum, delivered it all."""
        wanted = {b"%d" % member + payload for payload in payloads}
        self.hosts[member].submit(*(b"%d" % member + payload for payload in payloads))
        self.run_until(
            lambda: (
                wanted <= self.payloads(self.hosts[member])
                and all(wanted <= self.payloads(host) for host in self.up if host.running.in_quorum())
            )
        )

    @staticmethod
    def payloads(host: Host) -> set[bytes]:
        """The payloads that a member has delivered."""
        return {request.frames[1] for record in host.delivered for request in record.requests if not request.change}

    def holder(self) -> int:
        """The member that holds the token; 0 while it is on its way."""
        return next((host.member for host in self.up if host.running.token is not None), 0)

    def check(self) -> None:
        """Uniform total order from outside: what two members delivered is one a prefix of the other."""
        logs = [{record.slot: record.sequence.chain for record in host.delivered} for host in self.hosts.values()]
        for one_log in logs:
            for other in logs:
                differing = [slot for slot in one_log.keys() & other.keys() if one_log[slot] != other[slot]]
                assert not differing, f"slots {differing} were delivered with two contents"
        for host in self.up:
            host.running.check_invariants()
