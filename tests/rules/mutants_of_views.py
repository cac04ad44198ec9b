"""What V1-V8 forbid, one double each."""

from dataclasses import replace
from typing import Any

from sequencer.core import Core
from sequencer.messages import Chains, Healthy, Prepare, Promise, Status
from sequencer.output import Output
from sequencer.quorum import bits
from sequencer.rules import Rules
from sequencer.types import Incarnation, StableState, View, ViewNumber
from sequencer.view_change import Proposal
from tests.rules.doubles import gets_wrong

# ---------------------------------------------------------------------- V1, V2


@gets_wrong("V1 does not see broken connections")
class KeepsConnection(Core):
    def lose_peer(self, member: int, *, lost: bool) -> None:
        return


@gets_wrong("V1 does not mind silence")
class HearsSilence(Core):
    def suspects(self, view: View) -> set[int]:
        for member in self.others:
            self.peer(member).heard_in_view_us = self.now_us
        return super().suspects(view)


@gets_wrong("V1 does not see restarts")
class SeesNoRestart(Core):
    def take_status(self, sender: int, status: Status) -> None:
        super().take_status(sender, status._replace(runs=True))


@gets_wrong("V1 does not miss the token")
class MissesNoToken(Core):
    def suspects(self, view: View) -> set[int]:
        passed, self.passed = self.passed, None
        found = super().suspects(view)
        self.passed = passed
        return found


@gets_wrong("V1 is never stuck")
class NeverStuck(Core):
    def is_stuck(self) -> bool:
        return False


@gets_wrong("V1 deposes a ring that runs without it")
class Deposes(Core):
    def runs_without_us(self) -> bool:
        return False


@gets_wrong("V1 timers before input")
class TimersFirst(Core):
    def step(self, now_us: int, wall_us: int, events: Any) -> Output:
        first = super().step(now_us, wall_us, ())
        then = super().step(now_us, wall_us, events)
        first.sends += then.sends
        first.persists += then.persists
        first.ticket = max(first.ticket, then.ticket)
        return first


@gets_wrong("V2 proposes without a quorum")
class ProposesAlone(Core):
    def hears_quorum(self) -> bool:
        return True


@gets_wrong("V2 counts wiped members")
class CountsWiped(Core):
    def is_able(self, member: int) -> bool:
        return True


@gets_wrong("V2 everyone at once")
class NoRank(Core):
    def review(self) -> None:
        super().review()
        if "propose" in self.timers:
            self.timers["propose"] = min(self.timers["propose"], self.now_us + 1_000)


@gets_wrong("V2 counters from its own promises only")
class OwnCounter(Core):
    def see_number(self, number: ViewNumber) -> None:
        return


# ---------------------------------------------------------------------- V3, V4


@gets_wrong("V3 promises below its promise")
class PromisesLower(Rules):
    def may_promise(self, number: ViewNumber, state: StableState) -> bool:
        return True


@gets_wrong("V3 promises again what it has the NEW_VIEW of")
class PromisesAgain(Rules):
    def may_promise(self, number: ViewNumber, state: StableState) -> bool:
        return number >= state.promised


@gets_wrong("V3 promise not durable")
class PromisesInMemory(Core):
    def promise(self, number: ViewNumber, to: int, genesis: int = 0) -> None:
        super().promise(number, to, genesis)
        self._effects.pop()
        self.promised_durably(number, to, self.stored)


@gets_wrong("V3 end taken before queued acknowledgements")
class EndWhenAsked(Rules):
    def promised_end(self, stored_when_durable: int, stored_when_asked: int) -> int:
        return stored_when_asked


@gets_wrong("V3 acknowledges after the promise")
class AcknowledgesAfterPromise(Rules):
    def acknowledges_after_promise(self) -> bool:
        return True


@gets_wrong("V3 stores after the promise")
class StoresAfterPromise(Core):
    @property
    def installed(self) -> View | None:
        return self.view


@gets_wrong("V3 goes on installing")
class GoesOnInstalling(Core):
    def promise(self, number: ViewNumber, to: int, genesis: int = 0) -> None:
        installing = self.installing
        super().promise(number, to, genesis)
        self.installing = installing


@gets_wrong("V4 lets itself be deposed")
class NotSticky(Core):
    def on_prepare(self, sender: int, message: Prepare) -> None:
        installed, self.installed_now = self.installed_now, False
        super().on_prepare(sender, message)
        self.installed_now = installed and self.installed is not None


@gets_wrong("V4 insists")
class Insists(Core):
    def on_healthy(self, sender: int, message: Healthy) -> None:
        return


# ---------------------------------------------------------------------- V5, V6


@gets_wrong("V5 by length alone")
class LongestLog(Rules):
    def source_order(self, promise: Promise) -> tuple[ViewNumber, int]:
        return (ViewNumber(0, 0), promise.end)


@gets_wrong("V5 by log view alone")
class NewestLogView(Rules):
    def source_order(self, promise: Promise) -> tuple[ViewNumber, int]:
        return (promise.log_view, 0)


@gets_wrong("V5 second announcement")
class AnnouncesTwice(Rules):
    def may_announce(self, announced: View | None) -> bool:
        return True


@gets_wrong("V5 takes a different announcement")
class TakesAnyAnnouncement(Rules):
    def same_announcement(self, held: View | None, view: View) -> bool:
        return True


@gets_wrong("V5 takes up its number after a restart")
class ProposesAgain(Core):
    def init_view_change(self) -> None:
        super().init_view_change()
        if self.stable.promised.proposer == self.me:
            self.proposal = Proposal(self.stable.promised, 0, self.vector(), sent=True)


@gets_wrong("V5 forgets a late promiser")
class ForgetsLate(Core):
    def take_promise(self, sender: int, incarnation: Incarnation, promise: Promise) -> None:
        if self.proposal is not None and self.proposal.announced is None:
            super().take_promise(sender, incarnation, promise)


@gets_wrong("V6 whoever promised")
class NoLimit(Core):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.config = replace(self.config, catch_up_limit_slots=1 << 40)


@gets_wrong("V6 keeps the silent")
class KeepsSilent(Core):
    def heard_bits(self) -> int:
        return bits(self.members)


@gets_wrong("V6 knows no back-off")
class NoBackOff(Core):
    def announce(self, proposal: Proposal) -> None:
        self.absences = {}
        super().announce(proposal)


@gets_wrong("V6 suspects the one that promised")
class SuspectsPromiser(Core):
    def heard_bits(self) -> int:
        return super().heard_bits() & ~bits(self.wanted_out())


@gets_wrong("V6 whoever is heard or not")
class HearsAll(Core):
    def take_promise(self, sender: int, incarnation: Incarnation, promise: Promise) -> None:
        super().take_promise(sender, incarnation, replace(promise, heard=bits(self.members)))


@gets_wrong("V6 fewer than a quorum")
class SmallRing(Core):
    def ring_of(self, proposal: Proposal, counted: dict[int, Promise], source: int) -> tuple[int, ...]:
        near = counted[source].end - self.config.catch_up_limit_slots
        return tuple(sorted(member for member, promise in counted.items() if promise.end >= near))


# ---------------------------------------------------------------------- V7, V8


@gets_wrong("V7 install below the promise")
class InstallsBelowPromise(Rules):
    def may_install(self, number: ViewNumber, state: StableState) -> bool:
        return number > state.log_view


@gets_wrong("V7 installs an older view")
class InstallsOlder(Rules):
    def may_install(self, number: ViewNumber, state: StableState) -> bool:
        return True


@gets_wrong("V7 no cut beyond the end")
class NoCut(Rules):
    def cut_to(self, end: int, base: int) -> int:
        return end

    def prefix_complete(self, end: int, chain: bytes | None, view: View) -> bool:
        return end >= view.base


@gets_wrong("V7 no cut where the chain differs")
class IgnoresChains(Core):
    def on_chains(self, sender: int, message: Chains) -> None:
        return


@gets_wrong("V7 fetches from anyone")
class FetchesFromAnyone(Core):
    def prefix_holders(self, view: View) -> list[int]:
        return self.others


@gets_wrong("V7 log view before prefix")
class RaisesLogViewEarly(Rules):
    def prefix_complete(self, end: int, chain: bytes | None, view: View) -> bool:
        return True


@gets_wrong("V7 cuts below its commit point")
class CutsCommitted(Rules):
    def may_cut(self, end: int, commit: int) -> bool:
        return True


@gets_wrong("V7 acknowledges before the install is durable")
class AcknowledgesInstallEarly(Core):
    def finish_install(self, view: View) -> None:
        self.save_stable(view=view, wiped=False)
        self.installed_durably(view)


@gets_wrong("V8 creates none")
class CreatesNone(Rules):
    def creates_token(self, ring: tuple[int, ...], me: int, *, just_installed: bool) -> bool:
        return False


@gets_wrong("V8 everyone creates one")
class EveryoneCreates(Rules):
    def creates_token(self, ring: tuple[int, ...], me: int, *, just_installed: bool) -> bool:
        return True


@gets_wrong("V8 creates again after a restart")
class CreatesAtStart(Core):
    def start(self) -> None:
        super().start()
        if self.view is not None and self.view.ring[0] == self.me:
            self.create_token(self.view)


@gets_wrong("V8 creates again on a repeated NEW_VIEW")
class CreatesAgain(Core):
    def take_view(self, sender: int, view: View) -> None:
        repeated = self.installed is not None and self.installed.number == view.number
        super().take_view(sender, view)
        if repeated and view.ring[0] == self.me:
            self.create_token(view)
