"""A whole faulty cluster on virtual time: one event heap, integer microseconds, everything drawn from one seed."""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from sequencer.clients import ClientBounds
from sequencer.config import GroupConfig
from sequencer.messages import Holdings, Token
from sequencer.output import Fact, Received
from sequencer.quorum import majority
from sequencer.read_rounds import ReadRounds
from sequencer.rules import Rules
from sequencer.simulator.bursts import Bursts
from sequencer.simulator.checkers import ClaimChecker, Issued, OrderChecker, StorageChecker, Violation, check_end
from sequencer.simulator.clients import Client
from sequencer.simulator.clocks import LIMITS as CLOCK_LIMITS
from sequencer.simulator.clocks import ClockFaults
from sequencer.simulator.core_like import CoreFactory
from sequencer.simulator.disk import Disk
from sequencer.simulator.extras import Extra, extras
from sequencer.simulator.faults import Faults
from sequencer.simulator.machine import Answer, Header, Snapshot
from sequencer.simulator.member import Member
from sequencer.simulator.network import Network, Weather
from sequencer.simulator.operators import Operators
from sequencer.simulator.partial import Partial
from sequencer.simulator.replacements import Replacements
from sequencer.simulator.stuck import Stuck
from sequencer.simulator.trace import Trace, TraceDigest
from sequencer.types import NO_VIEW, StableState, View

MS = 1_000
NEVER_MS = 1_000_000_000
SECOND = 1_000_000
WALL_US = 1_700_000_000 * SECOND
STEPS_MAX = 60_000  # of all members together; far beyond what a run needs
LIVENESS_US = 40 * SECOND  # from the healing to every answer and one end everywhere


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made of. `core` and the classes are parameters, so that mutations are test doubles."""

    core: CoreFactory
    rules: Rules = field(default_factory=Rules)
    members: int = 0  # 0: drawn from the seed
    safety_us: int = 2_500 * MS
    config: dict[str, int] = field(default_factory=dict)  # limits that override what the seed draws
    bounds: ClientBounds | None = None
    member: type[Member] = Member
    disk: type[Disk] = Disk
    read_rounds: type[ReadRounds[int]] = ReadRounds
    plan: "Callable[[Cluster], None] | None" = None  # a script in place of the faults that the seed draws
    clients: int = 0
    think_ms: int = 0  # mean pause of a client between batches; 0: drawn from the seed
    weather: dict[str, float] = field(default_factory=dict)  # what overrides the weather that the seed draws
    weights: dict[str, int] = field(default_factory=dict)  # faults to be drawn more often, or not at all
    member_changes: float = 0.3  # the share of seeds in which operators change the members (V12)
    extra: frozenset[str] = frozenset()  # kinds of faults beside those that the seed draws (EXTRAS)


@dataclass(slots=True)
class Counts:
    """How hard the run was."""

    acknowledged: int = 0
    expired: int = 0
    crashes: int = 0
    holder_crashes: int = 0
    partitions: int = 0
    learners: int = 0
    snapshots: int = 0
    torn_disks: int = 0
    disks_replaced: int = 0
    lasting_cuts: int = 0
    steps: int = 0


class Cluster:
    """n members, their network and disks, clients, faults and checkers under one seed."""

    def __init__(self, seed: int, options: Options, trace: Trace | None = None) -> None:
        self.seed = seed
        self.options = options
        self.trace = trace
        self.random = Random(seed)
        self.now = 1
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0
        self.digest = TraceDigest()
        self.counts = Counts()
        self.rules: set[str] = set()
        drawn = self._draw_size()
        size = options.members or drawn  # drawn in either case: a replay that names the size is the same run
        self.tells_clocks = "clocks" in options.extra  # else CLOCK frames would change the draws of kept seeds
        self.guards_copies = Replacements.NAME in options.extra
        self.config = self._draw_config(size)
        self.bounds = options.bounds or ClientBounds(self.random.choice((2, 4, 100, 100, 100)), 8)
        self.serve_slots = self.random.choice((3, 20, 100))
        self.trim_margin = self.random.choice((0, 10, 50))
        ids = self.config.members
        self.others = {one: tuple(other for other in ids if other != one) for one in ids}
        self.network: Network[Received] = Network(self._stream(), self._draw_weather())
        self.issued = Issued()
        self.order = OrderChecker(self.bounds, self.issued)
        self.storage = StorageChecker(self.order)
        self.claims = ClaimChecker()
        self.snapshots: dict[str, Snapshot] = {}
        self.members = {
            one: options.member(self, one, options.disk(self.bounds), self._stream(), self.config) for one in ids
        }
        self.lost: set[tuple[int, int]] = set()  # (who was told, about whom) by the connection monitor
        self.installs: dict[View, set[int]] = {}
        self.settled = NO_VIEW  # the newest view that a majority of its members has installed
        self.holder = (NO_VIEW, -1, ids[0])  # the newest token: view, hop, where it went
        self.healing = False
        self.steps_max = STEPS_MAX
        self.faults = Faults(self, self._stream())
        self.operators = Operators(self)
        self.extras = extras(self, EXTRAS, options.extra, seed)
        self.clients = [
            Client(self, self._stream(), self.random.choice((1, 3, 8)), (options.think_ms or drawn_ms) * MS)
            for drawn_ms in self.random.choices((4, 8, 16), k=options.clients or self.random.randint(2, 5))
        ]

    # ------------------------------------------------------------------ what the seed draws

    def _stream(self) -> Random:
        return Random(self.random.getrandbits(64))

    def _draw_size(self) -> int:
        return self.random.choices((1, 2, 3, 4, 5, 7), (1, 2, 74, 5, 15, 3))[0]  # mostly 3

    def _draw_config(self, size: int) -> GroupConfig:
        random = self.random
        drawn = {
            "retention_grace_ms": random.choice((50, 300, 3_600_000)),
            "catch_up_limit_slots": random.choice((8, 64, 256)),
            "uncommitted_slots_max": random.choice((4, 32, 256)),
            "slot_requests_max": random.choice((2, 16, 256)),
            "window_slots": random.choice((32, 512)),
            "heartbeat_interval_ms": 50,
            "idle_hop_interval_ms": 100,
            "suspect_timeout_ms": random.choice((150, 300)),
            "token_timeout_ms": random.choice((100, 300)),
            "back_off_base_ms": random.choice((100, 1_000)),
            "back_off_max_ms": 3_000,
            "drain_timeout_ms": random.choice((200, 2_000)),
            "clock_wait_ms": 0,
            "backfill_interval_ms": 10 if self.guards_copies else NEVER_MS,
        }
        first = random.choice((1, 1, 10))
        changed: dict[str, Any] = drawn | (CLOCK_LIMITS if self.tells_clocks else {}) | self.options.config
        return replace(GroupConfig(tuple(range(first, first + size))), **changed)

    def _draw_weather(self) -> Weather:
        random = self.random
        weather = Weather(
            loss=random.choice((0.0, 0.005, 0.02, 0.08)),
            duplication=random.choice((0.0, 0.01, 0.05)),
            slow=random.choice((0.0, 0.01, 0.05)),
            slow_spread=random.choice((3, 30)) * MS,
        )
        for name, value in self.options.weather.items():
            setattr(weather, name, value)
        return weather

    # ------------------------------------------------------------------ virtual time

    def at(self, time: int, action: Callable[..., object], *arguments: Any) -> None:
        """Do something at a virtual time."""
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, action, arguments))

    def after(self, delay: int, action: Callable[..., object], *arguments: Any) -> None:
        """Do something after a delay."""
        self.at(self.now + delay, action, *arguments)

    def wall(self, member: Member) -> int:
        """A member's wall clock in us: skewed, and thrown about by faults."""
        for extra in self.extras:
            if isinstance(extra, ClockFaults):
                return extra.wall(member)
        return WALL_US + self.now + member.wall_offset

    def run(self) -> None:
        """Safety phase, healing, liveness phase, final checks. Raises Violation, or what the core raises."""
        for member in self.members.values():
            self.after(self.random.randint(0, 20 * MS), member.start)
        for client in self.clients:
            self.after(self.random.randint(30, 200) * MS, client.tick)
        self.after(20 * MS, self._monitor)
        self.after(50 * MS, self._read)
        self.faults.plan()
        if not self.options.plan:
            self.operators.plan()
        for extra in self.extras:
            extra.plan()
        self.run_until(self.options.safety_us)
        self._heal()
        for extra in self.extras:
            extra.healed()
        self.run_until(self.now + self.random.randint(100, 400) * MS)
        self.stop_publishing()
        self.demand_progress()
        for extra in self.extras:
            extra.ended()

    def run_until(self, end: int) -> None:
        """Let virtual time pass."""
        self._run_until(end, lambda: False)

    def publish_again(self) -> None:
        """Clients issue new batches: in a phase of an extra kind of faults, after the end of all others."""
        for client in self.clients:
            if not client.gone:
                client.stopped = False
                self.after(1, client.tick)

    def stop_publishing(self) -> None:
        """Clients wait for the answers to what they have issued, and issue nothing new."""
        for client in self.clients:
            client.stopped = True

    def demand_progress(self) -> None:
        """Every answer, and one end everywhere, within a bounded time; then all that can be checked at an end."""
        if not self._run_until(self.now + LIVENESS_US, self._settled):
            raise Violation("liveness", self._unsettled())
        check_end(
            self.order,
            [(m.id, m.applied, m.machine.chain, m.machine.digest) for m in self.demanded()],
            [view for view, installed in self.installs.items() if is_settled(view, installed)],
            self.config.members,
        )

    def _run_until(self, end: int, settled: Callable[[], bool]) -> bool:
        heap = self._heap
        check = 0
        while heap and heap[0][0] <= end:
            time, _, action, arguments = heapq.heappop(heap)
            self.now = time
            action(*arguments)
            check += 1
            if check >= 50:
                check = 0
                if settled():
                    return True
                if self.counts.steps > self.steps_max:
                    raise Violation("liveness", f"more than {self.steps_max} steps")
        self.now = max(self.now, end)
        return settled()

    def _read(self) -> None:
        """Now and then someone reads at one of the members (K3)."""
        self.random.choice(list(self.members.values())).ask_to_read()
        self.after(self.random.randint(10, 80) * MS, self._read)

    def _heal(self) -> None:
        self.healing = True
        if self.trace:
            self.trace.line(self.now, 0, "HEAL")
        self.network.heal()
        for _, receiver, frame in self.network.release():
            self.after(self.random.randint(1, 50 * MS), self.members[receiver].receive, frame)
        for member in self.members.values():
            member.armed = ""
            member.writer.slowness = 1
            member.free_disk()
            member.resume()
            if not member.alive and not member.restarting:
                member.start()

    def _settled(self) -> bool:
        end = self.order.end
        done = all(client.done for client in self.clients) and all(extra.settled() for extra in self.extras)
        return done and all(
            member.alive and member.applied == end and not member.disk.damaged and member.uses(self.operators.members)
            for member in self.demanded()
        )

    def demanded(self) -> list[Member]:
        """The members of whom all kinds of faults let something be demanded."""
        return [one for one in self.configured() if all(extra.demands(one) for extra in self.extras)]

    def configured(self) -> list[Member]:
        """The members as committed: those of whom the liveness phase demands something (V12)."""
        return [self.members[one] for one in self.operators.members]

    def _unsettled(self) -> str:
        waiting = sum(len(client.outstanding) for client in self.clients if not client.gone)
        ends = ", ".join(f"{m.id}: {m.applied if m.alive else 'down'}" for m in self.demanded())
        return f"{waiting} batches have no answer long after healing; applied {ends} of {self.order.end}"

    # ------------------------------------------------------------------ what members and clients ask for

    def transmit(self, sender: int, receiver: int, frame: Received) -> None:
        """Put a frame on a link."""
        if isinstance(frame.message, Holdings) and not self.guards_copies:
            return  # it would change the draws of kept seeds
        target = self.members[receiver]
        for delay in self.network.arrivals(sender, receiver, frame):
            self.after(self.network.kept_back(sender, receiver, self.now, delay), target.receive, frame)
        if type(frame.message) is Token:
            token = frame.message
            if (token.view, token.hop) > self.holder[:2]:
                self.holder = (token.view, token.hop, receiver)

    def submit(
        self, delay: int, member: int, client: Client, session: int, batches: list[tuple[Header, bytes]]
    ) -> None:
        """A client sends batches."""
        self.after(delay, self.members[member].accept, client, session, batches)

    def answer(self, member: Member, answers: list[Answer]) -> None:
        """A member replies to the clients that are connected to it."""
        ids = {answer.client for answer in answers}
        for client in self.clients:
            if client.member == member.id and client.id in ids:
                self.after(100, client.answered, client.session, member.id, answers)

    def reachable(self) -> list[int]:
        """Members that a client could connect to."""
        return [one for one, member in self.members.items() if member.alive]

    def fact(self, fact: Fact) -> None:
        """Which rules decided something."""
        if fact.name == "rule":
            self.rules.add(str(fact.fields["name"]))
        elif fact.name == "change_asked":
            self.operators.took(fact.fields["members"], fact.fields["since"])  # type: ignore[arg-type]

    def saved(self, member: Member, state: StableState) -> None:
        """A member's stable state is durable."""
        view = state.view
        self.claims.saved(member.id, state)
        if view is None or state.wiped:
            if state.wiped and member.impaired == "rollback":
                member.impaired = "wipe"
            return
        installed = self.installs.setdefault(view, set())
        if member.id not in installed:
            installed.add(member.id)
            if member.id not in view.ring:
                self.counts.learners += 1
        if is_settled(view, installed) and view.number > self.settled:
            self.settled, self.operators.settled = view.number, view.members
        if member.impaired == "wipe" or (member.impaired == "damage" and not member.disk.damaged):
            member.impaired = ""

    @property
    def view_changes(self) -> int:
        """Views that a quorum installed, without the first."""
        return max(0, sum(is_settled(view, installed) for view, installed in self.installs.items()) - 1)

    def enter(self, one: int, random: Random) -> None:
        """Somebody new, with a new disk (V12)."""
        self.others = {known: (*others, one) for known, others in self.others.items()} | {one: tuple(self.members)}
        disk = self.options.disk(self.bounds)
        self.members[one] = self.options.member(self, one, disk, random, self.config)
        self.members[one].impaired = "wipe"

    def halted(self, member: Member, reason: str) -> None:
        """A core asked for the end of its process."""
        if "diverge" in reason:
            raise Violation("divergence", f"member {member.id}: {reason}")
        member.halts += 1
        if member.halts > 30:
            raise Violation("halt", f"member {member.id} halts again and again: {reason}")
        member.crash()
        self.after(self.random.randint(5, 50) * MS, self.revive, member)

    def revive(self, member: Member) -> None:
        """Start a member that is down."""
        if not member.alive and not member.restarting:
            member.start()

    def crashed(self, member: Member) -> None:
        """A process ended: connections break; peers and clients notice within milliseconds, mostly (V1)."""
        random = self.random
        for other in self.others[member.id]:
            if self.network.connected(member.id, other) and random.random() < 0.85:
                self.after(random.randint(500, 8 * MS), self._notice, other, member.id)
        for client in self.clients:
            if client.member == member.id:
                self.after(random.randint(500, 30 * MS), self._hang_up, client, client.session)

    @staticmethod
    def _hang_up(client: Client, session: int) -> None:
        if client.session == session:
            client.disconnected()

    def _notice(self, observer: int, gone: int) -> None:
        if not self.members[gone].alive and (observer, gone) not in self.lost:
            self.lost.add((observer, gone))
            self.members[observer].lost(gone)

    def _monitor(self) -> None:
        """The connection monitors: a connection that can be made again is made again."""
        for pair in sorted(self.lost):
            observer, other = pair
            if self.members[other].alive and self.members[observer].alive and self.network.connected(observer, other):
                self.lost.discard(pair)
                self.members[observer].found(other)
        self.after(self.random.randint(5, 30) * MS, self._monitor)


def is_settled(view: View, installed: set[int]) -> bool:
    """A majority of its members has installed it."""
    return len(installed.intersection(view.members)) >= majority(view.members)


#: What `Options.extra` may name.
EXTRAS: Mapping[str, type[Extra[Cluster]]] = {
    "partial": Partial,
    "clocks": ClockFaults,
    "bursts": Bursts,
    "replacements": Replacements,
    "stuck": Stuck,
}
