"""What peers fetch, read from the disk in a thread: committed records, the chains that tell where to cut, chunks.

Records leave as the bytes that the log holds: the store has checked them, and the asker checks them again (A10). What
is served is durable and never changes (it lies below the core's window), so a serve waits for no write.

An answer to FETCH is cut into parts. While the asker hashes and stores one, the next one is read here, and a loop that
also orders messages is never held up by a large one.
"""

import asyncio
from collections.abc import Callable

from replicas.bus.peer_codec import StoredMessage, StoredRecords, StoredRetransmit
from sequencer import messages as m
from sequencer import output as o
from store.contract import NO_CHAIN, LogStore
from store.errors import StoreError

#: One message, and one answer: what the asker's FETCH may bring on its way at once.
PART_BYTES_MAX = 1 << 20
SERVE_BYTES_MAX = 8 << 20
RETRANSMIT_BYTES_MAX = 4 << 20
CHAINS_MAX = 1_024

Served = m.Message | StoredMessage


class Serving:
    """Answers FETCH and NACK of old slots. `send(to, message)` is called on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: LogStore, send: Callable[[int, Served], None]) -> None:
        self._loop = loop
        self._store = store
        self._send = send
        self._tasks: dict[tuple[int, bool], asyncio.Task[None]] = {}

    def serve(self, serve: o.Serve) -> None:
        """Read in a thread, then send; nothing is sent if it is not there: the asker asks another.

        Who asks again before it has its answer gets one answer: a second one would only keep both busy.
        """
        key = (serve.to, isinstance(serve, o.ServeRecords) and serve.retransmit)
        if key not in self._tasks:
            task = self._tasks[key] = self._loop.create_task(self._serve(serve))
            task.add_done_callback(lambda _: self._tasks.pop(key))

    async def _serve(self, serve: o.Serve) -> None:
        if isinstance(serve, o.ServeChunk):
            await self._answer(serve.to, self._chunk, serve)
            return
        first, left = serve.first, SERVE_BYTES_MAX
        while True:
            part = await self._answer(serve.to, self._records, serve, first, left)
            if not isinstance(part, StoredRecords) or not part.more:
                return
            first += len(part.bodies)
            left -= sum(map(len, part.bodies))

    async def _answer(self, to: int, read: Callable[..., Served | None], *arguments: object) -> Served | None:
        try:
            message = await asyncio.to_thread(read, *arguments)
        except StoreError:  # damaged, trimmed or closed meanwhile
            return None
        if message is not None:
            self._send(to, message)
        return message

    # -------------------------------------------------------------- in a thread

    def _records(self, serve: o.ServeRecords, first: int, left: int) -> Served | None:
        """The part of the answer that begins at `first`; `left`: bytes of the whole answer that are still to come."""
        store = self._store
        low, end = store.bounds()
        if not low <= first <= end:
            return None
        if serve.chain is not None and first == serve.first:
            chain = store.chain(first - 1) if first else NO_CHAIN
            if chain is None:
                return None
            if chain != serve.chain:
                lowest = max(first - CHAINS_MAX, low)
                chains = tuple(known for slot in range(lowest, first) if (known := store.chain(slot)) is not None)
                return m.Chains(serve.view, lowest, chains)
        end = min(serve.end, end)
        bytes_max = RETRANSMIT_BYTES_MAX if serve.retransmit else PART_BYTES_MAX
        bodies = tuple(body for _, body, _ in store.read_range(first, end, bytes_max))
        if serve.retransmit:
            return StoredRetransmit(serve.view, bodies) if bodies else None
        after = first + len(bodies)
        more = bool(bodies) and after < end and sum(map(len, bodies)) < left
        return StoredRecords(serve.view, first, bodies, serve.repair, more, 0 if serve.repair else after)

    def _chunk(self, serve: o.ServeChunk) -> m.Message:
        data = self._store.read_chunk(serve.snapshot, serve.index)
        return m.SnapshotChunk(serve.view, serve.snapshot, serve.slot, serve.chain, serve.index, serve.count, data)
