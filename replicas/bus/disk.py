"""The shell's side of the disk: what the core persists becomes operations of the store, tickets come back as events.

A trim on a full disk goes before all that waits for space (C2, D5): it deletes what is durable and delivered.

The writer numbers its own tickets, since rows of the state machine travel without a ticket of the core's: they join the
next one, and go alone only when somebody waits for them or the ring is quiet (K1: no reply waits for them).

A small ticket of records that finds no other ticket of the core's on its way to the disk is written to the store's
journal on the loop (D1): one flush, and no thread to meet. It may overtake rows: those are a function of the log.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from replicas.bus.record_codec import encode_record, encode_state
from sequencer import output as o
from store import contract as c
from store.contract import Append, LogStore, Operation, payload_bytes
from store.errors import DiskFull, StoreError
from store.writer import NO_COUNTS, Writer, WriterCounts

#: A flush that took so long has held the loop up; the next tickets are the writer's thread's for a while.
SLOW_S = 0.02
SLOW_FOR_S = 5.0
#: How often a full disk is tried again (D5).
SPACE_CHECK_S = 0.5


def operation_of(persist: o.Persist) -> Operation:
    """The store's operation for an instruction of the core."""
    match persist:
        case o.AppendRecord(record, previous):
            return c.Append(record.slot, record.sequence.chain, previous, encode_record(record))
        case o.PrependRecord(record, previous):
            return c.Prepend(record.slot, record.sequence.chain, previous, encode_record(record))
        case o.RepairRecord(record, previous):
            return c.Repair(record.slot, record.sequence.chain, previous, encode_record(record))
        case o.CutLog(end):
            return c.Truncate(end)
        case o.TrimLog(first):
            return c.TrimLog(first)
        case o.SaveStable(state, commit):
            return c.SaveStable(encode_state(state, commit))
        case o.StageChunk(snapshot, index, data):
            return c.StageChunk(snapshot, index, data)
        case o.UseSnapshot(snapshot, slot, chain):
            return c.UseSnapshot(snapshot, slot, chain)
        case o.ResetDisk():
            return c.ResetLog()


class Disk:
    """FIFO to the writer thread and back on the loop. All methods are the loop's.

    `on_persisted(ticket)`: the core's tickets up to this one are durable. `on_full(ticket)` / `on_freed()`: D5.
    `on_failed(error)`: nothing is written any more; the process must end. `journaling`: use the journal.
    `observe(seconds)`: how long a commit or a flush of the journal took, from either thread.
    """

    def __init__(
        self,
        store: LogStore,
        *,
        on_persisted: Callable[[int], None],
        on_full: Callable[[int], None],
        on_freed: Callable[[], None],
        on_failed: Callable[[Exception], None],
        journaling: bool = False,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.store = store
        self._observe = observe
        self._journaling = journaling
        self._on_persisted = on_persisted
        self._on_full = on_full
        self._on_freed = on_freed
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._ticket = 0  # the newest of the writer's tickets
        self._durable = 0
        self._core_tickets: deque[tuple[int, int]] = deque()  # (writer's, core's), ascending
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._newest_durable = 0  # set by the writer's thread
        self._told = False  # a call of `_advance` is on its way to the loop
        self._full = False
        self._trying = False  # a resume of the writer is planned
        self._stopped = False
        self._slow_until = 0.0  # nothing is journaled before
        self.journaled = NO_COUNTS  # for metrics: what went to the journal
        self._writer = Writer(store, self._durable_in_thread, self._failed_in_thread, observe=observe)
        self._writer.start()

    def submit(self, core_ticket: int, operations: Sequence[Operation]) -> None:
        """Queue operations; `core_ticket` 0: nobody but `after` waits for them. Raises WriterStopped."""
        self._ticket += 1
        if core_ticket:
            self._core_tickets.append((self._ticket, core_ticket))
        self._writer.submit(self._ticket, operations)

    def journal(self, core_ticket: int, operations: Sequence[Operation]) -> bool:
        """Take a ticket of the core's past the queue, and tell it when it is durable; False: `submit` it.

        After a failure nothing may be written any more, and `submit` lets the writer's thread meet and report that: the
        reaction to a failure is in one place (D5).
        """
        if self._full and operations and all(isinstance(one, c.TrimLog | c.DeleteRange) for one in operations):
            self.store.release_reserve()
            for part in (c.TrimLog, c.DeleteRange):  # pages that a transaction frees are used by the next but one
                self._writer.put_first([one for one in operations if isinstance(one, part)])
            self.submit(core_ticket, ())
            return True
        started = time.monotonic()
        if not self._journaling or self._core_tickets or self._full or started < self._slow_until:
            return False
        appends = [operation for operation in operations if isinstance(operation, Append)]
        try:
            if len(appends) < len(operations) or not self.store.journal(appends):
                return False
        except StoreError:
            return False
        seconds = time.monotonic() - started
        if seconds > SLOW_S:
            self._slow_until = started + seconds + SLOW_FOR_S
        self.journaled = self.journaled.plus(1, 1, sum(map(payload_bytes, appends)), seconds)
        self._observe(seconds)
        self._loop.call_soon(self._tell, core_ticket)
        return True

    def after(self, call: Callable[[], None]) -> None:
        """Call when everything submitted so far is durable; at once if it is."""
        if self._durable == self._ticket:
            call()
        else:
            self._waiting.append((self._ticket, call))

    @property
    def idle(self) -> bool:
        """Everything submitted is durable."""
        return self._durable == self._ticket

    @property
    def full(self) -> bool:
        """No space was left (D5)."""
        return self._full

    @property
    def counts(self) -> WriterCounts:
        """For metrics: what the writer's thread did."""
        return self._writer.counts

    @property
    def backlog_bytes(self) -> int:
        """Bytes submitted and not durable."""
        return self._writer.backlog_bytes

    def stop(self, timeout_s: float) -> bool:
        """Write what is queued and end the thread; False if that was not possible in time. Blocks."""
        self._stopped = True
        return self._writer.stop(timeout_s)

    # -------------------------------------------------------------- from the writer's thread

    def _durable_in_thread(self, ticket: int) -> None:
        self._newest_durable = ticket
        if not self._told:  # coalesced: one call carries all groups since
            self._told = True
            self._call(self._advance)

    def _failed_in_thread(self, error: Exception) -> None:
        self._call(self._fail, error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the process is ending and nobody waits any more
            return

    # -------------------------------------------------------------- on the loop

    def _tell(self, core_ticket: int) -> None:
        if not self._stopped:  # a core that was begun after `stop` has tickets of its own
            self._on_persisted(core_ticket)

    def _advance(self) -> None:
        self._told = False
        self._durable = durable = self._newest_durable
        if self._full:
            self._full = False
            self._on_freed()
        core_ticket = 0
        while self._core_tickets and self._core_tickets[0][0] <= durable:
            core_ticket = self._core_tickets.popleft()[1]
        if core_ticket:
            self._tell(core_ticket)
        while self._waiting and self._waiting[0][0] <= durable:
            self._waiting.popleft()[1]()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, DiskFull):
            self._on_failed(error)
            return
        if not self._full:
            self._full = True
            self._on_full(self._core_tickets[0][1] if self._core_tickets else 0)
        if not self._trying:
            self._trying = True
            self._loop.call_later(SPACE_CHECK_S, self._try_again)

    def _try_again(self) -> None:
        self._trying = False
        self._writer.resume()


__all__ = ["Disk", "StoreError", "operation_of"]
