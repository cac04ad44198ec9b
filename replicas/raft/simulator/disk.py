"""A disk that forgets what was not synced, and the store on it: group commit, one write after the other."""

from collections.abc import Callable, Sequence
from copy import copy
from random import Random
from zlib import crc32

from replicas.raft.seams import Loop
from replicas.raft.simulator.checkers import Checker
from replicas.raft.simulator.machine import Register
from sequencer.errors import require
from store.raft_contract import NO_BASE, Base, Entry, HardState, Kind, Observer, Recovered, Snapshot, Write
from store.raft_members import decode_members

CHUNK_BYTES = 150


class Disk:
    """What is synced."""

    def __init__(self) -> None:
        self.hard: HardState | None = None
        self.base = NO_BASE
        self.log: list[Entry] = []
        self.applied = 0
        self.machine = Register()
        self.staged: dict[int, bytes] = {}
        self.staged_name = ""
        self.snapshots: dict[str, list[bytes]] = {}
        self.distrusted = ""

    def copy(self) -> "Disk":
        """A backup."""
        other = copy(self)
        other.log = list(self.log)
        other.machine = self.machine.copy()
        other.staged = dict(self.staged)
        other.snapshots = dict(self.snapshots)
        return other

    @property
    def last(self) -> int:
        """The last index."""
        return self.base.index + len(self.log)

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or of the base."""
        if index == self.base.index:
            return self.base.term
        return self.log[index - self.base.index - 1].term if self.base.index < index <= self.last else None

    def recovered(self) -> Recovered:
        """What a start finds."""
        runs: list[tuple[int, int]] = []
        for entry in self.log:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        members = tuple(entry for entry in self.log if entry.kind is Kind.MEMBERS)
        return Recovered(self.hard, self.base, self.last, self.applied, tuple(runs), members, self.distrusted)

    def carry_out(self, write: Write) -> None:
        """All of a write but its commands, in the order that `Write` says."""
        if write.wipe:
            self.__init__()  # type: ignore[misc]
        if write.hard is not None:
            self.hard = write.hard
        if write.found is not None:
            require(not self.last and not self.applied, "a first base on a disk that is not empty", self.last)
            self.base, self.applied = write.found, write.found.index
        if write.distrust:
            self.distrusted = write.distrust
        for chunk in write.staged:
            if chunk.snapshot != self.staged_name:
                self.staged_name, self.staged = chunk.snapshot, {}
            self.staged[chunk.index] = chunk.data
        if write.install is not None:
            require(write.install.snapshot == self.staged_name, "an install of what is not staged")
            self.machine = Register.load(b"".join(self.staged[i][4:] for i in sorted(self.staged)))
            self.applied, self.distrusted = write.install.base.index, ""
            if not write.install.refill:
                self.base, self.log = write.install.base, []
            self.staged_name, self.staged = "", {}
        if write.cut is not None:
            require(write.cut > self.applied, "R9: a cut of what is applied", write.cut, self.applied)
            del self.log[write.cut - self.base.index - 1 :]
        if write.append:
            require(write.append[0].index == self.last + 1, "a gap on disk", write.append[0].index, self.last)
            self.log.extend(write.append)
        if write.apply:
            require(write.apply[0].index == self.applied + 1, "a gap in what is applied")
            self.applied = write.apply[-1].index
        if write.trim is not None:
            self._trim(write.trim)

    def _trim(self, base: Base) -> None:
        require(base.index <= self.applied, "R15: trimmed before it was applied")
        del self.log[: base.index - self.base.index]
        self.base = base


class SimulatedStore:
    """`replicas.raft.seams.Store` over a Disk. A group of writes is durable some time after it was begun, or never."""

    def __init__(self, disk: Disk, loop: Loop, random: Random, checker: Checker, member: int) -> None:
        self.disk = disk
        self.slow_seconds = 0.0  # added to each sync
        self._loop = loop
        self._random = random
        self._checker = checker
        self._member = member
        self._queue: list[Write] = []
        self._syncing: list[Write] = []
        self._observer: Observer

    def recover(self, observer: Observer) -> Recovered:
        self._observer = observer
        return self.disk.recovered()

    def submit(self, write: Write) -> None:
        self._queue.append(write)
        if not self._syncing:
            self._begin()

    def _begin(self) -> None:
        """Commands are answered before the sync: the log is durable, and they are applied again from it."""
        self._syncing, self._queue = self._queue, []
        machine, applied = self.disk.machine.copy(), 0
        results: dict[int, bytes] = {}
        term = self.disk.hard.term if self.disk.hard is not None else 0
        for write in self._syncing:
            term = write.hard.term if write.hard is not None else term
            if write.wipe or write.install is not None:
                machine = Register()  # what is installed or wiped below takes the place of this one
            for entry in write.apply:
                self._checker.applied(self._member, entry, term)
                applied = entry.index
                if entry.kind is Kind.COMMAND:
                    results[entry.index] = machine.apply(entry.data)
        if applied:
            self._loop.call_soon(self._observer.on_applied, applied, results)
        delay = 0.0002 + self._random.random() * 0.0006 + self.slow_seconds
        self._loop.call_later(delay, self._commit)

    def _commit(self) -> None:
        disk = self.disk
        for write in self._syncing:
            disk.carry_out(write)
            for entry in write.apply:
                if entry.kind is Kind.COMMAND:
                    disk.machine.apply(entry.data)
            self._checker.written(self._member, disk, write)
        ticket = self._syncing[-1].ticket
        self._syncing = []
        if self._queue:
            self._begin()
        self._observer.on_durable(ticket)

    def resume(self) -> None:
        """It is never full."""

    def entries(self, first: int, end: int, bytes_max: int) -> Sequence[Entry]:
        found: list[Entry] = []
        size = 0
        start = self.disk.base.index + 1
        for entry in self.disk.log[first - start : end - start]:
            size += entry.size_bytes
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def make_snapshot(self, done: Callable[[Snapshot | None], object]) -> None:
        disk = self.disk
        term = disk.term_at(disk.applied)
        require(term is not None, "the applied index is in the log or its base")
        members = disk.base.members
        for entry in disk.log:
            if entry.kind is Kind.MEMBERS and entry.index <= disk.applied:
                members = decode_members(entry.data)
        name = f"{disk.applied}-{self._random.getrandbits(32)}"
        data = disk.machine.dump()
        pieces = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
        disk.snapshots = {name: [_checksum(name, i, piece) + piece for i, piece in enumerate(pieces)]}
        made = Snapshot(name, Base(disk.applied, term or 0, members), len(pieces))
        self._loop.call_later(self._random.random() * 0.01, done, made)

    def read_chunk(self, name: str, index: int) -> bytes | None:
        chunks = self.disk.snapshots.get(name)
        return None if chunks is None else chunks[index]

    def chunk_fits(self, name: str, index: int, data: bytes) -> bool:
        return data[:4] == _checksum(name, index, data[4:])

    def close(self) -> None:
        """A crash closes nothing."""


def _checksum(name: str, index: int, piece: bytes) -> bytes:
    return crc32(piece, crc32(f"{name} {index}".encode())).to_bytes(4, "big")
