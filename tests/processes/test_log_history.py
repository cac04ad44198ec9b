"""The checker of log histories: what is linearizable passes, and what is not is named."""

import pytest

from tests.processes.log_history import Published, Read, violations

A = Published(0, 0.0, 1.0)
B = Published(3, 2.0, 3.0)  # what stands between is of other topics


@pytest.mark.parametrize(
    "reads",
    [
        [Read(0, 0.1, 0.5)],
        [Read(1, 0.1, 0.5)],
        [Read(1, 1.5, 1.8), Read(3, 1.5, 1.8)],
        [Read(3, 1.5, 1.6), Read(1, 1.7, 1.8)],  # the same messages
        [Read(4, 2.1, 2.2), Read(4, 2.3, 2.4)],
        [Read(1, 0.5, 9.0), Read(4, 2.1, 2.2)],  # at once: the order is open
        [Read(4, 4.0, 5.0)],
    ],
)
def test_what_some_order_explains_passes(reads: list[Read]) -> None:
    assert violations([A, B, *reads]) == []


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ([A, Read(0, 1.5, 1.8)], "stale: it misses what was acknowledged"),
        ([A, B, Read(3, 3.5, 3.8)], "stale: it misses what was acknowledged"),
        ([A, B, Read(4, 2.1, 2.2), Read(1, 2.3, 2.4)], "stale: it misses what another read"),
        ([A, B, Read(4, 1.5, 1.6)], "its place was acknowledged, or read"),
        ([Published(5, 0.0, 1.0), Published(4, 2.0, 3.0)], "its place was acknowledged, or read"),
    ],
)
def test_what_no_order_explains_is_found(history: list[Published | Read], why: str) -> None:
    (broken,) = violations(history)
    assert broken.why.startswith(why)
