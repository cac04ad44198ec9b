"""What peers fetch, read from the disk in a thread: committed records, the chains that tell where to cut, chunks.

A serve is carried out after everything persisted before it is durable, so it sees the log as the core does.
"""

import asyncio
from collections.abc import Callable

from replicas.record_codec import decode_record
from ringcast.errors import BadFrame
from sequencer import messages as m
from sequencer import output as o
from store.contract import NO_CHAIN, LogStore
from store.errors import StoreError

SERVE_BYTES_MAX = 4 << 20
CHAINS_MAX = 1_024


class Serving:
    """Answers FETCH and NACK of old slots. `send(to, message)` is called on the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: LogStore, send: Callable[[int, m.Message], None]
    ) -> None:
        self._loop = loop
        self._store = store
        self._send = send
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, serve: o.Serve) -> None:
        """Read in a thread, then send; nothing is sent if it is not there: the asker asks another."""
        task = self._loop.create_task(self._serve(serve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, serve: o.Serve) -> None:
        message = await asyncio.to_thread(self._read, serve)
        if message is not None:
            self._send(serve.to, message)

    def _read(self, serve: o.Serve) -> m.Message | None:
        try:
            return self._records(serve) if isinstance(serve, o.ServeRecords) else self._chunk(serve)
        except (StoreError, BadFrame):  # damaged, trimmed or closed meanwhile
            return None

    def _records(self, serve: o.ServeRecords) -> m.Message | None:
        store = self._store
        first, end = store.bounds()
        if not first <= serve.first <= end:
            return None
        if serve.chain is not None:
            chain = store.chain(serve.first - 1) if serve.first else NO_CHAIN
            if chain is None:
                return None
            if chain != serve.chain:
                lowest = max(serve.first - CHAINS_MAX, first)
                chains = tuple(known for slot in range(lowest, serve.first) if (known := store.chain(slot)) is not None)
                return m.Chains(serve.view, lowest, chains)
        found = store.read_range(serve.first, min(serve.end, end), SERVE_BYTES_MAX)
        records = tuple(decode_record(body) for _, body, _ in found)
        if serve.retransmit:
            return m.Retransmit(serve.view, (), records) if records else None
        return m.Records(serve.view, serve.first, records, serve.repair)

    def _chunk(self, serve: o.ServeChunk) -> m.Message:
        data = self._store.read_chunk(serve.snapshot, serve.index)
        return m.SnapshotChunk(serve.view, serve.snapshot, serve.slot, serve.chain, serve.index, serve.count, data)
