"""V7 and C1: a member makes its log a prefix of what the announced view chose, then, and only then, acts in it."""

from dataclasses import dataclass
from functools import partial

from sequencer.config import MS
from sequencer.errors import require
from sequencer.messages import Chains, Fetch, Installed, NewView, Records, SnapshotChunk
from sequencer.output import (
    CutLog,
    ServeChunk,
    ServeRecords,
    SnapshotMade,
    SnapshotOpened,
    StageChunk,
    TrimAsked,
    TrimLog,
    UseSnapshot,
)
from sequencer.retransmission import Retransmission, holds_what_it_names
from sequencer.types import View, ViewNumber

CHAINS_MAX = 1_024
#: Bytes that are fetched and not stored: the disk sets the pace of a catch-up, not the network.
FETCH_AHEAD_BYTES = 16 << 20


@dataclass(slots=True)
class _Staging:
    """A snapshot that is being received: chunks [0, next_chunk) are handed to the writer."""

    snapshot: str
    view: ViewNumber
    sender: int
    fed_us: int  # when the newest chunk came
    next_chunk: int = 0


class Installation(Retransmission):
    """From NEW_VIEW to INSTALLED, and the serving side of FETCH."""

    fetch_attempt = 0
    feeder = 0  # who sent the newest records or chunk of this install while more are missing, else 0
    fetch_waits = False  # for the disk
    fetched_commit = 0  # committed slots of this install's records, stored or not
    fetched_us = 0  # last time an install made progress (V1: view_timeout restarts with it)
    staging: _Staging | None = None
    snapshot: SnapshotMade | None = None  # the newest of our own

    @property
    def wants_requests(self) -> bool:
        """A8: requests that are published while records come need not be read: they come again, within records."""
        return self.installing is None or not self.feeder

    # ------------------------------------------------------------------ taking an announcement

    def on_new_view(self, sender: int, message: NewView) -> None:
        """The announcement, from its proposer or from anyone that holds it."""
        self.take_view(sender, message.view)

    def take_view(self, sender: int, view: View) -> None:
        """V7: install `view`, or say why not."""
        if self.view is not None and view.number == self.view.number:
            self.send(sender, Installed(view.number))
            return
        if self.blank or not self.rules.may_install(view.number, self.stable):
            return
        if not self.rules.same_announcement(self.stable.announced, view):
            self.tell("announcement_ignored", view=view.number, rule="V5")
            return
        if self.me not in view.members and self.me != view.source:
            self.see_removal(view)
            return
        if not self.rules.readmits(view, self.me, self.stable):
            self.rule("V0")
            return
        if self.installing is None or self.installing.number != view.number:
            self.begin_install(view)

    def begin_install(self, view: View) -> None:
        """V7: promise v, stop the old view, cut what the source does not have."""
        self.rule("V7")
        self.save_stable(promised=view.number, announced=view)
        self.stop_view()
        self.installing = view
        self.fetch_attempt = self.feeder = self.fetched_commit = 0
        self.fetch_waits = False
        self.fetched_us = self.now_us
        if self.staging is not None and self.staging.view != view.number:
            self.staging = None
        self.tell("install_began", view=view.number, ring=view.ring, base=view.base, end=self.window.end)
        if not self.begins_beyond(view):
            self.cut(self.rules.cut_to(self.window.end, view.base))
        self.continue_install()

    def see_removal(self, view: View) -> None:
        """V12: a newer view goes on without this member: it proposes nothing and takes no requests any more.

        It still promises and serves: the announcement may have failed, and a view without the change need it. A
        newcomer learns from it that it has to be added.
        """
        if self.removal is None or view.number > self.removal.number:
            self.removal = view
            self.rule("V12")
            self.tell("member_removed" if self.view is not None else "not_a_member_yet", members=view.members)

    def begins_beyond(self, view: View) -> bool:
        """Our log begins beyond the base: a snapshot that a member which installed `view` gave us replaced it (C1)."""
        return self.window.first > view.base

    def stop_view(self) -> None:
        """At an install, and at a promise: NACKs, SEQUENCEs and the token of the old view are dropped (A8, V3)."""
        self.reset_ordering()
        self.stop_timer("nack")
        self.status_due = True

    def cut(self, end: int) -> None:
        """Drop every slot >= end; never below our own commit point."""
        if end >= self.window.end:
            return
        if not self.rules.may_cut(end, self.commit):
            self.out.halt = (
                f"divergence: view {self.stable.promised} would cut slot {end}, but slots below {self.commit} are "
                "committed here; keep this disk and compare with `ringcast verify`"
            )
            return
        dropped = self.window.cut(end)
        self.persist(CutLog(end))
        self.tell("log_cut", end=end, slots=len(dropped))
        for record in reversed(dropped):
            for request in record.requests:
                self.buffer.add(request, self.window.senders.get(request.sender))

    # ------------------------------------------------------------------ fetching the prefix

    def continue_install(self) -> None:
        """Fetch what is missing, or finish."""
        view = self.installing
        if view is None or self.opening or self.out.halt or self.stable.log_view == view.number:
            return
        if self.begins_beyond(view) or self.rules.prefix_complete(
            self.window.end, self.window.chain(view.base - 1), view
        ):
            self.finish_install(view)
            return
        self.fetch_waits = self.unstored_bytes() > FETCH_AHEAD_BYTES
        holders = self.prefix_holders(view)
        if holders and not self.fetch_waits:
            self.fetch(holders[self.fetch_attempt % len(holders)], view)
        self.set_timer("fetch", self.config.fetch_interval_ms)

    def unstored_bytes(self) -> int:
        """Of the window's end."""
        return sum(record.size for record in self.window.records(self.stored, self.window.end))

    def fetch(self, to: int, view: View) -> None:
        """Ask for the records from our end on, or for the next chunk of the snapshot that is coming in."""
        staged = self.staging
        if staged is not None and self.is_fed(staged):
            to = staged.sender
        snapshot, chunk = (staged.snapshot, staged.next_chunk) if staged else ("", 0)
        self.send(to, Fetch(view.number, self.window.end, view.base, self.window.end_chain, False, snapshot, chunk))

    def is_fed(self, staged: _Staging) -> bool:
        """C1: each member's snapshot is another one, so who began it ends it, while it is heard and goes on."""
        return self.is_heard(staged.sender) and self.now_us - staged.fed_us < self.config.view_timeout_ms * MS

    def ask_for_slots(self, to: int, view: View) -> None:
        """An installed member that lags behind the trim resumes its snapshot; NACK otherwise.

        In turns: the snapshot may be gone, or the gap was filled by records and the next one is not trimmed.
        """
        if self.staging is not None and self.nack_attempt % 2:
            self.fetch(to, view)
        else:
            super().ask_for_slots(to, view)

    def prefix_holders(self, view: View) -> list[int]:
        """V7: the source, or a member that has installed v."""
        installed = [
            member
            for member in self.others
            if (status := self.peer(member).status) is not None and status.view == view.number
        ]
        return [m for m in dict.fromkeys([view.source, *installed]) if m != self.me]

    def on_fetch_timer(self) -> None:
        """No answer: ask the next one that may have it; but who has fed us is only busy, and its answer on the way."""
        patience_us = self.config.view_timeout_ms * MS // 2
        fed = self.feeder and self.is_heard(self.feeder) and self.now_us - self.fetched_us < patience_us
        if fed or self.fetch_waits:
            self.set_timer("fetch", self.config.fetch_interval_ms)
            return
        self.fetch_attempt += 1
        self.continue_install()

    def on_records(self, sender: int, message: Records) -> None:
        """C1: below the base, records are taken only while installing that very view; the chain is checked first."""
        view = self.installing
        if view is None or self.opening or not self.rules.may_take_records(message.view, view.number):
            return
        taken = 0
        for record in message.records:
            if record.slot != self.window.end or record.slot >= view.base:
                continue
            if not holds_what_it_names(record.sequence.entries, record.requests) or not self.append(record):
                self.tell("record_refused", slot=record.slot, rule="C1", peer=sender)
                break
            taken += 1
        if taken:
            self.rule("C1")
            self.feeder, self.fetched_us = sender, self.now_us
            committed = self.rules.fetched_commit(message.committed, self.window.end)
            self.fetched_commit = max(self.fetched_commit, committed)
            if message.more:
                self.set_timer("fetch", self.config.fetch_interval_ms)
            else:
                self.continue_install()

    def advance_commit(self) -> None:
        """C1: what is fetched and committed is delivered while the rest comes: memory holds a window, not the log."""
        if self.installing is not None and not self.damage:
            self.commit = max(self.commit, min(self.fetched_commit, self.counted_end))
        super().advance_commit()
        if self.fetch_waits and self.unstored_bytes() <= FETCH_AHEAD_BYTES:
            self.fetched_us = self.now_us
            self.continue_install()

    def on_chains(self, sender: int, message: Chains) -> None:
        """V7: cut from the first slot whose chain differs, then ask again."""
        view = self.installing
        if view is None or message.view != view.number or self.opening or self.stable.log_view == view.number:
            return
        last = min(message.first + len(message.chains), self.window.end) - 1
        common = message.first - 1
        for slot in range(last, message.first - 1, -1):
            if self.window.chain(slot) == message.chains[slot - message.first]:
                common = slot
                break
        if common < last:  # else none of the slots that were compared differs: an answer to an earlier FETCH
            self.rule("V7")
            self.fetched_us = self.now_us
            self.cut(common + 1)
            self.continue_install()

    def finish_install(self, view: View) -> None:
        """V7: one last transaction writes log view, ring and base, and ends a wipe."""
        self.feeder = 0
        self.stop_timer("fetch")
        self.save_stable(view=view, wiped=False)
        self.when_durable(partial(self.installed_durably, view))

    def installed_durably(self, view: View) -> None:
        """The install is durable: acknowledge in v, and start it if it is ours to start (V8)."""
        if self.stable.log_view != view.number:
            return
        before, self.view = self.view, view
        self.installed_now = True
        self.damage = ()
        self.installing = None if self.installing == view else self.installing
        self.reset_ordering()
        if view.number.proposer != self.me:
            self.send(view.number.proposer, Installed(view.number))
        if self.installed is None:
            return  # promised higher in the meantime
        self.tell("view_installed", view=view.number, ring=view.ring, base=view.base)
        if before is not None and before.members != view.members:
            self.rule("V12")
            self.tell("change_used", members=view.members, view=view.number)
        for member in self.others:
            self.peer(member).heard_in_view_us = self.now_us
        for member, _ in self.buffer.senders():
            if not (member in self.everyone and self.is_heard(member)) and self.buffer.drop(member):
                self.rule("V10")
        self.status_due = True
        self.view_started(view)
        if self.rules.creates_token(view.ring, self.me, just_installed=True):
            self.create_token(view)
        self.republish_own()

    def view_started(self, view: View) -> None:
        """The view-change layer keeps its back-offs and timers here."""

    # ------------------------------------------------------------------ serving others

    def on_fetch(self, sender: int, message: Fetch) -> None:
        """V7: only the source of that view, or a member that has installed it, serves its prefix."""
        is_source = (
            self.installing is not None
            and self.installing.number == message.view
            and self.installing.source == self.me
            and self.window.end >= self.installing.base
        )
        has_installed = self.view is not None and self.view.number == message.view
        if not (is_source or has_installed) or self.damage or self.opening:
            return
        first, end = message.first, min(message.end, self.window.end)
        if first < self.window.first:
            self.serve_snapshot(sender, message.view, message.snapshot, message.chunk)
        elif first < self.window.base:
            until = min(end, self.window.base)
            self.out.serves.append(ServeRecords(sender, message.view, first, until, chain=message.chain))
        elif first <= self.window.end:
            self.serve_window(sender, message, end)

    def serve_window(self, sender: int, message: Fetch, end: int) -> None:
        """Records from memory, or our chains where the asker's differs."""
        first = message.first
        if self.window.chain(first - 1) == message.chain:
            records = self.window.records(first, end, self.config.retransmit_bytes_max)
            if records:
                self.send(sender, Records(message.view, first, records, committed=self.commit))
            return
        lowest = max(self.window.base - 1, first - CHAINS_MAX, 0)
        chains = tuple(chain for slot in range(lowest, first) if (chain := self.window.chain(slot)) is not None)
        if chains:
            self.send(sender, Chains(message.view, lowest, chains))

    # ------------------------------------------------------------------ snapshots and retention

    def on_snapshot_made(self, event: SnapshotMade) -> None:
        """Our own newest snapshot: what may be served, and how far the log may be trimmed (C2)."""
        self.snapshot = event

    def serve_snapshot(self, to: int, view: ViewNumber, wanted: str, chunk: int) -> None:
        """C1: the asker's slot is trimmed here: the snapshot instead, from the chunk it wants if it is the same one."""
        made = self.snapshot
        if made is None:
            return
        index = chunk if wanted == made.snapshot and chunk < made.count else 0
        self.out.serves.append(ServeChunk(to, view, made.snapshot, made.slot, made.chain, index, made.count))

    def serve_old(self, to: int, view: ViewNumber, first: int, end: int) -> None:
        """A lagging member's NACK for slots that are on disk, or trimmed."""
        if first < self.window.first:
            self.serve_snapshot(to, view, "", 0)
        else:
            super().serve_old(to, view, first, end)

    def on_snapshot_chunk(self, sender: int, message: SnapshotChunk) -> None:
        """C1: stage the next chunk; the last one is followed by one durable switch."""
        wanted = self.installing or self.installed
        if wanted is None or self.opening or message.view != wanted.number or message.slot <= self.window.end:
            return
        require(self.rules.may_use_snapshot(message.view, self.stable), "a view that was left is not fetched in (C1)")
        staging = self.staging
        if staging is None or staging.snapshot != message.snapshot or staging.view != message.view:
            if staging is not None and staging.sender != sender and self.is_fed(staging):
                return
            staging = self.staging = _Staging(message.snapshot, message.view, sender, self.now_us)
        if message.index != staging.next_chunk:
            return
        self.persist(StageChunk(message.snapshot, message.index, message.data))
        self.feeder, self.fetched_us = sender, self.now_us
        staging.fed_us = self.now_us
        staging.next_chunk += 1
        if staging.next_chunk < message.count:
            self.fetch(sender, wanted)
            if self.installing is not None:
                self.set_timer("fetch", self.config.fetch_interval_ms)
            return
        self.use_snapshot(message)

    def use_snapshot(self, message: SnapshotChunk) -> None:
        """The state is the staged one and the log is empty behind it; the log view is raised by V7 only."""
        self.rule("C1")
        self.tell("snapshot_used", snapshot=message.snapshot, slot=message.slot)
        self.persist(UseSnapshot(message.snapshot, message.slot, message.chain))
        self.staging = None
        self.snapshot = None
        self.window.reset(message.slot, message.chain, 0, ())
        self.delivered = message.slot
        self.commit = max(self.commit, message.slot)
        self.sequences.clear()
        self.opening = True

    def on_snapshot_opened(self, event: SnapshotOpened) -> None:
        """The state machines stand at the snapshot: its A2 table and time are ours now."""
        if self.opening and event.slot == self.window.end:
            self.window.reset(event.slot, event.chain, event.time_us, event.senders, event.configuration)
            self.opening = False
            self.continue_install()

    def lagging(self, first: int) -> list[int]:
        """Members seen within `retention_grace` that have not acknowledged every slot below `first`."""
        grace_us = self.config.retention_grace_ms * MS
        seen = [member for member in self.others if self.now_us - self.peer(member).heard_us < grace_us]
        return [member for member in seen if self.acked.get(member, 0) < first]

    def on_trim_asked(self, event: TrimAsked) -> None:
        """C2: never past the newest snapshot; up to the hard bound also not past a member that lags."""
        snapshot_slot = self.snapshot.slot if self.snapshot is not None else 0
        wanted = min(event.first, snapshot_slot, self.delivered, self.stored)
        lagging = [self.acked.get(member, 0) for member in self.lagging(wanted)]
        first = min(wanted, max(min(lagging, default=wanted), event.overdue))
        if first > self.window.first:
            self.rule("C2")
            if lagging and first > min(lagging):
                self.tell("trimmed_past", first=first, members=self.lagging(first), rule="C2")
            self.window.trim(first)
            self.persist(TrimLog(first))
