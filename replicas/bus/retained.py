"""The shell's part of C3: rows that come with fetched records, what reads see of them, and damage that reads meet."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import structlog

from replicas.bus.backfill import Lowered, fits, lowered_by, rows_of
from replicas.bus.disk import Disk, operation_of
from replicas.bus.machine import Machine
from replicas.bus.queries import Queries
from replicas.bus.rows import number_key
from replicas.scrubber import STEP_BYTES, Part, Scrubber, Step
from ringcast.strict import Plain
from sequencer import output as o
from sequencer.core import Core
from sequencer.messages import Backfilled, Message, SnapshotChunk
from sequencer.types import DamagedRun
from store.contract import DamagedRun as StoredRun
from store.contract import LogStore, Operation
from store.errors import ChunkDamaged, RowDamaged, StoreError
from store.snapshot import check_chunk

#: Of the scrub.
PART = "log"


class Shell(Protocol):
    """What is used here of the shell; after a restart of the core all parts are others."""

    store: LogStore
    disk: Disk
    core: Core

    @property
    def machine(self) -> Machine:
        """The state machine."""

    def feed_event(self, event: o.Event) -> None:
        """Something happened."""


def named(run: StoredRun) -> str:
    """As the scrub names it."""
    return f"slot {run.first}" if run.first == run.last else f"slots {run.first} to {run.last}"


def refusal(message: Message) -> str:
    """Why a peer's frame is not for the core, as the name of its counter; empty if it is."""
    if isinstance(message, SnapshotChunk):
        try:
            check_chunk(message.snapshot, message.index, message.data)
        except ChunkDamaged:
            return "chunks_damaged"
    return "backfills_refused" if isinstance(message, Backfilled) and not fits(message) else ""


class RetainedLog:
    """One shell's; on its loop."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._log = structlog.get_logger()
        self.scrubber: Scrubber | None = None
        self._runs: dict[str, StoredRun] = {}  # damaged, by the name that the scrub knows them by
        self._met: set[int] = set()  # damaged slots whose run is being looked for
        self._tasks: set[asyncio.Task[None]] = set()

    def operations(self, persists: Sequence[o.Persist]) -> list[Operation]:
        """What the store is to do; rows of the index go where the log goes."""
        operations: list[Operation] = []
        for persist in persists:
            if isinstance(persist, o.TrimLog):
                operations += self._shell.machine.queries.trim(persist.first)
            operations.append(operation_of(persist))
            if isinstance(persist, o.PrependRecord | o.RepairRecord):
                operations += rows_of(persist)
        return operations

    def submitted(self, persists: Sequence[o.Persist]) -> None:
        """C3: once the disk has records below the log, reads may go there."""
        if lowered := lowered_by(persists):
            self._shell.disk.after(partial(self._lower, self._shell.machine.queries, lowered))

    def _lower(self, queries: Queries, lowered: Lowered) -> None:
        if (
            lowered.slot >= self._shell.core.window.first and lowered.offset is not None
        ):  # else it was trimmed meanwhile
            queries.lower(lowered.offset)

    def missing(self) -> bool:
        """C3: what retention promises is not all here."""
        return not self._shell.core.filled

    # -------------------------------------------------------------- damage (D6)

    def damage_met(self, slot: int) -> None:
        """A read met a record that does not fit its checksum: find the whole run, and have it repaired."""
        if slot not in self._met:
            self._met.add(slot)
            task = asyncio.get_running_loop().create_task(self._find(self._shell.store, slot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _find(self, store: LogStore, slot: int) -> None:
        try:
            self.damage_found(await asyncio.to_thread(store.verify, slot, slot + 1))
        except StoreError as error:
            self._log.warning("damage_not_found", slot=slot, why=str(error))
        finally:
            self._met.discard(slot)

    def damage_found(self, runs: Iterable[StoredRun]) -> None:
        """Damaged records of a log that is in use: named until they are whole again, and repaired from a peer."""
        for run in runs:
            self._runs[named(run)] = run
            if self.scrubber is None:
                self._repair(named(run))
            else:
                self.scrubber.damage(PART, named(run))

    def _repair(self, name: str) -> None:
        if name in self._runs:  # else it is a row of the index
            self._shell.feed_event(o.DamageFound((DamagedRun(*self._runs[name]),)))

    def tell(self, fact: o.Fact) -> None:
        """Records were repaired."""
        if fact.name != "records_repaired" or self.scrubber is None:
            return
        for name, run in tuple(self._runs.items()):
            if fact.fields["first"] <= run.first and run.last <= fact.fields["last"]:  # type: ignore[operator]
                del self._runs[name]
                self.scrubber.mended(PART, name)

    # -------------------------------------------------------------- the scrub (A10)

    def part(self) -> Part:
        """The log's records, and the verdicts that the index keeps of them."""
        return Part(PART, self._steps, self._bytes, self._repair)

    def _bytes(self) -> int:
        return self._shell.store.log_bytes()

    def _steps(self) -> Iterator[Step]:
        store = self._shell.store
        first, end = store.bounds()
        slot_bytes = max(1, store.log_bytes() // max(1, end - first))
        while first < end:
            until = min(end, first + max(1, STEP_BYTES // slot_bytes))
            names = []
            for run in store.verify(first, until):
                self._runs[named(run)] = run
                names.append(named(run))
            try:
                for _ in store.rows("batches", number_key(first), number_key(until)):
                    pass
            except RowDamaged as error:
                names.append(f"row {error.key.hex()} of {error.table!r}")
            yield Step((until - first) * slot_bytes, tuple(names))
            first = until

    @property
    def scrub_status(self) -> Plain:
        """For `status`."""
        return {} if self.scrubber is None else self.scrubber.status()
