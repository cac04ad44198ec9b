"""What peers fetch, read from the disk in a thread: committed records, the chains that tell where to cut, chunks.

Records leave as the bytes that the log holds: the store has checked them, and the asker checks them again (A10). What
is served is durable and never changes (it lies below the core's window), so a serve waits for no write.

An answer to FETCH is cut into parts. While the asker hashes and stores one, the next one is read here, and a loop that
also orders messages is never held up by a large one.
"""

import asyncio
from collections.abc import Callable

from replicas.bus.backfill_codec import StoredBackfilled, StoredMessage, StoredRecords, StoredRetransmit
from replicas.bus.rows import number_key
from sequencer import messages as m
from sequencer import output as o
from store.contract import APPLIED_KEY, NO_CHAIN, LogStore
from store.errors import ChunkDamaged, RecordDamaged, StoreError
from store.snapshot import decode_slot

#: One message, and one answer: what the asker's FETCH may bring on its way at once.
PART_BYTES_MAX = 1 << 20
SERVE_BYTES_MAX = 8 << 20
RETRANSMIT_BYTES_MAX = 4 << 20
CHAINS_MAX = 1_024
#: Of one BACKFILLED: what the asker writes at once, beside the records that are being ordered (C3).
BACKFILL_BYTES_MAX = 1 << 20
BACKFILL_RECORDS_MAX = 2_048

Served = m.Message | StoredMessage


class Serving:
    """Answers FETCH, BACKFILL and NACK of old slots. `send(to, message)` is called on the loop.

    `damaged(slot)`: so is this, when a record does not fit its checksum.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: LogStore,
        send: Callable[[int, Served], None],
        damaged: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._send = send
        self._damaged = damaged
        self._tasks: dict[tuple[int, str], asyncio.Task[None]] = {}

    def serve(self, serve: o.Serve) -> None:
        """Read in a thread, then send; nothing is sent if it is not there: the asker asks another.

        Who asks again before it has its answer gets one answer: a second one would only keep both busy.
        """
        kind = "retransmit" if isinstance(serve, o.ServeRecords) and serve.retransmit else "fetch"
        key = (serve.to, "backfill" if isinstance(serve, o.ServeBackfill) else kind)
        if key not in self._tasks:
            task = self._tasks[key] = self._loop.create_task(self._serve(serve))
            task.add_done_callback(lambda _: self._tasks.pop(key))

    async def _serve(self, serve: o.Serve) -> None:
        if isinstance(serve, o.ServeChunk):
            await self._answer(serve.to, self._chunk, serve)
            return
        if isinstance(serve, o.ServeBackfill):
            await self._answer(serve.to, self._backfill, serve)
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
        except RecordDamaged as error:
            self._damaged(error.slot)
            return None
        except StoreError:  # trimmed or closed meanwhile
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

    def _backfill(self, serve: o.ServeBackfill) -> Served | None:
        """Downwards from `below`, with what the state machine keeps of each slot: its rows may follow the log."""
        store = self._store
        applied = decode_slot(store.row("meta", APPLIED_KEY) or b"")
        if applied is None or applied < serve.below or store.chain(serve.below - 1) != serve.chain:
            return None
        bodies: list[bytes] = []
        notes: list[bytes] = []
        first, size = serve.below, 0
        lowest = max(serve.first, store.bounds()[0], serve.below - BACKFILL_RECORDS_MAX)
        while first > lowest:
            try:
                found = store.read(first - 1)
            except RecordDamaged:
                if not bodies:
                    raise
                break
            size += len(found[0]) if found is not None else 0
            if found is None or (bodies and size > BACKFILL_BYTES_MAX):
                break
            first -= 1
            bodies.append(found[0])
            notes.append(store.row("batches", number_key(first)) or b"")
        before = store.chain(first - 1) if first else NO_CHAIN
        if not bodies or before is None:
            return None
        return StoredBackfilled(first, before, tuple(reversed(bodies)), tuple(reversed(notes)))

    def _chunk(self, serve: o.ServeChunk) -> m.Message:
        """A damaged file goes at once (C1): the asker asks another member, and a new one is made here."""
        try:
            data = self._store.read_chunk(serve.snapshot, serve.index)
        except ChunkDamaged:
            self._store.drop_snapshot(serve.snapshot)
            raise
        return m.SnapshotChunk(serve.view, serve.snapshot, serve.slot, serve.chain, serve.index, serve.count, data)
