"""The loops that publish: so many messages or so long, with a bounded number of them unanswered."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

#: Looking at the clock for each message would be part of what is measured.
_CLOCK_EVERY = 64


@dataclass(slots=True)
class Load:
    """One workload. `window`: messages that may be unanswered. `deadline_s` is on time.monotonic."""

    payload: bytes
    count: int
    seconds: float
    window: int
    deadline_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin the time now."""
        self.deadline_s = time.monotonic() + self.seconds

    def over(self) -> bool:
        """Is the time up?"""
        return time.monotonic() >= self.deadline_s


async def keep_open(load: Load, send: Callable[[], Awaitable[Awaitable[object]]], per_send: int = 1) -> int:
    """Send until the load is over, `window` messages unanswered at most; returns those answered, which is all sent.

    `send` puts `per_send` messages on their way and gives what is awaited for their receipt.
    """
    waiting: deque[Awaitable[object]] = deque()
    open_max = max(1, load.window // per_send)
    sends_max = max(1, load.count // per_send)
    clock_every = max(1, _CLOCK_EVERY // per_send)
    sent = 0
    while sent < sends_max and (sent % clock_every or not load.over()):
        waiting.append(await send())
        sent += 1
        if len(waiting) >= open_max:
            await waiting.popleft()
    while waiting:
        await waiting.popleft()
    return sent * per_send


async def in_tasks(load: Load, publish: Callable[[bytes], Awaitable[object]]) -> int:
    """`window` tasks, each of which publishes and waits, over and over; returns the messages answered."""
    left = load.count
    done = 0

    async def work() -> None:
        nonlocal left, done
        while left > 0 and not load.over():
            left -= 1
            await publish(load.payload)
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(load.window, load.count)):
            group.create_task(work())
    return done


async def one_by_one(load: Load, publish: Callable[[bytes], Awaitable[object]]) -> list[float]:
    """Publish and wait for the receipt, nothing else meanwhile; returns the seconds of each."""
    seconds: list[float] = []
    while len(seconds) < load.count and not load.over():
        began_s = time.perf_counter()
        await publish(load.payload)
        seconds.append(time.perf_counter() - began_s)
    return seconds
