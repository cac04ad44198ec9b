"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Callable

LIMIT_S = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fails after LIMIT_S."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - conditions of any kind, some in sockets
            await asyncio.sleep(0.002)
