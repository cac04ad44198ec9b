"""The tail of the log in memory, against a plain list and an A2 table that is counted anew each time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sequencer.errors import InvariantError
from sequencer.types import GENESIS_CHAIN, Ordered, SlotRecord
from sequencer.window import LogWindow
from tests.sequencer.builders import FIRST_VIEW, incarnation, log, record, request


def filled(slots: int) -> LogWindow:
    """A window over a log of so many slots."""
    window = LogWindow(0, 0, GENESIS_CHAIN, 0, {})
    for made in log(slots):
        window.append(made)
    return window


def test_records_are_cut_to_the_window_and_to_the_bytes() -> None:
    """With a byte limit at least one record and no more than fit."""
    window, records = filled(5), log(5)
    assert window.records(-3, 9) == records
    assert window.records(1, 3) == records[1:3]
    assert window.records(0, 5, 1) == records[:1]
    assert window.records(0, 5, records[0].size + records[1].size) == records[:2]
    assert window.records(3, 3) == ()


def test_chain_is_known_from_the_slot_before_the_window() -> None:
    """chain(slot) for base - 1 <= slot < end, else None."""
    window, records = filled(4), log(4)
    window.forget(3, 1, 1 << 30)
    assert window.base == 3
    assert [window.chain(slot) for slot in (1, 2, 3, 4)] == [
        None, records[2].sequence.chain, records[3].sequence.chain, None,
    ]  # fmt: skip
    assert window.end_chain == records[3].sequence.chain
    assert window.record(3) == records[3]


def test_forgetting_keeps_what_is_not_delivered_and_obeys_both_limits() -> None:
    """Nothing at or above `below` goes; beyond either limit the oldest goes first."""
    size = log(1)[0].size
    for slots_max, bytes_max, base in ((10, 1 << 30, 0), (2, 1 << 30, 3), (10, 3 * size, 2), (0, 0, 4)):
        window = filled(5)
        window.forget(4, slots_max, bytes_max)
        assert window.base == base
        assert window.time_us == 4
    window.forget(5, 0, 0)
    assert (window.base, window.size, window.time_us, window.end_chain) == (5, 0, 4, log(5)[4].sequence.chain)


def test_only_the_next_slot_with_the_right_chain_links() -> None:
    """A10: does this SEQUENCE extend the log by the next slot?"""
    window, records = filled(1), log(3)
    assert window.links(records[1].sequence)
    assert not window.links(records[2].sequence)
    assert not window.links(record(1, GENESIS_CHAIN, records[1].requests, FIRST_VIEW).sequence)


def test_what_our_own_code_must_keep() -> None:
    """Contiguous records, no cut below the window, trims that go forward."""
    window = filled(3)
    with pytest.raises(InvariantError, match="records are contiguous"):
        window.append(log(5)[4])
    window.forget(2, 0, 0)
    with pytest.raises(InvariantError, match="a cut never reaches below the window"):
        window.cut(1)
    window.trim(2)
    assert window.first == 2
    for first in (1, 4):
        with pytest.raises(InvariantError, match="a trim moves the log's first slot forward"):
            window.trim(first)


def test_a_snapshot_empties_the_window() -> None:
    """C1: the log is empty and begins at the snapshot's slot."""
    window = filled(3)
    table = ((2, Ordered(incarnation(2), 8)),)
    window.reset(9, b"a chain of 16 by", 77, table)
    assert (window.first, window.base, window.end, window.size) == (9, 9, 9, 0)
    assert (window.end_chain, window.time_us, window.senders) == (b"a chain of 16 by", 77, dict(table))


class WindowMachine(RuleBasedStateMachine):
    """Append, cut and forget at random; the A2 table is what counting the whole log gives."""

    def __init__(self) -> None:
        super().__init__()
        self.window = LogWindow(0, 0, GENESIS_CHAIN, 0, {})
        self.log: list[SlotRecord] = []

    def table(self) -> dict[int, Ordered]:
        found: dict[int, Ordered] = {}
        for made in self.log:
            for entry in made.sequence.entries:
                found[entry.sender] = Ordered(entry.incarnation, entry.last_lsn)
        return found

    @rule(senders=st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True), restarted=st.booleans())
    def append(self, senders: list[int], restarted: bool) -> None:
        table = self.table()
        requests = []
        for sender in senders:
            known = table.get(sender, Ordered(incarnation(sender), 0))
            if restarted:
                known = Ordered(incarnation(sender, known.incarnation.counter + 1), 0)
            requests.append(request(sender, known.last_lsn + 1, of=known.incarnation))
        made = record(len(self.log), self.window.end_chain, requests, FIRST_VIEW)
        assert self.window.links(made.sequence)
        self.window.append(made)
        self.log.append(made)

    @precondition(lambda self: self.window.end > self.window.base)
    @rule(share=st.floats(0, 1))
    def cut(self, share: float) -> None:
        end = self.window.base + int(share * (self.window.end - self.window.base))
        dropped = self.window.cut(end)
        assert dropped == self.log[: end - 1 : -1] if end else dropped == self.log[::-1]
        del self.log[end:]

    @rule(slots_max=st.integers(0, 5), below=st.integers(0, 10))
    def forget(self, slots_max: int, below: int) -> None:
        self.window.forget(min(below, self.window.end), slots_max, 1 << 30)

    @invariant()
    def agrees(self) -> None:
        window = self.window
        assert window.first <= window.base <= window.end == len(self.log)
        assert list(window.records(0, window.end)) == self.log[window.base :]
        assert window.size == sum(made.size for made in self.log[window.base :])
        assert window.senders == self.table()
        assert window.end_chain == (self.log[-1].sequence.chain if self.log else GENESIS_CHAIN)


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
