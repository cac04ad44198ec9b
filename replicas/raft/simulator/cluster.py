"""One cluster from one seed: members that start, crash and are paused, and the two phases of a run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from replicas.raft.codec import RaftCodec, encode
from replicas.raft.configuration import RaftConfiguration
from replicas.raft.leader import Leader
from replicas.raft.messages import Envelope, Message
from replicas.raft.node import RaftNode
from replicas.raft.simulator.bursts import Bursts
from replicas.raft.simulator.checkers import Checker
from replicas.raft.simulator.clients import Client
from replicas.raft.simulator.clocks import ClockFaults
from replicas.raft.simulator.disk import Disk, SimulatedStore
from replicas.raft.simulator.faults import Faults
from replicas.raft.simulator.linearizable import Operation, violations
from replicas.raft.simulator.loop import MemberLoop, VirtualLoop
from sequencer.simulator.checkers import Violation
from sequencer.simulator.extras import Extra, extras
from sequencer.simulator.network import Network, Weather

US = 1e-6
CODEC_EVERY = 16
Frame = tuple[Envelope, Message]

#: Small, so that a few hundred entries reach every branch.
SETTINGS: Mapping[str, Any] = {
    "append_bytes_max": 400,
    "command_bytes_max": 300,
    "inflight_bytes_max": 2_000,
    "apply_bytes_max": 600,
    "cache_bytes_max": 1_500,
    "log_entries_kept": 20,
    "catch_up_entries": 10,
}


@dataclass(frozen=True, slots=True)
class Options:
    """`members` 0: drawn. Classes and settings are what mutation tests replace."""

    members: int = 0
    safety_seconds: float = 4.0
    healing_seconds: float = 15.0
    clients: int = 4
    think_seconds: float = 0.02
    node_class: type[RaftNode] = RaftNode
    store_class: type[SimulatedStore] = SimulatedStore
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    weather: Mapping[str, Any] = field(default_factory=dict)
    plan: Callable[[Cluster], None] | None = None  # beside the faults that are drawn
    extra: frozenset[str] = frozenset()  # kinds of faults beside those that the seed draws (EXTRAS)
    trace: Callable[[str], object] | None = None  # told what happens, line by line


class _Transport:
    """The links of one start of a member."""

    def __init__(self, cluster: Cluster, member: int, loop: MemberLoop) -> None:
        self._cluster = cluster
        self._member = member
        self._loop = loop
        self._addresses: Mapping[int, str] = {}

    def send(self, member: int, envelope: Envelope, message: Message) -> None:
        if member in self._addresses:
            self._cluster.carry(self._member, member, (envelope, message))

    def connect(self, addresses: Mapping[int, str]) -> None:
        """What goes to others is lost, as where there is no socket."""
        self._addresses = dict(addresses)


class Process:
    """One start of a member."""

    def __init__(self, cluster: Cluster, member: int, founders: Mapping[int, str]) -> None:
        options = cluster.options
        self.member = member
        self.loop = MemberLoop(cluster.loop, cluster.random)
        self.store = options.store_class(cluster.disks[member], self.loop, cluster.stream(), cluster.checker, member)
        config = RaftConfiguration(
            **{**SETTINGS, **options.settings, "on_leader": lambda: cluster.elected(self), "on_follower": lambda: None}
        )
        self.node = options.node_class(
            member,
            founders,
            config,
            loop=self.loop,
            random=cluster.stream(),
            transport=_Transport(cluster, member, self.loop),
            store=self.store,
            on_failure=cluster.broken,
            wall_us=cluster.wall_of(member),
        )
        self.paused = False
        self.loop.call_soon(self.node.start)


class Cluster:
    """Members 1..n found it; operators may add more. `processes` are those that run."""

    def __init__(self, seed: int, options: Options) -> None:
        self.options = options
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._raised)
        self.checker = Checker()
        self.counts: Counter[str] = Counter()
        self.violation: BaseException | None = None
        count = options.members or self.random.choice((1, 2, 3, 3, 3, 3, 4, 5, 5))
        self.founders = {member: f"member-{member}" for member in range(1, count + 1)}
        self.newest_member = count
        self.disks: dict[int, Disk] = {}
        self.processes: dict[int, Process] = {}
        self.removed: set[int] = set()
        self.calm = Weather(**{"loss": 0.01, "duplication": 0.01, "slow": 0.02, **options.weather})
        self.network: Network[Frame] = Network(self.stream(), self.calm)
        self.history: list[Operation] = []
        self.clients = [Client(self, number + 1, self.stream()) for number in range(options.clients)]
        self.faults = Faults(self, self.stream())
        self.extras = extras(self, EXTRAS, options.extra, seed)
        self.codec = RaftCodec(0, 0)
        self._happened = asyncio.Event()

    def stream(self) -> Random:
        """A generator of its own, so that one part's draws do not shift another's."""
        return Random(self.random.getrandbits(64))

    # -------------------------------------------------------------- members

    def wall_of(self, member: int) -> Callable[[], int] | None:
        """Its wall clock; none but with the faults of clocks: it would change the draws of all other runs."""
        found = next((extra for extra in self.extras if isinstance(extra, ClockFaults)), None)
        return None if found is None else lambda: found.wall_us(member)

    def start(self, member: int) -> None:
        """Start a member, on the disk it has."""
        self.note(member, "starts")
        self.disks.setdefault(member, Disk())
        self.processes[member] = Process(self, member, self._file(member))

    def _file(self, member: int) -> dict[int, str]:
        """What operators write into a member's file: the members of the day, and itself."""
        logs = [process.node.state.log for process in self.processes.values()]
        newest = max(logs, key=lambda log: (log.last_term, log.members_index), default=None)
        if newest is None or not newest.members:
            return dict(self.founders)
        return {one.id: one.address for one in newest.members} | {member: f"member-{member}"}

    def kill(self, member: int) -> None:
        """kill -9: what was not synced is gone, and the others' connections break."""
        self.note(member, "is killed")
        process = self.processes.pop(member)
        process.loop.kill()
        self.counts["crashes"] += 1
        if process.node.leads:
            self.counts["leader_crashes"] += 1
        for other in self.processes.values():
            if self.network.connected(member, other.member):
                delay = 0.001 + self.random.random() * 0.004
                other.loop.call_later(delay, self._lost, other, member)

    def _lost(self, process: Process, member: int) -> None:
        if member not in self.processes:
            process.node.peer_lost(member)

    def pause(self, member: int) -> None:
        """SIGSTOP."""
        self.note(member, "is stopped")
        self.counts["pauses"] += 1
        self.processes[member].loop.pause()
        self.processes[member].paused = True

    def resume(self, process: Process) -> None:
        """SIGCONT."""
        self.note(process.member, "goes on")
        process.paused = False
        process.loop.resume()

    def carry(self, sender: int, receiver: int, frame: Frame) -> None:
        """A frame into the network; what arrives goes to whoever runs under that id then. Some try the codec."""
        self.counts["frames"] += 1
        if self.counts["frames"] % CODEC_EVERY == 0:
            decoded = self.codec.decode(encode(frame[0], 0, frame[1]))
            if decoded != frame:
                raise Violation("codec", f"{frame} became {decoded}")
        for drawn in self.network.arrivals(sender, receiver, frame):
            delay = self.network.kept_back(sender, receiver, int(self.loop.now / US), drawn)
            self.loop.call_later(delay * US, self._arrive, receiver, frame)

    def _arrive(self, receiver: int, frame: Frame) -> None:
        process = self.processes.get(receiver)
        self.note(receiver, f"<- {frame[0].sender} {frame[1]}" if process is not None else "is not there")
        if process is not None:
            process.loop.call_soon(process.node.receive, *frame)

    @property
    def leader(self) -> Process | None:
        """The one that leads in the highest term, among those that think so."""
        leading = [process for process in self.processes.values() if process.node.leads]
        return max(leading, key=lambda process: process.node.status().term, default=None)

    # -------------------------------------------------------------- what is watched

    def note(self, member: int, text: str) -> None:
        """A line of the trace."""
        if self.options.trace is not None:
            self.options.trace(f"{self.loop.now:10.6f}  {member or '-'}  {text}")

    def elected(self, process: Process) -> None:
        state = process.node.state
        self.note(process.member, f"leads term {state.term} of {state.log.members.voters}")
        self.checker.elected(process.member, state.term, state.log)

    def broken(self, error: Exception) -> None:
        """No disk fails here."""
        self._raised(self.loop, {"exception": error})

    def _raised(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.violation is None:
            self.violation = context.get("exception") or Violation("loop", str(context.get("message")))
        self._happened.set()

    # -------------------------------------------------------------- the run

    def run(self) -> None:
        """Raises Violation, and whatever a node raised."""
        try:
            self.loop.run_until_complete(self._run())
            if self.violation is not None:
                raise self.violation
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.close()

    async def _run(self) -> None:
        for member in self.founders:
            self.start(member)
        for client in self.clients:
            client.start()
        self.faults.start()
        if self.options.plan is not None:
            self.options.plan(self)
        for extra in self.extras:
            extra.plan()
        if await self._until(lambda: False, self.options.safety_seconds):
            return
        self.faults.heal()
        for extra in self.extras:
            extra.healed()
        if await self._until(self._agree, self.options.healing_seconds):
            return
        if not self._agree():
            raise Violation("liveness", f"no agreement {self.options.healing_seconds} s after healing: {self._show()}")
        for client in self.clients:
            client.stop()
        self._check_history()
        for extra in self.extras:
            extra.ended()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """True if something was violated meanwhile."""
        deadline = self.loop.time() + seconds
        while self.loop.time() < deadline and not holds() and self.violation is None:
            try:
                await asyncio.wait_for(self._happened.wait(), 0.05)
            except TimeoutError:
                continue
        return self.violation is not None

    def _agree(self) -> bool:
        """One leads, every member of its configuration votes and stands where it stands, all clients were answered."""
        leader = self.leader
        if leader is None:
            return False
        status = leader.node.status()
        if any(not member.voter for member in status.members):
            return False
        if any(client.answered_since_heal < 2 for client in self.clients):
            return False
        ids = {member.id for member in status.members}
        standing = [process.node.status() for process in self.processes.values() if process.member in ids]
        if len(standing) < len(ids):
            return False
        near = all(one.leader == leader.member and one.applied >= status.applied - 5 for one in standing)
        return near and all(status.members.is_voter(one.member, self._storage(one.member)) for one in standing)

    def _storage(self, member: int) -> int:
        return self.processes[member].node.state.storage

    def _check_history(self) -> None:
        commands = {command: key for client in self.clients for key, command in client.commands.items()}
        acknowledged = {key for client in self.clients for key in client.acknowledged}
        self.checker.ended(acknowledged, commands)
        broken = violations(self.history)
        if broken:
            raise Violation("linearizable", broken[0])
        for process in self.processes.values():
            role = process.node.state.state
            if isinstance(role, Leader):
                self.counts["commits"] = max(self.counts["commits"], role.log.commit)

    def _show(self) -> str:
        return "; ".join(
            f"{one.member} {one.role} term={one.term} leader={one.leader} log={one.base}..{one.last} "
            f"commit={one.commit} proven={one.proven} members={[tuple(m)[::2] for m in one.members]}"
            for one in (process.node.status() for process in self.processes.values())
        )


#: What `Options.extra` may name.
EXTRAS: Mapping[str, type[Extra[Cluster]]] = {"clocks": ClockFaults, "bursts": Bursts}
