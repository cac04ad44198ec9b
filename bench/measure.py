"""What a process used, and percentiles of what was timed. Reads /proc: it measures on Linux only."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import ProcessFailed

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1_024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads. Raises ProcessFailed if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        raise ProcessFailed(f"process {pid} ended while it was measured: see its log") from None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_memory_mb(pid: int) -> float:
    """The largest resident size that a process had so far, in MB. Raises ProcessFailed if it is gone."""
    return _memory_mb(pid, "VmHWM:")


def anonymous_memory_mb(pid: int) -> float:
    """What a process holds now that no file holds too, in MB. Raises ProcessFailed if it is gone."""
    return _memory_mb(pid, "RssAnon:")


def _memory_mb(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        raise ProcessFailed(f"process {pid} ended while it was measured: see its log") from None
    found = next((line.split()[1] for line in lines if line.startswith(name)), "0")
    return int(found) * _KIB / 1e6


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds, by nearest rank: each is one of the samples."""

    p50: float
    p95: float
    p99: float
    max: float


def percentile(ordered: Sequence[float], part: float) -> float:
    """The nearest-rank percentile of ordered samples; 0 < part <= 1."""
    if not ordered:
        raise ValueError("no samples: there is no percentile of nothing")
    return ordered[max(0, -int(-len(ordered) * part // 1) - 1)]


def percentiles_ms(seconds: Iterable[float]) -> Percentiles:
    """Of samples in seconds, in any order. Raises ValueError if there are none."""
    ordered = sorted(seconds)
    p50, p95, p99 = (percentile(ordered, part) for part in (0.50, 0.95, 0.99))
    return Percentiles(*(round(1_000 * one, 4) for one in (p50, p95, p99, ordered[-1])))


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is there; None of nothing."""
    present = [one for one in values if one is not None]
    return median(present) if present else None


class CpuMeter:
    """CPU seconds of some processes since it was made."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = tuple(pids)
        self._before = self._now()

    def _now(self) -> list[float]:
        return [cpu_seconds(pid) for pid in self._pids]

    def used(self) -> list[float]:
        """For each process, in the order given."""
        return [after - before for before, after in zip(self._before, self._now(), strict=True)]
