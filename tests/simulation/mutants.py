"""The mutations that docs/protocol.md, "Verification", lists, as the simulator runs them.

Each is a test double that overrides one decision: most stand in `tests/rules`, beside the test of their rule; those
that are not the core's (the client table, the disk) stand here. `seeds` is the stated number of seeds within which a
mutation must be caught, counted from 1; `kept` is the first that catches it, under the options that steer towards it.
Some are scripted in `tests/rules` instead, for they need one order of events that is too rare at random: "V5 by length
alone" (not in 300 steered seeds), "C1 fetch from a member of another view" (not in 158 seeds of five members), "V12
counts against its own old configuration" (not in 60 long seeds with partitions), "V12 changes in a view that no quorum
has installed" (not in 80 seeds of four members), "V12 keeps a change that was cut" (not in 100 seeds), "V12
counts the new members only" (not in 300 seeds of five members, since a ring holds half of the new ones at least, V6).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sequencer.clients import Applied, ClientBounds, ClientTable, Repeated, Verdict
from sequencer.core import Core
from sequencer.read_rounds import ReadRounds
from sequencer.rules import Rules
from sequencer.simulator.cluster import MS, Cluster, Options
from sequencer.simulator.disk import Disk
from sequencer.simulator.machine import Snapshot, StateMachine
from sequencer.types import Recovered
from tests.rules.mutants import MUTANTS
from tests.rules.mutants_of_ordering import AnyLsn, SequencesAnyLsn

# ---------------------------------------------------------------------- K1: the state machine of all members is wrong


class ForgetfulTable(ClientTable):
    """K1 dedupe: a repeated batch is applied again."""

    def apply(self, slot: int, client: bytes, sequence: int, count: int, opened: int, digest: bytes) -> Verdict:
        verdict = super().apply(slot, client, sequence, count, opened, digest)
        if isinstance(verdict, Repeated):
            self._next_offset += count
            return Applied(self._next_offset - count, count)
        return verdict


class ForgetfulMachine(StateMachine):
    table_class = ForgetfulTable


class ForgetfulDisk(Disk):
    machine_class = ForgetfulMachine


class BareSnapshots(StateMachine):
    """K1: the table is not in the snapshot."""

    def snapshot(self, name: str, chunks: int) -> Snapshot:
        whole = super().snapshot(name, chunks)
        return Snapshot(
            whole.name,
            whole.slot,
            whole.chain,
            whole.time_us,
            whole.senders,
            whole.digest,
            {},
            whole.meta,
            whole.chunks,
            whole.configuration,
        )


class BareSnapshotDisk(Disk):
    machine_class = BareSnapshots


class NoHorizonTable(ClientTable):
    """K1 horizon: a client that was dropped may begin anew, and what it resends is applied again."""

    def _drop_oldest(self) -> None:
        super()._drop_oldest()
        self._horizon = -1


class NoHorizonMachine(StateMachine):
    table_class = NoHorizonTable


class NoHorizonDisk(Disk):
    machine_class = NoHorizonMachine


class CuttingDisk(Disk):
    """D6 cut: a log with a bad record is cut before it at the start, as if it had never been acknowledged."""

    def recover(self) -> Recovered:
        if self.damaged and self.stable is not None:
            end = max(min(self.damaged), self.saved.applied)
            self.log.cut(end)
            self.damaged.clear()
        return super().recover()


# ---------------------------------------------------------------------- how each is run


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutation and the seeds that show it."""

    name: str
    seeds: int
    kept: int
    double: type[Rules] | type[Core] | type[ReadRounds[int]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def options(self, *, mutated: bool) -> Options:
        """The options of a run, with or without the mutation."""
        settings = {"member_changes": 0.0} | dict(self.settings)
        if not mutated:
            for name in ("disk", "rules"):
                settings.pop(name, None)
            return Options(Core, **settings)
        double = self.double or MUTANTS.get(self.name)
        if double is None:
            return Options(Core, **settings)
        if issubclass(double, Rules):
            return Options(Core, rules=double(), **settings)
        if issubclass(double, ReadRounds):
            return Options(Core, read_rounds=double, **settings)
        return Options(double, **settings)


def quick_restarts(cluster: Cluster) -> None:
    """Members, mostly the holder, die and are back before anyone has noticed; views change now and then."""
    faults = cluster.faults
    for at_ms in range(150, cluster.options.safety_us // MS, 23):
        kind = at_ms % 5
        if kind == 0:
            cluster.at(at_ms * MS, faults.crash_holder)
        else:
            cluster.at(at_ms * MS, _restart, cluster, kind)


def _restart(cluster: Cluster, kind: int) -> None:
    faults = cluster.faults
    faults.kill(faults.holder() if kind < 3 else faults.victim(), 300)


class EndBeforeQueued(Rules):
    """V3: the end is taken when PREPARE arrives, while acknowledgements of what the writer holds still leave."""

    def promised_end(self, stored_when_durable: int, stored_when_asked: int) -> int:
        return stored_when_asked

    def acknowledges_after_promise(self) -> bool:
        return True


IDLE: dict[str, Any] = {
    "config": {"idle_hop_interval_ms": 3},
    "weather": {"duplication": 0.3, "slow": 0.1, "slow_spread": 20 * MS},
    "think_ms": 40,
    "clients": 2,
}
PARTED = {"weights": {"split": 60, "isolate_holder": 60, "one_way": 40}, "think_ms": 30}
SNAPSHOTS = {"config": {"retention_grace_ms": 50}}
CLOCKS: dict[str, Any] = {"extra": frozenset({"clocks"})}
STUCK: dict[str, Any] = {"extra": frozenset({"stuck"}), "config": {"retention_grace_ms": 3_600_000}}
CHANGING: dict[str, Any] = {"member_changes": 1.0}
RESTARTS: dict[str, Any] = {"members": 2, "weights": {"crash_all": 30, "crash": 20}, **CHANGING}
PARTIAL = {"extra": frozenset({"partial"}), "safety_us": 100 * MS}

MUTATIONS = (
    Mutation("A2 any order when sequencing", 100, 3, SequencesAnyLsn, {"rules": AnyLsn()}),
    Mutation("A3 sequences without the prefix", 100, 2),
    Mutation("A5 quorum minus one", 100, 1),
    Mutation("A5 quorum of the ring", 100, 1, settings={"members": 5}),
    Mutation("A5 ACKs of older views", 300, 1),
    Mutation("A5 commit of another view", 300, 1),
    Mutation("A6 takes tokens after a restart", 300, 41, settings={**IDLE, "plan": quick_restarts}),
    Mutation("A6 any hop", 300, 1, settings=IDLE),
    Mutation("A8 view of a record", 300, 47),
    Mutation("D2 acknowledges before the sync", 100, 1),
    Mutation("D4 INSTALLED leaves at once", 100, 1),
    Mutation("D6 cuts at the first bad record", 300, 5, settings={"disk": CuttingDisk}),
    Mutation("D6 forgets that it cut", 300, 4, settings={"weights": {"damage": 30}}),
    Mutation("V0 wiped members take part", 100, 3),
    Mutation("V0 readmitted by any view", 300, 1, settings={"weights": {"wipe": 30, "rollback": 30}}),
    Mutation("V1 goes by what it hears itself", 100, 14, settings=PARTIAL),
    Mutation("V3 promise not durable", 100, 1),
    Mutation("V3 end taken before queued acknowledgements", 300, 1, EndBeforeQueued),
    Mutation("V3 acknowledges after the promise", 100, 1),
    Mutation("V5 second announcement", 300, 1),
    Mutation("V7 log view before prefix", 100, 1),
    Mutation("V7 no cut beyond the end", 300, 10, settings=PARTED),
    Mutation("V7 no cut where the chain differs", 300, 9),
    Mutation("V7 install below the promise", 300, 20),
    Mutation("V7 acknowledges before the install is durable", 100, 1),
    Mutation("V8 creates again after a restart", 300, 22, settings={**IDLE, "plan": quick_restarts}),
    Mutation("V8 creates again on a repeated NEW_VIEW", 300, 72, settings=IDLE),
    Mutation("C1 snapshot with stable state", 300, 4, settings=SNAPSHOTS),
    Mutation("C3 whole with a snapshot alone", 300, 22, settings={"extra": frozenset({"replacements"})}),
    Mutation("C2 lets a member hold the log", 100, 4, settings=STUCK),
    Mutation("C2 never trims", 100, 1, settings=STUCK),
    Mutation("V12 two changes at once", 300, 24, settings={"members": 5, **CHANGING}),
    Mutation("V12 announces its own configuration", 100, 1, settings=CHANGING),
    Mutation("V12 promises with the members of its view", 100, 1, settings=CHANGING),
    Mutation("V12 counts ACKs against the next configuration", 100, 1, settings=CHANGING),
    Mutation("V12 never uses a change", 100, 3, settings=CHANGING),
    Mutation("V12 lets the removed depose", 300, 225, settings=RESTARTS),
    Mutation("D7 the own clock", 100, 1, settings=CLOCKS),
    Mutation("D7 the latest clock", 100, 1, settings=CLOCKS),
    Mutation("D7 the quorum of those that are known", 100, 1, settings=CLOCKS),
    Mutation("D7 back without a reset", 100, 1, settings=CLOCKS),
    Mutation("D7 tells no clock", 100, 3, settings=CLOCKS),
    Mutation("D7 never resets", 100, 38, settings=CLOCKS),
    Mutation("K3 a reader joins a READ that has left", 100, 4, settings={"extra": frozenset({"bursts"})}),
    Mutation("K1 dedupe", 100, 1, settings={"disk": ForgetfulDisk}),
    Mutation("K1 table not in the snapshot", 300, 4, settings={"disk": BareSnapshotDisk, **SNAPSHOTS}),
    Mutation("K1 horizon", 300, 1, settings={"disk": NoHorizonDisk, "bounds": ClientBounds(2, 8), "clients": 3}),
)
