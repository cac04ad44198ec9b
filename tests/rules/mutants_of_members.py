"""What V0, V9-V11, C1, C2 and K3 forbid, one double each."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sequencer.core import Core
from sequencer.messages import Fetch, Join, Joined, Known, Prepare, Read, ReadOk, SnapshotChunk
from sequencer.output import Received, SnapshotOpened, TrimAsked
from sequencer.read_rounds import ReadRounds, Round
from sequencer.rules import Rules
from sequencer.state import NEVER
from sequencer.types import NO_VIEW, Identity, Incarnation, StableState, View, ViewNumber
from tests.rules.doubles import gets_wrong

# ---------------------------------------------------------------------- V0


@gets_wrong("V0 wiped members take part")
class WipedTakesPart(Rules):
    def may_take_part(self, state: StableState, *, damaged: bool) -> bool:
        return not damaged and state.cluster != 0


@gets_wrong("V0 readmitted by any view")
class ReadmittedByAny(Rules):
    def readmits(self, view: View, me: int, state: StableState) -> bool:
        return True


@gets_wrong("V0 counts promises of old incarnations")
class CountsOldPromises(Rules):
    def counts_promise(self, incarnation: Incarnation, known: Identity | None) -> bool:
        return True


@gets_wrong("V0 genesis by a quorum")
class GenesisByQuorum(Rules):
    def genesis_complete(self, promisers: Collection[int], members: Collection[int]) -> bool:
        return len(promisers) > len(members) // 2


@gets_wrong("D6 lost members found a cluster")
class LostFounds(Rules):
    def may_found(self, *, lost: bool) -> bool:
        return True


@gets_wrong("D6 a set-aside disk is a new one")
class ForgetsTheLoss(Core):
    def __init__(self, config: Any, member: int, recovered: Any, *more: Any, **named: Any) -> None:
        super().__init__(config, member, replace(recovered, lost=None), *more, **named)


@gets_wrong("V0 answers a genesis of another disk")
class AnswersAnyGenesis(Core):
    def on_prepare(self, sender: int, message: Prepare) -> None:
        named = tuple(
            Known(member, identity._replace(storage=self.stable.storage) if member == self.me else identity)
            for member, identity in message.vector
        )
        super().on_prepare(sender, replace(message, vector=named))


@gets_wrong("V0 believes that its disk is whole")
class NeverRolledBack(Rules):
    def is_rolled_back(self, told: Identity | None, state: StableState) -> bool:
        return False


@gets_wrong("V0 a new disk is an ordinary member")
class TrustsNewDisk(Core):
    def meet_cluster(self, sender: int, cluster: int, joined: Joined) -> None:
        self.meet_marked(cluster)


@gets_wrong("V0 forgets its marks")
class ForgetsMarks(Core):
    def meet_marked(self, cluster: int) -> None:
        self.meet_cluster(self.me, cluster, Joined(View(NO_VIEW, (), 0, 0, b"", self.members, self.members), None))


@gets_wrong("V0 takes frames of any cluster")
class AnyCluster(Core):
    def accepts(self, event: Received) -> bool:
        return True


@gets_wrong("V0 keeps what it learns in memory")
class LearnsInMemory(Core):
    def learn_identity(self, *arguments: Any, **named: Any) -> None:
        super().learn_identity(*arguments, **named)
        self.known_unsaved = False

    def save_stable(self, **changes: object) -> None:
        known = self.stable.known
        self.stable = replace(self.stable, known={})
        super().save_stable(**changes)
        self.stable = replace(self.stable, known=known)


# ---------------------------------------------------------------------- V9, V10, V11


@gets_wrong("V9 does not present itself")
class SendsNoJoin(Core):
    def on_join_timer(self) -> None:
        return


@gets_wrong("V9 does not answer a joiner")
class AnswersNoJoin(Core):
    def on_join(self, sender: int, message: Join, cluster: int, incarnation: Incarnation) -> None:
        return


@gets_wrong("V9 does not learn from JOINED")
class IgnoresJoined(Core):
    def on_joined(self, sender: int, message: Joined, cluster: int) -> None:
        return


@gets_wrong("V9 leaves the wiped out")
class ReadmitsNobody(Rules):
    def must_readmit(self, join: Join, named: Mapping[int, Identity | None], joiner: int) -> bool:
        return False


@gets_wrong("V9 leaves the higher promised out")
class MindsNoPromise(Core):
    def is_due(self, joiner: int, view: View) -> bool:
        join = self.peer(joiner).join
        if join is not None:
            self.peer(joiner).join = replace(join, promised=min(join.promised, view.number))
        return super().is_due(joiner, view)


@gets_wrong("V9 leaves learners out")
class KeepsLearners(Core):
    def is_due(self, joiner: int, view: View) -> bool:
        self.peer(joiner).status = None
        return super().is_due(joiner, view)


@gets_wrong("V9 takes in whoever has installed")
class TakesInTheDeaf(Core):
    def is_due(self, joiner: int, view: View) -> bool:
        status = self.peer(joiner).status
        return super().is_due(joiner, view) or (status is not None and status.view == view.number)


@gets_wrong("V9 every ring member changes the view")
class EveryoneChanges(Core):
    def consider_joiners(self) -> None:
        view = self.installed
        if view is None or not self.in_ring or self.proposal is not None or self.now_us < self.patient_until_us:
            return
        if any(self.is_due(joiner, view) for joiner in self.fresh_joiners() if joiner not in view.ring):
            self.propose()


@gets_wrong("V9 knows no back-off")
class KnowsNoBackOff(Core):
    def is_due(self, joiner: int, view: View) -> bool:
        self.absences.pop(joiner, None)
        return super().is_due(joiner, view)


@gets_wrong("V9 always waits the same")
class SameBackOff(Core):
    def view_started(self, view: View) -> None:
        super().view_started(view._replace(back_offs=tuple(back_off._replace(level=0) for back_off in view.back_offs)))


@gets_wrong("V10 does not publish again")
class PublishesNothingAgain(Core):
    def republish_own(self) -> None:
        return


@gets_wrong("V10 keeps requests of the dead")
class KeepsRequests(Core):
    def installed_durably(self, view: View) -> None:
        for member in self.others:
            self.peer(member).heard_us = self.now_us
            self.peer(member).connection_lost = False
        super().installed_durably(view)


@gets_wrong("V11 does not ask to go")
class LeavesSilently(Core):
    def on_leave_timer(self) -> None:
        return


@gets_wrong("V11 lets nobody go")
class LetsNobodyGo(Core):
    def may_leave(self, member: int) -> bool:
        return False


@gets_wrong("V11 lets go whom it needs")
class LetsEveryoneGo(Core):
    def may_leave(self, member: int) -> bool:
        status = self.peer(member).status
        return status is not None and status.leaving


@gets_wrong("V11 never leaves")
class NeverLeaves(Core):
    def consider_left(self) -> None:
        return


# ---------------------------------------------------------------------- C1, C2, K3


@gets_wrong("C1 fetch from a member of another view")
class RecordsOfAnyView(Rules):
    def may_take_records(self, sent_in: ViewNumber, installing: ViewNumber | None) -> bool:
        return True


@gets_wrong("C1 commits what does not link")
class CommitsBeyondTheRecords(Rules):
    def fetched_commit(self, committed: int, end: int) -> int:
        return committed


@gets_wrong("C1 serves any view")
class ServesAnyView(Core):
    def on_fetch(self, sender: int, message: Fetch) -> None:
        super().on_fetch(sender, replace(message, view=self.view.number) if self.view else message)


@gets_wrong("C1 snapshot with stable state")
class SnapshotWithStable(Core):
    def use_snapshot(self, message: SnapshotChunk) -> None:
        super().use_snapshot(message)
        self.save_stable(view=self.installing)


@gets_wrong("C1 begins a snapshot again")
class NotResumable(Core):
    def serve_snapshot(self, to: int, view: ViewNumber, wanted: str, chunk: int) -> None:
        super().serve_snapshot(to, view, "", 0)


@gets_wrong("C1 uses a snapshot after a higher promise")
class UsesStaleSnapshot(Core):
    def on_snapshot_chunk(self, sender: int, message: SnapshotChunk) -> None:
        if self.stable.promised > message.view and message.index + 1 == message.count:
            self.use_snapshot(message)
        else:
            super().on_snapshot_chunk(sender, message)


@gets_wrong("C1 forgets the A2 table")
class ForgetsTable(Core):
    def on_snapshot_opened(self, event: SnapshotOpened) -> None:
        super().on_snapshot_opened(replace(event, senders=()))


@gets_wrong("C2 trims past the snapshot")
class TrimsPastSnapshot(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        if self.snapshot is not None:
            self.snapshot = replace(self.snapshot, slot=event.first)
        super().on_trim_asked(event)


@gets_wrong("C2 trims past a member")
class TrimsPastMember(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        for member in self.others:
            self.peer(member).heard_us = NEVER
        super().on_trim_asked(event)


@gets_wrong("C2 lets a member hold the log")
class LetsMemberHold(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        super().on_trim_asked(TrimAsked(event.first))


@gets_wrong("C2 takes the hard bound for the snapshot's")
class TrimsOverdueAtOnce(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        super().on_trim_asked(TrimAsked(event.first, event.first))


@gets_wrong("C2 keeps the window")
class KeepsWindow(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        super().on_trim_asked(TrimAsked(min(event.first, self.window.base), min(event.overdue, self.window.base)))


@gets_wrong("C2 never trims")
class NeverTrims(Core):
    def on_trim_asked(self, event: TrimAsked) -> None:
        return


@gets_wrong("K3 answers of any view")
class ReadsAnyView(Core):
    def on_read_ok(self, sender: int, message: ReadOk) -> None:
        view = self.installed
        super().on_read_ok(sender, replace(message, view=view.number) if view else message)


@gets_wrong("K3 the lowest answer")
class ReadsLowest(Core):
    def on_read_ok(self, sender: int, message: ReadOk) -> None:
        super().on_read_ok(sender, replace(message, stored=0))


@gets_wrong("K3 its own answer only")
class ReadsAlone(Core):
    def start_reads(self) -> None:
        super().start_reads()
        for asked in self.rounds.values():
            asked.stored.update(dict.fromkeys(self.members, self.acknowledged()))
        self.answer_reads()


@gets_wrong("K3 a wiped member answers")
class WipedAnswers(Core):
    def on_read(self, sender: int, message: Read) -> None:
        self.send(sender, ReadOk(message.nonce, self.stable.log_view, self.stored))


@gets_wrong("K3 does not ask again after an install")
class AsksOnce(Core):
    def start_reads(self) -> None:
        if self.readers:
            super().start_reads()


@gets_wrong("K3 a reader joins a READ that has left")
class JoinsLate(ReadRounds[Any]):
    def join(self, reader: Any) -> Round[Any]:
        one = next((one for one in self._asked.values() if one.slot is None), None)
        if one is None:
            return super().join(reader)
        one.readers.append(reader)
        return one
