"""V1: who is suspected, and whether this member should want a new view."""

from sequencer.config import MS
from sequencer.installation import Installation
from sequencer.quorum import majority
from sequencer.types import View, ViewNumber


class Suspicion(Installation):
    """Failure detection; nothing here is safety, only when to ask for a view change."""

    def suspects(self, view: View) -> set[int]:
        """V1: the ring members that are suspected in this view."""
        timeout_us = self.config.suspect_timeout_ms * MS
        suspected = set()
        for member in view.ring:
            if member == self.me:
                continue
            peer = self.peer(member)
            status = peer.status
            silent = self.now_us - peer.heard_in_view_us >= timeout_us
            # Running nothing while nothing higher is promised: its incarnation is newer than the one that installed
            # the view. One that promised higher is in a view change; it has until the silence counts.
            restarted = status is not None and not status.runs and status.view == status.promised == view.number
            if peer.connection_lost or silent or restarted or self.may_leave(member):
                suspected.add(member)
        passed = self.passed
        if passed is not None and self.now_us - passed.passed_us >= self.config.token_timeout_ms * MS:
            suspected.add(passed.to)
        return suspected

    def may_leave(self, member: int) -> bool:
        """V11: it wants a view without itself, and a quorum would be left.

        Of several leavers the highest id goes first (V6): one that is on its way out is nobody's quorum.
        """
        if not self.wants_to_leave(member):
            return False
        staying = [
            m for m in self.heard() if m != member and self.is_able(m) and not (m > member and self.wants_to_leave(m))
        ]
        return sum(m in self.members for m in staying) >= majority(self.members)

    def wants_to_leave(self, member: int) -> bool:
        """V11: its status says so."""
        status = self.peer(member).status if member != self.me else None
        return status is not None and status.leaving

    def is_stuck(self) -> bool:
        """V1: no new slot for `token_timeout` while something waits for one; names nobody."""
        return self.now_us - self.quiet_since_us() >= self.config.token_timeout_ms * MS

    def is_healthy(self, view: View) -> bool:
        """V4: it runs the view, and within suspect_timeout it installed it, or heard all of the ring in it."""
        return self.runs and not self.suspects(view) and not self.is_stuck()

    def quorum_runs_a_view(self) -> bool:
        """V1: Q members said within `suspect_timeout` that they run one and the same view."""
        runners: dict[ViewNumber, int] = {}
        for member in self.others:
            status = self.peer(member).status
            if status is not None and status.runs and self.is_heard(member):
                runners[status.view] = runners.get(status.view, 0) + 1
        return any(count >= majority(self.members) for count in runners.values())

    def needs_view_change(self) -> bool:
        """Is it for this member to want a new view?"""
        view = self.installed
        if view is not None and self.runs and self.me in view.ring:
            return not self.is_healthy(view)
        return not self.quorum_runs_a_view()

    def hears_quorum(self) -> bool:
        """V2: it hears Q members that are not wiped, itself included.

        And, where the log holds a change, enough of those that will be members (V12): the view needs their promises.
        """
        members, new = self.members, self.next_members
        added = len(set(new) - set(members)) if new != members else 0
        return self.hears_able(members, majority(members)) and self.hears_able(new, majority(new) - added)

    def hears_able(self, members: tuple[int, ...], least: int) -> bool:
        """Are so many of these heard whose promise would count?"""
        return sum(self.is_able(member) for member in members if self.is_heard(member)) >= least

    def in_quorum(self) -> bool:
        """It runs a view and hears a quorum that is not wiped: a publish can be acknowledged."""
        if not self.runs or not self.takes_part or self.disk_full or self.removed:
            return False
        return self.hears_able(self.members, majority(self.members))

    def is_able(self, member: int) -> bool:
        """A member whose promise would count, as far as it said."""
        if member == self.me:
            return self.takes_part
        status = self.peer(member).status
        return status is not None and not status.wiped

    def is_suspected_now(self, member: int) -> bool:
        """Suspected in the view that is installed here."""
        view = self.view
        return view is not None and member != self.me and member in view.ring and member in self.suspects(view)

    def is_silent(self, member: int) -> bool:
        """A suspicion for an old incarnation ends with the member's promise; silence and a lost link do not (V6)."""
        return not self.is_heard(member)

    def wanted_out(self) -> set[int]:
        """Ring members of the last view that are suspected as of now."""
        return self.suspects(self.view) if self.view is not None else set()
