"""Rows of the index for records that come without their verdicts: put below the log, or written again (C3, D6).

A record does not say which of its batches were applied, and at which offset: that is a verdict of the state machine,
which stood elsewhere by then. So a peer sends the row `batches` of the slot along, as its *note*. Like the state in a
snapshot (C1) it is the peer's word; what can be checked is that it fits the record.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from replicas.bus import rows
from replicas.bus.batches import batches_of
from ringcast.bus.request import BatchHeader
from sequencer.messages import Backfilled
from sequencer.output import Persist, PrependRecord, RepairRecord
from sequencer.types import SlotRecord
from store.contract import PutRow


class Lowered(NamedTuple):
    """Where the log begins once a ticket is durable, and the lowest offset that it brings; None: no batch of it was
    applied."""

    slot: int
    offset: int | None


def headers_of(record: SlotRecord) -> list[BatchHeader]:
    """The headers of the batches that a slot carries, in the order of their verdicts."""
    return [header for request in record.requests for header, _ in batches_of(request)]


def fits(message: Backfilled) -> bool:
    """Each note holds as many verdicts as its record has batches, and applied batches follow each other's offsets."""
    expected: int | None = None
    for record, note in zip(message.records, message.notes, strict=True):
        headers = headers_of(record)
        if len(note) != rows.VERDICT_BYTES * len(headers):
            return False
        for header, verdict in zip(headers, rows.read_verdicts(note), strict=True):
            if verdict.verdict != rows.APPLIED:
                continue
            if verdict.messages != header.messages or (expected or verdict.first_offset) != verdict.first_offset:
                return False
            expected = verdict.first_offset + verdict.messages
    return True


def index_rows(record: SlotRecord, note: bytes) -> Iterator[PutRow]:
    """What `Topics` would have written for the slot."""
    if not note:
        return
    slot, time_us = record.slot, record.sequence.time_us
    yield PutRow("batches", rows.number_key(slot), note)
    first: int | None = None
    for header, verdict in zip(headers_of(record), rows.read_verdicts(note), strict=True):
        if verdict.verdict == rows.APPLIED:
            first = verdict.first_offset if first is None else first
            yield PutRow("topic_index", rows.topic_key(header.topic, verdict.first_offset), rows.number_key(slot))
    if first is not None:
        yield PutRow("offsets", rows.number_key(first), rows.pack_pair(slot, time_us))
        yield PutRow("times", rows.time_key(time_us, slot), rows.number_key(first))


def rows_of(persist: Persist) -> Iterator[PutRow]:
    """The rows that go with an instruction of the core."""
    if isinstance(persist, PrependRecord) or (isinstance(persist, RepairRecord) and persist.note is not None):
        yield from index_rows(persist.record, persist.note or b"")


def lowered_by(persists: Sequence[Persist]) -> Lowered | None:
    """Where the log begins after these; None if they put nothing below it."""
    prepends = [persist for persist in persists if isinstance(persist, PrependRecord)]
    if not prepends:
        return None
    offsets = (
        verdict.first_offset
        for prepend in prepends
        for verdict in rows.read_verdicts(prepend.note)
        if verdict.verdict == rows.APPLIED
    )
    return Lowered(prepends[-1].record.slot, min(offsets, default=None))
