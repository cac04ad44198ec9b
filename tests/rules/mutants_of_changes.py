"""What V12 forbids, one double each."""

from collections.abc import Collection
from dataclasses import replace

from sequencer.core import Core
from sequencer.messages import Prepare, Promise
from sequencer.output import Received
from sequencer.rules import Rules
from sequencer.types import View
from sequencer.view_change import Proposal
from tests.rules.doubles import gets_wrong


@gets_wrong("V12 two changes at once")
class TwoAtOnce(Rules):
    def may_change_members(self, view: View, log_members: tuple[int, ...], confirmed: Collection[int]) -> bool:
        return True


@gets_wrong("V12 changes in a view that no quorum has installed")
class ChangesUnsettled(Rules):
    def may_change_members(self, view: View, log_members: tuple[int, ...], confirmed: Collection[int]) -> bool:
        return log_members == view.members


@gets_wrong("V12 counts against its own old configuration")
class CountsAgainstItsOwn(Rules):
    def promises_needed(self, source: Promise, own: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
        return ((own, len(own) // 2 + 1),)


@gets_wrong("V12 counts the new members only")
class CountsNewOnly(Rules):
    def promises_needed(self, source: Promise, own: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
        return super().promises_needed(source, own)[1:]


@gets_wrong("V12 announces its own configuration")
class AnnouncesItsOwn(Core):
    def announce(self, proposal: Proposal) -> None:
        for member, promise in proposal.promises.items():
            proposal.promises[member] = replace(promise, members=self.members)
        super().announce(proposal)


@gets_wrong("V12 promises with the members of its view")
class PromisesViewMembers(Core):
    @property
    def next_members(self) -> tuple[int, ...]:
        return self.members


@gets_wrong("V12 keeps a change that was cut")
class KeepsCutChange(Core):
    def cut(self, end: int) -> None:
        configuration = self.window.configuration
        super().cut(end)
        self.window.configuration = configuration


@gets_wrong("V12 counts ACKs against the next configuration")
class AcksOfNext(Core):
    def advance_commit(self) -> None:
        view = self.view
        if view is not None:
            self.view = view._replace(members=self.next_members)
        super().advance_commit()
        self.view = view


@gets_wrong("V12 never uses a change")
class NeverUses(Core):
    def consider_change(self) -> None:
        return


@gets_wrong("V12 uses a change before its commit")
class UsesUncommitted(Core):
    def consider_change(self) -> None:
        if self.next_members != self.members and self.view_to_change() is not None:
            self.propose()


@gets_wrong("V12 adds whom nobody has heard")
class AddsUnheard(Core):
    def has_joined(self, member: int) -> bool:
        return True


@gets_wrong("V12 adds before the dead is removed")
class AddsFirst(Core):
    def keeps_quorum(self, new: tuple[int, ...]) -> bool:
        return True


@gets_wrong("V12 takes orders from outsiders")
class TakesFromOutsiders(Core):
    def is_outsider(self, event: Received) -> bool:
        return False


@gets_wrong("V12 goes on when it was removed")
class GoesOn(Core):
    removed = False


@gets_wrong("V12 lets the removed depose")
class LetsRemovedDepose(Core):
    def on_prepare(self, sender: int, message: Prepare) -> None:
        super().on_prepare(sender, replace(message, log_view=message.number))


@gets_wrong("V12 installs what does not hold it")
class InstallsAnyway(Core):
    def see_removal(self, view: View) -> None:
        self.begin_install(view)
