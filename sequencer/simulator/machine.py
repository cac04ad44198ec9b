"""The delivered state of a simulated member: the client table, the A2 table, and a digest of every verdict.

It stands where `replicas/bus/topics.py` stands in a replica process: fed with `Output.delivers`, stored with the
position `applied` by tickets that need no sync before replies leave, part of every snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from sequencer.clients import (
    AlreadyApplied,
    Applied,
    ClientBounds,
    ClientRow,
    ClientTable,
    Gap,
    IdReused,
    Repeated,
    SessionExpired,
    TableChanges,
    TableMeta,
    Verdict,
)
from sequencer.configuration import after
from sequencer.types import FOUNDERS, GENESIS_CHAIN, Configuration, Ordered, SlotRecord

HEADER = Struct("<16sIIQ8s")  # client id, sequence, count, opened, digest
_MIX = Struct("<IQQQ")
_CODES = {Applied: 1, Repeated: 2, AlreadyApplied: 3, IdReused: 4, Gap: 5, SessionExpired: 6}


class Header(NamedTuple):
    """What frames[0] says of one batch; frames[1:] hold the batches in the same order."""

    client: bytes
    sequence: int
    messages: int
    opened: int
    digest: bytes


class Answer(NamedTuple):
    """The verdict on one batch of a delivered slot."""

    client: bytes
    sequence: int
    verdict: Verdict


def pack_headers(headers: list[Header]) -> bytes:
    """frames[0] of a simulated request."""
    return b"".join([HEADER.pack(*header) for header in headers])


def unpack_headers(frame: bytes) -> list[Header]:
    """The headers of a request, from its frames[0]."""
    return [Header(*fields) for fields in HEADER.iter_unpack(frame)]


class Saved(NamedTuple):
    """What a transaction writes of the state machine: the rows that changed, and the meta row (K1)."""

    applied: int
    chain: bytes
    time_us: int
    senders: dict[int, Ordered]
    digest: int
    changes: TableChanges
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent state at a committed slot, and nothing of the member's own (C1)."""

    name: str
    slot: int
    chain: bytes
    time_us: int
    senders: Mapping[int, Ordered]
    digest: int
    rows: Mapping[bytes, ClientRow]
    meta: TableMeta
    chunks: tuple[bytes, ...]
    configuration: Configuration


class StateMachine:
    """0 <= applied; `chain` = chain(applied - 1); `digest` is a function of the log below `applied`."""

    __slots__ = ("applied", "chain", "configuration", "digest", "senders", "table", "time_us")

    table_class = ClientTable

    def __init__(self, bounds: ClientBounds) -> None:
        self.applied = 0
        self.chain = GENESIS_CHAIN
        self.time_us = 0
        self.senders: dict[int, Ordered] = {}
        self.digest = 0
        self.table = self.table_class(bounds)
        self.configuration = FOUNDERS

    def restore(
        self,
        applied: int,
        chain: bytes,
        time_us: int,
        senders: Mapping[int, Ordered],
        digest: int,
        meta: TableMeta,
        rows: Mapping[bytes, ClientRow],
        configuration: Configuration,
    ) -> None:
        """Become the state that a disk or a snapshot holds."""
        self.configuration = configuration
        self.applied, self.chain, self.time_us, self.digest = applied, chain, time_us, digest
        self.senders = dict(senders)
        self.table = self.table_class.load(self.table.bounds, meta, rows)

    def apply(self, record: SlotRecord) -> list[Answer]:
        """Apply one slot; the answers of its batches, in log order."""
        sequence = record.sequence
        slot = sequence.slot
        for entry in sequence.entries:
            self.senders[entry.sender] = Ordered(entry.incarnation, entry.last_lsn)
        answers = []
        digest = self.digest
        self.configuration = after(self.configuration, record)
        if self.configuration.slot == slot:
            digest = crc32(bytes(self.configuration.members) + self.configuration.info, digest)
        for request in record.requests:
            for header in unpack_headers(b"".join(request.frames[:1])):
                verdict = self.judge(slot, header)
                first = verdict.first_offset if isinstance(verdict, Applied | Repeated) else 0
                code = _CODES[type(verdict)]
                digest = crc32(_MIX.pack(digest, slot, header.sequence * 8 + code, first), crc32(header.client))
                answers.append(Answer(header.client, header.sequence, verdict))
        self.applied = slot + 1
        self.chain = sequence.chain
        self.time_us = sequence.time_us
        self.digest = digest
        return answers

    def judge(self, slot: int, header: Header) -> Verdict:
        """K1, for one batch."""
        return self.table.apply(slot, header.client, header.sequence, header.messages, header.opened, header.digest)

    def save(self) -> Saved:
        """What has changed since the last call, for the disk."""
        return Saved(
            self.applied,
            self.chain,
            self.time_us,
            dict(self.senders),
            self.digest,
            self.table.take_changes(),
            self.configuration,
        )

    def snapshot(self, name: str, chunks: int) -> Snapshot:
        """The state as it stands, cut into `chunks` chunks (their bytes only name their place)."""
        return Snapshot(
            name,
            self.applied,
            self.chain,
            self.time_us,
            dict(self.senders),
            self.digest,
            dict(self.table.rows()),
            self.table.meta,
            tuple(f"{name}/{index}".encode() for index in range(chunks)),
            self.configuration,
        )

    def open(self, snapshot: Snapshot) -> None:
        """Become a received snapshot (C1)."""
        self.restore(
            snapshot.slot,
            snapshot.chain,
            snapshot.time_us,
            snapshot.senders,
            snapshot.digest,
            snapshot.meta,
            snapshot.rows,
            snapshot.configuration,
        )
