"""The shell's side of ServeRecords and ServeChunk: committed slots and snapshots, read without the core."""

from sequencer.messages import Backfilled, Chains, Message, Records, Retransmit, SnapshotChunk
from sequencer.output import Serve, ServeBackfill, ServeRecords
from sequencer.simulator.disk import Disk, Log

CHAINS_MAX = 1_024


def answer(serve: Serve, log: Log, disk: Disk, slots_max: int) -> Message | None:
    """The frame that answers a request, at most `slots_max` slots; None if what it asks for is not here (any more)."""
    if isinstance(serve, ServeBackfill):
        return backfilled(serve, log, disk, slots_max)
    if not isinstance(serve, ServeRecords):
        snapshot = disk.snapshots.get(serve.snapshot)
        if snapshot is None:
            return None
        data = snapshot.chunks[serve.index]
        return SnapshotChunk(serve.view, snapshot.name, serve.slot, serve.chain, serve.index, serve.count, data)
    if not log.first <= serve.first <= log.end:
        return None
    if serve.chain is not None and log.chain(serve.first) != serve.chain:
        lowest = max(serve.first - CHAINS_MAX, log.first)
        return Chains(serve.view, lowest, tuple(log.chain(slot + 1) for slot in range(lowest, serve.first)))
    end = min(serve.end, log.end, serve.first + slots_max)
    if any(slot in disk.damaged for slot in range(serve.first, end)):
        return None
    records = tuple(log.records[slot] for slot in range(serve.first, end))
    if serve.retransmit:
        return Retransmit(serve.view, (), records)
    return Records(serve.view, serve.first, records, serve.repair, committed=0 if serve.repair else end)


def backfilled(serve: ServeBackfill, log: Log, disk: Disk, slots_max: int) -> Backfilled | None:
    """The highest records below the asker's log (C3), down to the first one that is damaged here."""
    below = serve.below
    if not log.first < below <= min(log.end, disk.saved.applied) or log.chain(below) != serve.chain:
        return None
    first = max(serve.first, log.first, below - slots_max)
    first = max((slot + 1 for slot in disk.damaged if first <= slot < below), default=first)
    if first == below:
        return None
    records = tuple(log.records[slot] for slot in range(first, below))
    return Backfilled(first, log.chain(first), records, (b"",) * len(records))
