"""Faults drawn from the seed: what happens to members, disks and links in the safety phase, and how often."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from sequencer.simulator.disk import Disk, Writer
from sequencer.simulator.member import Member
from sequencer.simulator.moments import MOMENTS
from sequencer.simulator.network import Link, Weather

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster

MS = 1_000

# How often each fault is drawn.
WEIGHTS = {
    "crash": 10,
    "crash_holder": 8,
    "crash_armed": 12,
    "crash_all": 2,
    "restart_loop": 2,
    "pause": 6,
    "pause_holder": 3,
    "pause_all": 1,
    "split": 6,
    "isolate": 6,
    "isolate_holder": 4,
    "one_way": 5,
    "broken_pair": 5,
    "flap": 2,
    "storm": 4,
    "wipe": 4,
    "rollback": 4,
    "damage": 4,
    "fill_disk": 2,
    "slow_disk": 3,
    "clock_jump": 2,
    "leave": 2,
    "kill_client": 1,
    "disconnect_client": 3,
}


class Faults:
    """Injects faults into a cluster. Disks are impaired within what the protocol promises: a minority at a time."""

    def __init__(self, cluster: "Cluster", random: Random) -> None:
        self.cluster = cluster
        self.random = random
        self.backups: dict[int, list[Disk]] = {}

    def plan(self) -> None:
        """Schedule the faults of this seed, or run the script in their place."""
        cluster = self.cluster
        if cluster.options.plan:
            cluster.options.plan(cluster)
            return
        random = self.random
        end = cluster.options.safety_us
        weights = WEIGHTS | cluster.options.weights
        kinds = random.choices(list(weights), list(weights.values()), k=random.randint(5, 14))
        kinds += random.sample(["crash", "crash_holder", "crash_armed", "crash_holder"], 2)
        kinds += random.sample(["split", "isolate", "isolate_holder", "one_way", "broken_pair"], 2)
        for kind in kinds:
            cluster.at(random.randint(100 * MS, end), self.inject, kind)
        for _ in range(random.randint(0, 8)):
            cluster.at(random.randint(100 * MS, end), self.back_up)
        cluster.after(random.randint(150, 600) * MS, self.snapshots)

    def inject(self, kind: str) -> None:
        """Let one fault happen now."""
        if self.cluster.healing:
            return
        if self.cluster.trace:
            self.cluster.trace.line(self.cluster.now, 0, f"FAULT {kind}")
        action: Callable[[], None] = getattr(self, kind)
        action()

    def snapshots(self) -> None:
        """A member makes a snapshot and trims its log, now and then."""
        self.victim().make_snapshot()
        self.cluster.after(self.random.randint(20, 250) * MS, self.snapshots)

    # ------------------------------------------------------------------ who, how long

    def victim(self) -> Member:
        """Any member."""
        return self.random.choice(list(self.cluster.members.values()))

    def holder(self) -> Member:
        """The member that the newest token went to."""
        return self.cluster.members[self.cluster.holder[2]]

    def span(self, mean_ms: int) -> int:
        """A duration in us."""
        return 1 + int(self.random.expovariate(1 / (mean_ms * MS)))

    # ------------------------------------------------------------------ processes

    def kill(self, member: Member, down_us: int) -> None:
        """kill -9 and a restart later."""
        cluster = self.cluster
        if not member.alive or member.impaired == "rollback":
            return  # V0: a second start before anyone has met the first raises its counter past what peers know
        cluster.counts.crashes += 1
        cluster.counts.holder_crashes += member is self.holder()
        member.crash()
        cluster.after(down_us, cluster.revive, member)

    def crash(self) -> None:
        """Any member dies."""
        self.kill(self.victim(), self.span(200))

    def crash_holder(self) -> None:
        """The token holder dies."""
        self.kill(self.holder(), self.span(200))

    def crash_armed(self) -> None:
        """A member dies in the middle of something; and something is made to happen."""
        member = self.victim()
        member.armed = self.random.choice(MOMENTS)
        if self.random.random() < 0.5:
            other = self.victim()
            if other is not member:
                self.kill(other, self.span(100))

    def struck(self, member: Member) -> None:
        """An armed crash."""
        if not self.cluster.healing:
            self.kill(member, self.span(60))

    def crash_all(self) -> None:
        """Power fails everywhere; they come back one by one (F16)."""
        for member in self.cluster.members.values():
            self.kill(member, self.span(100))

    def restart_loop(self) -> None:
        """One member dies again and again (F17)."""
        member = self.victim()
        for turn in range(self.random.randint(3, 6)):
            self.cluster.after(turn * self.span(120), self.kill_unless_healed, member)

    def kill_unless_healed(self, member: Member) -> None:
        """One turn of a restart loop."""
        if not self.cluster.healing:
            self.kill(member, self.span(20))

    def pause(self) -> None:
        """SIGSTOP, SIGCONT."""
        self._pause(self.victim(), self.span(250))

    def pause_holder(self) -> None:
        """F6."""
        self._pause(self.holder(), self.span(400))

    def pause_all(self) -> None:
        """F7."""
        span = self.span(400)
        for member in self.cluster.members.values():
            self._pause(member, span)

    def _pause(self, member: Member, span: int) -> None:
        if member.alive and not member.paused:
            member.pause()
            self.cluster.after(span, self._resume, member, member.epoch)

    @staticmethod
    def _resume(member: Member, epoch: int) -> None:
        if member.epoch == epoch:
            member.resume()

    def leave(self) -> None:
        """SIGTERM (V11), and a restart later."""
        self.victim().ask_to_leave()

    # ------------------------------------------------------------------ links

    def cut(self, links: Iterable[Link], span: int) -> None:
        """Block directions for a while; now and then the connections are seen to break."""
        cluster, random = self.cluster, self.random
        blocked = list(links)
        if not blocked:
            return
        cluster.counts.partitions += 1
        cluster.network.holding = random.random() < 0.4
        cluster.network.block(blocked)
        if random.random() < 0.4:
            for one, other in blocked:
                cluster.after(random.randint(1, 100) * MS, self._break, one, other)
        cluster.after(span, self._mend, blocked)

    def _break(self, one: int, other: int) -> None:
        cluster = self.cluster
        if not cluster.network.connected(one, other) and (one, other) not in cluster.lost:
            cluster.lost.add((one, other))
            cluster.members[one].lost(other)

    def _mend(self, blocked: list[Link]) -> None:
        cluster = self.cluster
        if cluster.healing:
            return
        cluster.network.unblock(blocked)
        for _, receiver, frame in cluster.network.release():
            cluster.after(self.random.randint(1, 20 * MS), cluster.members[receiver].receive, frame)

    def between(self, group: Iterable[int], rest: Iterable[int]) -> list[Link]:
        """Both directions of all links between two groups."""
        others = list(rest)
        return [link for one in group for other in others if one != other for link in ((one, other), (other, one))]

    def split(self) -> None:
        """Two groups (F11)."""
        ids = list(self.cluster.members)
        self.random.shuffle(ids)
        size = self.random.randint(1, max(1, len(ids) - 1))
        self.cut(self.between(ids[:size], ids[size:]), self.span(400))

    def isolate(self) -> None:
        """One member hears nobody."""
        self._isolate(self.victim())

    def isolate_holder(self) -> None:
        """The holder hears nobody."""
        self._isolate(self.holder())

    def _isolate(self, member: Member) -> None:
        self.cut(self.between([member.id], self.cluster.others[member.id]), self.span(450))

    def one_way(self) -> None:
        """Some directions are dead, their opposites live (F12)."""
        member = self.victim()
        others = [other for other in self.cluster.others[member.id] if self.random.random() < 0.7]
        out = self.random.random() < 0.5
        self.cut([(member.id, other) if out else (other, member.id) for other in others], self.span(400))

    def broken_pair(self) -> None:
        """Two members do not hear each other; everyone else hears both (F12)."""
        ids = list(self.cluster.members)
        if len(ids) > 2:
            one, other = self.random.sample(ids, 2)
            self.cut([(one, other), (other, one)], self.span(500))

    def flap(self) -> None:
        """A member's links come and go (F13)."""
        member = self.victim()
        for turn in range(self.random.randint(3, 8)):
            self.cluster.after(turn * 120 * MS, self._flap, member)

    def _flap(self, member: Member) -> None:
        if not self.cluster.healing:
            self.cut(self.between([member.id], self.cluster.others[member.id]), self.span(50))

    def storm(self) -> None:
        """Heavy loss, doubling and delay for a while (F14)."""
        network, random = self.cluster.network, self.random
        fair = network.weather
        network.weather = replace(
            fair, loss=random.uniform(0.05, 0.3), duplication=0.1, slow=0.2, slow_spread=random.choice((30, 200)) * MS
        )
        self.cluster.after(self.span(300), self._calm, network.weather)

    def _calm(self, weather: Weather) -> None:
        network = self.cluster.network
        if network.weather is weather:
            network.weather = replace(network.weather, loss=0.01, duplication=0.01, slow=0.01)

    # ------------------------------------------------------------------ disks

    def impairable(self) -> Member | None:
        """A member whose disk may be lost now: fewer than n - Q others are impaired (docs/protocol.md, promises)."""
        operators = self.cluster.operators
        if not operators.spares():
            return None
        member = self.victim()
        return None if member.impaired or member.restarting or not operators.spares(member) else member

    def wipe(self) -> None:
        """A new, empty disk, or a stable state that cannot be read: to the core they are one (D6, V0)."""
        member = self.impairable()
        if member and member.disk.stable:
            self.kill(member, self.span(100))
            member.impaired = "wipe"
            member.disk.format()
            self.cluster.counts.torn_disks += 1
            self.cluster.claims.forget(member.id)

    def back_up(self) -> None:
        """Copy a disk."""
        member = self.victim()
        stable = member.disk.stable
        if not member.impaired and not member.disk.damaged and stable and stable.view and not stable.wiped:
            self.backups.setdefault(member.id, []).append(member.disk.copy())

    def rollback(self) -> None:
        """Put an old copy back; only if all peers know a newer incarnation: else it need not be found (V0)."""
        cluster = self.cluster
        member = self.impairable()
        if member is None:
            return
        others = sorted({one for members in cluster.operators.possible() for one in members} - {member.id})
        known = [
            cluster.members[other].disk.stable.known[member.id].incarnation.counter  # type: ignore[union-attr]
            for other in others
            if self._knows(cluster.members[other], member.id)
        ]
        if len(known) < len(others):
            return
        for copy in self.backups.get(member.id, []):
            if copy.stable and copy.stable.incarnation.counter < min(known):
                self.kill(member, self.span(100))
                member.impaired = "rollback"
                member.disk = copy.copy()
                cluster.counts.torn_disks += 1
                cluster.claims.forget(member.id)
                return

    @staticmethod
    def _knows(peer: Member, number: int) -> bool:
        stable = peer.disk.stable
        return stable is not None and not peer.impaired and not stable.wiped and number in stable.known

    def damage(self) -> None:
        """Some records of a disk do not pass their checksum at the next start (D6)."""
        member = self.impairable()
        if member is None or member.disk.stable is None or member.disk.stable.view is None:
            return
        log = member.disk.log
        if log.end == log.first:
            return
        self.kill(member, self.span(100))
        first = max(log.first, log.end - self.random.randint(1, 30))
        if self.random.random() < 0.3:
            first = self.random.randint(log.first, log.end - 1)
        last = min(log.end - 1, first + self.random.randint(0, 10))
        member.disk.damaged.update(range(first, last + 1))
        member.impaired = "damage"
        self.cluster.counts.torn_disks += 1

    def fill_disk(self) -> None:
        """ENOSPC for a while (D5, F24)."""
        member = self.victim()
        member.fill_disk()
        self.cluster.after(self.span(400), member.free_disk)

    def slow_disk(self) -> None:
        """A disk that takes 5 to 50 times as long (F31)."""
        writer = self.victim().writer
        writer.slowness = self.random.choice((5, 20, 50))
        self.cluster.after(self.span(500), self._speed_up, writer)

    @staticmethod
    def _speed_up(writer: Writer) -> None:
        writer.slowness = 1

    # ------------------------------------------------------------------ clocks and clients

    def clock_jump(self) -> None:
        """The wall clock leaps (F20)."""
        self.victim().wall_offset += self.random.randint(-86_400_000_000, 86_400_000_000)

    def kill_client(self) -> None:
        """A client dies with batches outstanding (F52)."""
        clients = self.cluster.clients
        if sum(not client.gone for client in clients) > 1:
            self.random.choice(clients).gone = True

    def disconnect_client(self) -> None:
        """A client moves to another member and resends (K2)."""
        self.random.choice(self.cluster.clients).disconnected()
