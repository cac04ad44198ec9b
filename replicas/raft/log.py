"""The log as a node sees it: its ends, its terms by runs, the newest entries in memory, the rest on disk."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from replicas.raft.seams import Store
from sequencer.errors import require
from store.raft_contract import Base, Entry, Kind, Members, Recovered
from store.raft_members import decode_members


class Log:
    """Entries (base.index, last]. The disk follows: `durable` is the last one that is synced as it stands here.

    base.index <= applied <= commit <= last; durable <= last. `applied` is what was handed to the state machine.
    """

    def __init__(self, recovered: Recovered, store: Store, cache_bytes_max: int) -> None:
        self._store = store
        self._cache_bytes_max = cache_bytes_max
        self.base = recovered.base
        self.last = self.durable = recovered.last
        self.commit = self.applied = recovered.applied
        self._runs = list(recovered.terms)
        self._changes = [(entry.index, decode_members(entry.data)) for entry in recovered.members]
        self._cache: deque[Entry] = deque()  # consecutive, ends at `last`; all that is not durable is in it
        self._cache_bytes = 0
        self._syncing: deque[tuple[int, int]] = deque()  # (ticket, the last index that it makes durable)

    # -------------------------------------------------------------- reading

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or of the base; None outside of both."""
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last:
            return None
        return self._runs[self._run(index)][1]

    def _run(self, index: int) -> int:
        return bisect_right(self._runs, index, key=lambda run: run[0]) - 1

    @property
    def last_term(self) -> int:
        """The term of the last entry, or of the base."""
        return self._runs[-1][1] if self._runs else self.base.term

    def first_of_term(self, index: int) -> int:
        """Where the run of the term at an index of the log begins."""
        return self._runs[self._run(index)][0]

    def last_of_term(self, term: int) -> int | None:
        """The last index with a term; None if the log has none."""
        place = bisect_right(self._runs, term, key=lambda run: run[1]) - 1
        if place < 0 or self._runs[place][1] != term:
            return None
        return self._runs[place + 1][0] - 1 if place + 1 < len(self._runs) else self.last

    def entries(self, first: int, bytes_max: int, end: int | None = None) -> Sequence[Entry]:
        """Entries of [first, end): at least one if there is one, the rest as far as `bytes_max` reaches."""
        end = self.last + 1 if end is None else end
        if first >= end:
            return ()
        cached = self.last - len(self._cache) + 1
        if first < cached:
            return self._store.entries(first, min(end, cached), bytes_max)
        found: list[Entry] = []
        size = 0
        for entry in islice(self._cache, first - cached, end - cached):
            size += entry.size_bytes
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    # -------------------------------------------------------------- members

    @property
    def members(self) -> Members:
        """The newest configuration of the log, committed or not (thesis 4.1)."""
        return self._changes[-1][1] if self._changes else self.base.members

    @property
    def committed_members(self) -> Members:
        """The newest configuration that is known to be committed."""
        return next((members for at, members in reversed(self._changes) if at <= self.commit), self.base.members)

    @property
    def members_index(self) -> int:
        """Where that one stands."""
        return self._changes[-1][0] if self._changes else self.base.index

    def base_at(self, index: int) -> Base:
        """What the log would stand on if it were trimmed up to an index of it."""
        term = self.term_at(index)
        require(term is not None, "R15: a base outside of the log", index)
        members = self.base.members
        for at, configuration in self._changes:
            if at <= index:
                members = configuration
        return Base(index, term or 0, members)

    # -------------------------------------------------------------- writing

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries after the last one."""
        for entry in entries:
            require(entry.index == self.last + 1, "R11: a gap in the log", entry.index, self.last)
            require(entry.term >= self.last_term, "R10: terms fall", entry.term, self.last_term)
            if entry.term != self.last_term or not self._runs:
                self._runs.append((entry.index, entry.term))
            if entry.kind is Kind.MEMBERS:
                self._changes.append((entry.index, decode_members(entry.data)))
            self._cache.append(entry)
            self._cache_bytes += entry.size_bytes
            self.last = entry.index

    def cut(self, first: int) -> None:
        """Drop every entry from `first` on. R9: never one that is committed."""
        require(first > self.commit, "R9: a cut of committed entries", first, self.commit)
        while self._cache and self._cache[-1].index >= first:
            self._cache_bytes -= self._cache.pop().size_bytes
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        while self._changes and self._changes[-1][0] >= first:
            self._changes.pop()
        self.last = first - 1
        self.durable = min(self.durable, self.last)
        self._syncing = deque((ticket, min(last, self.last)) for ticket, last in self._syncing)

    def trim(self, base: Base) -> None:
        """Drop every entry up to the base, which is applied."""
        require(base.index <= self.applied, "R15: trimmed before it was applied", base.index, self.applied)
        self._runs = [(max(first, base.index + 1), term) for first, term in self._runs[self._run(base.index + 1) :]]
        if base.index == self.last:
            self._runs.clear()
        self._changes = [change for change in self._changes if change[0] > base.index]
        while self._cache and self._cache[0].index <= base.index:
            self._cache_bytes -= self._cache.popleft().size_bytes
        self.base = base

    def restart(self, base: Base) -> None:
        """A snapshot takes the place of everything; it holds what is committed here (R15)."""
        require(base.index > self.commit, "R15: an older snapshot", base.index, self.commit)
        self.durable = min(self.durable, self.commit)  # until the install is
        self.base = base
        self.last = self.commit = self.applied = base.index
        self._runs.clear()
        self._changes.clear()
        self._cache.clear()
        self._cache_bytes = 0
        self._syncing = deque((ticket, 0) for ticket, _ in self._syncing)

    def refill(self, base: Base) -> None:
        """R24: the state is another's at `base`, which is in the log; what follows it there is applied again."""
        require(self.base.index <= base.index <= self.commit, "R24: a state outside of the log", base.index)
        self.applied = base.index

    # -------------------------------------------------------------- the disk

    def submitted(self, ticket: int) -> None:
        """The log as it stands is part of this ticket, or of one before."""
        self._syncing.append((ticket, self.last))

    def synced(self, ticket: int) -> None:
        """The ticket is durable; what is, need not stay in memory."""
        while self._syncing and self._syncing[0][0] <= ticket:
            self.durable = max(self.durable, self._syncing.popleft()[1])
        kept_from = min(self.durable, self.applied)
        while self._cache and self._cache_bytes > self._cache_bytes_max and self._cache[0].index <= kept_from:
            self._cache_bytes -= self._cache.popleft().size_bytes
