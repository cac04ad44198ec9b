"""Histograms out of /metrics, their differences and quantiles."""

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from replicas.dashboard.measures import PUBLISH, Buckets, added, read_metrics, together
from replicas.metrics import Histogram


def buckets(*counts: float, sum_s: float = 0.0) -> Buckets:
    """Up to 1 ms, 2 ms, 4 ms and beyond."""
    return Buckets(dict(zip((0.001, 0.002, 0.004, math.inf), counts, strict=True)), sum_s)


def test_a_replicas_own_metrics_are_read() -> None:
    histogram = Histogram()
    for seconds in (0.0004, 0.0012, 0.0013, 30.0):
        histogram.observe(seconds)

    class Metrics(Collector):
        def collect(self) -> list[Metric]:
            labels = {"ring": "0", "member": "1"}
            return [histogram.family("publish_seconds", "", labels), histogram.family("sync_seconds", "", labels)]

    registry = CollectorRegistry()
    registry.register(Metrics())
    found = read_metrics(generate_latest(registry).decode())
    assert list(found) == [PUBLISH]
    assert (found[PUBLISH].observed, found[PUBLISH].counts[0.0005]) == (4, 1)
    assert found[PUBLISH].sum_s == pytest.approx(30.0029)


def test_what_is_no_metrics_has_no_histograms() -> None:
    assert read_metrics("") == {}


def test_quantiles_are_linear_within_a_bucket() -> None:
    found = buckets(0, 100, 100, 100)
    assert found.quantile(0.5) == pytest.approx(0.0015)
    assert found.quantile(1.0) == pytest.approx(0.002)
    assert buckets(0, 0, 0, 5).quantile(0.99) == 0.004
    assert buckets(0, 0, 0, 0).quantile(0.5) is None
    assert Buckets().quantile(0.5) is None
    assert Buckets().mean_s is None


def test_only_what_is_new_counts() -> None:
    assert added(buckets(1, 2, 3, 4, sum_s=1), buckets(1, 5, 6, 7, sum_s=3)) == buckets(0, 3, 3, 3, sum_s=2)
    assert added(None, buckets(1, 2, 3, 4)) == Buckets()
    started_anew = buckets(1, 1, 1, 1)
    assert added(buckets(9, 9, 9, 9), started_anew) == started_anew


def test_replicas_are_added_up() -> None:
    assert together([buckets(1, 2, 3, 4, sum_s=1), Buckets(), buckets(1, 1, 1, 1, sum_s=2)]) == buckets(
        2, 3, 4, 5, sum_s=3
    )
