"""Publishers outside of every container, ended whatever happens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.processes.load import Load


@asynccontextmanager
async def publishing(where: Path, clients: int = 2, topic: str = "load") -> AsyncIterator[Load]:
    """Publishers that have begun; at the end, raises what one of them met."""
    load = Load(where, clients=clients, topic=topic)
    await load.start()
    try:
        await load.reach(50)
        yield load
    finally:
        await load.stop()
