"""The scrub of what the state machine keeps: rows of its tables, and snapshot files (D6).

A damaged snapshot file is deleted, and a new one is made: an asker gets a chunk that fits its checksum or none. A
damaged row makes the folder worthless as a whole: the member sets it aside and comes back through its peers, as one
that finds the same at its start, but only while a quorum stays without it. Members go one after the other, by id.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from replicas.bus.shell import Shell
from replicas.bus.standing import can_spare
from replicas.scrubber import Part, Scrubber, Step
from store.contract import TABLES
from store.errors import StoreError
from store.folder import cluster_in

ROWS, SNAPSHOTS = "rows", "snapshots"
LOOK_INTERVAL_S = 0.5
#: Of two members that find damage at once the second one looks again after the first is wiped, and is not spared.
TURN_S = 5.0


class StateScrub:
    """One replica's. `run` it; `scrubber` is set by whoever makes it of these and other parts."""

    def __init__(self, shell: Shell, make_snapshot: Callable[[], Awaitable[object]], turn_s: float = TURN_S) -> None:
        self.scrubber: Scrubber | None = None
        self._shell = shell
        self._make_snapshot = make_snapshot
        self._turn_s = turn_s
        self._row = ""  # a damaged one, until the folder is set aside
        self._row_s = 0.0  # when it was found
        self._file = ""  # a damaged one, until there is a new one

    def parts(self) -> tuple[Part, Part]:
        """What is read from end to end; the store is another one after a restart of the core."""
        return (
            Part(ROWS, self._read_rows, self._table_bytes, self.row_damaged),
            Part(SNAPSHOTS, self._read_files, self._file_bytes, self._file_damaged),
        )

    def _read_rows(self) -> Iterator[Step]:
        store = self._shell.store
        for table in TABLES:
            for size, damaged in store.scrub_rows(table):
                yield Step(size, damaged)

    def _read_files(self) -> Iterator[Step]:
        for size, damaged in self._shell.store.scrub_snapshots():
            yield Step(size, damaged)

    def _table_bytes(self) -> int:
        return self._shell.store.table_bytes()

    def _file_bytes(self) -> int:
        return sum(file.size_bytes for file in self._shell.store.snapshots())

    # -------------------------------------------------------------- damage

    def met(self, why: str) -> None:
        """A read or a snapshot met a damaged row."""
        if self.scrubber is not None:
            self.scrubber.damage(ROWS, why)

    def row_damaged(self, why: str) -> None:
        """For the scrubber."""
        self._row, self._row_s = why, time.monotonic()

    def _file_damaged(self, name: str) -> None:
        self._shell.store.drop_snapshot(name)
        self._file = name

    async def run(self) -> None:
        """Until cancelled: mend what can be mended now."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            await self.mend()

    async def mend(self) -> None:
        """A new snapshot in the place of a bad one; a folder that is set aside."""
        if self._row and self._may_start_over():
            why, self._row = self._row, ""
            self._shell.start_over(why)
        if self._file and not self._row and not self._shell.disk.full:
            try:
                await self._make_snapshot()
            except StoreError as error:
                self._shell.log.warning("snapshot_failed", why=str(error))
            else:
                self._file = ""
                if self.scrubber is not None:
                    self.scrubber.again()

    def _may_start_over(self) -> bool:
        shell = self._shell
        core = shell.core
        turn_s = core.members.index(core.me) * self._turn_s if core.me in core.members else 0.0
        named = shell.cluster() != 0 and cluster_in(shell.config.data) == shell.cluster()
        return named and core.takes_part and can_spare(core) and time.monotonic() - self._row_s >= turn_s
