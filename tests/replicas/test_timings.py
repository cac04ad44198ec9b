"""Latencies of slots and tokens, from instructions that a core would give."""

from replicas.timings import Timings
from sequencer.messages import Broadcast, Nack, Status, Token
from sequencer.output import AppendRecord, CutLog, ResetDisk
from sequencer.types import Sequence, SlotRecord, ViewNumber

VIEW, NEXT_VIEW = ViewNumber(1, 1), ViewNumber(2, 1)


def _record(slot: int, time_us: int = 0) -> SlotRecord:
    return SlotRecord(Sequence(VIEW, slot, time_us, (), b""), ())


def _append(timings: Timings, slot: int, now_us: int) -> None:
    timings.persisted(AppendRecord(_record(slot), b""), now_us)


def _sum_s(timings: Timings, name: str) -> float:
    family = getattr(timings, name).family("x", "x", {})
    return float(next(sample.value for sample in family.samples if sample.name.endswith("_sum")))


def test_a_slot_is_stable_when_it_is_delivered() -> None:
    timings = Timings()
    _append(timings, 7, 1_000_000)
    _append(timings, 8, 1_500_000)
    timings.delivered([_record(7, 100), _record(8, 100)], 2_000_000, 250_100)
    assert timings.stable.count == timings.deliver.count == 2
    assert _sum_s(timings, "stable") == 1.5
    assert _sum_s(timings, "deliver") == 0.5


def test_a_slot_that_was_cut_or_not_written_here_has_no_stable_time() -> None:
    timings = Timings()
    _append(timings, 7, 0)
    _append(timings, 8, 0)
    timings.persisted(CutLog(8), 0)
    timings.delivered([_record(7), _record(8)], 1_000_000, 0)
    assert timings.stable.count == 1
    _append(timings, 9, 0)
    timings.persisted(ResetDisk(), 0)
    timings.delivered([_record(9)], 1_000_000, 0)
    assert (timings.stable.count, timings.deliver.count) == (1, 3)


def test_a_rotation_is_between_two_tokens_of_one_view() -> None:
    timings = Timings()
    for view, hop, now_us in ((VIEW, 0, 0), (VIEW, 3, 300_000), (VIEW, 3, 350_000), (NEXT_VIEW, 0, 900_000)):
        timings.sends(Token(view, hop, 0, 0, ()), now_us)
    assert timings.rotation.count == 1
    assert _sum_s(timings, "rotation") == 0.3
    assert timings.sent[Token] == 4


def test_frames_are_counted_by_kind_and_direction() -> None:
    timings = Timings()
    nack = Nack(VIEW, 0, 1, ())
    timings.sends(nack, 0)
    timings.receives(nack, 2)
    timings.receives(nack, 2)
    assert (timings.sent[Nack], timings.received[Nack]) == (1, 2)


def test_what_is_remembered_of_a_slot() -> None:
    """`explain`: who ordered it, when it went to the disk, when it was delivered; in memory, bounded."""
    timings, status = Timings(), Status(VIEW, True, VIEW, 0, 0, 0, 0, 0, wiped=False, leaving=False)
    timings.receives(Broadcast(status, sequences=(_record(7).sequence,)), 2)
    timings.sends(Broadcast(status, sequences=(_record(8).sequence,)), 0)
    for slot in (7, 8):
        _append(timings, slot, 1_000)
    timings.delivered([_record(7), _record(8), _record(9)], 1_500, 90_000)
    assert timings.traces.find(7) == {"slot": 7, "holder": 2, "stored_us": 89_500, "delivered_us": 90_000}
    assert timings.traces.find(8)["holder"] == 0
    assert timings.traces.find(9) == {"slot": 9, "holder": -1, "stored_us": 0, "delivered_us": 90_000}
    assert timings.traces.find(6) == timings.traces.find(10) == {}
    timings.delivered([_record(20)], 1_500, 91_000)  # a snapshot jumped over some
    assert timings.traces.find(20)["delivered_us"] == 91_000
