"""A backup over the network: a snapshot that the leader makes, fetched chunk by chunk into one file."""

import asyncio
from pathlib import Path
from typing import Any, Final

import ringcast
from ringcast.product_store.admin import MakeSnapshot, ReadChunk
from ringcast.strict import array, bad, integer, mapping, plain, text
from store.raft_backup import BackupWriter, Head

#: Another replica answers after a failover, and has not that snapshot: it is begun anew.
ATTEMPTS: Final = 5
#: Chunks that are asked for at a time.
WINDOW: Final = 4


async def back_up(store: ringcast.ProductStore, path: Path) -> dict[str, Any]:
    """Write `path`: all that was acknowledged before the call. Returns cluster, applied, chunks, bytes.

    Raises OSError, BackupDamaged, and what a question raises.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _attempt(store, path)
        except ringcast.UnknownQuery:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _attempt(store: ringcast.ProductStore, path: Path) -> dict[str, Any]:
    head = _head(await store.instruct(MakeSnapshot()))
    with BackupWriter(path, head) as backup:
        for first in range(0, head.chunks, WINDOW):
            numbers = range(first, min(head.chunks, first + WINDOW))
            # Local: of the replica that made it, as long as the connection to it stands.
            asked = (store.instruct(ReadChunk(head.snapshot, number), consistency="local") for number in numbers)
            for chunk in await asyncio.gather(*asked):
                if not isinstance(chunk, bytes):
                    bad("a chunk", type(chunk).__name__, "bytes")
                backup.add(chunk)
        found = {"cluster": f"{head.cluster:016x}", "applied": head.applied, "chunks": head.chunks}
    return {**found, "bytes": backup.size_bytes}


def _head(made: Any) -> Head:
    """Raises BadFrame."""
    mapping(plain, 64)("a snapshot", made)
    fields = tuple(made.get(name) for name in ("cluster", "name", "index", "term", "chunks"))
    array(text(16), text(64), integer(1), integer(1), integer(1))("a snapshot", fields)
    cluster, name, applied, term, chunks = fields
    try:
        return Head(int(cluster, 16), name, applied, term, chunks)
    except ValueError:
        bad("the cluster of a snapshot", cluster, "hex digits")
