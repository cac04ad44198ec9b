"""C3 in the shell: rows of fetched records are those that `Topics` would have written, and reads wait for them."""

from dataclasses import replace

import pytest

from replicas.bus.backfill import Lowered, fits, index_rows, lowered_by
from replicas.bus.record_codec import decode_record
from replicas.bus.retained import refusal
from replicas.bus.rows import number_key
from ringcast.errors import Compacted, NotReady
from ringcast.wire import BACKWARD
from sequencer.messages import Backfilled, Leave
from sequencer.output import PrependRecord, TrimLog
from sequencer.types import GENESIS_CHAIN, SlotRecord
from store.contract import INDEX_TABLES
from tests.replicas.log_maker import Log
from tests.replicas.test_queries import Replica, drawn

SLOTS = [
    [("a", 2, False), ("b.c", 1, True)],
    [("a", 1, False)],
    [("b.c", 3, False), ("a", 1, False)],
    [("a", 1, True)],
    [("d", 2, False)],
]


@pytest.fixture
def replica() -> Replica:
    """Five slots, applied and saved, one of them without an applied batch."""
    log = Log()
    drawn(log, SLOTS)
    made = Replica(log)
    made.deliver(log.records)
    made.save()
    return made


def noted(replica: Replica) -> Backfilled:
    """The whole log as a peer would send it."""
    records: list[SlotRecord] = []
    for slot in range(len(SLOTS)):
        found = replica.store.read(slot)
        assert found is not None
        records.append(decode_record(found[0]))
    notes = tuple(replica.store.row("batches", number_key(record.slot)) or b"" for record in records)
    return Backfilled(0, GENESIS_CHAIN, tuple(records), notes)


def test_the_rows_are_those_that_were_written_when_it_was_applied(replica: Replica) -> None:
    message = noted(replica)
    made = [
        row for record, note in zip(message.records, message.notes, strict=True) for row in index_rows(record, note)
    ]
    written = {(table, key, value) for table in INDEX_TABLES for key, value in replica.store.rows(table)}
    assert {(row.table, row.key, row.value) for row in made} == written


def test_a_note_fits_its_record_or_the_frame_is_refused(replica: Replica) -> None:
    message = noted(replica)
    assert fits(message)
    for wrong in (message.notes[::-1], (*message.notes[:-1], b""), (message.notes[1], *message.notes[1:])):
        assert refusal(replace(message, notes=wrong)) == "backfills_refused"
    assert refusal(message) == refusal(Leave()) == ""


def test_where_reads_may_go_once_a_piece_is_durable(replica: Replica) -> None:
    message = noted(replica)
    pieces = [
        PrependRecord(record, GENESIS_CHAIN, note) for record, note in zip(message.records, message.notes, strict=True)
    ][::-1]
    assert lowered_by(pieces) == Lowered(0, 0)
    assert lowered_by(pieces[1:2]) == Lowered(3, None)
    assert lowered_by([TrimLog(3)]) is None


async def test_what_is_missing_is_another_members_to_answer(replica: Replica) -> None:
    replica.trim(2)
    below = replica.queries.compacted_below
    assert below == 3
    with pytest.raises(Compacted):
        await replica.fetch(">", 0)
    replica.queries.watch(lambda: True, lambda _: None)
    with pytest.raises(NotReady, match="filling its log, which begins at offset 3"):
        await replica.fetch(">", 0)
    with pytest.raises(NotReady):
        replica.ask("offset_at", time_us=0)
    found, _ = await replica.fetch(">", 100, BACKWARD)
    assert found.next_offset == below - 1  # and there NotReady sends the reader on
    replica.queries.watch(lambda: False, lambda _: None)
    replica.queries.lower(0)
    assert replica.queries.compacted_below == 0
