"""The client table: one test for each sentence of K1, and a model that lives beside it."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sequencer.clients import (
    AlreadyApplied,
    Applied,
    ClientBounds,
    ClientTable,
    Gap,
    IdReused,
    Repeated,
    SessionExpired,
    Verdict,
)

ONE, TWO, THREE = (bytes([n]) * 16 for n in (1, 2, 3))
DIGEST = b"a digest"
OTHER = b"another!"


def reload(table: ClientTable) -> ClientTable:
    """The table that another member gets by snapshot."""
    return ClientTable.load(table.bounds, table.meta, dict(table.rows()))


def test_applies_a_batch_only_if_it_follows_the_last() -> None:
    """K1: the state machine applies batch c only if c = last+1 for that client."""
    table = ClientTable()
    assert table.apply(0, ONE, 1, 3, 0, DIGEST) == Applied(0, 3)
    assert table.apply(0, TWO, 1, 2, 0, DIGEST) == Applied(3, 2)
    assert table.apply(1, ONE, 2, 1, 0, DIGEST) == Applied(5, 1)
    assert table.next_offset == 6
    assert (table.last(ONE), table.last(TWO), table.last(THREE)) == (2, 1, 0)


def test_a_repeated_batch_returns_the_original_offsets() -> None:
    """K1: a repeated c returns the original offsets, and takes none."""
    table = ClientTable()
    table.apply(0, ONE, 1, 3, 0, DIGEST)
    table.apply(0, ONE, 2, 4, 0, OTHER)
    assert table.apply(9, ONE, 1, 3, 0, DIGEST) == Repeated(0, 3)
    assert table.apply(9, ONE, 2, 4, 0, OTHER) == Repeated(3, 4)
    assert table.next_offset == 7


def test_remembers_at_least_the_last_w_batches_and_no_more() -> None:
    """K1: the table keeps offset and digest of the last W batches; older: AlreadyApplied without offset."""
    table = ClientTable(ClientBounds(remembered_max=3))
    for sequence in range(1, 12):
        assert isinstance(table.apply(sequence, ONE, sequence, 1, 0, DIGEST), Applied)
        for old in range(1, sequence + 1):
            expected: Verdict = Repeated(old - 1, 1) if old > sequence - 3 else AlreadyApplied()
            assert table.apply(sequence, ONE, old, 1, 0, DIGEST) == expected
            assert reload(table).apply(sequence, ONE, old, 1, 0, DIGEST) == expected


def test_the_same_sequence_with_another_digest_is_an_id_reused() -> None:
    """K1: same c with another digest: IdReused."""
    table = ClientTable()
    table.apply(0, ONE, 1, 3, 0, DIGEST)
    assert table.apply(0, ONE, 1, 3, 0, OTHER) == IdReused()
    assert table.next_offset == 3


def test_a_gap_is_refused_and_says_last() -> None:
    """K1: a gap is refused as retryable and says `last`."""
    table = ClientTable()
    table.apply(0, ONE, 1, 3, 0, DIGEST)
    assert table.apply(1, ONE, 3, 3, 0, DIGEST) == Gap(1)
    assert table.apply(2, ONE, 2, 3, 0, DIGEST) == Applied(3, 3)


def test_an_unknown_client_that_is_young_enough_may_begin_with_1_only() -> None:
    """K1: a batch of an unknown client is applied only if c = 1; with c > 1 it is a gap with last = 0."""
    table = ClientTable()
    assert table.apply(5, ONE, 2, 1, 5, DIGEST) == Gap(0)
    assert table.apply(5, ONE, 1, 1, 5, DIGEST) == Applied(0, 1)


def test_the_horizon_is_the_highest_last_use_of_any_dropped_entry() -> None:
    """K1: the table keeps a horizon = the highest last use of any entry it dropped."""
    table = ClientTable(ClientBounds(clients_max=2))
    table.apply(10, ONE, 1, 1, 0, DIGEST)
    table.apply(20, TWO, 1, 1, 0, DIGEST)
    table.apply(30, ONE, 1, 1, 0, DIGEST)  # a repetition is a use: TWO is now the older one
    assert table.horizon == -1
    table.apply(40, THREE, 1, 1, 35, DIGEST)
    assert table.horizon == 20
    assert (table.last(ONE), table.last(TWO), len(table)) == (1, 0, 2)


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_forgotten_client_is_told_that_its_session_expired(sequence: int) -> None:
    """K1: an unknown client's batch needs opened > horizon; else SessionExpired, so that nothing is applied twice."""
    table = ClientTable(ClientBounds(clients_max=1))
    table.apply(10, ONE, 1, 1, 10, DIGEST)
    table.apply(20, TWO, 1, 1, 11, DIGEST)
    assert table.horizon == 10
    assert table.apply(21, ONE, sequence, 1, 10, DIGEST) == SessionExpired()
    assert table.apply(21, THREE, 1, 1, 11, DIGEST) == Applied(2, 1)


def test_nobody_was_told_a_slot_that_is_not_committed() -> None:
    """K1: `opened` is a committed slot; one beyond the batch's own slot would outlive its own dropping."""
    table = ClientTable(ClientBounds(clients_max=1))
    assert table.apply(10, ONE, 1, 1, 11, DIGEST) == SessionExpired()
    assert table.apply(10, ONE, 1, 1, 10, DIGEST) == Applied(0, 1)


def test_equally_old_entries_go_by_client_id_also_after_a_reload() -> None:
    """K1: it forgets by log position, so members that loaded the table drop the same entries."""
    table = ClientTable(ClientBounds(clients_max=2))
    table.apply(1, TWO, 1, 1, 0, DIGEST)
    table.apply(1, ONE, 1, 1, 0, DIGEST)
    twin = reload(table)
    for each in (table, twin):
        each.apply(2, THREE, 1, 1, 2, DIGEST)
        assert (each.last(ONE), each.last(TWO)) == (0, 1)
    assert dict(table.rows()) == dict(twin.rows())


def test_a_header_out_of_range_is_the_callers_mistake() -> None:
    """The caller has checked the header's ranges; offsets cannot be forged with a count of 0."""
    table = ClientTable()
    for sequence, count, digest in ((0, 1, DIGEST), (1, 0, DIGEST), (1, 1, b"short")):
        with pytest.raises(ValueError, match="out of range"):
            table.apply(0, ONE, sequence, count, 0, digest)


@pytest.mark.parametrize("name", ["clients_max", "remembered_max"])
def test_bounds_must_allow_one(name: str) -> None:
    """A table of nothing is a configuration error."""
    with pytest.raises(ValueError, match=f"{name} = 0"):
        ClientBounds(**{name: 0})


@dataclass
class Known:
    """What the model remembers of a client; nothing is ever forgotten but by `dropped`."""

    used: int
    batches: list[tuple[int, int, bytes]]


class TableMachine(RuleBasedStateMachine):
    """The table, a store fed by take_changes, and a plain model that spells K1 out."""

    BOUNDS = ClientBounds(clients_max=3, remembered_max=2)

    def __init__(self) -> None:
        super().__init__()
        self.table = ClientTable(self.BOUNDS)
        self.stored: dict[bytes, tuple[int, int, bytes]] = {}
        self.meta = self.table.meta
        self.known: dict[bytes, Known] = {}
        self.horizon = -1
        self.offset = 0
        self.slot = 0
        self.applied: set[tuple[bytes, int]] = set()

    def expected(self, client: bytes, sequence: int, count: int, opened: int, digest: bytes) -> Verdict:
        entry = self.known.get(client)
        if entry is None:
            if opened <= self.horizon or opened > self.slot:
                return SessionExpired()
            if sequence > 1:
                return Gap(0)
            if len(self.known) == self.BOUNDS.clients_max:
                oldest = min(self.known, key=lambda known: (self.known[known].used, known))
                self.horizon = max(self.horizon, self.known.pop(oldest).used)
            entry = self.known[client] = Known(self.slot, [])
        entry.used = self.slot
        last = len(entry.batches)
        if sequence == last + 1:
            entry.batches.append((self.offset, count, digest))
            self.offset += count
            return Applied(self.offset - count, count)
        if sequence > last:
            return Gap(last)
        if sequence <= last - self.BOUNDS.remembered_max:
            return AlreadyApplied()
        first, known_count, known_digest = entry.batches[sequence - 1]
        return Repeated(first, known_count) if known_digest == digest else IdReused()

    @rule(
        client=st.sampled_from([bytes([n]) * 16 for n in range(6)]),
        sequence=st.integers(1, 5),
        count=st.integers(1, 3),
        age=st.integers(-1, 6),
        digest=st.sampled_from([DIGEST, OTHER]),
    )
    def apply(self, client: bytes, sequence: int, count: int, age: int, digest: bytes) -> None:
        opened = max(0, self.slot - age)
        expected = self.expected(client, sequence, count, opened, digest)
        assert self.table.apply(self.slot, client, sequence, count, opened, digest) == expected

    @rule(client=st.sampled_from([bytes([n]) * 16 for n in range(6)]))
    def apply_next(self, client: bytes) -> None:
        known = self.known.get(client)
        self.apply(client, len(known.batches) + 1 if known else 1, 1, 0, DIGEST)

    @rule(slots=st.integers(1, 3))
    def advance(self, slots: int) -> None:
        self.slot += slots

    @rule()
    def store(self) -> None:
        changes = self.table.take_changes()
        self.stored.update(changes.rows)
        for client in changes.dropped:
            self.stored.pop(client, None)
        self.meta = changes.meta
        assert self.stored == dict(self.table.rows())

    @precondition(lambda self: self.table.next_offset > 0)
    @rule()
    def restart(self) -> None:
        self.store()
        self.table = ClientTable.load(self.BOUNDS, self.meta, self.stored)

    @invariant()
    def agrees(self) -> None:
        assert self.table.meta == (self.horizon, self.offset)
        assert len(self.table) == len(self.known) <= self.BOUNDS.clients_max
        assert all(self.table.last(client) == len(entry.batches) for client, entry in self.known.items())


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
