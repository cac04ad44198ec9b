"""What goes wrong in the safety phase, drawn by weight; and what operators do meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations, product
from random import Random
from typing import TYPE_CHECKING

from replicas.raft.simulator.disk import Disk
from sequencer.simulator.network import Link, Weather
from store.raft_contract import Kind, Members

if TYPE_CHECKING:
    from replicas.raft.simulator.cluster import Cluster, Process

WEIGHTS = {
    "crash": 20,
    "crash_leader": 20,
    "crash_all": 6,
    "pause": 12,
    "pause_leader": 12,
    "split": 12,
    "isolate_leader": 12,
    "one_way": 12,
    "storm": 12,
    "slow_disk": 8,
    "transfer": 10,
    "wipe": 6,
    "put_back": 6,
    "add": 8,
    "remove": 8,
}
MEMBERS_MAX = 6


class Faults:
    """Each is followed by its end, some time after; a minority's disks at most are lost at a time."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random
        self._weights = {**WEIGHTS, **cluster.options.weights}
        self._task: asyncio.Task[None] | None = None
        self._healed = False
        self._backups: dict[int, list[Disk]] = {}
        self._void: set[int] = set()  # storages whose newest state is lost
        # Those that were put back: another start before anyone has met the first one raises the incarnation past what
        # peers know, and then nobody can tell (docs/raft.md, "Put back").
        self._returned: set[int] = set()

    def start(self) -> None:
        """Draw until `heal`."""
        self._task = self._cluster.loop.create_task(self._run())

    async def _run(self) -> None:
        names, weights = list(self._weights), list(self._weights.values())
        await asyncio.sleep(0.3 + self._random.random())
        while True:
            for member, disk in self._cluster.disks.items():
                if self._random.random() < 0.2:
                    self._backups.setdefault(member, []).append(disk.copy())
            (name,) = self._random.choices(names, weights)
            self._cluster.note(0, name)
            try:
                getattr(self, f"_{name}")()
            except Exception as error:  # noqa: BLE001 - a fault that fails is a finding
                self._cluster.broken(error)
            await asyncio.sleep(self._random.expovariate(6.0))

    def heal(self) -> None:
        """Everything runs, every link works."""
        self._healed = True
        if self._task is not None:
            self._task.cancel()
        cluster = self._cluster
        cluster.network.heal()
        for process in cluster.processes.values():
            process.store.slow_seconds = 0.0
            if process.paused:
                cluster.resume(process)
        for member in cluster.disks:
            self._restart(member)
        for client in cluster.clients:
            client.answered_since_heal = 0

    def _later(self, longest: float, end: Callable[..., object], *args: object) -> None:
        self._cluster.loop.call_later(self._random.random() * longest, lambda: self._healed or end(*args))

    def _restart(self, member: int) -> None:
        if member not in self._cluster.processes and member not in self._cluster.removed:
            self._cluster.start(member)

    # -------------------------------------------------------------- processes

    def _any(self) -> Process | None:
        running = [self._cluster.processes[member] for member in sorted(self._cluster.processes)]
        return self._random.choice(running) if running else None

    def _kill(self, process: Process | None) -> None:
        if process is not None and process.node.state.storage not in self._returned:
            self._cluster.kill(process.member)
            self._later(1.0, self._restart, process.member)

    def _crash(self) -> None:
        self._kill(self._any())

    def _crash_leader(self) -> None:
        self._kill(self._cluster.leader)

    def _crash_all(self) -> None:
        for process in list(self._cluster.processes.values()):
            self._kill(process)

    def _stop(self, process: Process | None) -> None:
        if process is not None and not process.paused:
            self._cluster.pause(process.member)
            self._later(1.0, self._continue, process)

    def _continue(self, process: Process) -> None:
        if process.paused:
            self._cluster.resume(process)

    def _pause(self) -> None:
        self._stop(self._any())

    def _pause_leader(self) -> None:
        self._stop(self._cluster.leader)

    def _slow_disk(self) -> None:
        process = self._any()
        if process is not None:
            process.store.slow_seconds = self._random.random() * 0.2
            self._later(1.0, setattr, process.store, "slow_seconds", 0.0)

    # -------------------------------------------------------------- links

    def _block(self, links: list[Link]) -> None:
        self._cluster.counts["partitions"] += 1
        self._cluster.network.block(links)
        self._later(1.5, self._cluster.network.unblock, links)

    def _split(self) -> None:
        members = sorted(self._cluster.disks)
        self._random.shuffle(members)
        at = self._random.randrange(len(members)) + 1
        one, other = members[:at], members[at:]
        self._block([*product(one, other), *product(other, one)])

    def _isolate_leader(self) -> None:
        leader = self._cluster.leader
        if leader is not None:
            others = [member for member in sorted(self._cluster.disks) if member != leader.member]
            self._block([*product([leader.member], others), *product(others, [leader.member])])

    def _one_way(self) -> None:
        links = list(permutations(sorted(self._cluster.disks), 2))
        if links:
            self._block(self._random.sample(links, self._random.randint(1, min(3, len(links)))))

    def _storm(self) -> None:
        network, random = self._cluster.network, self._random
        network.weather = Weather(
            loss=random.random() * 0.3,
            duplication=random.random() * 0.2,
            slow=random.random() * 0.3,
            slow_spread=100_000,
        )
        self._later(1.0, setattr, network, "weather", self._cluster.calm)

    # -------------------------------------------------------------- disks

    def _whole(self, member: int) -> bool:
        """Whether every member has the disk that the newest configuration names, and that is committed."""
        leader = self._cluster.leader
        if leader is None:
            return False
        members: Members = leader.node.state.log.members
        if leader.node.state.log.members_index > leader.node.state.log.commit or len(members) < 3:
            return False
        disks = self._cluster.disks
        for one in members:
            # A disk lost while a change is on its way, at whomever, can leave both configurations without a majority.
            process = self._cluster.processes.get(one.id)
            on_disk = [entry.index for entry in disks[one.id].log if entry.kind is Kind.MEMBERS]
            newest = process.node.state.log.members_index if process is not None else 0
            if max((newest, *on_disk)) > leader.node.state.log.commit:
                return False
        holds = [one.voter and one.storage not in self._void for one in members]
        return all(holds) and members.find(member) is not None

    def _wipe(self) -> None:
        """A new disk, under the old name."""
        process = self._any()
        if process is not None and self._whole(process.member):
            self._cluster.counts["wipes"] += 1
            self._void.add(process.node.state.storage)
            self._kill(process)
            self._cluster.disks[process.member] = Disk()
            self._backups.pop(process.member, None)

    def _put_back(self) -> None:
        """An old copy of the disk; of a time that every other member can tell is over."""
        process = self._any()
        backups = self._backups.get(process.member, []) if process is not None else []
        if process is None or not backups or not self._whole(process.member):
            return
        old = self._random.choice(backups)
        if old.hard is None or old.hard.cluster == 0:
            return
        for member, disk in self._cluster.disks.items():
            if member in {process.member, *self._cluster.removed}:
                continue
            known = dict(disk.hard.known).get(old.hard.storage) if disk.hard is not None else None
            if known is None or known.counter <= old.hard.incarnation.counter:
                return
        self._cluster.counts["put_back"] += 1
        self._void.add(old.hard.storage)
        self._kill(process)
        self._cluster.disks[process.member] = old.copy()
        self._returned.add(old.hard.storage)

    # -------------------------------------------------------------- operators

    def _transfer(self) -> None:
        leader = self._cluster.leader
        if leader is not None and not leader.paused:
            self._cluster.counts["transfers"] += 1
            leader.node.transfer()

    def _add(self) -> None:
        cluster, leader = self._cluster, self._cluster.leader
        if leader is None or leader.paused or len(cluster.disks) - len(cluster.removed) >= MEMBERS_MAX:
            return
        cluster.newest_member += 1
        member = cluster.newest_member
        cluster.start(member)
        cluster.counts["adds"] += 1
        leader.node.add_member(member, f"member-{member}")

    def _remove(self) -> None:
        """The removed one's process ends once the removal is known to be committed."""
        cluster, leader = self._cluster, self._cluster.leader
        if leader is None or leader.paused or len(leader.node.state.log.members) < 3:
            return
        member = self._random.choice(sorted(one.id for one in leader.node.state.log.members))
        if not self._whole(member):
            return
        cluster.counts["removes"] += 1

        def removed(answer: asyncio.Future[None]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                cluster.removed.add(member)
                if member in cluster.processes:
                    cluster.kill(member)

        leader.node.remove_member(member).add_done_callback(removed)
