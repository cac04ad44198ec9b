"""V2-V6: who proposes, what is promised, what is announced."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from sequencer.config import MS
from sequencer.election import choose_ring, choose_source
from sequencer.errors import require
from sequencer.messages import Healthy, Installed, Joined, Known, NewView, Prepare, Promise, Refused, Status, Vector
from sequencer.patience import Patience
from sequencer.quorum import bits, half, majority
from sequencer.types import NO_VIEW, Incarnation, Learner, View, ViewNumber


@dataclass(slots=True)
class Proposal:
    """One number of ours, from PREPARE to the announcement; lives in memory only (V5)."""

    number: ViewNumber
    genesis: int
    vector: Vector  # as the PREPARE carried it: only these storage ids may be readmitted (V0)
    accept_loss: bool = False
    sent: bool = False
    asked: set[int] = field(default_factory=set)
    promises: dict[int, Promise] = field(default_factory=dict)
    incarnations: dict[int, Incarnation] = field(default_factory=dict)
    hearing: dict[int, int] = field(default_factory=dict)  # the newest word of each promiser: whom it hears (V6)
    joiners: frozenset[int] = frozenset()  # for whom a healthy ring makes the view, and who then waits (V9)
    announced: View | None = None
    installed: set[int] = field(default_factory=set)


class ViewChange(Patience):
    """Proposal, promise, announcement."""

    proposal: Proposal | None = None
    counter_seen = 0  # the highest counter in any number seen
    patient_until_us = 0  # after a promise or a proposal: no own proposal before (V1 view_timeout)

    def init_view_change(self) -> None:
        """Per-instance containers."""
        self.init_patience()
        self.counter_seen = max(self.stable.promised.counter, self.stable.log_view.counter)

    # ------------------------------------------------------------------ V2 propose

    def review(self) -> None:
        """After each step: start or stop wanting a new view."""
        if self.blank or not self.takes_part or self.disk_full or self.leaving or not self.started or self.removed:
            self.stop_timer("propose")
            return
        if not self.needs_view_change() or not self.hears_quorum():
            self.stop_timer("propose")
            return
        if "propose" in self.timers:
            return
        live = [m for m in self.heard() if self.is_able(m) and not self.is_suspected_now(m)]
        rank = live.index(self.me) if self.me in live else len(live)
        delay_ms = rank * self.config.propose_delay_ms * (1 + self.random.random() / 2) + self.pause_ms()
        patience_ms = max(0, self.patient_until_us - self.now_us) / MS
        self.timers["propose"] = self.now_us + int(max(delay_ms, patience_ms + delay_ms if patience_ms else 0) * MS)

    def on_propose_timer(self) -> None:
        """V2: still unhealthy, and it hears a quorum: propose."""
        if self.needs_view_change() and self.hears_quorum() and self.takes_part:
            if self.now_us < self.patient_until_us:
                self.timers["propose"] = self.patient_until_us
                return
            fetching = self.installing is not None and self.now_us - self.fetched_us < self.config.view_timeout_ms * MS
            if self.opening or fetching:
                self.set_timer("propose", self.config.propose_delay_ms)  # V1: restarts with each fetched chunk
                return
            self.rule("V1")
            self.propose()

    def propose(self, genesis: int = 0, *, accept_loss: bool = False, joiners: frozenset[int] = frozenset()) -> None:
        """V2: a counter above all it has seen; its own promise durable; then PREPARE to all."""
        self.rule("V2")
        number = ViewNumber(self.counter_seen + 1, self.me)
        self.counter_seen = number.counter
        self.tries += 1
        self.proposal = Proposal(number, genesis, self.vector(), accept_loss, joiners=joiners)
        self.tell("view_proposed", view=number, suspects=self.wanted_out())
        self.promise(number, self.me, genesis)
        self.wait_patiently()
        self.set_timer("promise", self.config.view_timeout_ms)

    def wait_patiently(self) -> None:
        """No proposal of our own while one that we promised may still succeed."""
        timeout_ms = self.config.view_timeout_ms * (1 + self.random.random() / 2)
        self.patient_until_us = self.now_us + int(timeout_ms * MS)
        self.stop_timer("propose")

    # ------------------------------------------------------------------ V3 promise

    def on_prepare(self, sender: int, message: Prepare) -> None:
        """V3, V4: promise, refuse, or say that all is well."""
        self.see_number(message.number)
        self.learn_vector(message.vector)
        if not self.takes_part or self.disk_full or self.opening:  # opening: the configuration there is not known yet
            return
        if self.view is not None and sender not in self.everyone and message.log_view < self.view.number:
            self.rule("V12")
            self.send(
                sender, Joined(self.view, self.stable.known.get(sender))
            )  # it was removed; those who stay propose
            return
        view = self.installed
        if view is not None and sender not in view.ring and (self.is_healthy(view) or self.is_told_whole(view)):
            self.rule("V4")
            self.send(sender, Healthy(message.number, view))
            return
        if not self.rules.may_promise(message.number, self.stable):
            self.send(sender, Refused(message.number, self.stable.promised))
            return
        self.promise(message.number, sender, message.genesis)
        self.wait_patiently()

    def is_told_whole(self, view: View) -> bool:
        """V4: a learner that does not hear all of the ring goes by the word of whom it hears."""
        return self.runs and self.me not in view.ring and self.says_whole(view)

    def promise(self, number: ViewNumber, to: int, genesis: int = 0) -> None:
        """V3: ends an install in progress; the promise and the vector are durable before the answer leaves."""
        self.rule("V3")
        if self.proposal is not None and self.proposal.number != number:
            self.proposal = None
            self.stop_timer("announce")
        asked_end = self.stored
        if self.stable.promised != number or self.known_unsaved:
            self.installing = None
            self.stop_timer("fetch")
            self.save_stable(promised=number, announced=None, **self.genesis_mark(genesis))
            self.stop_view()
        self.when_durable(partial(self.promised_durably, number, to, asked_end))

    def genesis_mark(self, genesis: int) -> dict[str, object]:
        """V0: a genesis promise adds the fresh cluster id to the durable marks."""
        return {"marks": self.stable.marks | {genesis}} if genesis else {}

    def promised_durably(self, number: ViewNumber, to: int, asked_end: int) -> None:
        """V3: the answer's end is taken now, when the promise itself is durable."""
        if self.stable.promised != number or self.stable.announced is not None:
            return
        end = self.rules.promised_end(self.stored, asked_end)
        promise = Promise(
            number,
            self.stable.log_view,
            self.window.first,
            end,
            self.window.chain(end - 1) or self.window.end_chain,
            self.commit,
            self.vector(),
            self.heard_bits(),
            self.stable.view.members if self.stable.view is not None else self.config.members,
            self.next_members,
            self.founders,
        )
        if to != self.me:
            self.send(to, promise)
        elif self.proposal is not None and self.proposal.number == number:
            self.proposal.sent = True
            self.send_prepare(self.proposal, self.others)
            self.take_promise(self.me, self.stable.incarnation, promise)

    def send_prepare(self, proposal: Proposal, to: Iterable[int]) -> None:
        """To those of them that have not promised yet."""
        prepare = Prepare(
            proposal.number, proposal.genesis, proposal.vector, proposal.accept_loss, self.stable.log_view
        )
        for member in to:
            if member not in proposal.promises and member != self.me:
                proposal.asked.add(member)
                self.send(member, prepare)

    # ------------------------------------------------------------------ answers to a proposal

    def on_promise(self, sender: int, message: Promise) -> None:
        """An answer to our PREPARE."""
        self.see_number(message.log_view)
        self.learn_vector(message.vector)
        self.take_promise(sender, self.sent_in, message)

    def take_promise(self, sender: int, incarnation: Incarnation, promise: Promise) -> None:
        """V5: with Q promises the source can be chosen; a short wait lets the others be in the ring."""
        proposal = self.proposal
        if proposal is None or proposal.number != promise.number:
            return
        if proposal.announced is not None and not self.rules_reannounce(proposal):
            self.send(sender, NewView(proposal.announced))
            return
        proposal.promises[sender] = promise
        proposal.hearing[sender] = promise.heard
        proposal.incarnations[sender] = incarnation
        counted = self.counted(proposal)
        if not self.is_complete(proposal, counted):
            # V12: this promise may be the first to tell of these members
            self.send_prepare(proposal, [member for member in promise.members if member not in proposal.asked])
            return
        waiting_for = bits(m for m in self.heard() if m not in counted and self.is_able(m))
        for member in counted:
            waiting_for &= proposal.hearing[member]  # whom one of them does not hear is in no ring with it
        if waiting_for and not proposal.genesis:
            self.arm_timer("announce", self.config.promise_wait_ms)
        else:
            self.announce(proposal)

    def rules_reannounce(self, proposal: Proposal) -> bool:
        """V5: one announcement per number."""
        return self.rules.may_announce(proposal.announced)

    def counted(self, proposal: Proposal) -> dict[int, Promise]:
        """V0: a promise of an incarnation older than any collected vector says is not counted."""
        vectors = (proposal.vector, *(promise.vector for promise in proposal.promises.values()))
        said = {row for vector in vectors for row in vector}
        return {
            member: promise
            for member, promise in proposal.promises.items()
            if all(
                self.rules.counts_promise(proposal.incarnations[member], row.identity)
                for row in said
                if row.member == member
            )
        }

    def is_complete(self, proposal: Proposal, counted: dict[int, Promise]) -> bool:
        """Q promises of the right members (V12); a genesis needs all n (V0)."""
        if proposal.genesis:
            return self.rules.genesis_complete(counted, self.members)
        if not counted:
            return False
        source = counted[choose_source(counted, self.rules)]
        if proposal.accept_loss:
            return self.rules.genesis_complete(counted, {*source.log_members, *source.members})
        needed = self.rules.promises_needed(source, self.members)
        return all(sum(member in counted for member in members) >= least for members, least in needed)

    def on_announce_timer(self) -> None:
        """Those that have not promised by now become learners."""
        proposal = self.proposal
        if proposal is not None and self.is_complete(proposal, self.counted(proposal)):
            self.announce(proposal)

    def announce(self, proposal: Proposal) -> None:
        """V5, V6: at most one (ring, source, end, chain) per number."""
        require(self.rules.may_announce(proposal.announced), "one announcement a number (V5)", proposal.number)
        counted = self.counted(proposal)
        source = choose_source(counted, self.rules)
        members = counted[source].members
        out = self.wanted_out()
        ring = self.ring_of(proposal, counted, source)
        if not ring:
            self.set_timer("announce", self.config.promise_wait_ms)  # more promises may come, or newer heartbeats
            return
        self.rule("V5")
        self.rule("V6")
        self.stop_timer("announce")
        named = {known.member: known.identity for known in proposal.vector}
        view = View(
            number=proposal.number,
            ring=ring,
            source=source,
            base=counted[source].end,
            chain=counted[source].chain,
            members=members,
            founders=counted[source].founders,
            learners=tuple(Learner(m, named.get(m)) for m in members if m not in ring),
            back_offs=tuple(row for row in self.next_back_offs(ring, out | proposal.joiners) if row.member in members),
            accepted_loss=self.accepted_loss(proposal),
        )
        proposal.announced = view
        self.tell("view_announced", view=view.number, ring=ring, base=view.base, source=source)
        self.set_timer("promise", self.config.resend_interval_ms)
        if proposal.genesis:
            self.save_stable(cluster=proposal.genesis)
            self.when_durable(partial(self.send_new_view, view))  # D3: the cluster id is durable before it leaves
        else:
            self.send_new_view(view)
        self.take_view(self.me, view)

    def ring_of(self, proposal: Proposal, counted: dict[int, Promise], source: int) -> tuple[int, ...]:
        """V6, by what is known now; () while no quorum of the promisers all hear each other."""
        members = counted[source].members
        added = not set(members).issubset(counted[source].log_members)
        return choose_ring(
            counted,
            source,
            heard={**proposal.hearing, self.me: self.heard_bits()},
            sizes=(majority(members), half(members)) if added else (majority(members),),
            limit_slots=self.config.catch_up_limit_slots,
            leaving=[m for m in self.others if (s := self.peer(m).status) is not None and s.leaving],
            backed_off=self.backed_off(),
            present=self.view.ring if self.view is not None else (),
        )

    def accepted_loss(self, proposal: Proposal) -> ViewNumber:
        """The status names a possible loss from then on, so every later view carries the number on."""
        if proposal.accept_loss:
            return proposal.number
        return self.view.accepted_loss if self.view is not None else NO_VIEW

    def send_new_view(self, view: View) -> None:
        """NEW_VIEW to all, also to those that only this view makes members (V12)."""
        for member in sorted({*self.others, *view.members} - {self.me}):
            self.send(member, NewView(view))

    def on_promise_timer(self) -> None:
        """Send PREPARE or NEW_VIEW again while the number may still succeed."""
        proposal = self.proposal
        if proposal is None or self.stable.promised != proposal.number or self.now_us >= self.patient_until_us:
            self.proposal = None
            return
        if proposal.announced is None:
            if proposal.sent:
                self.send_prepare(proposal, sorted({*self.others, *proposal.asked}))
            self.set_timer("promise", self.config.resend_interval_ms * 2)
            return
        for member in proposal.announced.ring:
            if member != self.me and member not in proposal.installed:
                self.send(member, NewView(proposal.announced))
        self.set_timer("promise", self.config.resend_interval_ms * 2)

    def on_installed(self, sender: int, message: Installed) -> None:
        """Nothing more is owed to a member that has installed."""
        if self.proposal is not None and self.proposal.number == message.number:
            self.proposal.installed.add(sender)

    def on_refused(self, sender: int, message: Refused) -> None:
        """Someone has promised higher: this number is dead; the next one goes above."""
        self.see_number(message.promised)
        if self.proposal is not None and self.proposal.number == message.number and self.proposal.announced is None:
            self.proposal = None
            delay_us = int(self.config.propose_delay_ms * MS * (1 + 2 * self.random.random()))
            self.patient_until_us = min(self.patient_until_us, self.now_us + delay_us)
            self.stop_timer("propose")  # it was armed for the longer patience

    def on_healthy(self, sender: int, message: Healthy) -> None:
        """V4: the ring is well without us: JOIN instead."""
        self.see_view(message.view)
        self.see_number(message.view.number)
        if self.proposal is not None and self.proposal.number == message.number and self.proposal.announced is None:
            self.proposal = None
            self.set_timer("join", 1)

    # ------------------------------------------------------------------ numbers, vectors, back-offs

    def see_number(self, number: ViewNumber) -> None:
        """Counters must rise above everything seen (V2)."""
        self.counter_seen = max(self.counter_seen, number.counter)

    def take_view(self, sender: int, view: View) -> None:
        """A NEW_VIEW may be the first that a member hears of its number (V2)."""
        self.see_number(view.number)
        super().take_view(sender, view)

    def take_status(self, sender: int, status: Status) -> None:
        """HEARTBEAT carries promised numbers (V2), and whom a promiser hears by now (V6)."""
        self.see_number(status.promised)
        self.note_hearing(sender, status.heard)
        super().take_status(sender, status)

    def note_hearing(self, member: int, heard: int) -> None:
        """V6: a promiser's newest word of whom it hears."""
        if self.proposal is not None and member in self.proposal.hearing:
            self.proposal.hearing[member] = heard

    def learn_vector(self, vector: tuple[Known, ...]) -> None:
        """V0: durable before the answer that depends on it leaves (the answer saves the stable state)."""
        for member, identity in vector:
            if member == self.me and self.rules.is_rolled_back(identity, self.stable):
                self.become_wiped(identity.incarnation)
            else:
                self.learn_identity(member, identity)

    def become_wiped(self, told: Incarnation) -> None:
        """V0: our disk went back in time, or was cloned: make (wiped, new storage id) durable and start again."""
        self.rule("V0")
        self.tell("member_wiped", told=told, own=self.stable.incarnation)
        incarnation = Incarnation(told.counter, self.random.getrandbits(64))
        # A blank one only gets a new storage id: no genesis that named the old one counts it; it has no cluster yet.
        self.save_stable(
            wiped=self.lost or not self.blank, storage=self.random.getrandbits(63) + 1, incarnation=incarnation
        )
        self.stop_view()
        self.started = False  # D3: nothing leaves under an incarnation that is not durable
        self.when_durable(self.ask_restart)

    def ask_restart(self) -> None:
        """The shell makes a new core from what is durable now."""
        self.out.restart = True

    def view_started(self, view: View) -> None:
        """What waited for this view, or against it, is over."""
        self.proposal = self.proposal if self.proposal and self.proposal.number == view.number else None
        self.begin_back_offs(view)
        self.patient_until_us = self.now_us
        self.stop_timer("propose")
