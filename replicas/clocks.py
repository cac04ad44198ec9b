"""The two clocks of a process, read at the edge alone: the core is given its time."""

import time


def now_us() -> int:
    """The monotonic clock in microseconds."""
    return time.monotonic_ns() // 1_000


def wall_us() -> int:
    """The wall clock in microseconds since 1970; for users and retention only."""
    return time.time_ns() // 1_000
