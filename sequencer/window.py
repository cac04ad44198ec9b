"""The tail of the log in memory, and the A2 table that follows from it.

The window holds every slot that is not known to be committed and delivered, and a bounded number below it for
retransmission. What lies below the window is committed, so it never changes and the shell can read it from disk.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from sequencer.chain import extend
from sequencer.configuration import after
from sequencer.errors import require
from sequencer.types import FOUNDERS, Configuration, Ordered, Sequence, SlotRecord

Undo = tuple[tuple[int, Ordered | None], ...]


class LogWindow:
    """Slots [base, end) in memory; slots [first, base) are on disk only; slots below `first` are trimmed.

    Invariants: first <= base <= end; records are contiguous; `senders` is the A2 table after slot end - 1, and
    `configuration` the configuration there (V12).
    """

    def __init__(
        self,
        first: int,
        base: int,
        chain: bytes,
        time_us: int,
        senders: Mapping[int, Ordered],
        configuration: Configuration = FOUNDERS,
    ) -> None:
        self.configuration = configuration
        self._changes: dict[int, tuple[Configuration, Configuration]] = {}  # slot in the window -> before, after
        self.first = first
        self.base = base
        self.size = 0
        self.senders: dict[int, Ordered] = dict(senders)
        self._before = (chain, time_us)  # chain and time of slot base - 1
        self._records: deque[SlotRecord] = deque()
        self._undo: deque[Undo] = deque()

    @property
    def end(self) -> int:
        """The next slot."""
        return self.base + len(self._records)

    @property
    def time_us(self) -> int:
        """The time of the last slot."""
        return self._records[-1].sequence.time_us if self._records else self._before[1]

    def chain(self, slot: int) -> bytes | None:
        """chain(slot) for base - 1 <= slot < end, else None."""
        if slot == self.base - 1:
            return self._before[0]
        if self.base <= slot < self.end:
            return self._records[slot - self.base].sequence.chain
        return None

    @property
    def end_chain(self) -> bytes:
        """chain(end - 1)."""
        return self._records[-1].sequence.chain if self._records else self._before[0]

    def record(self, slot: int) -> SlotRecord:
        """The record of a slot within [base, end)."""
        return self._records[slot - self.base]

    def records(self, first: int, end: int, bytes_max: int | None = None) -> tuple[SlotRecord, ...]:
        """Records [first, end) cut to the window; with `bytes_max` at least one and no more than fit."""
        first, end = max(first, self.base), min(end, self.end)
        if bytes_max is None:
            return tuple([self._records[slot - self.base] for slot in range(first, end)])
        taken: list[SlotRecord] = []
        total = 0
        for slot in range(first, end):
            record = self._records[slot - self.base]
            total += record.size
            if taken and total > bytes_max:
                break
            taken.append(record)
        return tuple(taken)

    def links(self, sequence: Sequence) -> bool:
        """A10: does this SEQUENCE extend the log by the next slot?"""
        return sequence.slot == self.end and sequence.chain == extend(
            self.end_chain, sequence.view, sequence.slot, sequence.time_us, sequence.entries
        )

    def append(self, record: SlotRecord) -> None:
        """Append the record of slot `end` and move the A2 table on."""
        require(record.slot == self.end, "records are contiguous (D1)", record.slot, self.end)
        undo = []
        for entry in record.sequence.entries:
            undo.append((entry.sender, self.senders.get(entry.sender)))
            self.senders[entry.sender] = Ordered(entry.incarnation, entry.last_lsn)
        before, self.configuration = self.configuration, after(self.configuration, record)
        if self.configuration is not before:
            self._changes[record.slot] = (before, self.configuration)
        self._records.append(record)
        self._undo.append(tuple(undo))
        self.size += record.size

    def cut(self, end: int) -> list[SlotRecord]:
        """Drop every slot >= end, newest first; A2 table and configuration go back too. Returns what was dropped."""
        require(end >= self.base, "a cut never reaches below the window (V7)", end, self.base)
        dropped = []
        while self.end > end:
            record = self._records.pop()
            for sender, ordered in reversed(self._undo.pop()):
                if ordered is None:
                    del self.senders[sender]
                else:
                    self.senders[sender] = ordered
            if record.slot in self._changes:
                self.configuration, _ = self._changes.pop(record.slot)
            self.size -= record.size
            dropped.append(record)
        return dropped

    def forget(self, below: int, slots_max: int, bytes_max: int) -> None:
        """Drop from memory what is below `below` (delivered) and more than the window's limits."""
        while self._records and self.base < below and (len(self._records) > slots_max or self.size > bytes_max):
            record = self._records.popleft()
            self._undo.popleft()
            self._changes.pop(record.slot, None)
            self._before = (record.sequence.chain, record.sequence.time_us)
            self.base += 1
            self.size -= record.size

    def trim(self, first: int) -> None:
        """The disk's log begins at `first` now (C2), and so does the window if it reached below."""
        require(self.first <= first <= self.end, "a trim moves the log's first slot forward", first, self.first)
        self.forget(first, 0, -1)
        self.first = first

    def extend_down(self, first: int) -> None:
        """The disk's log begins lower: records were put before its first one (C3)."""
        require(0 <= first <= self.first, "records are put before the log's first slot", first, self.first)
        self.first = first

    def changed_at(self, slot: int) -> Configuration | None:
        """The configuration that a slot of the window made, if a change took effect there (V12)."""
        change = self._changes.get(slot)
        return change[1] if change else None

    def reset(
        self,
        slot: int,
        chain: bytes,
        time_us: int,
        senders: Iterable[tuple[int, Ordered]],
        configuration: Configuration = FOUNDERS,
    ) -> None:
        """A snapshot replaced the log: it is empty and begins at `slot` (C1)."""
        self.__init__(slot, slot, chain, time_us, dict(senders), configuration)  # type: ignore[misc]
