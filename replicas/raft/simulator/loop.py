"""An asyncio loop of virtual time, and the part of it that one member sees: it is held up, paused, or dies."""

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any

Calls = list[tuple[list[asyncio.Handle], Callable[..., object], tuple[Any, ...]]]


class _Selector(selectors.SelectSelector):
    """Nothing ever arrives from outside, so waiting is moving the clock."""

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is planned: the simulation hangs")
        self._loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds pass when nothing is left to do; a run is the same each time."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self.now


class MemberLoop:
    """What a member calls its loop. Paused, as by SIGSTOP, or held up by a callback that takes long, its calls wait and
    then come in one turn; dead, they never come."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self._loop = loop
        self._random = random
        self._paused = False
        self._held = False
        self._dead = False
        self._waiting: Calls = []

    def time(self) -> float:
        """The clock goes on while a process is stopped."""
        return self._loop.now

    def create_future(self) -> asyncio.Future[Any]:
        """For whoever asks the member."""
        return self._loop.create_future()

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """See asyncio."""
        cell: list[asyncio.Handle] = []
        cell.append(self._loop.call_soon(self._run, cell, callback, args, context=context))
        return cell[0]

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        cell: list[asyncio.Handle] = []
        handle = self._loop.call_later(delay, self._run, cell, callback, args, context=context)
        cell.append(handle)
        return handle

    def _run(self, cell: list[asyncio.Handle], callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self._dead or cell[0].cancelled():
            return
        if self._paused or self._held:
            self._waiting.append((cell, callback, args))
        else:
            callback(*args)

    def pause(self) -> None:
        """SIGSTOP."""
        self._paused = True

    def resume(self) -> None:
        """SIGCONT: everything is due at once, timers before what arrived or after it."""
        self._paused = False
        self._catch_up(self._random)

    def hold(self) -> None:
        """A callback takes long: what comes meanwhile waits for `release`."""
        self._held = True

    def release(self, random: Random) -> None:
        """The callback has returned: all that came is one turn's."""
        self._held = False
        self._catch_up(random)

    def _catch_up(self, random: Random) -> None:
        if self._paused or self._held:
            return
        waiting, self._waiting = self._waiting, []
        timers_last = random.random() < 0.5
        waiting.sort(key=lambda call: isinstance(call[0][0], asyncio.TimerHandle) is timers_last)
        for call in waiting:
            self._loop.call_soon(self._run, *call)

    def kill(self) -> None:
        """kill -9."""
        self._dead = True
        self._waiting.clear()
