"""Client batches between PUBLISH and verdict: credit, order, and the requests made of them (A1, A9). No I/O.

A batch is *queued* (accepted, not yet given to the core) or *submitted*. All that is queued leaves in as few requests
as the limits allow, in the order of arrival. A submitted batch stays known until its verdict, whatever becomes of its
connection, so that a client that comes back and resends it waits for the same verdict instead of adding a second copy.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from broker.connection import Connection
from broker.grants import ANYTHING, Grant
from ringcast.bus.batch import digest
from ringcast.bus.request import BatchHeader, encode_batch_headers
from ringcast.errors import RingcastError, SequenceGap, WindowExceeded
from ringcast.wire import Publish

DURABILITY_MAJORITY = 0


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """Bytes are those of packed batches. `outstanding_max` must not exceed K1's W."""

    credit_bytes: int = 4 << 20
    credit_bytes_min: int = 64 << 10
    credit_bytes_max: int = 32 << 20
    outstanding_max: int = 256
    total_bytes_max: int = 256 << 20
    request_bytes_max: int = 1 << 20
    request_batches_max: int = 1_024


class Account(Connection):
    """A client of the bus; what is unanswered are its pending batches. `requests`: numbers of its open questions."""

    __slots__ = ("credit", "requests")

    def __init__(self, route: bytes, client: bytes, credit: int, key: str = "", grant: Grant = ANYTHING) -> None:
        super().__init__(route, client, key, grant)
        self.credit = credit
        self.requests: set[int] = set()


class Pending:
    """One batch without a verdict. `packed` is let go when it is submitted: the core holds it then."""

    __slots__ = ("account", "arrived_s", "header", "packed", "size")

    def __init__(self, account: Account, header: BatchHeader, packed: bytes, arrived_s: float) -> None:
        self.account = account
        self.arrived_s = arrived_s
        self.header = header
        self.packed: bytes | None = packed
        self.size = len(packed)


class Intake:
    """All pending batches of one gateway, by (client, sequence).

    Invariants: `queued` = the pending batches with `packed` set, in order of arrival; `bytes` = the sum of all sizes;
    an account's bytes and count are the sums over the batches that point to it.
    """

    def __init__(self, limits: IntakeLimits, observe: Callable[[float], None] = lambda _: None) -> None:
        """`observe(seconds)`: how long a batch waited for its verdict, by the clock that `now_s` is set from."""
        self.limits = limits
        self.now_s = 0.0
        self.bytes = 0
        self._observe = observe
        self._pending: dict[tuple[bytes, int], Pending] = {}
        self._queued: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def queued(self) -> int:
        """Batches that wait for room in the core."""
        return len(self._queued)

    def grant(self, wanted: int, connections: int) -> int:
        """The credit of a new connection, one of `connections`: what it wants or the default, within its share (A9)."""
        limits = self.limits
        share = limits.total_bytes_max // max(1, connections)
        credit = min(wanted or limits.credit_bytes, limits.credit_bytes_max, share)
        return max(credit, limits.credit_bytes_min)

    def accept(self, account: Account, publish: Publish, packed: bytes) -> RingcastError | None:
        """Take a checked batch in, or say why not. A resend of a pending batch moves its verdict to this connection."""
        key = (publish.client, publish.sequence)
        seal = digest(packed)
        known = self._pending.get(key)
        if known is not None:
            if known.header.digest != seal:
                # Which of the two has the number is the log's to say, when the pending one has its verdict.
                return SequenceGap(sequence=publish.sequence, last=publish.sequence - 1)
            known.account.charge(-known.size, -1)
            known.account = account
            account.charge(known.size, 1)
            return None
        size = len(packed)
        beyond = account.bytes + size > account.credit or account.count >= self.limits.outstanding_max
        if (account.count and beyond) or (self._pending and self.bytes + size > self.limits.total_bytes_max):
            return WindowExceeded(outstanding=account.bytes + size, credit=account.credit)
        topic, client, sequence, messages, opened = publish
        header = BatchHeader(topic, client, sequence, messages, opened, DURABILITY_MAJORITY, seal)
        batch = self._pending[key] = Pending(account, header, packed, self.now_s)
        self._queued.append(batch)
        self.bytes += size
        account.charge(size, 1)
        return None

    def take_requests(self, room: int) -> Iterator[tuple[bytes, ...]]:
        """Requests of what is queued, oldest first, at most about `room` bytes in all (one batch if room > 0)."""
        queued, limits = self._queued, self.limits
        while queued and room > 0:
            headers: list[BatchHeader] = []
            frames = [b""]
            left = min(limits.request_bytes_max, room)
            while queued and (not headers or queued[0].size <= left) and len(headers) < limits.request_batches_max:
                batch = queued.popleft()
                assert batch.packed is not None
                headers.append(batch.header)
                frames.append(batch.packed)
                batch.packed = None
                left -= batch.size
                room -= batch.size
            frames[0] = encode_batch_headers(headers)
            yield tuple(frames)

    def waits_for(self, client: bytes, sequence: int) -> bool:
        """Is this batch pending here?"""
        return (client, sequence) in self._pending

    def finish(self, client: bytes, sequence: int) -> Account | None:
        """The verdict is here: who waits for it, None if nobody does here (any more)."""
        batch = self._pending.pop((client, sequence), None)
        if batch is None:
            return None
        self.bytes -= batch.size
        self._observe(self.now_s - batch.arrived_s)
        account = batch.account
        account.charge(-batch.size, -1)
        if batch.packed is not None:
            # Ordered through another gateway while it waited here: it need not go again.
            self._queued.remove(batch)
        return None if account.closed else account

    def close(self, account: Account) -> None:
        """The connection is gone: what was not submitted never will be (its client resends it elsewhere, K2)."""
        account.closed = True
        for batch in [batch for batch in self._queued if batch.account is account]:
            self._queued.remove(batch)
            self._discard(batch)

    def abandon(self) -> list[tuple[Account, int]]:
        """Forget every pending batch: their verdicts will not be seen here. Returns (account, sequence) of each."""
        abandoned = [(batch.account, batch.header.sequence) for batch in self._pending.values()]
        for batch in list(self._pending.values()):
            self._discard(batch)
        self._queued.clear()
        return abandoned

    def _discard(self, batch: Pending) -> None:
        del self._pending[batch.header.client, batch.header.sequence]
        self.bytes -= batch.size
        batch.account.charge(-batch.size, -1)
