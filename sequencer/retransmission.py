"""A8: gaps are found, asked for with back-off and a budget, and answered from the window or the log."""

from collections.abc import Mapping

from sequencer.messages import Broadcast, LsnRange, Nack, Retransmit
from sequencer.ordering import Ordering
from sequencer.output import ServeRecords
from sequencer.types import Entry, Request, View, ViewNumber

NACK_LSNS_MAX = 256
SECOND_US = 1_000_000


class Retransmission(Ordering):
    """NACK and RETRANSMIT between members that have installed the same view."""

    nack_attempt = 0  # since the log last grew
    nack_end = 0  # window.end at the last NACK
    relays: Mapping[int, tuple[int, ...]] = {}  # a sender -> ring members that do not hear it: this member passes on

    def on_broadcast(self, sender: int, message: Broadcast) -> None:
        """A8: what the holder may not hear, who stands between passes on: it would wait for the token else."""
        super().on_broadcast(sender, message)
        view = self.installed
        if message.requests and view is not None:
            for member in self.relays.get(sender, ()):
                self.send(member, Retransmit(view.number, message.requests, ()))

    def plan_relays(self) -> None:
        """A8: the first of the ring that hears a member outside it passes its requests on to those that do not."""
        view = self.installed
        if view is None or self.me not in view.ring or len(view.ring) == len(view.members):
            self.relays = {}
            return
        relays = {}
        for sender in view.members:
            if sender not in view.ring and self.is_heard(sender):
                deaf = [member for member in view.ring if not self.says_it_hears(member, sender)]
                if min(member for member in view.ring if member not in deaf) == self.me:
                    relays[sender] = tuple(deaf)
        self.relays = relays

    def says_it_hears(self, member: int, other: int) -> bool:
        """As far as it said in the installed view."""
        status = self.peer(member).status if member != self.me else None
        return status is None or status.view != self.stable.log_view or bool(status.heard >> other & 1)

    def look_for_gaps(self) -> None:
        """After each step: a short delay before the first NACK, since most gaps are only reordering."""
        if "nack" in self.timers or self.installed is None:
            return
        if self.window.end < self.known_end or any(True for _ in self.buffer.gaps(self.window.senders, 1)):
            self.arm_timer("nack", self.config.nack_delay_ms)

    def on_nack_timer(self) -> None:
        """Ask for what is still missing; every attempt without progress waits longer and asks someone else."""
        view = self.installed
        if view is None:
            return
        if self.window.end != self.nack_end:
            self.nack_attempt, self.nack_end = 0, self.window.end
        asked = False
        if self.window.end < self.known_end:
            holders = self.slot_holders(view)
            if holders:
                to = holders[self.nack_attempt % len(holders)]
                self.ask_for_slots(to, view)
                asked = True
        for gap in list(self.buffer.gaps(self.window.senders, NACK_LSNS_MAX)):
            if gap.sender != self.me and self.is_heard(gap.sender):
                self.send(gap.sender, Nack(view.number, 0, 0, (LsnRange(*gap),)))
                asked = True
        if asked:
            self.rule("A8")
            self.nack_attempt += 1
            back_off = self.config.resend_interval_ms << min(self.nack_attempt - 1, 8)
            self.set_timer("nack", min(back_off, self.config.nack_backoff_max_ms))

    def ask_for_slots(self, to: int, view: View) -> None:
        """NACK everything from the next slot on; `Installation` resumes a snapshot instead while one is coming in."""
        self.send(to, Nack(view.number, self.window.end, self.known_end, ()))

    def slot_holders(self, view: View) -> list[int]:
        """Whom to ask for the next slot: who sequenced it, then members that have stored it, then the ring."""
        slot = self.window.end
        stored = [member for member, end in self.acked.items() if end > slot and member != self.me]
        ring = [member for member in view.ring if member != self.me]
        return [member for member in dict.fromkeys([*stored, *ring]) if self.is_heard(member)]

    def within_budget(self, member: int) -> bool:
        """A per-peer budget, so that a confused peer can't use us as an amplifier."""
        peer = self.peer(member)
        if self.now_us - peer.nacks_since_us >= SECOND_US:
            peer.nacks_since_us, peer.nacks_left = self.now_us, self.config.nack_budget_per_second
        if peer.nacks_left <= 0:
            self.tell("nack_over_budget", peer=member)
            return False
        peer.nacks_left -= 1
        return True

    def on_nack(self, sender: int, nack: Nack) -> None:
        """Only a member that has installed the view answers a NACK of it."""
        if self.view is None or nack.view != self.view.number or self.damage or not self.within_budget(sender):
            return
        requests = tuple(r for wanted in nack.requests for r in self.find_requests(wanted))
        first, end = nack.first_slot, min(nack.end_slot, self.window.end)
        if first < min(end, self.window.base):
            self.serve_old(sender, nack.view, first, min(end, self.window.base))
            end = first
        records = self.window.records(first, end, self.config.retransmit_bytes_max) if first < end else ()
        if requests or records:
            self.send(sender, Retransmit(nack.view, requests, records))

    def serve_old(self, to: int, view: ViewNumber, first: int, end: int) -> None:
        """Slots below the window are committed: the shell reads them from the log. `Installation` adds snapshots."""
        self.out.serves.append(ServeRecords(to, view, first, end, retransmit=True))

    def find_requests(self, wanted: LsnRange) -> list[Request]:
        """Requests of a range that are still unordered here, or own ones not delivered yet."""
        found = []
        for lsn in range(wanted.first, min(wanted.last, wanted.first + NACK_LSNS_MAX) + 1):
            if wanted.sender == self.me and wanted.incarnation == self.stable.incarnation:
                request = self.own.get(lsn)
            else:
                request = self.buffer.get(wanted.sender, wanted.incarnation, lsn)
            if request is not None:
                found.append(request)
        return found

    def on_retransmit(self, sender: int, message: Retransmit) -> None:
        """Take requests, and records whose slot is next; then ask for more at once while behind."""
        view = self.installed
        if view is None or message.view != view.number:
            return
        for request in message.requests:
            self.buffer.add(request, self.window.senders.get(request.sender))
        before = self.window.end
        for record in message.records:
            if record.slot != self.window.end:
                continue
            if not self.rules.may_store(record.sequence, view) or not holds_what_it_names(
                record.sequence.entries, record.requests
            ):
                self.tell("record_refused", slot=record.slot, rule="A8", peer=sender)
                return
            if not self.append(record):
                return
            self.sequences.pop(record.slot, None)
        self.store_ready()
        if before < self.window.end < self.known_end and self.window.end not in self.sequences:
            self.nack_attempt, self.nack_end = 0, self.window.end
            self.send(sender, Nack(view.number, self.window.end, self.known_end, ()))
            self.set_timer("nack", self.config.resend_interval_ms)

    def on_heartbeat_timer(self) -> None:
        """HEARTBEAT when nothing else was published for an interval."""
        self.status_due = True
        self.set_timer("heartbeat", self.config.heartbeat_interval_ms)

    def quiet_since_us(self) -> int:
        """V1: since when an own request is not sequenced or an ordered slot is not stored; now if neither."""
        waiting = self.window.end < self.known_end or self.own.newest_lsn > self.own_last_ordered()
        writing = self.window.end > self.commit  # A3, A9: the disks are slow
        if writing or not waiting:
            self.progress_us = self.now_us
        return self.progress_us


def holds_what_it_names(entries: tuple[Entry, ...], requests: tuple[Request, ...]) -> bool:
    """A3: a record holds exactly the requests that its entries name, in their order, with their digests."""
    named = [
        (entry.sender, entry.incarnation, lsn, digest)
        for entry in entries
        for lsn, digest in zip(range(entry.first_lsn, entry.last_lsn + 1), entry.digests, strict=False)
        if len(entry.digests) == entry.last_lsn - entry.first_lsn + 1
    ]
    return named == [(r.sender, r.incarnation, r.lsn, r.digest) for r in requests] and bool(named)
