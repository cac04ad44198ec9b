"""What D1-D6 forbid, one double each."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sequencer.core import Core
from sequencer.output import AppendRecord, CutLog, Persist, TrimLog
from sequencer.rules import Rules
from sequencer.types import NO_VIEW, Sequence, StableState, View, ViewNumber
from sequencer.view_change import Proposal
from tests.rules.doubles import gets_wrong


@gets_wrong("D1 records without payloads")
class NoPayloads(Core):
    def persist(self, operation: Persist) -> None:
        if isinstance(operation, AppendRecord):
            operation = operation._replace(record=replace(operation.record, requests=()))
        super().persist(operation)


@gets_wrong("D1 records with a hole")
class Holes(Core):
    def persist(self, operation: Persist) -> None:
        if not (isinstance(operation, AppendRecord) and operation.record.slot == 0):
            super().persist(operation)


@gets_wrong("D2 acknowledges before the sync")
class AcknowledgesEarly(Rules):
    def acknowledged_end(self, stored: int, appended: int) -> int:
        return appended


@gets_wrong("D2 forgets that its memory was lost")
class TrustsLostMemory(Core):
    def init_membership(self, *, lost_memory: bool, new_disk: bool) -> None:
        super().init_membership(lost_memory=False, new_disk=new_disk)


@gets_wrong("D2 memory waits for the sync")
class MemoryWaits(Core):
    @property
    def counted_end(self) -> int:
        return self.stored


@gets_wrong("D2 recovers from the promises of a quorum")
class RecoversByQuorum(Rules):
    def genesis_complete(self, promisers: Collection[int], members: Collection[int]) -> bool:
        return len(promisers) > len(members) // 2


@gets_wrong("D2 hides a possible loss")
class HidesLoss(Core):
    def accepted_loss(self, proposal: Proposal) -> ViewNumber:
        return NO_VIEW


@gets_wrong("D3 speaks before it is durable")
class SpeaksEarly(Core):
    def start(self) -> None:
        return

    def init_membership(self, *, lost_memory: bool, new_disk: bool) -> None:
        super().init_membership(lost_memory=lost_memory, new_disk=new_disk)
        super().start()


@gets_wrong("D4 SEQUENCE waits for the disk")
class SequenceWaits(Core):
    def publish_sequence(self, sequence: Sequence) -> None:
        self.when_durable(lambda: self._outgoing_sequences.append(sequence))


@gets_wrong("D4 INSTALLED leaves at once")
class InstalledAtOnce(Core):
    def finish_install(self, view: View) -> None:
        super().finish_install(view)
        for effect in self._effects:
            effect()
        self._effects.clear()


@gets_wrong("D5 goes on with a full disk")
class IgnoresFullDisk(Core):
    def fill_disk(self, *, full: bool) -> None:
        return


@gets_wrong("D5 never resumes")
class StaysFull(Core):
    def fill_disk(self, *, full: bool) -> None:
        super().fill_disk(full=True)


@gets_wrong("D6 a damaged member takes part")
class DamagedTakesPart(Rules):
    def may_take_part(self, state: StableState, *, damaged: bool) -> bool:
        return super().may_take_part(state, damaged=False)


@gets_wrong("D6 cuts at the first bad record")
class CutsDamage(Core):
    def start(self) -> None:
        super().start()
        if self.damage:
            self.persist(CutLog(self.damage[0].first))


@gets_wrong("D6 trims what is damaged")
class TrimsDamage(Core):
    def start(self) -> None:
        super().start()
        if self.damage:
            self.persist(TrimLog(self.damage[0].last + 1))


@gets_wrong("D6 repairs with any record")
class RepairsWithAnything(Core):
    def finish_repair(self) -> None:
        run = self.damage[0]._replace(chain_after=self.repaired[-1].sequence.chain)
        self.damage = (run, *self.damage[1:])
        super().finish_repair()


@gets_wrong("D6 installs the view it promised")
class InstallsDamaged(Core):
    def take_view(self, sender: int, view: View) -> None:
        damage, self.damage = self.damage, ()
        super().take_view(sender, view)
        self.damage = damage


@gets_wrong("D6 forgets that it cut")
class ForgetsCut(Core):
    def save_stable(self, **changes: Any) -> None:
        if self.damage:
            changes.pop("wiped", None)
        super().save_stable(**changes)
