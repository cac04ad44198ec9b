"""The wall clock of a process is as many seconds off as the file SKEW_FILE says; its monotonic clock is right."""

import os
import time
from pathlib import Path

_time, _time_ns = time.time, time.time_ns  # noqa: TID251 - here the clock is made wrong
_FILE = Path(os.environ.get("SKEW_FILE", os.devnull))


def _off() -> int:
    try:
        return int(_FILE.read_text())
    except (OSError, ValueError):
        return 0


time.time = lambda: _time() + _off()  # noqa: TID251
time.time_ns = lambda: _time_ns() + _off() * 1_000_000_000
