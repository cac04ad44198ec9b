"""Percentiles, CPU and memory: what every number of the benchmark goes through."""

import os
import statistics
import time
from random import Random

import pytest

from bench.errors import ProcessFailed
from bench.measure import CpuMeter, cpu_seconds, middle, peak_memory_mb, percentile, percentiles_ms

NO_PROCESS = 1 << 22  # beyond any pid


@pytest.mark.parametrize(
    ("part", "expected"), [(0.01, 1), (0.5, 50), (0.501, 51), (0.95, 95), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_the_nearest_rank(part: float, expected: int) -> None:
    assert percentile(range(1, 101), part) == expected


def test_percentiles_of_one_sample_are_that_sample() -> None:
    found = percentiles_ms([0.002])
    assert (found.p50, found.p95, found.p99, found.max) == (2.0, 2.0, 2.0, 2.0)


def test_percentiles_do_not_depend_on_the_order() -> None:
    samples = [number / 1_000 for number in range(1, 1_001)]
    mixed = samples.copy()
    Random(1).shuffle(mixed)
    assert percentiles_ms(mixed) == percentiles_ms(samples)
    assert percentiles_ms(mixed).p99 == 990
    assert percentiles_ms(mixed).p50 == pytest.approx(1_000 * statistics.median_low(samples))


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentiles_ms([])


def test_the_middle_leaves_out_what_is_not_there() -> None:
    assert middle([3.0, None, 1.0, 2.0]) == 2.0
    assert middle([None]) is None


def test_cpu_and_memory_of_this_process() -> None:
    meter = CpuMeter([os.getpid()])
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    (used,) = meter.used()
    assert 0.05 <= used < 10
    assert peak_memory_mb(os.getpid()) > 1


def test_a_process_that_is_gone_is_a_typed_error() -> None:
    with pytest.raises(ProcessFailed, match=str(NO_PROCESS)):
        cpu_seconds(NO_PROCESS)
    with pytest.raises(ProcessFailed, match=str(NO_PROCESS)):
        peak_memory_mb(NO_PROCESS)
