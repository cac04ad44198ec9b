"""A state machine on LMDB tables, as small as can be: a command "key=value" sets, its answer is the value before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lmdb

from store.errors import RowDamaged
from store.raft_contract import Observer, Recovered
from store.raft_log import RaftStore

TABLES = ("values", "meta")
BAD = b"\xff"


class TableMachine:
    """Commands that are no assignment are answered with b"refused". A value that begins with BAD is damaged."""

    def __init__(self, databases: Mapping[str, lmdb._Database], folder: Path) -> None:
        self._values, self._meta, self._folder = databases["values"], databases["meta"], folder

    def apply(self, transaction: lmdb.Transaction[Any], entries: Iterable[tuple[int, bytes]]) -> list[bytes]:
        results = []
        for index, command in entries:
            assert index == self.applied(transaction) + 1, "every index, each in its turn"
            transaction.put(b"applied", b"%d" % index, db=self._meta)
            key, is_one, value = command.partition(b"=")
            if not command:
                results.append(b"")
            elif not is_one:
                results.append(b"refused")
            else:
                before = bytes(transaction.get(key, db=self._values) or b"")
                self.check_row("values", key, before)
                results.append(before)
                transaction.put(key, value, db=self._values)
        return results

    def check_row(self, table: str, key: bytes, value: bytes) -> None:
        if table == "values" and value.startswith(BAD):
            raise RowDamaged(self._folder, table, key)

    def applied(self, transaction: lmdb.Transaction[Any]) -> int:
        return int(bytes(transaction.get(b"applied", db=self._meta) or b"0"))

    def value(self, transaction: lmdb.Transaction[Any], key: bytes) -> bytes | None:
        found = transaction.get(key, db=self._values)
        return None if found is None else bytes(found)


class Heard:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.results: dict[int, bytes] = {}
        self.applied = 0
        self.durable = 0
        self.failures: list[tuple[Exception, bool]] = []
        self.damaged: list[tuple[str, bool]] = []

    def on_applied(self, applied: int, results: Mapping[int, bytes]) -> None:
        self.applied = applied
        self.results.update(results)

    def on_durable(self, ticket: int) -> None:
        self.durable = ticket

    def on_state_damaged(self, why: str, *, distrusted: bool) -> None:
        self.damaged.append((why, distrusted))

    def on_failure(self, error: Exception, *, full: bool) -> None:
        self.failures.append((error, full))


def make(folder: Path, loop: asyncio.AbstractEventLoop, member: int = 1, **settings: Any) -> RaftStore:
    """A store that is not open yet."""
    return RaftStore(folder, member, TABLES, TableMachine, loop, **settings)


def opened(folder: Path, observer: Observer, **settings: Any) -> tuple[RaftStore, Recovered]:
    """A store on the running loop."""
    store = make(folder, asyncio.get_running_loop(), **settings)
    return store, store.recover(observer)


def rows(store: RaftStore) -> dict[bytes, bytes]:
    """The table of values, as it can be read."""
    with store.reading() as transaction:
        database = store._environment.databases["values"]
        with transaction.cursor(database) as cursor:
            return {bytes(key): bytes(value) for key, value in cursor}
