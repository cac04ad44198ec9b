"""Applied batches found in the store: the index tables lead to slots, the log's records hold the batches.

Only what `Recent` does not hold is looked up here. A slot's record is decoded once for all its batches and kept for a
while, since neighbours are asked for next.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from replicas.bus import rows
from replicas.bus.batches import batches_of
from replicas.bus.rows import RowError
from replicas.bus.topics import FeedEntry
from ringcast.bus.request import BatchHeader
from ringcast.bus.topics import ALL, matches
from ringcast.wire import BatchInfo
from sequencer.types import Request, SlotRecord
from store.contract import DeleteRange
from store.errors import RecordDamaged

#: A pattern with more matching topics than this is found by walking the order, not by merging topics.
_MERGED_TOPICS_MAX = 32
_CACHED_SLOTS_MAX = 16


class Reader(Protocol):
    """The part of a LogStore that is read here."""

    def read(self, slot: int) -> tuple[bytes, bytes] | None:
        """(record, chain) of a slot; None outside the log."""

    def row(self, table: str, key: bytes) -> bytes | None:
        """One row."""

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end."""


class Placed(NamedTuple):
    """An applied batch with where it stands: its record, the request that carried it, and its header."""

    record: SlotRecord
    request: Request
    header: BatchHeader
    entry: FeedEntry


class LogIndex:
    """Reads the index tables and the log of one store. All calls are synchronous and short; walks are iterators."""

    def __init__(self, store: Reader, decode_record: Callable[[bytes], SlotRecord]) -> None:
        self._store = store
        self._decode_record = decode_record
        self._cache: OrderedDict[int, tuple[Placed, ...]] = OrderedDict()
        self.damaged: Callable[[int], None] = lambda _: None  # told of a slot whose record is damaged (D6)

    def forget(self) -> None:
        """The log was replaced by a snapshot."""
        self._cache.clear()

    def first_offset(self) -> int | None:
        """The oldest offset in the index; None if it is empty."""
        for key, _ in self._store.rows("offsets", limit=1):
            return rows.key_number(key)
        return None

    def first_offset_from(self, slot: int) -> int | None:
        """The first offset of the applied batches at or above `slot`; None if the index holds none."""
        for _, value in self._store.rows("batches", rows.number_key(slot)):
            for verdict in rows.read_verdicts(value):
                if verdict.verdict == rows.APPLIED:
                    return verdict.first_offset
        return None

    def first_offset_at(self, time_us: int) -> int | None:
        """The first offset of the first slot at or after a time; None if the index holds none."""
        for _, value in self._store.rows("times", rows.time_key(time_us), limit=1):
            return rows.key_number(value)
        return None

    def origin(self, offset: int) -> tuple[int, int] | None:
        """(slot, time) of the slot that holds an offset; None if it is below the index or above it."""
        below = self._store.rows("offsets", end=rows.number_key(offset + 1), reverse=True, limit=1)
        return next((rows.read_pair(value) for _, value in below), None)

    def applied(self, slot: int) -> tuple[Placed, ...]:
        """The applied batches of a slot, in order; none if the slot is trimmed. Raises RowError, BadFrame."""
        found = self._cache.get(slot)
        if found is None:
            found = self._cache[slot] = self._read(slot)
            if len(self._cache) > _CACHED_SLOTS_MAX:
                self._cache.popitem(last=False)
        return found

    def _stored(self, slot: int) -> tuple[bytes, bytes] | None:
        """The store's record; raises RecordDamaged, and says so to whoever repairs."""
        try:
            return self._store.read(slot)
        except RecordDamaged:
            self.damaged(slot)
            raise

    def check(self, first: int, end: int, bytes_max: int) -> tuple[int, tuple[int, ...]]:
        """Read the records of [first, end) up to a size: where it stopped, and the slots whose record is damaged."""
        damaged, size, slot = [], 0, first
        while slot < end and size <= bytes_max:
            try:
                stored = self._stored(slot)
                size += len(stored[0]) if stored is not None else 0
            except RecordDamaged:
                damaged.append(slot)
            slot += 1
        return slot, tuple(damaged)

    def locate(self, entry: FeedEntry) -> Placed | None:
        """The record and request of a batch that is known; for slots whose rows are not written yet."""
        stored = self._stored(entry.info.slot)
        if stored is None:
            return None
        record = self._decode_record(stored[0])
        for request in record.requests:
            for header, packed in batches_of(request):
                if header.client == entry.info.client and packed == entry.packed:
                    return Placed(record, request, header, entry)
        return None

    def _read(self, slot: int) -> tuple[Placed, ...]:
        stored = self._stored(slot)
        key = rows.number_key(slot)
        value = self._store.row("batches", key)
        if stored is None or value is None:
            return ()
        record = self._decode_record(stored[0])
        verdicts = rows.read_verdicts(value)
        carried = [(request, *batch) for request in record.requests for batch in batches_of(request)]
        if len(verdicts) != len(carried):
            raise RowError("batches", key, f"{len(verdicts)} verdicts for {len(carried)} batches")
        found = []
        for (request, header, packed), verdict in zip(carried, verdicts, strict=True):
            if verdict.verdict == rows.APPLIED:
                time_us = record.sequence.time_us
                info = BatchInfo(
                    header.topic, verdict.first_offset, verdict.messages, verdict.previous, time_us, header.client, slot
                )
                found.append(Placed(record, request, header, FeedEntry(info, packed)))
        return tuple(found)

    def slots_forward(self, pattern: str, topics: Iterable[str], offset: int, stop: int) -> Iterator[int]:
        """Slots that may hold a matching batch with an offset in [offset, stop), ascending, each once.

        The first may lie just below. `topics`: the names that there are.
        """
        names = _few_matching(pattern, topics)
        if names is None:
            start = self._key_at("offsets", b"", rows.number_key(offset + 1)) or rows.number_key(offset)
            found = self._store.rows("offsets", start, rows.number_key(stop))
            return (rows.read_pair(value)[0] for _, value in found)
        return _each_once(heapq.merge(*(self._topic_forward(name, offset, stop) for name in names)))

    def slots_backward(self, pattern: str, topics: Iterable[str], offset: int) -> Iterator[int]:
        """Slots that may hold a matching batch whose first offset is <= `offset`, descending, each once."""
        names = _few_matching(pattern, topics)
        if names is None:
            found = self._store.rows("offsets", end=rows.number_key(offset + 1), reverse=True)
            return (rows.read_pair(value)[0] for _, value in found)
        return _each_once(heapq.merge(*(self._topic_backward(name, offset) for name in names), reverse=True))

    def _topic_forward(self, topic: str, offset: int, stop: int) -> Iterator[int]:
        lowest = rows.topic_key(topic)
        start = self._key_at("topic_index", lowest, rows.topic_key(topic, offset + 1)) or lowest
        for _, value in self._store.rows("topic_index", start, rows.topic_key(topic, stop)):
            yield rows.key_number(value)

    def _topic_backward(self, topic: str, offset: int) -> Iterator[int]:
        end = rows.topic_key(topic, offset + 1)
        for _, value in self._store.rows("topic_index", rows.topic_key(topic), end, reverse=True):
            yield rows.key_number(value)

    def _key_at(self, table: str, start: bytes, end: bytes) -> bytes | None:
        """The last key of a table in [start, end): the row that holds what `end` comes after."""
        return next((key for key, _ in self._store.rows(table, start, end, reverse=True, limit=1)), None)

    def trim(self, slot: int, offset: int, topics: Iterable[str]) -> list[DeleteRange]:
        """What goes with the slots below `slot` when retention removes them (C2); `offset` is the first one kept."""
        ranges = [
            DeleteRange("offsets", b"", rows.number_key(offset)),
            DeleteRange("batches", b"", rows.number_key(slot)),
        ]
        kept = self._first_time_of(offset)
        if kept is not None:
            ranges.append(DeleteRange("times", b"", kept))
        ranges += [DeleteRange("topic_index", rows.topic_key(name), rows.topic_key(name, offset)) for name in topics]
        return ranges

    def _first_time_of(self, offset: int) -> bytes | None:
        """The key of `times` that leads to what is kept from `offset` on; None: leave them all.

        A slot whose time was ahead when the ring's time was set back has no row of its own (D7): one for all of them
        stands at the time of the reset.
        """
        origin = self._store.row("offsets", rows.number_key(offset))
        if origin is None:
            return None
        kept_slot, time_us = rows.read_pair(origin)
        key = rows.time_key(time_us, kept_slot)
        return key if self._store.row("times", key) is not None else None


def _few_matching(pattern: str, topics: Iterable[str]) -> list[str] | None:
    """The topics that a pattern matches, or None if they are so many that walking the order is cheaper."""
    if pattern == ALL:
        return None
    if not pattern.endswith(">"):
        return [pattern]
    names = [name for name in topics if matches(pattern, name)]
    return names if len(names) <= _MERGED_TOPICS_MAX else None


def _each_once(slots: Iterable[int]) -> Iterator[int]:
    last = -1
    for slot in slots:
        if slot != last:
            yield slot
        last = slot
