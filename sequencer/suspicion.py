"""V1: who is suspected, and whether this member should want a new view."""

from sequencer.config import MS
from sequencer.connectivity import connected_sets
from sequencer.installation import Installation
from sequencer.quorum import bits, half, majority
from sequencer.types import NO_VIEW, View, ViewNumber


class Suspicion(Installation):
    """Failure detection; nothing here is safety, only when to ask for a view change."""

    seen_view: View | None = None  # the newest that anyone has told of, installed here or not

    def take_view(self, sender: int, view: View) -> None:
        """V7, and remember it."""
        self.see_view(view)
        super().take_view(sender, view)

    def see_view(self, view: View) -> None:
        """Who is in the ring that others run, also before it is installed here."""
        if self.seen_view is None or view.number > self.seen_view.number:
            self.seen_view = view

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

    def is_heard_by(self, member: int) -> bool:
        """As far as it said."""
        status = self.peer(member).status if member != self.me else None
        return status is None or bool(status.heard >> self.me & 1)

    def is_stuck(self) -> bool:
        """V1: no new slot for `token_timeout` while something waits for one; names nobody."""
        return self.now_us - self.quiet_since_us() >= self.config.token_timeout_ms * MS

    def is_healthy(self, view: View) -> bool:
        """V4: it runs the view, and within suspect_timeout it installed it, or heard all of the ring in it.

        And none of the ring that is heard says that it does not hear another of it.
        """
        return self.runs and not self.suspects(view) and not self.is_stuck() and not self.says_torn(view)

    def says_torn(self, view: View) -> bool:
        """V1: a ring member does not hear another: who is between the two sees it in its heartbeat only."""
        ring = bits(view.ring)
        return any(word & ring != ring for word in self.words_of_the_ring(view))

    def says_whole(self, view: View) -> bool:
        """V1: a ring member that is heard runs the view and hears all of its ring, and no other contradicts it."""
        return bool(self.words_of_the_ring(view)) and not self.says_torn(view)

    def words_of_the_ring(self, view: View) -> list[int]:
        """Whom the other ring members hear that run the view, as the heartbeats of those that are heard say."""
        statuses = [self.peer(member).status for member in view.ring if member != self.me and self.is_heard(member)]
        return [
            status.heard
            for status in statuses
            if status is not None and status.view == view.number and status.runs and not status.leaving
        ]

    def runs_without_us(self) -> bool:
        """V1: a newer view than ours, or ours where this member takes no turn, runs well without its proposals.

        One ring member that hears the whole ring is enough: a ring holds a quorum, and looks after itself.
        """
        view, seen = self.view, self.seen_view
        if self.is_left_behind():
            return True
        if seen is not None and (view is None or seen.number > view.number) and self.says_whole(seen):
            return True
        return not self.in_ring and (self.quorum_runs_a_view() or (view is not None and self.says_whole(view)))

    def is_left_behind(self) -> bool:
        """V1: somebody that is heard, and hears a quorum, runs a newer view than this member was told of."""
        known = max((view.number for view in (self.view, self.seen_view) if view is not None), default=NO_VIEW)
        return any(
            status.runs and status.view > known and status.heard.bit_count() >= majority(self.members)
            for member in self.others
            if (status := self.peer(member).status) is not None and self.is_heard(member)
        )

    @property
    def in_ring(self) -> bool:
        """Running a view whose ring holds this member."""
        view = self.installed
        return view is not None and self.runs and self.me in view.ring

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
        if view is not None and self.in_ring and self.is_healthy(view):
            return False
        return not self.runs_without_us()

    def hears_quorum(self) -> bool:
        """V2: it hears Q members that are not wiped, itself included, and they all hear each other as they say.

        And, where the log holds a change, enough of those that will be members (V12): the view needs their promises.
        """
        members, new = self.members, self.next_members
        added = len(set(new) - set(members)) if new != members else 0
        if not (self.hears_able(members, majority(members)) and self.hears_able(new, majority(new) - added)):
            return False
        least = half(new) if added else majority(new)
        heard = {self.me: self.heard_bits()} if self.takes_part else {}
        for member in new:
            status = self.peer(member).status if member != self.me and self.is_heard(member) else None
            if status is not None and self.is_able(member):
                heard[member] = status.heard
        return any(len(ring) >= least and (self.me in ring or self.me not in new) for ring in connected_sets(heard))

    def hears_able(self, members: tuple[int, ...], least: int) -> bool:
        """Are so many of these heard whose promise would count?"""
        return sum(self.is_able(member) for member in members if self.is_heard(member)) >= least

    def hears_me(self, member: int) -> bool:
        """It is heard, and says that it hears this member."""
        return self.is_heard(member) and self.names_as_heard(member, self.me)

    def unheard_by(self, member: int) -> list[int]:
        """Members that are heard here, and not by `member`, as that one says itself; none if it is not heard."""
        if member == self.me or not self.is_heard(member):
            return []
        return [
            other for other in self.heard() if other not in (member, self.me) and not self.names_as_heard(member, other)
        ]

    def names_as_heard(self, member: int, other: int) -> bool:
        """By its newest HEARTBEAT, or its JOIN if it runs no view yet."""
        peer = self.peer(member)
        said = peer.status or peer.join
        return said is not None and bool(said.heard >> other & 1)

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

    def wanted_out(self) -> set[int]:
        """Ring members of the last view that are suspected as of now."""
        return self.suspects(self.view) if self.view is not None else set()
