"""The newest applied batches, in memory: what subscribers ask for most, and what the index does not hold yet.

Rows of the index are written behind the deliveries (topics.py), so a batch stays here at least until its rows
are durable. Everything at or above `start` is here; everything below it is in the store's index.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from replicas.bus.topics import FeedEntry
from sequencer.errors import require

_ENTRY_BYTES = 400  # about what an entry takes beside its payload


class Recent:
    """Applied batches from `start` on, in order, about `bytes_max` bytes plus what is not durable.

    Invariants: entries are contiguous from `start` to `next_offset`; nothing at or above `durable` is dropped.
    """

    def __init__(self, next_offset: int, bytes_max: int = 32 << 20) -> None:
        self.start = next_offset
        self.next_offset = next_offset
        self._durable = next_offset
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: list[FeedEntry] = []
        self._firsts: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[FeedEntry]) -> None:
        """Append delivered batches."""
        for entry in entries:
            info = entry.info
            require(info.first_offset == self.next_offset, "batches are contiguous", info, self.next_offset)
            self.next_offset += info.messages
            self._entries.append(entry)
            self._firsts.append(info.first_offset)
            self._bytes += len(entry.packed) + _ENTRY_BYTES
        self._shrink()

    def durable(self, next_offset: int) -> None:
        """The rows of everything below `next_offset` (the end of a slot) are durable: it may be dropped."""
        self._durable = max(self._durable, next_offset)
        self._shrink()

    def forward(self, offset: int) -> Iterator[FeedEntry]:
        """Entries that hold an offset >= `offset`, oldest first; to be walked before anything is added."""
        at = max(0, bisect_right(self._firsts, offset) - 1)
        for place in range(at, len(self._entries)):
            entry = self._entries[place]
            if entry.info.first_offset + entry.info.messages > offset:
                yield entry

    def backward(self, offset: int) -> Iterator[FeedEntry]:
        """Entries whose first offset is <= `offset`, newest first; to be walked before anything is added."""
        for place in range(bisect_right(self._firsts, offset) - 1, -1, -1):
            yield self._entries[place]

    def at_or_after(self, value: int, key: Callable[[FeedEntry], int]) -> FeedEntry | None:
        """The first entry whose key is >= `value`; the key must not fall from entry to entry (slot)."""
        at = bisect_left(self._entries, value, key=key)
        return self._entries[at] if at < len(self._entries) else None

    def from_time(self, time_us: int) -> FeedEntry | None:
        """The entry behind the last one that is older; times may have been set back in between (D7)."""
        found = None
        for entry in reversed(self._entries):
            if entry.info.time_us < time_us:
                break
            found = entry
        return found

    def _shrink(self) -> None:
        """Drop the oldest durable entries, an eighth at a time: a list's head is cheap to cut in large pieces only."""
        if self._bytes <= self._bytes_max:
            return
        droppable = bisect_left(self._firsts, self._durable)
        target = self._bytes_max - self._bytes_max // 8
        count = 0
        while count < droppable and self._bytes > target:
            self._bytes -= len(self._entries[count].packed) + _ENTRY_BYTES
            count += 1
        if count:
            del self._entries[:count]
            del self._firsts[:count]
            self.start = self._firsts[0] if self._firsts else self.next_offset

    def check_invariants(self) -> None:
        """Raise InvariantError if the entries are not contiguous from `start` to `next_offset`."""
        ends = [entry.info.first_offset + entry.info.messages for entry in self._entries]
        bounds = [self.start, *ends]
        require(bounds[-1] == self.next_offset, "the newest batch ends at next_offset", bounds[-1], self.next_offset)
        require(self._firsts == bounds[:-1], "batches are contiguous", self.start)
        require(all(left < right for left, right in pairwise(bounds)), "offsets rise", self.start)
