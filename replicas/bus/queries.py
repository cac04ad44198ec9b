"""Reads of a replica: FETCH, and the named queries of docs/wire.md ("Queries"), from memory or from the log by index.

Everything here reads what is applied; that it is applied far enough (K3) is the caller's to wait for. A long walk gives
the loop back in between, so that a reader of old data never blocks the ring.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from replicas.bus.log_index import LogIndex, Placed, Reader
from replicas.bus.recent import Recent
from replicas.bus.topics import CHECKPOINT_SLOTS, FeedEntry, Topics
from ringcast.bus.cursors import check_cursor_name
from ringcast.bus.topics import TOPIC_BYTES_MAX, is_pattern, matches
from ringcast.errors import Compacted, IllegalTopic, NotReady, Refused, UnknownQuery
from ringcast.strict import U63_MAX, Plain
from ringcast.wire import FETCHED_BATCHES_MAX, FORWARD, NO_OFFSET, Answer, BatchInfo, Fetch, Fetched, Query
from sequencer.types import SlotRecord
from store.contract import DeleteRange

#: Bounds of one answer, whatever was asked for.
ANSWER_BYTES_MAX = 4 << 20
NAMES_MAX = 16_384
CHAINS_MAX = 4_096
#: Records that one answer reads: some milliseconds of the loop.
READ_SLOTS_MAX, READ_BYTES_MAX = 256, 1 << 20
#: Slots read from the log before the loop gets its turn.
SLOTS_A_TURN = 16


class LogReader(Reader, Protocol):
    """The part of a LogStore that queries read."""

    def chain(self, slot: int) -> bytes | None:
        """chain(slot), None outside the log."""

    def bounds(self) -> tuple[int, int]:
        """(first, end) of the log."""


class _Answering:
    """One FETCH under way: what was found, and whether there is room for more."""

    def __init__(self, fetch: Fetch) -> None:
        self.pattern = fetch.pattern
        self.batches: list[BatchInfo] = []
        self.payloads: list[bytes] = []
        self._messages_left = fetch.messages_max
        self._bytes_left = min(fetch.bytes_max, ANSWER_BYTES_MAX)

    def wants(self, entry: FeedEntry) -> bool:
        """Does the pattern match?"""
        return matches(self.pattern, entry.info.topic)

    def take(self, entry: FeedEntry) -> bool:
        """Take a batch, at least the first one; False: there is no room for it."""
        size, messages = len(entry.packed), entry.info.messages
        full = size > self._bytes_left or messages > self._messages_left or len(self.batches) >= FETCHED_BATCHES_MAX
        if full and self.batches:
            return False
        self._bytes_left -= size
        self._messages_left -= messages
        self.batches.append(entry.info)
        self.payloads.append(entry.packed)
        return True


class Queries:
    """Answers reads over one replica's state. `compacted_below`: the oldest offset kept (C2).

    `status` gives what the shell knows of itself and the ring; the offsets are added here.
    """

    def __init__(
        self,
        topics: Topics,
        recent: Recent,
        store: LogReader,
        decode_record: Callable[[bytes], SlotRecord],
        status: Callable[[], Mapping[str, Plain]],
    ) -> None:
        self._topics = topics
        self._recent = recent
        self._store = store
        self._index = LogIndex(store, decode_record)
        self._status = status
        self._missing: Callable[[], bool] = lambda: False
        oldest = self._index.first_offset()
        self.compacted_below = topics.next_offset if oldest is None else oldest
        self._named: dict[str, Callable[[Mapping[str, Plain]], dict[str, Plain]]] = {
            "status": self._answer_status,
            "topics": self._answer_topics,
            "topic": self._answer_topic,
            "cursors": self._answer_cursors,
            "cursor": self._answer_cursor,
            "offset_at": self._answer_offset_at,
            "record": self._answer_record,
            "chains": self._answer_chains,
            "digests": self._answer_digests,
            "customers": self._answer_customers,
        }

    def watch(self, missing: Callable[[], bool], damaged: Callable[[int], None]) -> None:
        """`missing()`: what retention promises is not all here yet, so that another replica is asked (C3).

        `damaged(slot)`: a read met a damaged record (D6).
        """
        self._missing = missing
        self._index.damaged = damaged

    def lower(self, offset: int) -> None:
        """C3: everything from `offset` on is here now."""
        self.compacted_below = min(self.compacted_below, offset)

    # ------------------------------------------------------------------ fetch

    async def fetch(self, fetch: Fetch) -> tuple[Fetched, list[bytes]]:
        """Whole applied batches, as `Fetch` and `Fetched` say. Raises Compacted, IllegalTopic."""
        if not is_pattern(fetch.pattern):
            raise IllegalTopic(topic=fetch.pattern[: TOPIC_BYTES_MAX + 1], limit=TOPIC_BYTES_MAX)
        answer = _Answering(fetch)
        if fetch.direction == FORWARD:
            end = self._topics.next_offset
            next_offset = await self._forward(answer, fetch.offset, end)
        else:
            self._require_kept(fetch.offset)
            next_offset = await self._backward(answer, min(fetch.offset, self._topics.next_offset - 1))
            end = self._topics.next_offset
        found = Fetched(fetch.request, tuple(answer.batches), next_offset, end, self.compacted_below)
        return found, answer.payloads

    async def _forward(self, answer: _Answering, offset: int, end: int) -> int:
        """Everything that matches in [offset, end), as far as there is room; returns where to go on."""
        self._require_kept(offset)
        if offset >= end or (not answer.pattern.endswith(">") and self._topics.last_offset(answer.pattern) < offset):
            return end
        position = offset
        while position < (stop := min(self._recent.start, end)):
            slots = self._index.slots_forward(answer.pattern, self._topics.known_names, position, stop)
            for count, slot in enumerate(slots, 1):
                for _, _, _, entry in self._index.applied(slot):
                    info = entry.info
                    if info.first_offset >= stop or info.first_offset + info.messages <= position:
                        continue
                    if answer.wants(entry) and not answer.take(entry):
                        return max(offset, info.first_offset)
                if count % SLOTS_A_TURN == 0:
                    await asyncio.sleep(0)
            self._require_kept(offset)
            position = stop
        for entry in self._recent.forward(position):
            if entry.info.first_offset >= end:
                break
            if answer.wants(entry) and not answer.take(entry):
                return max(offset, entry.info.first_offset)
        return end

    async def _backward(self, answer: _Answering, offset: int) -> int:
        """Everything that matches at or below `offset`, newest first; returns where to go on, -1 at the beginning."""
        position = offset
        for entry in self._recent.backward(position):
            if entry.info.first_offset < self.compacted_below:
                return self._beginning()
            if answer.wants(entry) and not answer.take(entry):
                return entry.info.first_offset
            position = entry.info.first_offset - 1
        if position < self.compacted_below:
            return self._beginning()
        slots = self._index.slots_backward(answer.pattern, self._topics.known_names, position)
        for count, slot in enumerate(slots, 1):
            for _, _, _, entry in reversed(self._index.applied(slot)):
                if entry.info.first_offset <= position and answer.wants(entry) and not answer.take(entry):
                    return entry.info.first_offset
            if count % SLOTS_A_TURN == 0:
                await asyncio.sleep(0)
        return self._beginning()

    def _beginning(self) -> int:
        """Where a backward walk goes on that has seen all that is here: elsewhere, if more is retained (C3)."""
        return self.compacted_below - 1 if self._missing() else NO_OFFSET

    def _require_kept(self, offset: int) -> None:
        if offset >= self.compacted_below:
            return
        if self._missing():
            raise NotReady(state=f"filling its log, which begins at offset {self.compacted_below:,} so far")
        raise Compacted(offset=offset, below=self.compacted_below)

    def origin(self, first_offset: int) -> tuple[int, int] | None:
        """(slot, time) in which an applied batch was ordered; None if retention has removed it."""
        if first_offset >= self._recent.start:
            for entry in self._recent.forward(first_offset):
                return entry.info.slot, entry.info.time_us
        return self._index.origin(first_offset) if first_offset >= self.compacted_below else None

    # ------------------------------------------------------------------ retention

    def trim(self, slot: int) -> list[DeleteRange]:
        """Retention removes the slots below `slot` from the log (C2): what goes with them, and moves `compacted_below`.

        The caller owes the operations to the store, in the transaction that trims or a later one.
        """
        offset = self._index.first_offset_from(slot)
        if offset is None:
            entry = self._recent.at_or_after(slot, key=lambda entry: entry.info.slot)
            offset = self._topics.next_offset if entry is None else entry.info.first_offset
        self.compacted_below = max(self.compacted_below, offset)
        return self._index.trim(slot, offset, self._topics.known_names)

    # ------------------------------------------------------------------ named queries

    def query(self, query: Query) -> Answer:
        """The answer to a named query. Raises UnknownQuery, and Refused for arguments that are none."""
        answer = self._named.get(query.name)
        if answer is None:
            raise UnknownQuery(what="query", name=query.name)
        return Answer(query.request, answer(query.arguments), self._topics.next_offset)

    def _answer_status(self, _: Mapping[str, Plain]) -> dict[str, Plain]:
        offsets: dict[str, Plain] = {
            "applied": self._topics.applied,
            "next_offset": self._topics.next_offset,
            "compacted_below": self.compacted_below,
            "topics": len(self._topics.known_names),
            "cursors": len(self._topics.cursors()),
            "clients": len(self._topics.clients),
            "time_us": self._topics.time_us,
        }
        return {**self._status(), **offsets}

    def _answer_topics(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """`pattern`, and `after`: only names above it, to go on where `complete` was false."""
        pattern, after = arguments.get("pattern", ">"), arguments.get("after", "")
        if not isinstance(pattern, str) or not is_pattern(pattern) or not isinstance(after, str):
            raise IllegalTopic(topic=str(pattern)[: TOPIC_BYTES_MAX + 1], limit=TOPIC_BYTES_MAX)
        names = [name for name in self._topics.names() if name > after and matches(pattern, name)]
        listed = [(name, self._topics.topic(name)) for name in names[:NAMES_MAX]]
        found: list[Plain] = [(name, row.messages, row.last_offset) for name, row in listed if row is not None]
        return {"topics": found, "complete": len(names) <= NAMES_MAX}

    def _answer_topic(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        name = _text(arguments, "name")
        row = self._topics.topic(name)
        if row is None:
            raise UnknownQuery(what="topic", name=name)
        return {"name": name, **row._asdict()}

    def _answer_cursors(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """`after`: as in `topics`."""
        after = arguments.get("after", "")
        names = sorted(name for name in self._topics.cursors() if isinstance(after, str) and name > after)
        listed = [(name, self._topics.cursors()[name]) for name in names[:NAMES_MAX]]
        found: list[Plain] = [(name, row.pattern, row.offset) for name, row in listed]
        return {"cursors": found, "complete": len(names) <= NAMES_MAX}

    def _answer_cursor(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """Empty: nobody has moved it yet."""
        name = check_cursor_name(_text(arguments, "name"))
        row = self._topics.cursors().get(name)
        return {} if row is None else {"name": name, **row._asdict()}

    def _answer_offset_at(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """The first offset ordered at or after `time_us`, else the next offset."""
        time_us = max(0, _number(arguments, "time_us", low=-U63_MAX))
        offset = self._index.first_offset_at(time_us)
        if offset is None:
            entry = self._recent.from_time(time_us)
            offset = self._topics.next_offset if entry is None else entry.info.first_offset
        if self._missing() and offset <= self.compacted_below:
            self._require_kept(self.compacted_below - 1)  # what is not here yet may be younger than asked for
        return {"offset": max(offset, self.compacted_below)}

    def _answer_record(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """Who sent the message at `offset`, and where it stands: slot, view, gateway, client."""
        offset = _number(arguments, "offset")
        self._require_kept(offset)
        if offset >= self._topics.next_offset:
            raise UnknownQuery(what="message", name=str(offset))
        placed = self._placed(offset)
        if placed is None:
            raise UnknownQuery(what="message", name=str(offset))
        record, request, header, (info, _) = placed
        return {
            "offset": offset,
            "topic": info.topic,
            "slot": record.slot,
            "time_us": record.sequence.time_us,
            "view": tuple(record.sequence.view),
            "chain": record.sequence.chain,
            "sender": request.sender,
            "incarnation": tuple(request.incarnation),
            "lsn": request.lsn,
            "client": info.client,
            "sequence": header.sequence,
            "first_offset": info.first_offset,
            "messages": info.messages,
        }

    def _placed(self, offset: int) -> Placed | None:
        """The batch that holds an offset, with its record."""
        for entry in self._recent.forward(offset) if offset >= self._recent.start else ():
            return self._index.locate(entry)
        found = self._index.origin(offset)
        for placed in self._index.applied(found[0]) if found else ():
            info = placed.entry.info
            if info.first_offset <= offset < info.first_offset + info.messages:
                return placed
        return None

    def _answer_chains(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """chain(k) of the log's slots from `first` on, at most `count`: what `verify` compares (A10).

        `read`: true reads the records too, fewer at a time, and names those that are `damaged`.
        """
        first, count = _number(arguments, "first"), _number(arguments, "count", low=1)
        low, stored = self._store.bounds()
        start, end = max(first, low), min(self._topics.applied, stored)  # durability=memory applies before it stores
        stop = min(end, start + min(count, CHAINS_MAX))
        damaged: tuple[int, ...] = ()
        if arguments.get("read") is True:
            stop, damaged = self._index.check(start, min(stop, start + READ_SLOTS_MAX), READ_BYTES_MAX)
        chains = [self._store.chain(slot) for slot in range(start, stop)]
        known = b"".join(chain for chain in chains if chain is not None)
        return {"first": start, "end": end, "chains": known, "log_first": low, "next": stop, "damaged": damaged}

    def _answer_digests(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """Digests of the state: the running one at the newest checkpoint and now, the whole one if `whole` is true."""
        topics = self._topics
        checkpoint = topics.applied - topics.applied % CHECKPOINT_SLOTS
        result: dict[str, Plain] = {
            "applied": topics.applied,
            "running": topics.digest,
            "checkpoint": checkpoint,
            "running_at_checkpoint": topics.digest_at(checkpoint),
        }
        return {**result, "whole": topics.state_digest()} if arguments.get("whole") is True else result

    def _answer_customers(self, arguments: Mapping[str, Plain]) -> dict[str, Plain]:
        """What interfaces of the marketplace ask: packed `questions`, and as many `answers` (customers_commands.py)."""
        questions = arguments.get("questions")
        if type(questions) is not tuple or not all(type(one) is bytes for one in questions):
            raise Refused(reason="argument questions: expected an array of byte strings")
        answer = self._topics.customers.view.answer
        return {"answers": tuple(answer(one) for one in questions if isinstance(one, bytes))}


def _text(arguments: Mapping[str, Plain], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise Refused(reason=f"argument {name} = {value!r}: expected text")
    return value


def _number(arguments: Mapping[str, Plain], name: str, low: int = 0) -> int:
    value = arguments.get(name)
    if type(value) is not int or not low <= value <= U63_MAX:
        raise Refused(reason=f"argument {name} = {value!r}: expected an integer in {low}..{U63_MAX}")
    return value
