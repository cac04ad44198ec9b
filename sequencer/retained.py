"""C3: a member is whole when it holds all that retention promises; what it lacks it fetches behind the ordering.

A snapshot brings the state and no log (C1), and damage leaves holes (D6). Both are gaps in the retained log, and both
are filled the same way: from the top downwards, from any peer, in small pieces. The chain right above a gap is known,
and chain(k) is a hash over chain(k - 1) and slot k, so whatever links to it is what was ordered: no peer is trusted.
"""

from typing import NamedTuple

from sequencer.chain import extend
from sequencer.config import MS
from sequencer.damage import Damage
from sequencer.messages import Backfill, Backfilled, Holdings, SnapshotChunk
from sequencer.output import DamageFound, PrependRecord, RepairRecord, ServeBackfill, SnapshotOpened, TrimAsked
from sequencer.retransmission import holds_what_it_names
from sequencer.types import DamagedRun, SlotRecord, View

FIRST_TICK = 50  # of an interval: a member says at once that it is not whole
TICKS_A_TELLING = 5  # backfill intervals between two HOLDINGS to all
TOLD_FRESH_TICKS = 4 * TICKS_A_TELLING
#: What a member said of itself counts against it so much longer than for it: a lost frame makes nobody a copy.
NOT_WHOLE_TICKS = 5 * TOLD_FRESH_TICKS
PATIENCE_TICKS = 20  # an answer that takes longer is asked for elsewhere
NOTHING = 1 << 62  # in place of the first slot: who takes no part holds nothing that counts


class _Told(NamedTuple):
    """What a peer said of itself, and when."""

    first: int
    whole: bool
    told_us: int


class Gap(NamedTuple):
    """Slots [first, below) are missing; `chain` = chain(below - 1)."""

    first: int
    below: int
    chain: bytes


class Retained(Damage):
    """Who is whole, what is missing here, and fetching it."""

    def init_retained(self, first_chain: bytes) -> None:
        """Per-instance containers. `first_chain`: chain(first - 1) of the log."""
        self.first_chain = first_chain
        self.holes: tuple[DamagedRun, ...] = ()  # of [first, delivered), ascending, apart from each other
        self.told: dict[int, _Told] = {}
        self.backfill_attempt = 0
        self.backfill_tick = 0
        self.backfill_waits_until = -1  # a tick; an answer is on its way to us, or to the disk
        self.prepending = False  # records are on their way below the log: where it begins on disk is not known
        self.tells_until = -1  # a tick: who is whole again says so for a while

    # ------------------------------------------------------------------ who is whole

    @property
    def filled(self) -> bool:
        """Nothing is missing below the log's first slot that retention promises."""
        return self.stable.whole or self.window.first == 0

    @property
    def whole(self) -> bool:
        """C3: this member is a copy of the retained log."""
        holds = self.rules.is_whole(self.stable, self.window.first, holes=bool(self.holes))
        return holds and self.view is not None and self.takes_part and not self.opening

    def is_fresh(self, told: _Told | None, ticks: int) -> bool:
        """Was it said within so many backfill intervals?"""
        return told is not None and self.now_us - told.told_us < ticks * self.config.backfill_interval_ms * MS

    def says_not_whole(self, member: int) -> bool:
        """It said so, and has not taken it back."""
        told = self.told.get(member)
        return told is not None and not told.whole and self.is_fresh(told, NOT_WHOLE_TICKS)

    def is_copy(self, member: int) -> bool:
        """C3: it is heard in this view, and did not say that it is not whole (an older version says nothing)."""
        if member == self.me:
            return self.whole
        status = self.peer(member).status
        here = status is not None and self.view is not None and status.view == self.view.number and not status.wiped
        return here and self.is_heard(member) and not self.says_not_whole(member)

    def keeps_copies(self, members: tuple[int, ...]) -> bool:
        """C3: would these members still hold the retained log on a quorum of disks?"""
        return sum(map(self.is_copy, members)) >= self.rules.copies_needed(members)

    def retained_from(self) -> int | None:
        """C3: the slot where what retention promises begins; None while it is not known.

        A whole member has trimmed by retention alone (C2). Where none is left, all members say what is.
        """
        told = {
            member: one
            for member in self.others
            if self.is_fresh(one := self.told.get(member), TOLD_FRESH_TICKS) and one
        }
        whole = [one.first for one in told.values() if one.whole]
        if whole:
            return min(whole)
        if all(member in told for member in self.members if member != self.me):
            return min([self.window.first, *(one.first for one in told.values())])
        return None

    # ------------------------------------------------------------------ telling

    def start_backfill(self) -> None:
        """At a start, and when something begins to be missing."""
        if not self.filled or self.holes:
            self.backfill_waits_until = -1
            self.set_timer("backfill", self.config.backfill_interval_ms / FIRST_TICK)

    def tell_holdings(self, *members: int, ask: bool) -> None:
        """What this member has of the retained log."""
        first = self.window.first if self.takes_part and not self.opening else NOTHING
        for member in members:
            self.send(member, Holdings(first, self.whole, ask))

    def on_holdings(self, sender: int, message: Holdings) -> None:
        """Remember it, and answer in kind."""
        self.told[sender] = _Told(message.first, message.whole, self.now_us)
        if message.ask:
            self.tell_holdings(sender, ask=False)

    # ------------------------------------------------------------------ fetching

    def on_backfill_timer(self) -> None:
        """Tell the others now and then; ask for the next piece, unless one is on its way."""
        self.backfill_tick += 1
        missing = not self.filled or bool(self.holes)
        if missing or self.backfill_tick <= self.tells_until:
            self.set_timer("backfill", self.config.backfill_interval_ms)
        if self.backfill_tick % TICKS_A_TELLING == 1:
            self.tell_holdings(*self.others, ask=missing)
        if not self.may_backfill():
            return
        if not self.stable.whole and not self.holes and self.is_filled_now():
            self.become_filled()
        elif self.holes and self.mend_from_memory():
            return
        elif self.holes and self.is_trimmed_elsewhere(self.holes[0]):
            self.on_trim_asked(TrimAsked(self.holes[0].last + 1))
        elif missing and self.backfill_tick >= self.backfill_waits_until:
            self.ask_for_gap()

    def is_trimmed_elsewhere(self, run: DamagedRun) -> bool:
        """Nobody can repair it, and retention no longer promises it: every other member is whole and begins above."""
        others = [self.told.get(member) for member in self.members if member != self.me]
        return bool(others) and all(
            self.is_fresh(one, TOLD_FRESH_TICKS) and one is not None and one.whole and one.first > run.last
            for one in others
        )

    def may_backfill(self) -> bool:
        """C3: below the base of a view that is being installed the log does not change (V7)."""
        return self.installed is not None

    def is_filled_now(self) -> bool:
        """The log begins where the retained log does, or below."""
        retained_from = self.retained_from()
        return self.window.first == 0 or (retained_from is not None and self.window.first <= retained_from)

    def become_filled(self) -> None:
        """C3: a copy from now on."""
        self.rule("C3")
        self.tell("log_whole", first=self.window.first, rule="C3")
        self.save_stable(whole=True)
        self.when_durable(self.tell_whole)

    def tell_whole(self) -> None:
        """Say it to all who were told otherwise, and again for a while: who missed it would refuse a change."""
        if not self.backfill_tick:
            return
        self.tells_until = self.backfill_tick + TOLD_FRESH_TICKS
        self.tell_holdings(*self.others, ask=False)
        self.arm_timer("backfill", self.config.backfill_interval_ms)

    def gap(self) -> Gap | None:
        """The gap to be filled next: a hole, since reads need it now; else what is missing below the log."""
        if self.holes:
            run = self.holes[0]
            return Gap(run.first, run.last + 1, run.chain_after)
        retained_from = None if self.filled else self.retained_from()
        if retained_from is None or retained_from >= self.window.first:
            return None
        return Gap(retained_from, self.window.first, self.first_chain)

    def ask_for_gap(self) -> None:
        """Ask the members in turn that hold what is right below the gap's end: whole ones first."""
        gap = self.gap()
        if gap is None:
            return
        holders = [
            member
            for member in self.others
            if self.is_heard(member)
            and self.is_fresh(one := self.told.get(member), TOLD_FRESH_TICKS)
            and one is not None
            and one.first < gap.below
        ]
        if not holders:
            return
        holders.sort(key=lambda member: not self.told[member].whole)
        to = holders[self.backfill_attempt % len(holders)]
        self.backfill_attempt += 1
        self.backfill_waits_until = self.backfill_tick + PATIENCE_TICKS
        self.send(to, Backfill(gap.below, gap.chain, max(gap.first, self.told[to].first)))

    def on_backfill(self, sender: int, message: Backfill) -> None:
        """Serve what is durable and applied; the shell compares the chain."""
        here = self.window.first < message.below <= min(self.stored, self.delivered)
        if here and self.takes_part and not self.opening:
            first = max(message.first, self.window.first)
            self.out.serves.append(ServeBackfill(sender, message.below, message.chain, first))

    def on_backfilled(self, sender: int, message: Backfilled) -> None:
        """C3: take a piece that ends where the gap does, and links to the chain there."""
        gap = self.gap()
        if gap is None or not self.may_backfill() or message.first < gap.first or not message.records:
            return
        if message.first + len(message.records) != gap.below or len(message.notes) != len(message.records):
            return
        if not self.rules.takes_backfill(linked_chain(message), gap.chain):
            self.tell("backfill_refused", first=message.first, below=gap.below, peer=sender, rule="C3")
            return
        self.rule("C3")
        self.backfill_attempt -= 1  # it serves: ask it again
        if self.holes:
            self.mend(message.first, message.before, message.records, message.notes)
        else:
            self.prepend(message)
        self.backfill_waits_until = self.backfill_tick + PATIENCE_TICKS
        self.when_durable(self.piece_is_durable)

    def piece_is_durable(self) -> None:
        """The disk sets the pace: the next piece is asked for at the next interval."""
        self.prepending = False
        self.backfill_waits_until = -1

    def prepend(self, message: Backfilled) -> None:
        """Put the piece before the log's first slot, the highest record first."""
        self.prepending = True
        befores = [message.before, *(record.sequence.chain for record in message.records)]
        for index in range(len(message.records) - 1, -1, -1):
            self.persist(PrependRecord(message.records[index], befores[index], message.notes[index]))
        self.window.extend_down(message.first)
        self.first_chain = message.before

    def mend(self, first: int, before: bytes, records: tuple[SlotRecord, ...], notes: tuple[bytes | None, ...]) -> None:
        """Write the slots of a hole again, the highest first: each record tells the chain of the one below (D6)."""
        run = self.holes[0]
        befores = [before, *(record.sequence.chain for record in records)]
        for index in range(len(records) - 1, -1, -1):
            self.persist(RepairRecord(records[index], befores[index], notes[index]))
        left = () if first == run.first else (run._replace(last=first - 1, chain_after=before),)
        self.holes = (*left, *self.holes[1:])
        self.rule("D6")
        self.when_durable(lambda: self.tell("records_repaired", first=first, last=run.last))
        if not self.holes and self.filled:
            self.when_durable(self.tell_whole)

    def mend_from_memory(self) -> bool:
        """D6: the window still holds the records of the first hole: nobody need be asked."""
        run = self.holes[0]
        before = self.window.chain(run.first - 1)
        if before is None or run.first < self.window.base:
            return False
        records = self.window.records(run.first, run.last + 1)
        self.mend(run.first, before, records, (None,) * len(records))
        return True

    # ------------------------------------------------------------------ where gaps come from, and go

    def on_damage_found(self, event: DamageFound) -> None:
        """D6: damage in a log that is in use is a hole; what a start finds above the snapshot is `damage`."""
        if self.damage or self.opening:
            return
        known = list(self.holes)
        for run in event.runs:
            inside = self.window.first <= run.first <= run.last < min(self.delivered, self.stored)
            if inside and not any(run.first <= one.last and one.first <= run.last for one in known):
                known.append(run)
                self.tell("hole_found", first=run.first, last=run.last, rule="D6")
        self.holes = tuple(sorted(known))
        self.start_backfill()

    def use_snapshot(self, message: SnapshotChunk) -> None:
        """C3: the snapshot replaces the log; what was retained below it is missing from now on."""
        super().use_snapshot(message)
        self.first_chain = message.chain
        self.holes = ()
        # In the transaction of the switch itself: after a crash nothing may look whole that is not.
        self.save_stable(whole=self.rules.whole_after_snapshot())

    def view_started(self, view: View) -> None:
        """C3: it is heard in the view from this step on, so it says now that it is no copy."""
        super().view_started(view)
        if not self.filled:
            self.tell_holdings(*self.others, ask=True)

    def on_snapshot_opened(self, event: SnapshotOpened) -> None:
        """C1, and C3: begin to fetch what is below."""
        super().on_snapshot_opened(event)
        self.start_backfill()

    def on_trim_asked(self, event: TrimAsked) -> None:
        """C2: where this member's own retention trims, nothing below is promised any more."""
        before = self.window.first
        super().on_trim_asked(event)
        first = self.window.first
        if first == before:
            return
        self.holes = tuple(run._replace(first=max(run.first, first)) for run in self.holes if run.last >= first)
        if not self.stable.whole:
            self.become_filled()


def linked_chain(message: Backfilled) -> bytes | None:
    """The chain after the last record if each links to the one before it and holds what it names, else None."""
    chain = message.before
    for slot, record in enumerate(message.records, message.first):
        sequence = record.sequence
        linked = extend(chain, sequence.view, slot, sequence.time_us, sequence.entries)
        named = holds_what_it_names(sequence.entries, record.requests)
        if (sequence.slot, sequence.chain) != (slot, linked) or not named:
            return None
        chain = linked
    return chain
