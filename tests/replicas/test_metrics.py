"""Histograms and families as Prometheus reads them."""

from pathlib import Path

from prometheus_client.samples import Sample

from replicas.metrics import BOUNDS_S, Histogram, disk_space, dropped

LABELS = {"member": "1"}


def _samples(histogram: Histogram) -> list[Sample]:
    return list(histogram.family("wait_seconds", "Waiting", LABELS).samples)


def test_buckets_are_cumulative_and_end_with_all() -> None:
    histogram = Histogram()
    for seconds in (BOUNDS_S[0], BOUNDS_S[0] * 1.01, BOUNDS_S[-1] * 2):
        histogram.observe(seconds)
    buckets = [sample for sample in _samples(histogram) if sample.name == "ringcast_wait_seconds_bucket"]
    assert [bucket.labels["le"] for bucket in buckets] == [*map(str, BOUNDS_S), "+Inf"]
    counts = [bucket.value for bucket in buckets]
    assert counts[:2] == [1, 2]  # a bound is its bucket's own
    assert counts == sorted(counts)
    assert counts[-2:] == [2, 3]
    assert histogram.count == 3


def test_the_sum_is_in_seconds_and_a_clock_that_went_back_counts_as_none() -> None:
    histogram = Histogram()
    for seconds in (0.5, 0.25, -3.0):
        histogram.observe(seconds)
    (total,) = [sample.value for sample in _samples(histogram) if sample.name == "ringcast_wait_seconds_sum"]
    assert total == 0.75
    assert histogram.count == 3


def test_bounds_ascend() -> None:
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))


def test_only_what_was_thrown_away_counts_as_dropped() -> None:
    groups = {
        "transport": {"dropped_bad_frame": 2, "peer_cut": 1},
        "gateway": {"dropped": 3, "publish": 9},
        "shell": {"fact_token_dropped": 4, "fact_view_installed": 1},
    }
    rows = {
        (sample.labels["part"], sample.labels["reason"]): sample.value for sample in dropped(LABELS, groups).samples
    }
    assert rows == {
        ("transport", "dropped_bad_frame"): 2,
        ("gateway", "dropped"): 3,
        ("shell", "fact_token_dropped"): 4,
    }


def test_a_folder_that_is_gone_has_no_space_to_tell_of(tmp_path: Path) -> None:
    assert [family.name for family in disk_space(LABELS, tmp_path)] == [
        "ringcast_disk_free_bytes",
        "ringcast_disk_size_bytes",
    ]
    assert list(disk_space(LABELS, tmp_path / "gone")) == []
