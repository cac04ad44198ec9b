"""raftos' Timer, mended (R23): armed at most once, silent after a stop, and not in need of a running loop."""

import asyncio
from collections.abc import Callable

from replicas.raft import library
from replicas.raft.seams import Loop


class Timer(library.Timer):
    """Calls back every `interval` (seconds, or a function that draws them) from `start` to `stop`.

    The callback may stop or reset the timer; `stop` before `start` is nothing.
    """

    def __init__(self, interval: float | Callable[[], float], callback: Callable[[], object], loop: Loop) -> None:
        self.interval = interval
        self.callback = callback
        self.is_active = False
        self._clock = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, or begin again, with a newly drawn interval."""
        self.start_in(self.get_interval())

    def start_in(self, seconds: float) -> None:
        """Begin, or begin again, with this interval first."""
        self.stop()
        self.is_active = True
        self._handle = self._clock.call_later(seconds, self._run)

    def stop(self) -> None:
        """No callback comes after it."""
        self.is_active = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        armed = self._handle
        self.callback()
        if self.is_active and self._handle is armed:  # the callback left it alone
            self._handle = self._clock.call_later(self.get_interval(), self._run)
