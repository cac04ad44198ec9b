"""V12: a change of members, from an operator's wish to the view that uses it."""

from sequencer.config import MEMBERS_MAX, MS
from sequencer.configuration import is_one_step
from sequencer.membership import FRESH_JOINS, Membership
from sequencer.output import ChangeMembersAsked
from sequencer.quorum import majority
from sequencer.types import MembersChange

MEMBER_MAX = 63  # ids are bits of a set (GroupConfig)
INFO_BYTES_MAX = 1 << 16

#: Why a change is refused (V12); what to do about it is the replica's to say.
NOT_SERVING = "not serving"
UNDER_WAY = "another change is under way, or a quorum has not installed the view yet"
MEMBERS_LIMIT = f"1 to {MEMBERS_MAX} members"
ONE_STEP = "one member at a time"
INFO_LIMIT = "info too large"
NOT_HEARD = "the new member is not heard"
NO_QUORUM = "too few of the new members are heard"
FEW_COPIES = "too few of the members that stay hold the whole retained log"


class ChangeOfMembers(Membership):
    """Who may be asked for; the view change that follows."""

    def on_change_asked(self, event: ChangeMembersAsked) -> None:
        """V12: order the change, or say why not."""
        why = self.refuses_change(event.new, event.info, accept_loss=event.accept_loss)
        if why:
            self.tell("change_refused", members=event.new, why=why)
            return
        self.rule("V12")
        change = MembersChange(self.next_members, event.new, self.window.configuration.slot, event.info)
        self.tell("change_asked", members=event.new, since=change.since)
        self.submit((), change)

    def refuses_change(self, new: tuple[int, ...], info: bytes, *, accept_loss: bool = False) -> str:
        """V12: one of the reasons above, empty if the change may be ordered."""
        view = self.installed
        if view is None or not self.in_quorum() or self.leaving:
            return NOT_SERVING
        if self.own.asks_change() or not self.may_change_members(view):
            return UNDER_WAY
        if not 1 <= len(new) <= MEMBERS_MAX:
            return MEMBERS_LIMIT
        if not is_one_step(self.next_members, new) or not 1 <= new[0] <= new[-1] <= MEMBER_MAX:
            return ONE_STEP
        if len(info) > INFO_BYTES_MAX:
            return INFO_LIMIT
        if not all(self.has_joined(member) for member in new if member not in self.next_members):
            return NOT_HEARD
        if not self.keeps_quorum(new):
            return NO_QUORUM
        if len(new) < len(self.next_members) and not accept_loss and not self.keeps_copies(new):
            self.rule("C3")
            return FEW_COPIES
        return ""

    def has_joined(self, member: int) -> bool:
        """It is up, and bound to this cluster: the view that makes it a member can name its disk (V0)."""
        peer = self.peer(member)
        fresh = self.now_us - peer.join_us < FRESH_JOINS * self.config.join_interval_ms * MS
        return fresh and peer.join is not None and peer.join_cluster == self.stable.cluster

    def keeps_quorum(self, new: tuple[int, ...]) -> bool:
        """A newcomer has nothing yet and counts for nobody: a dead member is removed before its replacement is added.

        A single member has nobody else: it must wait for the second one in any case.
        """
        return self.members == (self.me,) or self.hears_able(new, majority(new))

    def consider_change(self) -> None:
        """V12: the log holds a committed change: the first ring member makes the view that uses it, as for V9."""
        members, slot, _ = self.window.configuration
        if not members or members == self.members or self.commit <= slot:
            return
        if self.view_to_change() is not None and self.hears_quorum():
            self.rule("V12")
            self.propose()
