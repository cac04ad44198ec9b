"""The FIFO writer thread with group commit (D1): while one commit syncs, the next one gathers.

Bounds. A group takes tickets in order up to `group_bytes_max`; what is beyond it goes into the next one (a single
ticket may be larger). The queue is not cut short: a step's output cannot be taken back (D4), and the core's own limits
(A9) bound what it hands over. The shell reads `backlog_bytes` to stop taking input; at `backlog_bytes_max` the member
has no way on: `submit` raises WriterStopped and the writer has failed.

Failures (D5). No space: the group stays at the head of the queue, nothing is retried until `resume()`, tickets are
still taken. What frees space may be put before all of them then (`put_first`). Anything else is final: the queue is
dropped and `submit` raises.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Any, Final, NamedTuple, Protocol

from store.contract import payload_bytes
from store.errors import DiskFull, StoreError, WriterStopped

GROUP_BYTES_MAX: Final = 4 << 20
BACKLOG_BYTES_MAX: Final = 1 << 30


class Committer(Protocol):
    """The part of a store that the writer needs; what its operations are is between it and who submits them."""

    def commit(self, operations: Sequence[Any]) -> None:
        """All of them in one synced transaction, or none; see LogStore."""


class _Entry(NamedTuple):
    ticket: int
    operations: Sequence[Any]
    size_bytes: int


class WriterCounts(NamedTuple):
    """Since the start. `commit_seconds` is the time spent inside commits."""

    commits: int
    tickets: int
    written_bytes: int
    commit_seconds: float

    def plus(self, commits: int, tickets: int, written_bytes: int, commit_seconds: float) -> "WriterCounts":
        """Both together."""
        return WriterCounts(
            self.commits + commits,
            self.tickets + tickets,
            self.written_bytes + written_bytes,
            self.commit_seconds + commit_seconds,
        )


NO_COUNTS: Final = WriterCounts(0, 0, 0, 0.0)


class Writer:
    """Carries tickets to the disk in the order in which they were submitted.

    `on_durable(ticket)`: everything up to and including this ticket is durable; once per group, with its last ticket.
    `on_failure(error)`: DiskFull (call `resume` when there is space) or anything else (stop, D5). Both are called from
    the writer's thread, and must neither block nor raise.
    """

    def __init__(
        self,
        store: Committer,
        on_durable: Callable[[int], None],
        on_failure: Callable[[Exception], None],
        *,
        group_bytes_max: int = GROUP_BYTES_MAX,
        backlog_bytes_max: int = BACKLOG_BYTES_MAX,
        size_bytes: Callable[[Any], int] = payload_bytes,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`size_bytes`: about what an operation adds to a transaction. `observe(seconds)`: called after a commit."""
        self._observe = observe
        self._size_bytes = size_bytes
        self._store = store
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._group_bytes_max = group_bytes_max
        self._backlog_bytes_max = backlog_bytes_max
        self._wake = Condition()
        self._queue: deque[_Entry] = deque()
        self._first: deque[Sequence[Any]] = deque()  # a transaction each
        self._first_waits = False  # it did not fit either
        self._newest_ticket = 0
        self._backlog_bytes = 0
        self._full = False
        self._stopping = False
        self._failure: str | None = None
        self._counts = NO_COUNTS
        self._thread = Thread(target=self._run, name="ringcast-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, ticket: int, operations: Sequence[Any]) -> None:
        """Queue the operations of a ticket, which is above every ticket before it; never waits for the disk.

        A ticket without operations is durable when everything before it is. Raises WriterStopped.
        """
        entry = _Entry(ticket, operations, sum(map(self._size_bytes, operations)))
        with self._wake:
            if self._failure is not None:
                raise WriterStopped(f"ticket {ticket} refused: {self._failure}")
            if ticket <= self._newest_ticket:
                raise WriterStopped(f"ticket {ticket} refused: ticket {self._newest_ticket} came before it (D4)")
            if self._backlog_bytes + entry.size_bytes > self._backlog_bytes_max:
                self._failure = f"the backlog reached {self._backlog_bytes} of {self._backlog_bytes_max} bytes (A9)"
                raise WriterStopped(f"ticket {ticket} refused: {self._failure}")
            self._newest_ticket = ticket
            self._queue.append(entry)
            self._backlog_bytes += entry.size_bytes
            self._wake.notify()

    def put_first(self, operations: Sequence[Any]) -> None:
        """Carry these out before the queue, in a transaction of their own, even while there is no space.

        For what only frees space and does not depend on anything that is queued; it has no ticket.
        """
        with self._wake:
            self._first.append(operations)
            self._wake.notify()

    @property
    def backlog_bytes(self) -> int:
        """Bytes submitted and not durable."""
        return self._backlog_bytes

    @property
    def full(self) -> bool:
        """No space was left; waiting for `resume()`."""
        return self._full

    @property
    def counts(self) -> WriterCounts:
        """For metrics."""
        return self._counts

    def resume(self) -> None:
        """There may be space again: try from the ticket that did not fit."""
        with self._wake:
            self._full = self._first_waits = False
            self._wake.notify()

    def stop(self, timeout_seconds: float) -> bool:
        """Write what is queued and end the thread; False if that took longer, or something could not be written."""
        with self._wake:
            self._stopping = True
            self._failure = self._failure or "the writer is stopping"
            self._wake.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and not self._queue

    # -------------------------------------------------------------- the thread

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            if not group:
                if not self._carry_out_first():
                    return
                continue
            started = time.monotonic()
            operations = [operation for entry in group for operation in entry.operations]
            try:
                if operations:
                    self._store.commit(operations)
            except DiskFull as error:
                with self._wake:
                    self._full = True
                self._on_failure(error)
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be acknowledged (D5)
                self._fail(error)
                return
            seconds = time.monotonic() - started
            if operations:
                self._observe(seconds)
            self._done(group, bool(operations), seconds)
            self._on_durable(group[-1].ticket)

    def _fail(self, error: Exception) -> None:
        with self._wake:
            self._failure = str(error) if isinstance(error, StoreError) else repr(error)
        self._on_failure(error)

    def _carry_out_first(self) -> bool:
        """One transaction of those that free space; then the queue's head is tried again. False: the disk failed."""
        try:
            self._store.commit(self._first[0])
        except DiskFull:
            self._first_waits = True  # until `resume`: the queue's head has reported it
            return True
        except Exception as error:  # noqa: BLE001 - D5, as for any other
            self._fail(error)
            return False
        with self._wake:
            self._first.popleft()
            self._full = bool(self._first) and self._full
        return True

    def _next_group(self) -> list[_Entry] | None:
        """The tickets of the next transaction, still queued; None: end the thread."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or self._may_free() or (self._queue and not self._full))
            if self._may_free() and not self._stopping:
                return []
            if not self._queue or self._full:
                return None
            group: list[_Entry] = []
            size = 0
            for entry in self._queue:
                size += entry.size_bytes
                if group and size > self._group_bytes_max:
                    break
                group.append(entry)
            return group

    def _may_free(self) -> bool:
        return bool(self._first) and not self._first_waits

    def _done(self, group: Sequence[_Entry], committed: bool, seconds: float) -> None:
        size = sum(entry.size_bytes for entry in group)
        with self._wake:
            for _ in group:
                self._queue.popleft()
            self._backlog_bytes -= size
            self._counts = self._counts.plus(int(committed), len(group), size, seconds)
