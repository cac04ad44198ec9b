"""The client's side of K1 and K2: numbered batches, in order, each until it has an answer. No I/O.

A batch is *unsent* or *sent* (on the present connection); both are pending until a verdict. A number is never given up:
it is resent until answered. A batch that is refused for good leaves its number to a *filler*, an empty operation on
`_cursors`, or everything behind it would stay a gap.

A refusal, for good or because of a gap, makes a gap of everything that was sent behind it. So nothing more is sent
until all that was sent has its answer; then all that is pending is sent again, in order. One pass finds every batch
that is refused for good, the next one carries their fillers, and no answer is ever that of an earlier pass.
"""

import asyncio
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ringcast import wire
from ringcast.bus.batch import pack
from ringcast.bus.topics import CURSORS_TOPIC
from ringcast.errors import (
    AlreadyApplied,
    IdReused,
    PublishUnknown,
    RingcastError,
    SequenceGap,
    SessionExpired,
    Unavailable,
    WindowExceeded,
    again,
)
from ringcast.types import CLIENT_ID_BYTES, Receipt

#: Credit to fill before the first WELCOME names the replica's.
CREDIT_DEFAULT = 1 << 20
#: Rewinds in a row without a receipt after which another replica is tried.
REWINDS_MAX = 8

#: Messages -> a filler of so many.
_FILLERS = {count: pack([b""] * count) for count in (1, 2)}


class Action(Enum):
    """What the session has to do after a refusal."""

    SEND = "send what the window allows"
    MOVE = "go to another replica"
    REOPEN = "say HELLO again: the client id is a new one"


@dataclass(eq=False, slots=True)
class Pending:
    """One batch without a verdict.

    `attempts`: how often it was sent under its present number, on any connection. `error`: set when it was refused for
    good and only its number is still pending; then `packed` is its filler.
    """

    topic: str
    packed: bytes
    messages: int
    sequence: int
    receipt: "asyncio.Future[Receipt]"
    sent: bool = False
    attempts: int = 0
    error: RingcastError | None = None

    def header(self, client: bytes, opened: int) -> wire.Publish:
        """Of its next send."""
        if self.error is None:
            return wire.Publish(self.topic, client, self.sequence, self.messages, opened)
        return wire.Publish(CURSORS_TOPIC, client, self.sequence, self.filler_messages, opened)

    @property
    def filler_messages(self) -> int:
        """Never as many as the batch has, so that a receipt tells which of the two was applied."""
        return 2 if self.messages == 1 else 1

    def become_filler(self, error: RingcastError) -> None:
        """It was refused for good."""
        self.error = error
        self.packed = _FILLERS[self.filler_messages]


def _retrieve(receipt: "asyncio.Future[Receipt]") -> None:
    """A caller that was cancelled leaves its receipt to nobody; that is no error worth a log line."""
    if not receipt.cancelled():
        receipt.exception()


class Outbox:
    """All pending batches of one bus, in order of their sequence.

    Invariants: `sent_bytes` = the sum of the pending batches with `sent` true; `unsent` = the others, in order. While
    it is draining, it waits for the answers to what was sent, and `unsent` is made again at their end.
    """

    def __init__(self) -> None:
        self.client = os.urandom(CLIENT_ID_BYTES)
        self.opened: int | None = None
        self.credit = CREDIT_DEFAULT
        self.outstanding_max = 1
        self.pending_bytes = 0
        self.sent_bytes = 0
        self._next = 1
        self._pending: dict[int, Pending] = {}
        self._unsent: deque[Pending] = deque()
        self._draining = False
        self._rewinds = 0

    def __len__(self) -> int:
        return len(self._pending)

    def has_room(self, size: int, granted: int = 0) -> bool:
        """May `size` more bytes become pending, after `granted` others? One batch always may (A9)."""
        ahead = self.pending_bytes + granted
        return not ahead or ahead + size <= self.credit

    def add(
        self, topic: str, packed: bytes, messages: int, receipt: "asyncio.Future[Receipt] | None" = None
    ) -> Pending:
        """Number a batch. The window is the caller's to wait for; the future gets the receipt or the error."""
        if receipt is None:
            receipt = asyncio.get_running_loop().create_future()
        receipt.add_done_callback(_retrieve)
        batch = Pending(topic, packed, messages, self._next, receipt)
        self._next += 1
        self._pending[batch.sequence] = batch
        self._unsent.append(batch)
        self.pending_bytes += len(packed)
        return batch

    def connected(self, welcome: wire.Welcome) -> None:
        """A new connection: everything pending is to be sent again, in order (K2)."""
        if self.opened is None:
            self.opened = welcome.opened
        self.credit = welcome.credit
        self.outstanding_max = welcome.limits.outstanding_max
        for batch in self._pending.values():
            batch.sent = False
        self._rewinds = 0
        self._collect()

    def take(self) -> Iterator[tuple[wire.Publish, bytes]]:
        """The frames that may leave now, within the credit and the number of batches outstanding (A9)."""
        assert self.opened is not None
        if self._draining:
            if self.sent_bytes:
                return
            self._collect()
        while self._unsent:
            batch = self._unsent[0]
            # K1 remembers the last W batches: the span from the oldest unanswered one counts, not how many there are.
            span = batch.sequence - next(iter(self._pending))
            if span and (span >= self.outstanding_max or self.sent_bytes + len(batch.packed) > self.credit):
                return
            self._unsent.popleft()
            batch.sent = True
            batch.attempts += 1
            self.sent_bytes += len(batch.packed)
            yield batch.header(self.client, self.opened), batch.packed

    def on_receipt(self, message: wire.Receipt, answers: tuple[bytes, ...] = ()) -> None:
        """The verdict "applied": also of a repeated batch, with its original offsets (K1)."""
        if message.client != self.client:
            return
        self.credit = message.credit
        batch = self._pending.get(message.sequence)
        if batch is None:
            return
        if message.messages == batch.messages:  # also where another replica refused it, and this one has it already
            receipt = Receipt(message.first_offset, message.messages, message.slot, message.time_us, answers)
            self._finish(batch, receipt)
        elif batch.error is not None and message.messages == batch.filler_messages:
            self._finish(batch, batch.error)
        else:
            return
        self._rewinds = 0

    def on_refused(self, message: wire.Refused) -> tuple[Action, RingcastError]:
        """Any other verdict, and what to do about it."""
        error = wire.error_of(message)
        batch = self._pending.get(message.sequence)
        if message.client != self.client or batch is None:
            return Action.SEND, error
        if isinstance(error, SequenceGap | WindowExceeded):
            return self._on_retryable(batch, message.last), error
        if isinstance(error, Unavailable):
            return Action.MOVE, error
        if isinstance(error, SessionExpired):
            # The verdict is the log's and the horizon never falls: what was sent once, on this connection, can never be
            # applied under this id, so it moves to the new one. What was sent before may have been, and is unknown.
            self._reopen(attempts_safe=1)
            return Action.REOPEN, error
        return self._on_refused_for_good(batch, error), error

    def _on_retryable(self, batch: Pending, last: int) -> Action:
        if not batch.sent:
            return Action.SEND
        if 0 <= last < next(iter(self._pending)) - 1:
            # The table knows less than we have receipts for: this id has no future.
            self._reopen(attempts_safe=1)
            return Action.REOPEN
        if not self._draining:
            self._rewinds += 1
        self._drain(batch)
        return Action.MOVE if self._rewinds >= REWINDS_MAX else Action.SEND

    def _on_refused_for_good(self, batch: Pending, error: RingcastError) -> Action:
        if batch.error is not None:
            # The filler itself: with another content under its number, the batch had been applied before.
            used = isinstance(error, IdReused | AlreadyApplied)
            self._finish(batch, AlreadyApplied(sequence=batch.sequence, remembered=0) if used else self._unknown(batch))
            if not used:
                self._reopen(attempts_safe=0)
            return Action.SEND if used else Action.REOPEN
        if isinstance(error, AlreadyApplied):
            self._finish(batch, error)
            return Action.SEND
        if isinstance(error, IdReused):
            self._finish(batch, error)
            self._reopen(attempts_safe=0)
            return Action.REOPEN
        self._drain(batch)
        self.pending_bytes -= len(batch.packed)
        batch.become_filler(error)
        self.pending_bytes += len(batch.packed)
        return Action.SEND

    def _drain(self, batch: Pending) -> None:
        """A batch has to be sent again, and with it all that was sent behind it: when that has its answers."""
        if batch.sent:
            batch.sent = False
            self.sent_bytes -= len(batch.packed)
        self._draining = True

    def _unknown(self, batch: Pending) -> RingcastError:
        if batch.error is not None:
            return batch.error
        return PublishUnknown(topic=batch.topic, sequence=batch.sequence, client=self.client.hex())

    def _reopen(self, attempts_safe: int) -> None:
        """A new client id (K2). Batches sent at most `attempts_safe` times move to it, the others are unknown."""
        batches = list(self._pending.values())
        self._pending.clear()
        self.pending_bytes = 0
        kept = []
        for batch in batches:
            if batch.receipt.cancelled() or batch.error is not None or batch.attempts > attempts_safe:
                self._resolve(batch, self._unknown(batch))
            else:
                kept.append(batch)
        self.client, self.opened, self._next = os.urandom(CLIENT_ID_BYTES), None, 1
        for batch in kept:
            batch.sequence, batch.sent, batch.attempts = self._next, False, 0
            self._next += 1
            self._pending[batch.sequence] = batch
            self.pending_bytes += len(batch.packed)
        self._collect()

    def close(self, error: RingcastError) -> None:
        """The id ends here: what is sent is unknown, what is not sent was never published and gets `error`."""
        for batch in self._pending.values():
            self._resolve(batch, self._unknown(batch) if batch.attempts else again(error))
        self._pending.clear()
        self.pending_bytes = 0
        self._collect()

    def _finish(self, batch: Pending, outcome: Receipt | RingcastError) -> None:
        del self._pending[batch.sequence]
        self.pending_bytes -= len(batch.packed)
        if batch.sent:
            self.sent_bytes -= len(batch.packed)
        elif not self._draining:
            self._unsent.remove(batch)
        self._resolve(batch, outcome)

    @staticmethod
    def _resolve(batch: Pending, outcome: Receipt | RingcastError) -> None:
        if batch.receipt.done():
            return
        if isinstance(outcome, Receipt):
            batch.receipt.set_result(outcome)
        else:
            batch.receipt.set_exception(outcome)

    def _collect(self) -> None:
        self._draining = False
        self._unsent = deque(batch for batch in self._pending.values() if not batch.sent)
        self.sent_bytes = sum(len(batch.packed) for batch in self._pending.values() if batch.sent)
