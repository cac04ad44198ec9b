"""The shell's side of ServeRecords and ServeChunk: committed slots and snapshots, read without the core."""

from sequencer.messages import Chains, Message, Records, Retransmit, SnapshotChunk
from sequencer.output import Serve, ServeRecords
from sequencer.simulator.disk import Disk, Log

CHAINS_MAX = 1_024


def answer(serve: Serve, log: Log, disk: Disk, slots_max: int) -> Message | None:
    """The frame that answers a request, at most `slots_max` slots; None if what it asks for is not here (any more)."""
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
