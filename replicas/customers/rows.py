"""Rows of the table `customers`: what the disk has, and over it what is not there yet.

The state machine reads its own changes at once; they reach the disk with the next ticket (`Topics.take_rows`), and are
kept here until that is durable. So the state is as large as the disk allows, and a start reads none of it.
"""

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final, Protocol

from store.contract import PutRow

TABLE: Final = "customers"

Row = tuple[bytes, bytes]


class RowReader(Protocol):
    """The part of a LogStore that is read here."""

    def row(self, table: str, key: bytes) -> bytes | None:
        """One row."""

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows with start <= key < end, in key order or against it."""


class CustomerRows:
    """`store`: None while the disk is being emptied for a log that begins anew; `attach` it when it is.

    Invariants: `_fresh` changed since the last `take`; `_taken` holds what is on its way to the disk, each with the
    number of the take that it was changed in.
    """

    def __init__(self, store: RowReader | None) -> None:
        self._store = store
        self._fresh: dict[bytes, bytes | None] = {}
        self._taken: dict[bytes, tuple[int, bytes | None]] = {}
        self._takes = 0
        self._durable = 0

    def get(self, key: bytes) -> bytes | None:
        """The newest value."""
        if key in self._fresh:
            return self._fresh[key]
        taken = self._taken.get(key)
        if taken is not None:
            return taken[1]
        return None if self._store is None else self._store.row(TABLE, key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a row; None deletes it."""
        self._fresh[key] = value

    def scan(self, start: bytes, end: bytes | None, *, limit: int | None = None, reverse: bool = False) -> list[Row]:
        """(key, value) with start <= key < end, at most `limit` of them."""
        changed = {key: value for key, (_, value) in self._taken.items()} | self._fresh
        news = [
            (key, value)
            for key, value in sorted(changed.items(), reverse=reverse)
            if value is not None and start <= key and (end is None or key < end)
        ]
        stored = iter(()) if self._store is None else self._store.rows(TABLE, start, end, reverse)
        kept = ((key, value) for key, value in stored if key not in changed)
        return list(islice(merge(news, kept, key=itemgetter(0), reverse=reverse), limit))

    def attach(self, store: RowReader) -> None:
        """The disk was emptied: what it has from now on is ours."""
        self._store = store

    @property
    def held(self) -> int:
        """Rows in memory, since the disk does not have them yet."""
        return len(self._taken.keys() | self._fresh.keys())

    def take(self) -> list[PutRow]:
        """Every row that changed since the last call; the caller owes them to the store, and then `durable`."""
        self._takes += 1
        taken = [PutRow(TABLE, key, self._fresh[key]) for key in sorted(self._fresh)]
        self._taken |= {key: (self._takes, value) for key, value in self._fresh.items()}
        self._fresh.clear()
        return taken

    @property
    def takes(self) -> int:
        """How often rows were taken: what `durable` is told later."""
        return self._takes

    def durable(self, takes: int) -> None:
        """What the first `takes` takes gave out is on the disk."""
        if self._store is None or takes <= self._durable:
            return
        self._durable = takes
        self._taken = {key: kept for key, kept in self._taken.items() if kept[0] > takes}
