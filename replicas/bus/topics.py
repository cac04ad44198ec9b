"""The topics state machine: what the ordered log means. Pure; the same on every member, a function of the log alone.

For each delivered slot it judges every client batch (K1), gives offsets to the applied ones, keeps topics and cursors,
and says what goes to subscribers and to clients. Offsets exist for applied batches only; feed, fetch and replay serve
nothing else.

Rows are gathered, not written at once: `take_rows()` gives everything that changed since the last call, with the
position it belongs to, for one transaction (K1). They need no sync before a reply leaves, since the log is synced:
after a restart the core delivers again from the position that the rows name.

A request that can't be decoded, a topic that is none and a cursor operation that is none can stand in the log if a
gateway was broken: they are ignored, the same way by every member.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from replicas.bus import rows
from replicas.bus.batches import batches_of, cursor_operations, messages_of
from replicas.bus.rows import CursorRow, Position, TopicRow
from replicas.customers.machine import Customers
from replicas.customers.rows import RowReader
from ringcast.bus.cursors import COMMIT, DELETE, CursorOperation
from ringcast.bus.request import BatchHeader
from ringcast.bus.topics import CURSORS_TOPIC, CUSTOMERS_TOPIC, TOPIC_BYTES_MAX, is_topic
from ringcast.errors import (
    AlreadyApplied,
    IdReused,
    IllegalTopic,
    RingcastError,
    SequenceGap,
    SessionExpired,
    TooLarge,
)
from ringcast.wire import NO_OFFSET, BatchInfo
from sequencer import clients
from sequencer.clients import ClientBounds, ClientTable, Verdict
from sequencer.configuration import after
from sequencer.errors import require
from sequencer.types import FOUNDERS, GENESIS_CHAIN, Configuration, Ordered, SlotRecord
from store.contract import FoldRange, PutRow

_NO_DIGEST: Final = bytes(16)
#: Every so many slots the running digest is kept, for comparing members (docs/faults.md 56).
CHECKPOINT_SLOTS: Final = 1_024
_CHECKPOINTS_KEPT: Final = 64

Rows = Callable[[str], Iterable[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class TopicBounds:
    """Bounds of the state; verdicts depend on them, so they are the same on all members (K1)."""

    clients: ClientBounds = field(default_factory=ClientBounds)
    topics_max: int = 100_000
    cursors_max: int = 100_000


class FeedEntry(NamedTuple):
    """One applied batch, for subscribers."""

    info: BatchInfo
    packed: bytes


class Receipt(NamedTuple):
    """An applied batch, for its client. `repeated`: it was applied before, and slot and time are those of the
    repetition: the original ones stand in the index (`offsets`). `answers`: of a state machine behind the topic."""

    client: bytes
    sequence: int
    first_offset: int
    messages: int
    slot: int
    time_us: int
    repeated: bool = False
    answers: tuple[bytes, ...] = ()


class Refusal(NamedTuple):
    """A batch that was not applied. `last`: the last applied sequence of its client for a gap, else -1.

    `sender`: the member whose gateway submitted it. The same batch may come again through another gateway, so only the
    one that submitted it passes a refusal on.
    """

    sender: int
    client: bytes
    sequence: int
    error: RingcastError
    last: int = -1


@dataclass(slots=True)
class Delivery:
    """What some slots said: entries for the feed, and the verdicts for those who wait for them, in log order."""

    feed: list[FeedEntry] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class _Topic:
    """The state of one topic, as `TopicRow`."""

    __slots__ = TopicRow._fields

    def __init__(self, row: TopicRow) -> None:
        self.first_offset, self.last_offset, self.messages, self.batches, self.size_bytes, self.time_us = row

    def row(self) -> TopicRow:
        return TopicRow(self.first_offset, self.last_offset, self.messages, self.batches, self.size_bytes, self.time_us)


class Topics:
    """The state after some slot; `deliver` moves it on. Make it with `load`."""

    def __init__(self, bounds: TopicBounds | None = None, store: RowReader | None = None) -> None:
        self.bounds = bounds or TopicBounds()
        self.customers = Customers(store)
        self.clients = ClientTable(self.bounds.clients)
        self._topics: dict[str, _Topic] = {}
        self._cursors: dict[str, CursorRow] = {}
        self._senders: dict[int, Ordered] = {}
        self._configuration = FOUNDERS
        self._applied = 0
        self._time_us = 0
        self._chain = GENESIS_CHAIN
        self._digest = _NO_DIGEST
        self._checkpoints: dict[int, bytes] = {}
        self._changed_topics: set[str] = set()
        self._changed_cursors: set[str] = set()
        self._index_rows: list[PutRow | FoldRange] = []
        self._unsaved_slots = 0

    @classmethod
    def load(cls, bounds: TopicBounds, read: Rows, store: RowReader | None = None) -> "Topics":
        """The state that the tables of a store hold, at start or after a snapshot; `read(table)` gives its rows.

        Customers are not read but left in `store`. Raises RowError.
        """
        topics = cls(bounds, store)
        meta = dict(read("meta"))
        if rows.APPLIED_KEY not in meta:
            return topics
        topics._applied = rows.key_number(meta[rows.APPLIED_KEY])
        position = rows.read_position(meta[rows.POSITION_KEY])
        topics._time_us, topics._chain, topics._digest = position.time_us, position.chain, position.digest
        topics._senders = rows.read_senders(meta[rows.SENDERS_KEY])
        if rows.MEMBERS_KEY in meta:
            topics._configuration = rows.read_members(meta[rows.MEMBERS_KEY])
        topics.clients = ClientTable.load(
            bounds.clients,
            (position.horizon, position.next_offset),
            {key: rows.read_client(key, value) for key, value in read("clients")},
        )
        topics._topics = {key.decode(): _Topic(rows.read_topic(key, value)) for key, value in read("topics")}
        topics._cursors = {key.decode(): rows.read_cursor(key, value) for key, value in read("cursors")}
        return topics

    # -------------------------------------------------------------- what the state says

    @property
    def applied(self) -> int:
        """The next slot to apply."""
        return self._applied

    @property
    def next_offset(self) -> int:
        """Everything below this offset is delivered here."""
        return self.clients.next_offset

    @property
    def time_us(self) -> int:
        """The time of the last applied slot, 0 before the first."""
        return self._time_us

    @property
    def chain(self) -> bytes:
        """chain(applied - 1)."""
        return self._chain

    @property
    def senders(self) -> Mapping[int, Ordered]:
        """The A2 table at `applied`."""
        return self._senders

    @property
    def configuration(self) -> Configuration:
        """The members and their info (addresses) at `applied`; FOUNDERS before the first change (V12)."""
        return self._configuration

    @property
    def unsaved_slots(self) -> int:
        """Slots applied since the last `take_rows`."""
        return self._unsaved_slots

    @property
    def digest(self) -> bytes:
        """The running digest over every verdict and cursor change up to `applied`; 16 bytes, equal on equal members."""
        return self._digest

    def digest_at(self, slot: int) -> bytes | None:
        """The running digest after the slots below `slot`, a recent multiple of CHECKPOINT_SLOTS or `applied`."""
        return self._digest if slot == self._applied else self._checkpoints.get(slot)

    @property
    def known_names(self) -> Collection[str]:
        """All topics, in no order; a view that changes with the state."""
        return self._topics.keys()

    def names(self) -> list[str]:
        """All topics, sorted."""
        return sorted(self._topics)

    def topic(self, name: str) -> TopicRow | None:
        """What is kept of a topic; None if nothing was ever applied to it."""
        topic = self._topics.get(name)
        return topic.row() if topic else None

    def last_offset(self, name: str) -> int:
        """The last offset of a topic, -1 if it has none."""
        topic = self._topics.get(name)
        return topic.last_offset if topic else NO_OFFSET

    def cursors(self) -> Mapping[str, CursorRow]:
        """All cursors by name. Not to be changed."""
        return self._cursors

    # -------------------------------------------------------------- delivery

    def deliver(self, records: Iterable[SlotRecord]) -> Delivery:
        """Apply slots, in order and without a hole from `applied` on. Raises InvariantError if they are not."""
        delivery = Delivery()
        for record in records:
            require(record.slot == self._applied, "slots are applied in order", record.slot, self._applied)
            self._apply(record, delivery)
        return delivery

    def _apply(self, record: SlotRecord, delivery: Delivery) -> None:
        sequence, slot = record.sequence, record.slot
        first = self.clients.next_offset
        for entry in sequence.entries:
            self._senders[entry.sender] = Ordered(entry.incarnation, entry.last_lsn)
        verdicts: list[bytes] = []
        changes: list[bytes] = []
        for request in record.requests:
            for header, packed in batches_of(request):
                verdicts.append(self._judge(record, request.sender, header, packed, changes, delivery))
        before, self._configuration = self._configuration, after(self._configuration, record)
        if self._configuration is not before:
            changes.append(rows.pack_members(self._configuration))
        index = self._index_rows
        if sequence.time_us < self._time_us:  # an operator set the ring's time back (D7): now what was later is as late
            index.append(FoldRange("times", rows.time_key(sequence.time_us + 1), rows.number_key(sequence.time_us)))
        joined = b"".join(verdicts)
        if verdicts:
            index.append(PutRow("batches", rows.number_key(slot), joined))
        if self.clients.next_offset > first:
            index.append(PutRow("offsets", rows.number_key(first), rows.pack_pair(slot, sequence.time_us)))
            index.append(PutRow("times", rows.time_key(sequence.time_us, slot), rows.number_key(first)))
        self._digest = hashlib.blake2b(b"".join((self._digest, joined, *changes)), digest_size=16).digest()
        self._applied = slot + 1
        self._time_us = sequence.time_us
        self._chain = sequence.chain
        self._unsaved_slots += 1
        if self._applied % CHECKPOINT_SLOTS == 0:
            self._checkpoints[self._applied] = self._digest
            self._checkpoints.pop(self._applied - _CHECKPOINTS_KEPT * CHECKPOINT_SLOTS, None)

    def _judge(
        self,
        record: SlotRecord,
        sender: int,
        header: BatchHeader,
        packed: bytes,
        changes: list[bytes],
        delivery: Delivery,
    ) -> bytes:
        """The verdict of one batch (K1), what it changes, and its entry of the `batches` row."""
        slot, time_us = record.slot, record.sequence.time_us
        name, client, sequence, count, opened, _, digest = header
        topic = self._topics.get(name)
        operations: list[CursorOperation] = []
        error: RingcastError | None = None
        if topic is None:
            error = self._refuses_topic(name)
        if error is None and name == CURSORS_TOPIC:
            operations = cursor_operations(packed, count)
            # Not out of its turn: a batch before it may delete a cursor. Topics are never fewer, so a new one that is
            # refused out of its turn would be refused in it.
            if sequence == self.clients.last(client) + 1:
                error = self._refuses_cursors(operations)
        if error is not None:
            delivery.refusals.append(Refusal(sender, client, sequence, error))
            return rows.pack_verdict(rows.REFUSED, -1, count, NO_OFFSET)
        verdict = self.clients.apply(slot, client, sequence, count, opened, digest)
        if type(verdict) is not clients.Applied:
            return self._not_applied(record, sender, header, packed, verdict, delivery)
        first = verdict.first_offset
        last = first + count - 1
        if topic is None:
            previous = NO_OFFSET
            self._topics[name] = _Topic(TopicRow(first, last, count, 1, len(packed), time_us))
        else:
            previous = topic.last_offset
            topic.last_offset = last
            topic.messages += count
            topic.batches += 1
            topic.size_bytes += len(packed)
            topic.time_us = time_us
        self._changed_topics.add(name)
        self._index_rows.append(PutRow("topic_index", rows.topic_key(name, first), rows.number_key(slot)))
        delivery.feed.append(FeedEntry(BatchInfo(name, first, count, previous, time_us, client, slot), packed))
        answers = self.customers.apply(first, time_us, messages_of(packed, count)) if name == CUSTOMERS_TOPIC else ()
        changes += answers
        delivery.receipts.append(Receipt(client, sequence, first, count, slot, time_us, answers=answers))
        changes += [self._change_cursor(operation, first, slot, time_us) for operation in operations]
        return rows.pack_verdict(rows.APPLIED, first, count, previous)

    def _not_applied(
        self,
        record: SlotRecord,
        sender: int,
        header: BatchHeader,
        packed: bytes,
        verdict: Verdict,
        delivery: Delivery,
    ) -> bytes:
        name, client, sequence, count, opened, _, _ = header
        first, last = -1, -1
        error: RingcastError
        match verdict:
            case clients.Repeated(first_offset, known):
                slot, time_us = record.slot, record.sequence.time_us
                answers = self.customers.recall(messages_of(packed, count)) if name == CUSTOMERS_TOPIC else ()
                receipt = Receipt(client, sequence, first_offset, known, slot, time_us, repeated=True, answers=answers)
                delivery.receipts.append(receipt)
                return rows.pack_verdict(rows.REPEATED, first_offset, known, NO_OFFSET)
            case clients.Gap(last_applied):
                code, first, last = rows.GAP, last_applied, last_applied
                error = SequenceGap(sequence=sequence, last=last_applied)
            case clients.AlreadyApplied():
                code = rows.ALREADY_APPLIED
                error = AlreadyApplied(sequence=sequence, remembered=self.bounds.clients.remembered_max)
            case clients.IdReused():
                code = rows.ID_REUSED
                error = IdReused(sequence=sequence, client=client.hex())
            case _:
                code = rows.SESSION_EXPIRED
                error = SessionExpired(client=client.hex(), opened=opened, horizon=self.clients.horizon)
        delivery.refusals.append(Refusal(sender, client, sequence, error, last))
        return rows.pack_verdict(code, first, count, NO_OFFSET)

    def _refuses_topic(self, name: str) -> RingcastError | None:
        """The gateway refuses bad names too; this one is for the log's sake."""
        if not is_topic(name):
            return IllegalTopic(topic=name, limit=TOPIC_BYTES_MAX)
        if len(self._topics) >= self.bounds.topics_max and name != CURSORS_TOPIC:
            limit = self.bounds.topics_max
            return TooLarge(what="the number of topics", size=limit + 1, limit=limit, unit="topics")
        return None

    def _refuses_cursors(self, operations: list[CursorOperation]) -> RingcastError | None:
        new = {operation.name for operation in operations if operation.operation != DELETE} - self._cursors.keys()
        size, limit = len(self._cursors) + len(new), self.bounds.cursors_max
        if new and size > limit:
            return TooLarge(what="the number of cursors", size=size, limit=limit, unit="cursors")
        return None

    def _change_cursor(self, operation: CursorOperation, first: int, slot: int, time_us: int) -> bytes:
        """One cursor operation of the batch at offset `first`; nobody can have done what is not delivered yet."""
        kind, name, pattern, offset = operation
        offset = min(offset, first)
        old = self._cursors.get(name)
        self._changed_cursors.add(name)
        if kind == DELETE:
            self._cursors.pop(name, None)
            return b"-" + name.encode()
        if kind == COMMIT and old is not None:
            offset = max(offset, old.offset)
        new = self._cursors[name] = CursorRow(pattern, offset, slot, time_us)
        return b"+" + name.encode() + rows.pack_cursor(new)

    # -------------------------------------------------------------- persistence

    def take_rows(self) -> list[PutRow | FoldRange]:
        """Every row that changed since the last call, for one transaction; the caller now owes them to the store."""
        if not self._unsaved_slots:
            return []
        changes = self.clients.take_changes()
        taken = self._index_rows + self.customers.take_rows()
        taken += [PutRow("clients", client, rows.pack_client(row)) for client, row in changes.rows.items()]
        taken += [PutRow("clients", client, None) for client in changes.dropped]
        changed = sorted(self._changed_topics)
        taken += [PutRow("topics", name.encode(), rows.pack_topic(self._topics[name].row())) for name in changed]
        for name in sorted(self._changed_cursors):
            cursor = self._cursors.get(name)
            value = rows.pack_cursor(cursor) if cursor else None
            taken.append(PutRow("cursors", name.encode(), value))
        position = Position(*changes.meta, self._time_us, self._chain, self._digest)
        taken.append(PutRow("meta", rows.POSITION_KEY, rows.pack_position(position)))
        taken.append(PutRow("meta", rows.SENDERS_KEY, rows.pack_senders(self._senders)))
        if self._configuration is not FOUNDERS:
            taken.append(PutRow("meta", rows.MEMBERS_KEY, rows.pack_members(self._configuration)))
        taken.append(PutRow("meta", rows.APPLIED_KEY, rows.number_key(self._applied)))
        self._index_rows = []
        self._changed_topics.clear()
        self._changed_cursors.clear()
        self._unsaved_slots = 0
        return taken

    def state_digest(self) -> bytes:
        """A digest over the whole state at `applied`, 16 bytes: equal on members that applied the same slots.

        Walks everything; `digest` is the cheap one.
        """
        whole = hashlib.blake2b(digest_size=16)
        for client, row in self.clients.rows():
            whole.update(client + rows.pack_client(row))
        for name in self.names():
            whole.update(name.encode() + b"\x00" + rows.pack_topic(self._topics[name].row()))
        for name in sorted(self._cursors):
            whole.update(name.encode() + b"\x00" + rows.pack_cursor(self._cursors[name]))
        position = Position(*self.clients.meta, self._time_us, self._chain, self._digest)
        whole.update(rows.pack_position(position) + rows.pack_senders(self._senders) + rows.number_key(self._applied))
        whole.update(rows.pack_members(self._configuration) + self.customers.state_digest())
        return whole.digest()
