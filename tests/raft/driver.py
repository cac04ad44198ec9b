"""A store of Raft on LMDB, driven by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from store.raft_contract import Base, Entry, HardState, Incarnation, Kind, Write
from tests.raft.harness import members
from tests.raft.tables import Heard, opened

HARD = HardState(7, 101, Incarnation(3, 9), 5, 2, ((102, Incarnation(1, 1)),))
GENESIS = Base(1, 1, members())


def sets(index: int, term: int = 1, key: bytes = b"k", value: bytes = b"") -> Entry:
    return Entry(index, term, Kind.COMMAND, key + b"=" + (value or b"%d" % index))


class Driver:
    """A store and what it told; each `write` waits until it is durable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard = Heard()
        self.ticket = 0
        self.store, self.recovered = opened(folder, self.heard)

    async def write(self, write: Write) -> None:
        self.ticket += 1
        self.store.submit(replace(write, ticket=self.ticket))
        await until(lambda: self.heard.durable >= self.ticket or bool(self.heard.failures))

    def again(self) -> "Driver":
        """Another start of the same folder."""
        self.store.close()
        return Driver(self.folder)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to be")
