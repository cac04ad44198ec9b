"""D6: what is checked at start, and in the background afterwards. Nothing visible is ever cut here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from store.contract import DamagedRun
from store.environment import CHAINS, LOG, STAGING
from store.errors import ChunkDamaged, RecordDamaged, RowDamaged, StoreDamaged
from store.records import Marks, damaged_runs, decode_row, key_slot
from store.snapshot import check_chunk
from store.transaction import Databases, LogView, read_staging

# A log of fewer bytes is checked whole at start: a fraction of a second.
VERIFY_ALL_BYTES: Final = 256 << 20


class Checked(NamedTuple):
    """`damaged`: slots whose record is bad or missing. `chain_rows`: chains of whole records whose chain row is bad."""

    damaged: tuple[DamagedRun, ...]
    chain_rows: tuple[tuple[int, bytes], ...]


def check_bounds(transaction: lmdb.Transaction[memoryview], databases: Databases, marks: Marks, folder: Path) -> None:
    """No row of the log may lie outside the marks: it would mean that the marks are not the newest. StoreDamaged."""
    for name in (LOG, CHAINS):
        with transaction.cursor(databases[name]) as cursor:
            for found in (cursor.first(), cursor.last()):
                if not found:
                    continue
                key = bytes(cursor.key())
                if len(key) != 8 or not marks.first <= key_slot(key) < marks.end:
                    raise StoreDamaged(
                        folder, f"row {key.hex()} of {name!r} lies outside slots [{marks.first}, {marks.end})"
                    )


def check_records(view: LogView, first: int, end: int) -> Checked:
    """Check the slots of [first, end) that are in the log."""
    damaged: list[int] = []
    chain_rows: list[tuple[int, bytes]] = []
    for slot, chain in _bad_slots(view, max(first, view.marks.first), min(end, view.marks.end)):
        if chain is None:
            damaged.append(slot)
        else:
            chain_rows.append((slot, chain))
    return Checked(damaged_runs(damaged, view.known_chain), tuple(chain_rows))


def _bad_slots(view: LogView, first: int, end: int) -> Iterator[tuple[int, bytes | None]]:
    """(slot, None) for a damaged record, (slot, chain) where only the chain row is."""
    below = view.known_chain(first - 1) if first < end else None
    for slot in range(first, end):
        row = view.chain_row(slot)
        try:
            record = view.record(slot)
        except RecordDamaged:
            yield slot, None
            below = view.known_chain(slot)
            continue
        wanted = view.marks.chain if slot == view.marks.end - 1 else row
        if (below is not None and record.previous != below) or (wanted is not None and record.chain != wanted):
            yield slot, None
        elif row != record.chain:
            yield slot, record.chain
        below = record.chain if wanted is None else wanted


def check_rows(
    transaction: lmdb.Transaction[memoryview], databases: Databases, folder: Path, tables: Iterable[str]
) -> None:
    """Raises RowDamaged for the first row that does not fit its checksum."""
    for table in tables:
        with transaction.cursor(databases[table]) as cursor:
            for key, stored in cursor:
                if decode_row(bytes(key), stored) is None:
                    raise RowDamaged(folder, table, bytes(key))


def damaged_chunks(transaction: lmdb.Transaction[memoryview], databases: Databases) -> tuple[int, ...]:
    """Indexes of staged chunks that must be fetched again."""
    staging = read_staging(transaction, databases)
    bad = []
    if staging is not None:
        with transaction.cursor(databases[STAGING]) as cursor:
            for key, data in cursor:
                try:
                    check_chunk(staging.snapshot, key_slot(key), bytes(data))
                except ChunkDamaged:
                    bad.append(key_slot(key))
    return tuple(bad)
