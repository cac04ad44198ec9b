"""K3: which readers share a READ; each round ends once."""

from sequencer.output import ReadAsked
from sequencer.read_rounds import ReadRounds


def rounds() -> ReadRounds[str]:
    return ReadRounds()


def test_readers_that_come_before_a_step_share_its_round() -> None:
    reads = rounds()
    assert reads.take() == []
    one = reads.join("a")
    assert reads.join("b") is one
    assert reads.take() == [ReadAsked(1)]
    assert reads.take() == []
    other = reads.join("c")
    assert other is not one
    assert len(reads) == 2
    assert reads.take() == [ReadAsked(2)]


def test_a_round_ends_once_its_slot_is_applied() -> None:
    reads = rounds()
    assert reads.due(9) == []
    first, _ = reads.join("a"), reads.take()
    second, _ = reads.join("b"), reads.take()
    assert reads.due(9) == []
    reads.ready(2, 3)
    reads.ready(1, 5)
    assert reads.due(2) == []
    assert reads.due(3) == [second]
    assert reads.due(5) == [first]
    assert reads.due(5) == []
    assert len(reads) == 0


def test_a_round_that_was_dropped_stays_dropped() -> None:
    reads = rounds()
    asked, _ = reads.join("a"), reads.take()
    gathering = reads.join("b")
    assert reads.drop(asked)
    assert not reads.drop(asked)
    reads.ready(1, 0)
    assert reads.due(0) == []
    assert reads.drop(gathering)
    assert not reads.drop(gathering)
    assert reads.take() == []


def test_all_rounds_can_be_dropped() -> None:
    reads = rounds()
    assert reads.drop_all() == []
    asked, _ = reads.join("a"), reads.take()
    assert reads.drop_all() == [asked]
    asked, _ = reads.join("b"), reads.take()
    gathering = reads.join("c")
    assert reads.drop_all() == [asked, gathering]
    assert len(reads) == 0
