"""How Prometheus metrics are made of what a replica counts. Nothing is formatted before somebody asks.

`prometheus_client`'s own Counter and Histogram take a lock and a dictionary a call, so the hot path has its own: an
observation is one bisect and two additions, once a batch, slot or commit, never once a message.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

#: Upper bounds in seconds: a synced flush is 0.1 to 0.5 ms, a view change some 100 ms, a client's time limit 10 s.
BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip


class Histogram:
    """Counts by upper bound. One writer (a loop or a thread); whoever reads meanwhile sees a count more or less."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one. A clock that went back (another machine's) counts as 0."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += max(0.0, seconds)

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self._counts)

    def family(self, name: str, text: str, labels: Mapping[str, str]) -> Metric:
        """As Prometheus wants it: cumulative, the last bucket is +Inf."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = HistogramMetricFamily(f"ringcast_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), buckets=buckets, sum_value=self._sum_s)
        return family


def gauges(labels: Mapping[str, str], values: Mapping[str, tuple[str, float]]) -> Iterator[Metric]:
    """Families of one value each: name -> (text, value)."""
    for name, (text, value) in values.items():
        family = GaugeMetricFamily(f"ringcast_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        yield family


def counters(labels: Mapping[str, str], values: Mapping[str, tuple[str, float]]) -> Iterator[Metric]:
    """Families of one value each, of what only grows: name without `_total` -> (text, value)."""
    for name, (text, value) in values.items():
        family = CounterMetricFamily(f"ringcast_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        yield family


def events(labels: Mapping[str, str], groups: Mapping[str, Mapping[str, float]]) -> Metric:
    """The counters of each part."""
    text = "What happened, by part and name"
    return by_name("events", text, labels, ("part", "name"), _pairs(groups))


def dropped(labels: Mapping[str, str], groups: Mapping[str, Mapping[str, float]]) -> Metric:
    """Frames that were thrown away: whatever the parts count as dropped, refused by the protocol, or too large."""
    rows = [(key, value) for key, value in _pairs(groups) if _is_drop(key[1])]
    return by_name("dropped_frames", "Frames that were thrown away, by part and why", labels, ("part", "reason"), rows)


def by_name(
    name: str,
    text: str,
    labels: Mapping[str, str],
    more: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    """A counter with labels of its own: (their values, count) a row."""
    family = CounterMetricFamily(f"ringcast_{name}", text, labels=[*labels, *more])
    for values, count in rows:
        family.add_metric([*labels.values(), *values], count)
    return family


def disk_space(labels: Mapping[str, str], folder: Path) -> Iterator[Metric]:
    """The file system of the data folder; nothing if it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return
    yield from gauges(
        labels,
        {
            "disk_free_bytes": ("space that is left for the data folder", found.f_bavail * found.f_frsize),
            "disk_size_bytes": ("size of the data folder's file system", found.f_blocks * found.f_frsize),
        },
    )


def _pairs(groups: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[tuple[str, str], float]]:
    for part, named in groups.items():
        for name, value in list(named.items()):
            yield (part, name), value


def _is_drop(name: str) -> bool:
    told = {"fact_token_dropped", "fact_frame_refused", "fact_nack_over_budget", "chunks_damaged", "too_large"}
    return name.startswith("dropped") or name in told or name == "wrong_cluster"
