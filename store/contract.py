"""What a store takes and gives: operations in, recovered state and reads out. Both backends keep it to the letter.

Slots are counted from 0. `end` is the number of slots, so the next slot; `first` is the oldest one kept;
0 <= first <= end. chain(k) is 16 opaque bytes; chain(-1) is `NO_CHAIN`. A *record* is opaque to the store.

Names of tables are fixed here: the state tables travel in snapshots (C1), the index tables are derived from the log
and do not. Keys of rows are 1..`KEY_BYTES_MAX` bytes, ordered bytewise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

CHAIN_BYTES: Final = 16
NO_CHAIN: Final = bytes(CHAIN_BYTES)
KEY_BYTES_MAX: Final = 511  # LMDB's limit

STATE_TABLES: Final = ("clients", "topics", "cursors", "meta", "customers")
INDEX_TABLES: Final = ("offsets", "batches", "topic_index", "times")
TABLES: Final = STATE_TABLES + INDEX_TABLES

# Row of table "meta" that says at which slot the state tables stand: `u64be(next slot to apply)`. It is written in
# the same batch as the rows it speaks of (K1); a snapshot takes its slot from it, in its own read transaction (C1).
APPLIED_KEY: Final = b"applied"


class Append(NamedTuple):
    """The record of slot `end` (D1). `previous` is chain(slot - 1). `parts` are joined on disk behind a checksum."""

    slot: int
    chain: bytes
    previous: bytes
    parts: tuple[bytes, ...]


class Repair(NamedTuple):
    """Write a damaged slot again; only with the chain that is known for it (D6).

    Where several neighbours are damaged the higher slots come first: each record tells the chain of the one below.
    """

    slot: int
    chain: bytes
    previous: bytes
    parts: tuple[bytes, ...]


class Prepend(NamedTuple):
    """The record of slot first - 1, put before the log's first one (C3). `chain` = chain(first - 1), which is known."""

    slot: int
    chain: bytes
    previous: bytes
    parts: tuple[bytes, ...]


class Truncate(NamedTuple):
    """Drop every slot >= `end`, the cut of a view change (V7). first <= `end`; nothing to do when it is not below."""

    end: int


class TrimLog(NamedTuple):
    """Drop every slot < `first`, retention (C2). `first` <= end; nothing to do when it is not above the present one."""

    first: int


class SaveStable(NamedTuple):
    """The member's own state, whole (D3). It never travels and no other operation touches it."""

    value: bytes


class PutRow(NamedTuple):
    """Set one row of a table; value None deletes it."""

    table: str
    key: bytes
    value: bytes | None


class DeleteRange(NamedTuple):
    """Delete the rows of a table with start <= key < end; `end` None: to the last one."""

    table: str
    start: bytes
    end: bytes | None


class FoldRange(NamedTuple):
    """Of the rows of a table with a key from `start` on only the first stays, with `to` in place of its key's first
    bytes: an index by time after the ring's time was set back (D7)."""

    table: str
    start: bytes
    to: bytes


@dataclass(frozen=True, slots=True)  # a tuple has a method of the name `index`
class StageChunk:
    """Keep a received snapshot chunk, checked with `check_chunk` before. One of another snapshot drops the staging."""

    snapshot: str
    index: int
    data: bytes


class DropStaging(NamedTuple):
    """Forget all staged chunks."""


class UseSnapshot(NamedTuple):
    """One durable switch (C1): the log is empty and begins at `slot` with chain(slot - 1) = `chain`, the state tables
    are the staged ones, the index tables are empty, the staging is gone. The stable state is untouched."""

    snapshot: str
    slot: int
    chain: bytes


class ResetLog(NamedTuple):
    """Empty log, state, index and staging: a wiped member starts over (V0). The stable state is untouched."""


Operation = (
    Append
    | Repair
    | Prepend
    | Truncate
    | TrimLog
    | SaveStable
    | PutRow
    | DeleteRange
    | FoldRange
    | StageChunk
    | DropStaging
    | UseSnapshot
    | ResetLog
)


class DamagedRun(NamedTuple):
    """Slots first..last (both included) whose records are bad or missing although they were visible (D6).

    `chain_before` = chain(first - 1), `chain_after` = chain(last): a peer's records must link the two.
    """

    first: int
    last: int
    chain_before: bytes
    chain_after: bytes


class Recovered(NamedTuple):
    """What the folder says at start.

    `stable` is None if none was ever saved, and if it is damaged. Slots [`verified_from`, end) were checked; call
    `verify(first, verified_from)` for the rest in the background (A10).
    """

    stable: bytes | None
    stable_damaged: bool
    first: int
    end: int
    end_chain: bytes
    damaged: tuple[DamagedRun, ...]
    clean_stop: bool
    verified_from: int


class SnapshotFile(NamedTuple):
    """A snapshot of the state tables at `slot` (every slot below is applied); `chain` = chain(slot - 1)."""

    name: str
    slot: int
    chain: bytes
    chunks: int
    size_bytes: int


class FileSize(NamedTuple):
    """A database file: its bytes, and those of pages in it that hold nothing. It never shrinks (`ringcast compact`)."""

    size_bytes: int
    free_bytes: int


class Staging(NamedTuple):
    """The snapshot being received, and the chunks of it that are durable: a restart resumes there (C1)."""

    snapshot: str
    chunks: frozenset[int]


class LogStore(Protocol):
    """The ordered log, the stable state and the tables of one member.

    `commit` and `mark_clean_stop` are called by one thread only (the writer's), `journal` by one other. Reads may come
    from any thread and see whole batches. After `close()` everything raises `StoreClosed`.
    """

    def recover(self) -> Recovered:
        """Open, check, and erase the clean-stop mark durably (D2, D6). Called once, before anything else.

        Raises FolderInUse, WrongFolder, StoreDamaged, DiskFull, DiskFailed. Nothing visible is ever cut.
        """

    def commit(self, operations: Sequence[Operation]) -> None:
        """Carry out all operations, in order, in one synced transaction: all of them or none (D1, D2).

        Raises StoreMisuse and ChunkDamaged (refused whole, the store goes on), DiskFull (refused whole, the store goes
        on when there is space), DiskFailed (and so does every later call, D5).
        """

    def journal(self, appends: Sequence[Append]) -> bool:
        """Make a few small records durable faster than `commit` does; False: nothing was done, `commit` them (D1).

        They are read like any others from now on. Only rows of tables may be under way in `commit` meanwhile, since
        those may become durable before or after. Raises StoreMisuse; DiskFailed (and so does every later call, D5).
        """

    def read(self, slot: int) -> tuple[bytes, bytes] | None:
        """(record, chain) of a slot, checked; None outside [first, end). Raises RecordDamaged."""

    def read_range(self, first: int, end: int, bytes_max: int) -> list[tuple[int, bytes, bytes]]:
        """(slot, record, chain) from `first` on: at least one, then as many as fit in `bytes_max`, none at `end`.

        Empty if `first` is outside the log. Stops before a damaged record; raises RecordDamaged if it is the first.
        """

    def chain(self, slot: int) -> bytes | None:
        """chain(slot) for log first - 1 <= slot < log end, also of a damaged record where it is known; else None."""

    def bounds(self) -> tuple[int, int]:
        """(first, end) of the log."""

    def verify(self, first: int, end: int) -> tuple[DamagedRun, ...]:
        """Check the records of [first, end): checksums, links, contiguity. Any thread; slow by design."""

    def row(self, table: str, key: bytes) -> bytes | None:
        """The value of one row. Raises RowDamaged."""

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) with start <= key < end, in key order or against it.

        Read in pages: each page is consistent, rows written between two pages may show. Raises RowDamaged.
        """

    def make_snapshot(self, chunk_bytes: int) -> SnapshotFile:
        """Write the state tables, at one instant, into a new snapshot file; any thread, one call at a time (C1).

        Raises StoreMisuse if `APPLIED_KEY` is not there, DiskFull, DiskFailed (the store itself goes on).
        """

    def snapshots(self) -> tuple[SnapshotFile, ...]:
        """The snapshots that can be served, newest first."""

    def read_chunk(self, snapshot: str, index: int) -> bytes:
        """One chunk as it travels. Raises SnapshotGone, ChunkDamaged."""

    def drop_snapshot(self, name: str) -> None:
        """Delete a file that is damaged; nothing happens if it is gone."""

    def scrub_rows(self, table: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Read a table from end to end, holding no transaction between two steps: (bytes, what is damaged).

        Raises StoreClosed.
        """

    def scrub_snapshots(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The same of the snapshot files, by their names."""

    def table_bytes(self) -> int:
        """Bytes that the tables take on disk."""

    def staging(self) -> Staging | None:
        """What was received so far of a snapshot."""

    def log_bytes(self) -> int:
        """Bytes that the log takes on disk: what a trim of all of it would free (retention goes by it, C2)."""

    def file_size(self) -> FileSize:
        """The database file."""

    def record_bytes(self, first: int, slots_max: int) -> list[int]:
        """Bytes on disk of each slot from `first` on, at most `slots_max`; what the journal alone has is left out."""

    def keep_reserve(self) -> None:
        """Set a little space aside for a full disk, if there is plenty of it and none is set aside."""

    def release_reserve(self) -> None:
        """Give it back: for what is about to free more."""

    def mark_clean_stop(self) -> None:
        """Say durably that this stop was orderly (D2). Nothing is committed after it."""

    def close(self) -> None:
        """Give everything back. Not a clean stop by itself."""


def payload_bytes(operation: Operation) -> int:
    """About what an operation adds to a transaction, in bytes."""
    match operation:
        case Append() | Repair() | Prepend():
            return 64 + sum(map(len, operation.parts))
        case PutRow():
            return 64 + len(operation.key) + len(operation.value or b"")
        case SaveStable():
            return 64 + len(operation.value)
        case StageChunk():
            return 64 + len(operation.data)
        case _:
            return 64
