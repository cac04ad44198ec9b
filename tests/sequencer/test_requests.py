"""Requests that are not ordered yet: other members' and one's own."""

from hypothesis import given
from hypothesis import strategies as st

from sequencer.requests import Gap, OwnRequests, RequestBuffer
from sequencer.types import GENESIS_CHAIN, Change, Ordered, Request
from tests.sequencer.builders import FIRST_VIEW, entries, incarnation, record, request

OLD, NEW = incarnation(2, 1), incarnation(2, 2)
PLENTY = 1 << 30


def never(change: Change) -> bool:
    """No change of members has to wait."""
    return False


def lsns(runs: list[list[Request]]) -> list[list[tuple[int, int]]]:
    """(sender, lsn) of each run."""
    return [[(one.sender, one.lsn) for one in run] for run in runs]


def holding(*requests: Request, per_sender_max: int = 8) -> RequestBuffer:
    """A buffer with these requests, nothing ordered yet."""
    buffer = RequestBuffer(per_sender_max, PLENTY)
    for one in requests:
        assert buffer.add(one, None)
    return buffer


def test_what_is_ordered_old_or_too_far_ahead_is_not_kept() -> None:
    """A2, A9."""
    buffer = RequestBuffer(2, PLENTY)
    ordered = Ordered(NEW, 5)
    assert [buffer.add(request(2, lsn, of=NEW), ordered) for lsn in (5, 6, 7, 8)] == [False, True, True, False]
    assert not buffer.add(request(2, 6, of=OLD), ordered)
    assert buffer.senders() == ((2, NEW),)


def test_what_is_next_to_be_ordered_displaces_what_comes_later() -> None:
    """A9: a sender's bytes are bounded; a gap is filled all the same."""
    buffer = RequestBuffer(8, 2 * request(2, 1).size)
    assert [buffer.add(request(2, lsn), None) for lsn in (3, 4, 5, 3)] == [True, True, False, True]
    assert buffer.add(request(2, 2), None)
    assert [lsn for lsn in range(1, 6) if buffer.get(2, OLD, lsn)] == [2, 3]
    assert list(buffer.gaps({}, 8)) == [Gap(2, OLD, 1, 1)]
    assert buffer.add(request(2, 1), None)
    buffer.ordered(record(0, GENESIS_CHAIN, [request(2, 1), request(2, 2)], FIRST_VIEW))
    assert buffer.add(request(2, 3), Ordered(OLD, 2))
    assert buffer.add(request(2, 4), Ordered(OLD, 2))
    huge = request(2, 5, bytes(1_000))
    assert not buffer.add(huge, Ordered(OLD, 2))
    assert RequestBuffer(8, 1).add(huge, Ordered(OLD, 4))


def test_a_newer_incarnation_replaces_the_buffer_of_the_older() -> None:
    """A2: buffers of an older incarnation are dropped, and it is not taken again."""
    buffer = holding(request(2, 1, of=OLD))
    assert buffer.add(request(2, 1, b"new", NEW), None)
    assert not buffer.add(request(2, 2, of=OLD), None)
    buffer.told_newest(2, OLD, 9)
    assert buffer.get(2, OLD, 1) is None
    assert buffer.get(2, NEW, 1) == request(2, 1, b"new", NEW)
    assert not list(buffer.gaps({}, 10))


def test_the_first_content_of_a_lsn_stays() -> None:
    """Who sends one lsn with two contents is not believed the second time."""
    buffer = holding(request(2, 1, b"first"))
    buffer.add(request(2, 1, b"second"), None)
    assert buffer.get(2, OLD, 1) == request(2, 1, b"first")
    assert buffer.get(3, incarnation(3), 1) is None


def test_find_wants_all_requests_of_an_entry_with_their_digests() -> None:
    """A3."""
    one, two = request(2, 1), request(2, 2)
    (entry,) = entries([one, two])
    assert holding(one, two).find(entry) == (one, two)
    assert holding(two).find(entry) is None
    assert holding(one, request(2, 2, b"other")).find(entry) is None
    assert holding(request(2, 1, of=NEW)).find(entry) is None
    assert RequestBuffer(8, PLENTY).find(entry) is None


def test_eligible_runs_are_contiguous_and_begin_behind_what_is_ordered() -> None:
    """A2: one run a sender, in the order of their ids."""
    buffer = holding(*(request(3, lsn) for lsn in (1, 2, 4)), *(request(2, lsn) for lsn in (2, 3)), request(1, 1))
    assert lsns(buffer.eligible({}, 9, PLENTY, never)) == [[(1, 1)], [(3, 1), (3, 2)]]
    table = {2: Ordered(OLD, 1), 1: Ordered(incarnation(1, 2), 4)}
    assert lsns(buffer.eligible(table, 9, PLENTY, never)) == [[(2, 2), (2, 3)], [(3, 1), (3, 2)]]
    assert not holding(request(2, 2)).eligible({}, 9, PLENTY, never)
    assert not holding(request(2, 1)).eligible({2: Ordered(NEW, 1)}, 9, PLENTY, never)
    assert not RequestBuffer(8, PLENTY).eligible({}, 9, PLENTY, never)


def test_eligible_obeys_the_caps_but_takes_at_least_one() -> None:
    """A9: requests and bytes per slot."""
    buffer = holding(*(request(1, lsn) for lsn in (1, 2, 3)), request(2, 1))
    size = request(1, 1).size
    assert lsns(buffer.eligible({}, 2, PLENTY, never)) == [[(1, 1), (1, 2)]]
    assert lsns(buffer.eligible({}, 9, 2 * size, never)) == [[(1, 1), (1, 2)]]
    assert lsns(buffer.eligible({}, 9, 1, never)) == [[(1, 1)]]


def test_a_slot_takes_its_requests_out_and_drops_older_incarnations() -> None:
    """A2."""
    slot = record(0, GENESIS_CHAIN, [request(2, 1, of=NEW), request(3, 1), request(4, 1)], FIRST_VIEW)
    buffer = holding(request(2, 1, of=OLD), request(3, 1), request(3, 2))
    buffer.ordered(slot)
    assert buffer.senders() == ((3, incarnation(3)),)
    assert lsns(buffer.eligible({3: Ordered(incarnation(3), 1)}, 9, PLENTY, never)) == [[(3, 2)]]
    newer = holding(request(2, 1, b"newest", incarnation(2, 3)))
    newer.ordered(slot)
    assert newer.get(2, incarnation(2, 3), 1) is not None


def test_drop_forgets_a_sender() -> None:
    """V10."""
    buffer = holding(request(2, 1), request(3, 1))
    buffer.drop(2)
    buffer.drop(9)
    assert buffer.senders() == ((3, incarnation(3)),)


def test_the_first_gap_of_each_sender_is_found() -> None:
    """A8: also one behind the newest request that came (A1)."""
    buffer = holding(request(1, 2), request(1, 5), request(2, 1), request(3, 1), request(4, 3))
    buffer.told_newest(2, OLD, 4)
    buffer.told_newest(2, OLD, 3)
    table = {4: Ordered(incarnation(4, 2), 1)}
    assert list(buffer.gaps(table, 2)) == [Gap(1, incarnation(1), 1, 1), Gap(2, OLD, 2, 3)]
    assert next(iter(buffer.gaps({**table, 1: Ordered(incarnation(1), 2)}, 10))) == Gap(1, incarnation(1), 3, 4)
    assert Gap(2, OLD, 2, 4) in list(buffer.gaps(table, 10))
    assert not [gap for gap in buffer.gaps({2: Ordered(OLD, 4)}, 10) if gap.sender == 2]


@given(st.permutations(range(1, 8)), st.integers(1, 4))
def test_whatever_the_arrival_order_all_is_sequenced_in_order(arrival: list[int], cap: int) -> None:
    """A2 over many visits: lsns 1, 2, 3 ... with nothing left."""
    buffer = RequestBuffer(8, PLENTY)
    ordered: list[int] = []
    for lsn in arrival:
        last = Ordered(OLD, ordered[-1]) if ordered else None
        buffer.add(request(2, lsn), last)
        while runs := buffer.eligible({2: last} if last else {}, cap, PLENTY, never):
            (run,) = runs
            ordered += [one.lsn for one in run]
            last = Ordered(OLD, ordered[-1])
            buffer.ordered(record(0, GENESIS_CHAIN, run, FIRST_VIEW))
    assert ordered == list(range(1, 8))
    assert not list(buffer.gaps({2: Ordered(OLD, 7)}, 9))


def test_own_requests_are_kept_until_they_are_delivered() -> None:
    """A1, A9: and counted."""
    own = OwnRequests()
    for lsn in (1, 2, 3):
        own.add(request(1, lsn), now_us=10 * lsn)
    size = request(1, 1).size
    assert (len(own), own.size, own.newest_lsn) == (3, 3 * size, 3)
    own.delivered(1)
    own.delivered(1)
    assert (len(own), own.size) == (2, 2 * size)
    assert own.get(1) is None
    assert own.get(2) == request(1, 2)
    assert [one.lsn for one in own.unordered(2)] == [3]


def test_own_requests_that_are_due_are_sent_again_once() -> None:
    """A1: last sent an interval ago, not ordered, up to a byte cap, at least one."""
    own = OwnRequests()
    for lsn in (1, 2, 3):
        own.add(request(1, lsn), now_us=10 * lsn)
    assert [one.lsn for one in own.due(1, 125, 100, PLENTY)] == [2]
    assert [one.lsn for one in own.due(0, 130, 100, 1)] == [1]
    assert [one.lsn for one in own.due(0, 130, 100, PLENTY)] == [3]
    assert own.due(0, 130, 100, PLENTY) == []
