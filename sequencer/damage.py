"""D6: a member whose visible records are damaged repairs them from peers' records with the same chain.

Until then it takes no part. What no peer can repair is replaced by the install of a newer view, made without its
promise; damage below what is applied can't be cut, so such a member starts over as a wiped one.
"""

from sequencer.chain import extend
from sequencer.messages import Fetch, Records
from sequencer.output import CutLog, RepairRecord, ResetDisk, ServeRecords
from sequencer.retransmission import holds_what_it_names
from sequencer.types import GENESIS_CHAIN, NO_VIEW, SlotRecord, View
from sequencer.view_change import ViewChange

REPAIR_ROUNDS = 3  # every heard member is asked so often before a damaged prefix is given up


class Damage(ViewChange):
    """Repair, or replacement by a view that needs nothing of ours."""

    def init_damage(self) -> None:
        """Per-instance containers."""
        self.repaired: list[SlotRecord] = []
        self.repair_attempt = 0

    def take_view(self, sender: int, view: View) -> None:
        """D6: only a view that was made without our promise replaces what is damaged; repair comes first."""
        if not self.damage or self.installing is not None:
            super().take_view(sender, view)
        elif view.number > self.stable.promised and self.repair_attempt >= REPAIR_ROUNDS * len(self.others):
            self.rule("D6")
            if self.damage[0].first < self.window.base:
                self.start_over()
            else:
                super().take_view(sender, view)

    def begin_install(self, view: View) -> None:
        """What is damaged is replaced by what the view chose.

        The cut is durable long before the install is: `wiped` goes into the same transaction, so that a crash in
        between can't leave a shorter log that looks whole. The install's last transaction ends it (V7).
        """
        if self.damage:
            self.save_stable(promised=view.number, wiped=True)
            self.persist(CutLog(self.window.end))
        super().begin_install(view)

    def start_over(self) -> None:
        """The damage lies in the committed prefix and nobody repairs it: empty the disk and come back as wiped (V0)."""
        self.window.reset(0, GENESIS_CHAIN, 0, ())
        self.commit = self.delivered = 0
        self.persist(ResetDisk())
        self.become_wiped(self.stable.incarnation)

    def on_repair_timer(self) -> None:
        """Ask the members in turn for the first damaged run."""
        if not self.damage:
            return
        self.set_timer("repair", self.config.fetch_interval_ms)
        heard = [member for member in self.others if self.is_heard(member)]
        if heard and self.installing is None:
            run = self.damage[0]
            first = run.first + len(self.repaired)
            chain = self.repaired[-1].sequence.chain if self.repaired else run.chain_before
            to = heard[self.repair_attempt % len(heard)]
            self.repair_attempt += 1
            self.send(to, Fetch(NO_VIEW, first, run.last + 1, chain, repair=True))

    def on_fetch(self, sender: int, message: Fetch) -> None:
        """Serve a repair from whatever has the same chain: only the chain decides (D6)."""
        if not message.repair:
            super().on_fetch(sender, message)
            return
        if self.damage or self.opening or message.first < self.window.first:
            return
        if message.first < self.window.base:
            end = min(message.end, self.window.base)
            self.out.serves.append(ServeRecords(sender, NO_VIEW, message.first, end, repair=True, chain=message.chain))
        elif self.window.chain(message.first - 1) == message.chain:
            records = self.window.records(message.first, message.end, self.config.retransmit_bytes_max)
            if records:
                self.send(sender, Records(NO_VIEW, message.first, records, repair=True))

    def on_records(self, sender: int, message: Records) -> None:
        """D6: a peer's records are taken for a damaged run only if they link the chain before it to the one after."""
        if not message.repair:
            super().on_records(sender, message)
            return
        if not self.damage or self.installing is not None:
            return
        run = self.damage[0]
        for record in message.records:
            sequence = record.sequence
            chain = self.repaired[-1].sequence.chain if self.repaired else run.chain_before
            if sequence.slot != run.first + len(self.repaired) or sequence.slot > run.last:
                continue
            linked = extend(chain, sequence.view, sequence.slot, sequence.time_us, sequence.entries)
            if linked != sequence.chain or not holds_what_it_names(sequence.entries, record.requests):
                return
            self.repaired.append(record)
        if len(self.repaired) == run.last - run.first + 1:
            self.finish_repair()

    def finish_repair(self) -> None:
        """The run is complete: write it if the chain after it is the one that was stored here."""
        run, repaired = self.damage[0], self.repaired
        self.repaired = []
        if repaired[-1].sequence.chain != run.chain_after:
            self.tell("repair_refused", first=run.first, last=run.last)
            return
        self.rule("D6")
        previous = run.chain_before
        for record in repaired:
            self.persist(RepairRecord(record, previous))
            previous = record.sequence.chain
        self.tell("records_repaired", first=run.first, last=run.last)
        if len(self.damage) > 1:
            self.damage = self.damage[1:]
            self.set_timer("repair", 1)
        else:
            self.stop_timer("repair")
            self.when_durable(self.ask_restart)
