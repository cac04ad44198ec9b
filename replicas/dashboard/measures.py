"""Latency out of /metrics: histograms as replicas count them, what was added between two looks, and its quantiles.

A replica that started anew counts from zero: what it says then is all new, as Prometheus takes it.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

PUBLISH = "ringcast_publish_seconds"
ROTATION = "ringcast_token_rotation_seconds"
_WANTED = (PUBLISH, ROTATION)


class Buckets(NamedTuple):
    """`counts`: upper bound in seconds -> observations up to it (cumulative, the last bound is infinite)."""

    counts: Mapping[float, float] = {}
    sum_s: float = 0.0

    @property
    def observed(self) -> float:
        """All observations."""
        return max(self.counts.values(), default=0.0)

    @property
    def mean_s(self) -> float | None:
        """None without observations."""
        return self.sum_s / self.observed if self.observed > 0 else None

    def quantile(self, share: float) -> float | None:
        """In seconds, linear within a bucket; None without observations. Beyond the last bound: that bound."""
        wanted = self.observed * share
        if wanted <= 0:
            return None
        low, below = 0.0, 0.0
        for bound, count in sorted(self.counts.items()):
            if count >= wanted:
                if math.isinf(bound):
                    return low
                return low + (bound - low) * ((wanted - below) / (count - below))
            low, below = bound, count
        return low


#: Histogram by name, of one replica.
Measured = Mapping[str, Buckets]


def read_metrics(text: str) -> dict[str, Buckets]:
    """The histograms wanted here, of the text that a replica answers at /metrics."""
    # Three lines in a hundred are of interest, and the parser is the dear part.
    lines = [line for line in text.splitlines() if line.startswith(_WANTED) or line.startswith(_HEADS)]
    found: dict[str, tuple[dict[float, float], float]] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        counts: dict[float, float] = {}
        total = 0.0
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                counts[float(sample.labels["le"])] = sample.value
            elif sample.name.endswith("_sum"):
                total = sample.value
        found[family.name] = (counts, total)
    return {name: Buckets(counts, total) for name, (counts, total) in found.items()}


_HEADS = tuple(f"# TYPE {name}" for name in _WANTED)


def added(before: Buckets | None, after: Buckets) -> Buckets:
    """What was observed between two looks at one replica."""
    if before is None:
        return Buckets()  # nobody knows since when it counts
    if after.observed < before.observed:
        return after
    counts = {bound: count - before.counts.get(bound, 0.0) for bound, count in after.counts.items()}
    return Buckets(counts, max(0.0, after.sum_s - before.sum_s))


def together(parts: Iterable[Buckets]) -> Buckets:
    """Of several replicas: all have the same bounds."""
    counts: dict[float, float] = {}
    total = 0.0
    for part in parts:
        total += part.sum_s
        for bound, count in part.counts.items():
            counts[bound] = counts.get(bound, 0.0) + count
    return Buckets(counts, total)
