"""The shell's part of C3: rows that come with fetched records, what reads see of them, and damage that reads meet."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

import structlog

from replicas.bus.backfill import Lowered, fits, lowered_by, rows_of
from replicas.bus.disk import Disk, operation_of
from replicas.bus.machine import Machine
from replicas.bus.queries import Queries
from sequencer import output as o
from sequencer.core import Core
from sequencer.messages import Backfilled, Message, SnapshotChunk
from sequencer.types import DamagedRun
from store.contract import DamagedRun as StoredRun
from store.contract import LogStore, Operation
from store.errors import ChunkDamaged, StoreError
from store.snapshot import check_chunk


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
        """Damaged records of a log that is in use: the core has them repaired from a peer."""
        if found := tuple(DamagedRun(*run) for run in runs):
            self._shell.feed_event(o.DamageFound(found))
