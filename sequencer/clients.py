"""The client table (K1): which batch of which client was applied, at which offset. Pure; the same on every member.

The verdict of a batch is a function of the log alone: of the batches before it, never of a clock, of the gateway or
of the order in which a dict was filled. The state machine asks once for each batch header, in log order, and stores
`take_changes()` in the transaction that holds what the batch changed and the delivered position.
"""

import heapq
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

DIGEST_BYTES = 8
NO_HORIZON = -1  # nothing was dropped yet: a client that opened its id at slot 0 is younger
_BATCH = struct.Struct("<QI8s")  # first offset, count, digest of one remembered batch


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """Bounds of the table; part of the ordered configuration, since verdicts depend on them (K1).

    `remembered_max` (W) must be at least the number of batches that a client may have outstanding (A9).
    """

    clients_max: int = 10_000
    remembered_max: int = 256

    def __post_init__(self) -> None:
        """Both must allow one."""
        for name in ("clients_max", "remembered_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Applied:
    """The batch was applied: its messages have the offsets first_offset ... first_offset + count - 1."""

    first_offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same batch was applied before, at these offsets; it takes none now."""

    first_offset: int
    count: int


@dataclass(frozen=True, slots=True)
class AlreadyApplied:
    """It was applied so long ago that its offset is forgotten (more than W batches)."""


@dataclass(frozen=True, slots=True)
class IdReused:
    """Another batch has this client id and sequence: two clients share one id, or one broke its numbering."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Retryable: the last applied sequence of this client is `last`; send last + 1 first."""

    last: int


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The client is not known (any more); what it has outstanding is unknown. It must open a new id."""


Verdict = Applied | Repeated | AlreadyApplied | IdReused | Gap | SessionExpired

ClientRow = tuple[int, int, bytes]  # last sequence, slot of the last use, the remembered batches
TableMeta = tuple[int, int]  # horizon, next offset


class TableChanges(NamedTuple):
    """What a store writes: rows by client id, the ids whose rows go, and the meta row."""

    rows: dict[bytes, ClientRow]
    dropped: list[bytes]
    meta: TableMeta


class _Client:
    """At most 2 W remembered batches, that of `last` at the end; `used` = slot of the last use."""

    __slots__ = ("batches", "last", "used")

    def __init__(self, last: int, used: int, batches: bytes) -> None:
        self.last = last
        self.used = used
        self.batches = bytearray(batches)


class ClientTable:
    """K1 for all clients of a ring. At most `bounds.clients_max` clients; the least recently used one is dropped.

    "Recently" counts log position: the entry with the smallest (slot of last use, client id) goes first, so that
    a table read back from rows drops the same entries as one that lived through the log.
    """

    __slots__ = ("_ages", "_changed", "_clients", "_dropped", "_horizon", "_next_offset", "bounds")

    def __init__(self, bounds: ClientBounds | None = None) -> None:
        self.bounds = bounds or ClientBounds()
        self._clients: dict[bytes, _Client] = {}
        self._ages: list[tuple[int, bytes]] = []  # a heap with one pair per client, `used` or an older use
        self._horizon = NO_HORIZON
        self._next_offset = 0
        self._changed: set[bytes] = set()
        self._dropped: set[bytes] = set()  # disjoint from `_changed`

    @classmethod
    def load(cls, bounds: ClientBounds, meta: TableMeta, rows: Mapping[bytes, ClientRow]) -> "ClientTable":
        """The table that a store or a snapshot holds; `rows` as `rows()` or all `take_changes()` together gave them."""
        table = cls(bounds)
        table._horizon, table._next_offset = meta
        table._clients = {client: _Client(*row) for client, row in rows.items()}
        table._ages = [(entry.used, client) for client, entry in table._clients.items()]
        heapq.heapify(table._ages)
        return table

    @property
    def next_offset(self) -> int:
        """The offset that the next applied message takes."""
        return self._next_offset

    @property
    def horizon(self) -> int:
        """The highest last use of any client that was dropped; -1 before the first."""
        return self._horizon

    def __len__(self) -> int:
        return len(self._clients)

    def last(self, client: bytes) -> int:
        """The last applied sequence of a client; 0 if it is not known."""
        entry = self._clients.get(client)
        return entry.last if entry else 0

    def apply(self, slot: int, client: bytes, sequence: int, count: int, opened: int, digest: bytes) -> Verdict:
        """Judge one batch of `count` messages that slot `slot` orders, and apply it if K1 says so.

        Slots must not fall from call to call. `opened` is the number of committed slots the client was told when it
        opened its id. Raises ValueError if sequence or count is below 1 or the digest is not 8 bytes: the caller
        has checked the header's types and ranges before.
        """
        if sequence < 1 or count < 1 or len(digest) != DIGEST_BYTES:
            raise ValueError(f"batch header out of range: sequence {sequence}, count {count}, digest {digest!r}")
        entry = self._clients.get(client)
        if entry is None:
            # K1: what was dropped was used at or before the horizon, and opened before it was used. The upper bound
            # refuses a number that no member can have told: nothing beyond this slot is committed yet.
            if not self._horizon < opened <= slot:
                return SessionExpired()
            if sequence != 1:
                return Gap(0)
            entry = self._admit(client, slot)
        elif entry.used != slot:
            entry.used = slot  # any use keeps a client young, a repetition too
            self._changed.add(client)
        if sequence > entry.last + 1:
            return Gap(entry.last)
        if sequence <= entry.last:
            return self._repetition(entry, sequence, digest)
        first = self._next_offset
        self._next_offset = first + count
        entry.last = sequence
        entry.batches += _BATCH.pack(first, count, digest)
        if len(entry.batches) >= 2 * self.bounds.remembered_max * _BATCH.size:
            del entry.batches[: -self.bounds.remembered_max * _BATCH.size]
        self._changed.add(client)
        return Applied(first, count)

    def _repetition(self, entry: _Client, sequence: int, digest: bytes) -> Verdict:
        age = entry.last - sequence  # 0 = the newest
        if age >= self.bounds.remembered_max:
            return AlreadyApplied()
        first, count, known = _BATCH.unpack_from(entry.batches, len(entry.batches) - (age + 1) * _BATCH.size)
        return Repeated(first, count) if known == digest else IdReused()

    def _admit(self, client: bytes, slot: int) -> _Client:
        while len(self._clients) >= self.bounds.clients_max:
            self._drop_oldest()
        entry = self._clients[client] = _Client(0, slot, b"")
        heapq.heappush(self._ages, (slot, client))
        self._dropped.discard(client)
        return entry

    def _drop_oldest(self) -> None:
        while True:
            used, client = self._ages[0]
            entry = self._clients[client]
            if entry.used == used:
                break
            heapq.heapreplace(self._ages, (entry.used, client))
        heapq.heappop(self._ages)
        del self._clients[client]
        self._horizon = max(self._horizon, used)
        self._changed.discard(client)
        self._dropped.add(client)

    def take_changes(self) -> TableChanges:
        """What changed since the last call; the caller now owes it to the store."""
        rows = {client: self._row(self._clients[client]) for client in sorted(self._changed)}
        changes = TableChanges(rows, sorted(self._dropped), (self._horizon, self._next_offset))
        self._changed.clear()
        self._dropped.clear()
        return changes

    def rows(self) -> Iterable[tuple[bytes, ClientRow]]:
        """Every row, by client id: what a snapshot holds (C1) beside `meta`."""
        return ((client, self._row(self._clients[client])) for client in sorted(self._clients))

    @property
    def meta(self) -> TableMeta:
        """Horizon and next offset: the other half of what a snapshot holds."""
        return (self._horizon, self._next_offset)

    def _row(self, entry: _Client) -> ClientRow:
        return (entry.last, entry.used, bytes(entry.batches[-self.bounds.remembered_max * _BATCH.size :]))
