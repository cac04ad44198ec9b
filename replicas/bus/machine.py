"""Where the state machine lives in a process: deliveries in, verdicts and the feed out, its rows to the disk (K1).

Rows join a ticket of the core's at most each ROWS_INTERVAL_S, since no reply waits for them (they are a function of the
log, which is synced), and go alone when the ring is quiet, since the index and a restart are better for them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from broker.feed import Feed
from broker.gateway import AppliedBatch, Gateway, RefusedBatch
from replicas.bus.agreement import Agreement
from replicas.bus.disk import Disk
from replicas.bus.queries import Queries
from replicas.bus.recent import Recent
from replicas.bus.record_codec import decode_record
from replicas.bus.topics import Delivery, Topics
from ringcast.bus.topics import CUSTOMERS_TOPIC
from ringcast.strict import Plain
from sequencer.types import SlotRecord
from store.contract import Operation

ROWS_INTERVAL_S = 0.02
ROWS_ALONE_S = 0.1


class Machine:
    """The topics of one log, from one position on; a new log (snapshot, reset) gets a new one. `close` it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        disk: Disk,
        topics: Topics,
        member: int,
        status: Callable[[], Mapping[str, Plain]],
        agreement: Agreement | None = None,
    ) -> None:
        self.topics = topics
        self.recent = Recent(topics.next_offset)
        self.queries = Queries(topics, self.recent, disk.store, decode_record, status)
        self._loop = loop
        self._disk = disk
        self._member = member
        self._agreement = agreement
        self._saved_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -------------------------------------------------------------- deliveries

    def deliver(self, records: Sequence[SlotRecord], gateway: Gateway | None, feed: Feed | None) -> int:
        """Apply slots; replies and feed frames leave after it. Returns the messages. Raises InvariantError."""
        before, delivery = self.topics.applied, self.topics.deliver(records)
        self.recent.add(delivery.feed)
        if gateway is not None:
            gateway.delivered(self._applied(delivery, gateway), self._refused(delivery))
        if feed is not None:
            # Commands are for their state machine alone.
            public = [entry for entry in delivery.feed if entry.info.topic != CUSTOMERS_TOPIC]
            feed.publish(public, self.topics.next_offset)
        if self._agreement is not None:
            self._agreement.delivered(self.topics, before, delivery.feed)
        if self._timer is None:
            self._timer = self._loop.call_later(ROWS_ALONE_S, self._save_alone)
        return sum(entry.info.messages for entry in delivery.feed)

    def _applied(self, delivery: Delivery, gateway: Gateway) -> list[AppliedBatch]:
        """The receipts; a repeated batch gets the slot and time of the first (K1), looked up only if someone waits."""
        found: list[AppliedBatch] = []
        for client, sequence, first, messages, slot, time_us, repeated, answers in delivery.receipts:
            origin = None
            if repeated:
                gateway.counters["deduplicated"] += 1
                origin = self.queries.origin(first) if gateway.waits_for(client, sequence) else None
            found.append((client, sequence, first, messages, *(origin or (slot, time_us)), answers))
        return found

    def _refused(self, delivery: Delivery) -> list[RefusedBatch]:
        """Refusals of what this gateway submitted; another's copy of the same batch may still be applied."""
        refusals = delivery.refusals
        return [
            (client, sequence, error, last) for who, client, sequence, error, last in refusals if who == self._member
        ]

    # -------------------------------------------------------------- rows

    def due_rows(self) -> list[Operation]:
        """Rows for the ticket that is submitted next, if it is time for some."""
        return self.rows() if self._loop.time() - self._saved_at >= ROWS_INTERVAL_S else []

    def rows(self) -> list[Operation]:
        """Every unsaved row; the caller submits them in this turn."""
        self._saved_at = self._loop.time()
        if not self.topics.unsaved_slots:
            return []
        found, next_offset = self.topics.take_rows(), self.topics.next_offset
        customers = self.topics.customers.rows
        takes = customers.takes

        def durable() -> None:
            self.recent.durable(next_offset)
            customers.durable(takes)

        self._loop.call_soon(self._disk.after, durable)
        return list(found)

    def _save_alone(self) -> None:
        self._timer = None
        if self._loop.time() - self._saved_at < ROWS_INTERVAL_S:
            self._timer = self._loop.call_later(ROWS_ALONE_S, self._save_alone)
        else:
            self.save()

    def save(self) -> None:
        """Submit every unsaved row now."""
        if self.topics.unsaved_slots:
            self._disk.submit(0, self.rows())

    def close(self) -> None:
        """No row leaves by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
