"""Ordering while all members of the ring are up: A1-A7, A9, A10, D1, D2, and the commit point (A5)."""

from dataclasses import dataclass

from sequencer.chain import digest, extend
from sequencer.config import MS
from sequencer.configuration import takes_effect
from sequencer.messages import Broadcast, Status, Token
from sequencer.output import AppendRecord
from sequencer.quorum import majority, quorum_end
from sequencer.ring_time import RingTime
from sequencer.types import Change, ClockReset, Entry, Request, Sequence, SlotRecord, View

PIGGYBACK_SEQUENCES = 3


@dataclass(slots=True)
class _Passed:
    """The copy of a token that was passed, kept until there is proof of its arrival (A6)."""

    token: Token
    to: int
    passed_us: int


class Ordering(RingTime):
    """The token, the slots and the commit point."""

    # All of these belong to the installed view and are reset at an install.
    token: Token | None = None  # held here, not yet passed
    accepted_hop = -1
    newest_hop_us = 0
    passed: _Passed | None = None

    def reset_ordering(self) -> None:
        """Forget everything that belongs to the view before."""
        self.token = None
        self.accepted_hop = -1
        self.passed = None
        self.sequences: dict[int, Sequence] = {}  # by slot, each >= window.end
        self.acked: dict[int, int] = {}  # member -> end it acknowledged in this view
        self.confirmed: set[int] = set()  # others that said they have installed this view (V12)
        self.known_end = 0  # the highest end of this view that anyone has spoken of
        self.progress_us = self.now_us  # when the log last grew, or there was nothing to wait for
        for name in ("token_resend", "idle_hop"):
            self.stop_timer(name)

    # ------------------------------------------------------------------ A1 submit

    def room(self) -> int:
        """A9: bytes of own requests that may still be submitted; 0 means wait."""
        if len(self.own) >= self.config.own_requests_max:
            return 0
        return max(0, self.config.own_bytes_max - self.own.size)

    def submit(self, frames: tuple[bytes, ...], change: Change | None = None) -> None:
        """A1: give the frames (self, incarnation, next lsn) and publish them; kept until delivered."""
        lsn = self.own.newest_lsn + 1
        request = Request(self.me, self.stable.incarnation, lsn, frames, digest(frames, change), change)
        self.own.add(request, self.now_us)
        if self.runs:
            self.buffer.add(request, self.window.senders.get(self.me))
            self.publish_requests([request])
        self.arm_timer("resend", self.config.resend_interval_ms)

    def own_last_ordered(self) -> int:
        """The newest own lsn of this incarnation that a slot orders."""
        ordered = self.window.senders.get(self.me)
        return ordered.last_lsn if ordered and ordered.incarnation == self.stable.incarnation else 0

    def on_resend_timer(self) -> None:
        """A1: publish again what is not sequenced."""
        if not len(self.own):
            return
        self.set_timer("resend", self.config.resend_interval_ms)
        if self.runs:
            interval_us = self.config.resend_interval_ms * MS
            due = self.own.due(self.own_last_ordered(), self.now_us, interval_us, self.config.slot_bytes_max)
            for request in due:
                self.buffer.add(request, self.window.senders.get(self.me))
            if due:
                self.rule("A1")
                self.publish_requests(due)

    def republish_own(self) -> None:
        """V10: requests that were not sequenced are published again in the new view."""
        due = self.own.due(self.own_last_ordered(), self.now_us, 0, self.config.slot_bytes_max)
        if due:
            self.rule("V10")
        for request in self.own.unordered(self.own_last_ordered()):
            self.buffer.add(request, self.window.senders.get(self.me))
        self.publish_requests(due)

    # ------------------------------------------------------------------ what peers publish

    def on_broadcast(self, sender: int, message: Broadcast) -> None:
        """REQUEST, SEQUENCE and ACK of one PUB frame; requests first, so that the sequences find them."""
        for request in message.requests:
            self.buffer.add(request, self.window.senders.get(request.sender))
        for sequence in message.sequences:
            self.take_sequence(sequence)
        self.take_status(sender, message.status)

    def take_status(self, sender: int, status: Status) -> None:
        """Count an ACK, believe a commit, see a token arrive."""
        peer = self.peer(sender)
        before, peer.status = peer.status, status
        if before is None or before.health != status.health:
            self.review_due = True
        if status.newest_lsn:
            self.buffer.told_newest(sender, self.sent_in, status.newest_lsn)
        view = self.installed
        if view is None:
            return
        if self.rules.counts_ack(status, view.number):
            if status.runs and status.view == view.number:
                peer.heard_in_view_us = self.now_us
            if status.promised == view.number and not status.wiped:
                self.confirmed.add(sender)
            if status.stored > self.acked.get(sender, 0):
                self.acked[sender] = status.stored
                self.known_end = max(self.known_end, status.stored)
            if status.accepted_hop >= 0:
                self.see_hop(status.accepted_hop)
        self.believe_commit(status.view, status.commit)

    def believe_commit(self, sent_in: object, commit: int) -> None:
        """'committed': min(peer's commit, own stored), only from a frame of the installed view."""
        view = self.installed
        if view is None or commit <= self.commit or not self.takes_part:
            return
        if self.rules.believes_commit(sent_in, view.number):  # type: ignore[arg-type]
            self.known_end = max(self.known_end, commit)
            self.commit = max(self.commit, min(commit, self.counted_end))

    def advance_commit(self) -> None:
        """A5: commit what Q members have stored in this view; deliver it in slot order."""
        view = self.installed
        if view is not None and self.takes_part:
            self.acked[self.me] = self.acknowledged()
            if self.commit < self.counted_end:
                end = quorum_end(self.acked, self.members, self.rules.commit_quorum(self.members, view.ring))
                self.commit = max(self.commit, min(end, self.counted_end))
        self.deliver()

    def deliver(self) -> None:
        """A5: hand committed slots to the state machines, each after every slot below it."""
        if self.delivered >= self.commit:
            return
        was_waiting = len(self.own)
        for record in self.window.records(self.delivered, self.commit):
            self.out.delivers.append(record)
            for request in record.requests:
                if request.sender == self.me and request.incarnation == self.stable.incarnation:
                    self.own.delivered(request.lsn)
            self.delivered += 1
            if (configuration := self.window.changed_at(record.slot)) is not None:
                self.out.configuration = configuration
                self.review_due = True  # V12: it wants a view
                self.tell("change_committed", members=configuration.members, slot=record.slot)
        if len(self.own) < was_waiting:
            self.hasten_timer("status", self.config.commit_delay_ms)  # it was told first, so it tells the others
        elif self.commit >= self.counted_end:
            self.stop_timer("status")  # who told us has told all
        self.window.forget(min(self.delivered, self.stored), self.config.window_slots, self.config.window_bytes)

    # ------------------------------------------------------------------ storing slots

    def take_sequence(self, sequence: Sequence) -> None:
        """Keep a SEQUENCE of the installed view until its slot is next and its requests are here."""
        view = self.installed
        if view is None or not self.rules.may_store(sequence, view):
            return
        self.known_end = max(self.known_end, sequence.slot + 1)
        if self.passed is not None and sequence.slot >= self.passed.token.slot and sequence.view == view.number:
            self.see_hop(self.passed.token.hop)  # A6: proof of arrival
        if self.window.end <= sequence.slot < self.window.end + 2 * self.config.uncommitted_slots_max:
            self.sequences.setdefault(sequence.slot, sequence)
            self.store_ready()

    def store_ready(self) -> None:
        """Append every next slot whose SEQUENCE and requests are here (D1: contiguous records only)."""
        while (sequence := self.sequences.get(self.window.end)) is not None:
            requests: list[Request] = []
            for entry in sequence.entries:
                found = self.buffer.find(entry)
                if found is None:
                    return
                requests.extend(found)
            del self.sequences[sequence.slot]
            if not self.append(SlotRecord(sequence, tuple(requests))):
                return

    def append(self, record: SlotRecord) -> bool:
        """Check A2 and A10 on store, then append; False if the record does not fit the log."""
        ordered = self.window.senders
        for entry in record.sequence.entries:
            if not self.rules.follows_in_lsn_order(entry.first_lsn, entry.incarnation, ordered.get(entry.sender)):
                self.tell("record_refused", slot=record.slot, rule="A2", sender=entry.sender, lsn=entry.first_lsn)
                return False
        if not self.window.links(record.sequence):
            self.tell("record_refused", slot=record.slot, rule="A10")
            return False
        previous = self.window.end_chain
        self.window.append(record)
        self.persist(AppendRecord(record, previous))
        self.buffer.ordered(record)
        self.progress_us = self.grown_us = self.now_us
        if (configuration := self.window.changed_at(record.slot)) is not None:
            self.tell("change_stored", members=configuration.members, slot=record.slot)
        if self.config.durability == "memory":
            self.ack_due = True  # D2: the ACK moves before the sync
        return True

    # ------------------------------------------------------------------ the token

    def on_token(self, sender: int, token: Token) -> None:
        """A6: accept a token at most once, only in the installed view, only when it is this member's turn."""
        view = self.installed
        if view is None or token.view != view.number or not self.takes_part:
            return
        if not self.rules.takes_tokens(self.installed_now):
            self.rule("A6")
            return
        if view.ring[token.hop % len(view.ring)] != self.me:
            return
        if not self.rules.token_is_newer(token.hop, self.accepted_hop):
            self.status_due = True  # the passer missed the proof of arrival
            self.tell("token_dropped", hop=token.hop, accepted=self.accepted_hop)
            return
        for sequence in token.sequences:
            self.take_sequence(sequence)
        self.believe_commit(token.view, token.commit)
        self.known_end = max(self.known_end, token.slot)
        self.hold(token)

    def hold(self, token: Token) -> None:
        """This member has the right to sequence the token's slot."""
        self.token = token
        self.accepted_hop = token.hop
        self.see_hop(token.hop)
        if self.window.end == self.stored:  # else the ACK of what is being written is the proof of arrival (A6)
            self.status_due = True
        self.set_timer("idle_hop", self.config.idle_hop_interval_ms)

    def see_hop(self, hop: int) -> None:
        """Someone accepted this hop: what was passed at or before it has arrived (A6)."""
        if self.passed is not None and hop >= self.passed.token.hop:
            self.passed = None

    def create_token(self, view: View) -> None:
        """V8: hop 0, slot = base; only from the step that completes the install."""
        self.rule("V8")
        self.hold(Token(view.number, 0, view.base, self.commit, ()))

    def may_order_now(self, view: View) -> bool:
        """A3 and A9: the prefix is here, and there is room beyond the commit point."""
        token = self.token
        return (
            token is not None
            and self.rules.may_sequence(token.slot, self.window.end)
            and self.window.end - self.commit < self.config.uncommitted_slots_max
            and self.uncommitted_bytes() < self.config.uncommitted_bytes_max
            and self.is_time_for_a_slot()
            and not self.disk_full
        )

    def is_time_for_a_slot(self) -> bool:
        """A3: a slot costs the same with one request or with many, so they gather while the one before is written."""
        if self.window.end == self.counted_end:
            return True
        if self.buffer.size >= min(self.config.slot_fill_bytes, self.config.slot_bytes_max):
            return True
        # Nobody waits for one slow disk.
        return quorum_end(self.acked, self.members, majority(self.members)) >= self.window.end

    def uncommitted_bytes(self) -> int:
        """Payload bytes in slots beyond the commit point; not looked up while few slots can't reach the limit."""
        slots = self.window.end - self.commit
        if slots * self.config.slot_bytes_max < self.config.uncommitted_bytes_max:
            return 0
        return sum(record.size for record in self.window.records(self.commit, self.window.end))

    def use_token(self) -> None:
        """A3, A4: order all that is eligible and pass the token on; with nothing eligible it parks here."""
        if self.token is None:
            return
        view = self.installed
        if view is None or not self.may_order_now(view):
            return
        runs = self.buffer.eligible(
            self.window.senders, self.config.slot_requests_max, self.config.slot_bytes_max, self.change_waits
        )
        if self.leaves_slot(view, waiting=bool(runs)):
            if self.hands_on():
                self.pass_token(view)
        elif runs:
            self.sequence(view, self.token, runs)
            self.pass_token(view)

    def may_change_members(self, view: View) -> bool:
        """V12: no other change is on its way, and a quorum has installed this view, and with it the change before."""
        confirmed = self.confirmed | {self.me} if self.takes_part else self.confirmed
        return self.rules.may_change_members(view, self.next_members, confirmed)

    def change_waits(self, change: Change) -> bool:
        """V12: the holder leaves a change out while it may not take effect; one that does nothing does no harm.

        D7: a reset waits until the clocks of a quorum are known.
        """
        if isinstance(change, ClockReset):
            return self.quorum_time_us() is None
        view = self.installed
        return (
            view is not None and takes_effect(change, self.window.configuration) and not self.may_change_members(view)
        )

    def sequence(self, view: View, token: Token, runs: list[list[Request]]) -> None:
        """A3: fill the token's slot with these runs of requests."""
        entries = tuple(
            Entry(run[0].sender, run[0].incarnation, run[0].lsn, run[-1].lsn, tuple(r.digest for r in run))
            for run in runs
        )
        resets = (request.change for run in runs for request in run if isinstance(request.change, ClockReset))
        time_us = self.slot_time_us(next(resets, None))
        chain = extend(self.window.end_chain, view.number, token.slot, time_us, entries)
        sequence = Sequence(view.number, token.slot, time_us, entries, chain)
        requests = tuple(request for run in runs for request in run)
        if not self.append(SlotRecord(sequence, requests)):
            self.token = None
            return
        self.known_end = max(self.known_end, self.window.end)
        self.publish_sequence(sequence)

    def pass_token(self, view: View) -> None:
        """A4: hop + 1 and the next slot to the next ring member; a ring of one passes it to itself."""
        held = self.token
        if held is None:
            return
        self.token = None
        self.stop_timer("idle_hop")
        hop = held.hop + 1
        successor = view.ring[hop % len(view.ring)]
        # A7: what the successor may have missed; what it has acknowledged it has.
        first = max(view.base, self.window.end - PIGGYBACK_SEQUENCES, self.acked.get(successor, 0))
        newest = self.window.records(first, self.window.end)
        token = Token(view.number, hop, self.window.end, self.commit, tuple(r.sequence for r in newest))
        if successor == self.me:
            self.hold(token)
            return
        self.passed = _Passed(token, successor, self.now_us)
        self.send(successor, token)
        self.set_timer("token_resend", self.config.resend_interval_ms)

    def on_idle_hop_timer(self) -> None:
        """A4: pass the token unused every idle_hop_interval, so that every holder is known to be alive."""
        view = self.installed
        held = self.token
        if view is not None and held is not None and self.rules.may_sequence(held.slot, self.window.end):
            self.pass_token(view)
        else:
            self.set_timer("idle_hop", self.config.idle_hop_interval_ms)

    def on_token_resend_timer(self) -> None:
        """A6: the passer resends its copy until it has proof of arrival."""
        if self.passed is not None:
            self.send(self.passed.to, self.passed.token)
            self.set_timer("token_resend", self.config.resend_interval_ms)
