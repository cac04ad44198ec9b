"""Frames of C3, and what is only passed on: records that leave as the bytes that the log holds.

Decoding is strict, as in peer_codec.py, whose table names what stands here.
"""

from typing import Any, NamedTuple

from replicas.bus.parts import array, binary, each, flag, number, numbers
from replicas.bus.payloads import RECORDS_MAX, Payload, PayloadReader, pack_bodies, pack_records
from ringcast.strict import Plain, bad
from sequencer import messages as m
from sequencer.types import ViewNumber


class StoredRecords(NamedTuple):
    """RECORDS whose records are the log's own bytes: what is only passed on need not be taken apart."""

    view: ViewNumber
    first: int
    bodies: tuple[bytes, ...]
    repair: bool
    more: bool
    committed: int


class StoredRetransmit(NamedTuple):
    """RETRANSMIT of nothing but records, as above."""

    view: ViewNumber
    bodies: tuple[bytes, ...]


class StoredBackfilled(NamedTuple):
    """BACKFILLED, as above."""

    first: int
    before: bytes
    bodies: tuple[bytes, ...]
    notes: tuple[bytes, ...]


StoredMessage = StoredRecords | StoredRetransmit | StoredBackfilled


def pack_backfilled(message: m.Backfilled, payload: Payload) -> tuple[Plain, ...]:
    """BACKFILLED."""
    return (message.first, message.before, message.notes, pack_records(message.records, payload))


def pack_stored_backfilled(message: StoredBackfilled, payload: Payload) -> tuple[Plain, ...]:
    """The same, of bytes."""
    return (message.first, message.before, message.notes, pack_bodies(message.bodies, payload))


def read_holdings(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Holdings:
    """HOLDINGS."""
    first, whole, ask = array("HOLDINGS", fields, 3)
    return m.Holdings(number("a slot", first), flag("whole", whole), flag("ask", ask))


def read_backfill(fields: tuple[Any, ...], _frames: PayloadReader) -> m.Backfill:
    """BACKFILL."""
    below, chain, first = array("BACKFILL", fields, 3)
    numbers("a backfill", (first, below), 2)
    if below <= first:
        bad("a backfill", (first, below), "first < below")
    return m.Backfill(below, binary("a chain", chain), first)


def _read_note(value: Any) -> bytes:
    if type(value) is not bytes:
        bad("a note", value, "bytes")
    return value


def read_backfilled(fields: tuple[Any, ...], frames: PayloadReader) -> m.Backfilled:
    """BACKFILLED."""
    first, before, notes, records = array("BACKFILLED", fields, 4)
    found = m.Backfilled(
        number("a slot", first),
        binary("a chain", before),
        frames.records(records),
        each("the notes", notes, RECORDS_MAX, _read_note),
    )
    if len(found.notes) != len(found.records):
        bad("the notes", len(found.notes), f"as many as the {len(found.records)} records")
    return found
