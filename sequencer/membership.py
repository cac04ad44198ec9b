"""V0, V9, V11: blank and wiped members, joiners and learners, leavers."""

from sequencer.config import MS
from sequencer.messages import Healthy, Join, Joined, Leave, Prepare, Status
from sequencer.quorum import majority
from sequencer.retained import Retained
from sequencer.types import NO_VIEW, Identity, Incarnation, View

FRESH_JOINS = 4  # a JOIN counts for so many join intervals


class Membership(Retained):
    """Who belongs, who is let in again, who goes."""

    def init_membership(self, *, lost_memory: bool, new_disk: bool) -> None:
        """Raise the incarnation; nothing leaves before it is durable (D3, D4)."""
        self.joined_answers: dict[int, tuple[int, Joined]] = {}  # blank: sender -> (cluster, its answer)
        self.init_damage()
        changes: dict[str, object] = {}
        if lost_memory and not self.blank:
            self.rule("D2")
            changes = {"wiped": True, "storage": self.random.getrandbits(63) + 1}
        counter = self.stable.incarnation.counter + (0 if new_disk else 1)
        self.save_stable(incarnation=Incarnation(counter, self.random.getrandbits(64)), **changes)
        self.when_durable(self.start)

    def start(self) -> None:
        """This incarnation is durable: speak."""
        self.started = True
        self.status_due = True
        self.patient_until_us = self.now_us + self.config.suspect_timeout_ms * MS
        self.set_timer("heartbeat", 1)
        self.set_timer("join", 1)
        if self.damage:
            self.rule("D6")
            self.set_timer("repair", 1)
        self.start_backfill()
        self.tell("member_started", incarnation=self.stable.incarnation, end=self.window.end, wiped=self.stable.wiped)

    # ------------------------------------------------------------------ JOIN and JOINED

    def on_join_timer(self) -> None:
        """A member outside the ring sends JOIN until it is in it (V9); a blank one too (V0)."""
        self.set_timer("join", self.config.join_interval_ms * (1 + self.random.random() / 4))
        if self.in_ring and not self.is_left_behind():
            return
        wiped = not self.takes_part and (self.lost or not self.blank)
        promised = self.stable.promised
        # D6: it needs a view made without its promise, so one above the number it promised; while it installs one it
        # needs no other, and asking would end the install again and again where the log is long.
        if self.damage and self.installing is None:
            promised = promised._replace(proposer=promised.proposer + 1)
        message = Join(self.stable.storage, wiped, self.stored, promised, self.heard_bits())
        # A member whose configuration is old may know none of today's members, but hear them (V12).
        for member in sorted({*self.others, *(member for member in self.peers if self.is_heard(member))}):
            self.send(member, message)
        if self.blank:
            self.consider_genesis()

    def on_join(self, sender: int, message: Join, cluster: int, incarnation: Incarnation) -> None:
        """Remember the joiner; ring members answer with their view and what they know of it."""
        self.see_number(message.promised)
        if not self.is_older(sender, cluster, incarnation):
            peer = self.peer(sender)
            peer.join, peer.join_us, peer.join_cluster = message, self.now_us, cluster
            self.note_hearing(sender, message.heard)
            if cluster == self.stable.cluster:
                self.learn_identity(sender, Identity(incarnation, message.storage), first_hand=True)
        if self.blank:
            if cluster == 0:
                self.consider_genesis()
        elif self.takes_part and (view := self.installed) is not None and (self.runs or self.awaits(sender, view)):
            self.send(sender, Joined(view, self.stable.known.get(sender)))

    def awaits(self, joiner: int, view: View) -> bool:
        """V12: the joiner is wiped and only this view lets it in: nobody may run it, if without the joiner none can."""
        join = self.peer(joiner).join
        return join is not None and join.wiped and joiner in view.members and not self.must_readmit(joiner, view)

    def must_readmit(self, joiner: int, view: View) -> bool:
        """V9 (a): the joiner's disk is not among those that the view lets in."""
        join = self.peer(joiner).join
        named = {learner.member: learner.identity for learner in view.learners}
        return join is not None and self.rules.must_readmit(join, named, joiner)

    def is_older(self, sender: int, cluster: int, incarnation: Incarnation) -> bool:
        """A frame of our cluster from a run that is over, or from a disk that went back in time (V0)."""
        if cluster == 0:
            return False
        known = self.stable.known.get(sender)
        for newest in (self.peer(sender).incarnation, known.incarnation if known else None):
            if newest is not None and newest != incarnation and newest.counter >= incarnation.counter:
                return True
        return False

    def on_joined(self, sender: int, message: Joined, cluster: int) -> None:
        """The ring's answer: who we are to it, and a view to install as a learner."""
        self.see_number(message.view.number)
        if self.blank:
            self.meet_cluster(sender, cluster, message)
            return
        if self.rules.is_rolled_back(message.known, self.stable) and message.known is not None:
            self.become_wiped(message.known.incarnation)
            return
        if not self.in_ring or self.is_left_behind():
            self.rule("V9")
            self.take_view(sender, message.view)
            if self.me not in message.view.members:
                self.without_us[sender] = message.view.number

    def take_status(self, sender: int, status: Status) -> None:
        """V9: who hears that others run a view that it was not told of asks for it at once."""
        super().take_status(sender, status)
        if status.runs and status.view > self.stable.log_view and self.is_left_behind():
            self.hasten_timer("join", 1)

    def fresh_joiners(self) -> list[int]:
        """Members whose JOIN is not older than a few intervals."""
        limit_us = FRESH_JOINS * self.config.join_interval_ms * MS
        return [
            m for m in self.others if self.peer(m).join is not None and self.now_us - self.peer(m).join_us < limit_us
        ]

    def view_to_change(self) -> View | None:
        """The healthy view whose lowest live ring member this is, if it may change it for others' sake now."""
        view = self.installed
        if view is None or view.ring[0] != self.me or not self.in_ring or not self.started:
            return None
        if self.now_us < self.patient_until_us or self.leaving or self.proposal is not None:
            return None
        return view if self.is_healthy(view) else None

    def consider_joiners(self) -> None:
        """V9: the live ring member with the lowest id makes a view change for a joiner that is due."""
        if self.view is None or len(self.view.ring) == len(self.view.members):
            return  # the usual case, and this is asked in each step
        view = self.view_to_change()
        if view is None:
            return
        for joiner in self.fresh_joiners():
            if joiner in view.members and joiner not in view.ring and self.is_due(joiner, view):
                self.rule("V9")
                self.tell("joiner_due", joiner=joiner)
                waits = frozenset() if self.must_readmit(joiner, view) else frozenset({joiner})
                self.propose(joiners=waits)
                return

    def is_due(self, joiner: int, view: View) -> bool:
        """V9: (a) wiped and not named, (b) promised above the view, (c) caught up, hears and is heard by the ring."""
        join = self.peer(joiner).join
        if join is None or self.peer(joiner).join_cluster != self.stable.cluster:
            return False
        if joiner in self.backed_off():
            return False
        if self.must_readmit(joiner, view):
            return True
        if join.promised > view.number:
            return True
        status = self.peer(joiner).status
        if status is None or status.view != view.number or status.wiped or status.leaving:
            return False
        caught_up = status.stored + self.config.catch_up_limit_slots >= self.window.end
        hears_all = all(member == joiner or status.heard >> member & 1 for member in view.ring)
        heard_by_all = self.is_heard(joiner) and all(
            (s := self.peer(member).status) is not None and s.heard >> joiner & 1
            for member in view.ring
            if member != self.me
        )
        return caught_up and hears_all and heard_by_all

    # ------------------------------------------------------------------ V0 genesis

    def consider_genesis(self) -> None:
        """V0: a proposer that hears all n, all blank, sends a genesis PREPARE; the lowest id first."""
        if not self.blank or not self.started or (self.now_us < self.patient_until_us and self.proposal is not None):
            return
        if not self.may_propose_genesis():
            return
        rank = self.members.index(self.me)
        if rank == 0 or "genesis" not in self.timers:
            self.set_timer("genesis", 1 + rank * self.config.view_timeout_ms)

    def may_propose_genesis(self) -> bool:
        """V0: it hears all n, all blank, none of them lost (D6)."""
        fresh = self.fresh_joiners()
        if not self.blank or len(fresh) < len(self.others) or any(self.peer(member).join_cluster for member in fresh):
            return False
        return self.rules.may_found(lost=self.hears_lost())

    def hears_lost(self) -> bool:
        """D6: this member is lost, or a blank one says so of itself."""
        peers = [self.peer(member) for member in self.fresh_joiners()]
        return self.lost or any(peer.join is not None and peer.join.wiped and not peer.join_cluster for peer in peers)

    def on_genesis_timer(self) -> None:
        """Propose a genesis, unless one that we promised may still succeed."""
        waiting = self.counter_seen > 0 and self.now_us < self.patient_until_us
        if waiting or not self.may_propose_genesis():
            return
        self.rule("V0")
        self.propose(genesis=self.random.getrandbits(63) + 1)

    def on_prepare(self, sender: int, message: Prepare) -> None:
        """V0: a blank member answers only a genesis that names its present storage id."""
        if message.accept_loss:
            self.on_recover_prepare(sender, message)
            return
        if not message.genesis:
            if not self.blank:
                super().on_prepare(sender, message)
            return
        self.see_number(message.number)
        named = {known.member: known.identity.storage for known in message.vector}
        if not self.blank or named.get(self.me) != self.stable.storage:
            return
        if not self.rules.may_found(lost=self.lost):
            return
        if self.rules.may_promise(message.number, self.stable):
            self.rule("V0")
            self.learn_vector(message.vector)
            self.promise(message.number, sender, message.genesis)
            self.wait_patiently()

    def meet_marked(self, cluster: int) -> None:
        """V0: any frame of a cluster that is among its marks makes a blank member an ordinary promiser of it."""
        self.rule("V0")
        self.save_stable(cluster=cluster)
        self.stop_timer("genesis")

    def meet_cluster(self, sender: int, cluster: int, joined: Joined) -> None:
        """V0: a blank member that is answered by members of another cluster is wiped."""
        self.joined_answers[sender] = (cluster, joined)
        answers = {member: answer for member, (of, answer) in self.joined_answers.items() if of == cluster}
        # V12: whom it must ask is what the newest view says, not its own file
        members = max((answer.view for answer in answers.values()), key=lambda view: view.number).members
        asked = sum(member in answers for member in members if member != self.me)
        if asked >= majority(members) or asked == sum(member != self.me for member in members):
            self.bind(cluster, [answer.known for answer in answers.values()])

    def bind(self, cluster: int, answers: list[Identity | None]) -> None:
        """V0: (wiped, storage id, an incarnation above all that peers know) durable, then speak."""
        self.rule("V0")
        counters = [identity.incarnation.counter for identity in answers if identity is not None]
        counter = max([self.stable.incarnation.counter, *counters]) + 1
        self.tell("member_wiped", cluster=cluster, counter=counter)
        incarnation = Incarnation(counter, self.random.getrandbits(64))
        self.save_stable(cluster=cluster, wiped=True, incarnation=incarnation, promised=NO_VIEW, announced=None)
        self.stop_timer("genesis")
        self.started = False
        self.when_durable(self.start)

    # ------------------------------------------------------------------ recover --accept-loss

    def on_recover_asked(self) -> None:
        """D2, V0: too few unwiped members are left, and an operator accepts loss: all n must be heard."""
        view = self.installed
        healthy = view is not None and self.is_healthy(view)
        if self.blank or healthy or self.damage or len(self.heard()) < len(self.everyone):
            self.tell("recover_refused", blank=self.blank, healthy=healthy, heard=tuple(self.heard()))
            return
        self.tell("recover_began", heard=tuple(self.heard()))
        self.propose(accept_loss=True)

    def on_recover_prepare(self, sender: int, message: Prepare) -> None:
        """A wiped member promises too; a blank one is bound to the cluster first and answers the next PREPARE."""
        self.see_number(message.number)
        if self.blank:
            told = {known.member: known.identity for known in message.vector}
            self.bind(self.sent_cluster, [told.get(self.me)])
            return
        self.learn_vector(message.vector)
        view = self.installed
        if view is not None and self.is_healthy(view):
            self.send(sender, Healthy(message.number, view))
        elif (
            not self.damage
            and not self.opening
            and self.started
            and self.rules.may_promise(message.number, self.stable)
        ):
            self.promise(message.number, sender)
            self.wait_patiently()

    # ------------------------------------------------------------------ V11 leave

    def on_leave_asked(self) -> None:
        """SIGTERM: hand the token on, ask for a view without ourselves."""
        self.rule("V11")
        self.leaving = True
        self.status_due = True
        self.on_leave_timer()

    def on_leave_timer(self) -> None:
        """Ask until a view without us runs."""
        self.consider_left()
        if self.left:
            return
        view = self.installed
        if view is not None and self.token is not None and len(view.ring) > 1 and self.window.end == self.token.slot:
            self.pass_token(view)
        if self.started:  # D3: nothing leaves before the incarnation is durable
            self.send_all(Leave())
        self.set_timer("leave", self.config.resend_interval_ms)

    def consider_left(self) -> None:
        """Left when it runs a view that does not need it, or a quorum runs one without it."""
        if (
            self.leaving
            and not self.left
            and (len(self.members) == 1 or self.removed or (self.runs and not self.in_ring))
        ):
            self.left = True
            self.tell("member_left")

    def on_leave(self, sender: int, message: Leave) -> None:
        """The leaver's status says it too; this frame only makes it sooner."""
        peer = self.peer(sender)
        if peer.status is not None and not peer.status.leaving:
            peer.status = peer.status._replace(leaving=True)
