"""replicas/bus/topics.py against a plain model, and its rows: what is written is what there is."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.bus.topics import Delivery, FeedEntry, Receipt, TopicBounds, Topics
from ringcast.bus.batch import pack
from ringcast.bus.cursors import COMMIT, DELETE, RESET, CursorOperation
from ringcast.errors import IllegalTopic, SequenceGap, SessionExpired, TooLarge
from ringcast.wire import BatchInfo
from sequencer.clients import ClientBounds
from sequencer.errors import InvariantError
from sequencer.types import Incarnation, Ordered, Request, SlotRecord
from store.contract import FoldRange, PutRow
from tests.replicas.log_maker import Batch, Log, batch, client_id, cursor_batch, raw_request, request

Tables = dict[str, dict[bytes, bytes]]
BOUNDS = TopicBounds(ClientBounds(clients_max=3, remembered_max=2), topics_max=5, cursors_max=3)


def put(tables: Tables, rows: Iterable[PutRow | FoldRange]) -> None:
    """What a store does with rows."""
    for row in rows:
        assert isinstance(row, PutRow), "times fall only at a reset (D7)"
        table, key, value = row
        if value is None:
            tables.setdefault(table, {}).pop(key, None)
        else:
            tables.setdefault(table, {})[key] = value


def loaded(tables: Tables, bounds: TopicBounds) -> Topics:
    """The state that some tables hold."""
    return Topics.load(bounds, lambda table: sorted(tables.get(table, {}).items()))


def deliver(topics: Topics, *batches: Batch, log: Log) -> Delivery:
    """One slot with one request."""
    return topics.deliver([log.batches(*batches)])


# ------------------------------------------------------------------ single sentences


def test_applied_batches_take_consecutive_offsets_of_one_order() -> None:
    log, topics = Log(), Topics()
    first = deliver(topics, batch("a", 1, 1, [b"x"] * 3), batch("b", 2, 1), log=log)
    second = deliver(topics, batch("a", 1, 2, [b"y"] * 2), log=log)
    assert [(e.info.topic, e.info.first_offset, e.info.messages, e.info.previous) for e in first.feed] == [
        ("a", 0, 3, -1),
        ("b", 3, 1, -1),
    ]
    assert second.feed == [
        FeedEntry(BatchInfo("a", 4, 2, 2, 1_010, client_id(1), 1), pack([b"y"] * 2)),
    ]
    assert second.receipts == [Receipt(client_id(1), 2, 4, 2, 1, 1_010)]
    assert (topics.next_offset, topics.applied, topics.time_us, topics.chain) == (6, 2, 1_010, log.chain)
    assert topics.senders == {1: Ordered(Incarnation(1, 7), 2)}


def test_k1_repeated_and_refused_batches_take_no_offset_and_reach_no_subscriber() -> None:
    log, topics = Log(), Topics()
    deliver(topics, batch("a", 1, 1), log=log)
    repeated = deliver(topics, batch("a", 1, 1), log=log)
    assert (repeated.feed, repeated.refusals) == ([], [])
    assert repeated.receipts == [Receipt(client_id(1), 1, 0, 1, 1, 1_010, repeated=True)]
    gap = deliver(topics, batch("a", 1, 3), log=log)
    assert not gap.feed
    assert not gap.receipts
    assert [(type(r.error), r.last, r.sender) for r in gap.refusals] == [(SequenceGap, 1, 1)]
    assert topics.next_offset == 1


def test_a_refusal_names_the_member_that_submitted_it() -> None:
    log, topics = Log(), Topics()
    delivery = topics.deliver([log.batches(batch("a", 9, 5, opened=0), sender=3)])
    assert [(r.sender, r.client, r.sequence) for r in delivery.refusals] == [(3, client_id(9), 5)]


def test_slots_are_applied_in_order_and_without_a_hole() -> None:
    log, topics = Log(), Topics()
    log.batches(batch("a", 1, 1))
    with pytest.raises(InvariantError):
        topics.deliver([log.batches(batch("a", 1, 2))])


@pytest.mark.parametrize(
    "frames",
    [
        (),
        (b"",),
        (b"\xc1", b"x"),
        (b"\x90",),
        (b"\x90", b"one frame too many"),
        (request([batch("a", 1, 1)]).frames[0],),
        (b"\xdd\xff\xff\xff\xff", b"x"),
    ],
)
def test_a_request_that_is_none_is_harmless_and_the_same_everywhere(frames: tuple[bytes, ...]) -> None:
    log, topics, other = Log(), Topics(), Topics()
    record = log.slot(raw_request(frames), request([batch("a", 1, 1)]))
    assert topics.deliver([record]) == other.deliver([record])
    assert (topics.next_offset, topics.applied) == (1, 1)
    assert topics.state_digest() == other.state_digest()


def test_a_topic_that_is_none_and_one_too_many_are_refused_for_the_logs_sake() -> None:
    log, topics = Log(), Topics(BOUNDS)
    bad = deliver(topics, batch("a..b", 1, 1), log=log)
    assert isinstance(bad.refusals[0].error, IllegalTopic)
    for sequence in range(1, 6):
        assert deliver(topics, batch(f"t{sequence}", 1, sequence, opened=0), log=log).feed
    full = deliver(topics, batch("t6", 1, 6), log=log)
    assert isinstance(full.refusals[0].error, TooLarge)
    # The client's number is still free, also for the filler that a client sends under it.
    assert deliver(topics, batch("_cursors", 1, 6), log=log).receipts


def test_cursors_only_rise_by_commit_and_never_beyond_what_is_delivered() -> None:
    log, topics = Log(), Topics()
    deliver(topics, batch("a", 1, 1, [b"x"] * 10), log=log)

    def after(sequence: int, operation: CursorOperation) -> int | None:
        deliver(topics, cursor_batch(2, sequence, operation), log=log)
        row = topics.cursors().get("billing")
        return row.offset if row else None

    assert after(1, CursorOperation(COMMIT, "billing", "a", 4)) == 4
    assert after(2, CursorOperation(COMMIT, "billing", "a", 2)) == 4
    assert after(3, CursorOperation(RESET, "billing", "a.>", 1)) == 1
    assert after(4, CursorOperation(COMMIT, "billing", "a", 1_000)) == 13
    assert after(5, CursorOperation(DELETE, "billing", "a", 0)) is None
    assert topics.last_offset("_cursors") == topics.next_offset - 1


def test_a_message_on_cursors_that_is_no_operation_is_ignored_and_a_full_table_refuses() -> None:
    log, topics = Log(), Topics(BOUNDS)
    assert deliver(topics, batch("_cursors", 1, 1, [b"\xc1", b""]), log=log).receipts
    assert topics.cursors() == {}
    for number in range(3):
        deliver(topics, cursor_batch(1, 2 + number, CursorOperation(COMMIT, f"c{number}", "a", 0)), log=log)
    full = deliver(topics, cursor_batch(1, 5, CursorOperation(COMMIT, "c3", "a", 0)), log=log)
    assert isinstance(full.refusals[0].error, TooLarge)
    early = deliver(topics, cursor_batch(1, 6, CursorOperation(COMMIT, "c3", "a", 0)), log=log)
    assert isinstance(early.refusals[0].error, SequenceGap), "the batch before it may make room"
    deliver(topics, cursor_batch(1, 5, CursorOperation(DELETE, "c0", "a", 0)), log=log)
    assert deliver(topics, cursor_batch(1, 6, CursorOperation(COMMIT, "c3", "a", 0)), log=log).receipts
    assert deliver(topics, cursor_batch(1, 7, CursorOperation(COMMIT, "c1", "a", 0)), log=log).receipts


def test_a_forgotten_client_is_told_that_its_session_expired() -> None:
    log, topics = Log(), Topics(BOUNDS)
    for client in range(1, 5):
        deliver(topics, batch("a", client, 1, opened=client - 1), log=log)
    delivery = deliver(topics, batch("a", 1, 2, opened=0), log=log)
    assert [type(refusal.error) for refusal in delivery.refusals] == [SessionExpired]


def test_equal_logs_give_equal_digests_and_one_other_batch_another() -> None:
    one, two, other = Topics(), Topics(), Topics()
    log, changed = Log(), Log()
    for sequence in range(1, 5):
        log.batches(batch("a", 1, sequence))
        changed.batches(batch("a", 1, sequence + (sequence == 4)))
    one.deliver(log.records)
    for record in log.records:
        two.deliver([record])
        two.take_rows()
    other.deliver(changed.records)
    assert (one.digest, one.state_digest()) == (two.digest, two.state_digest())
    assert one.digest != other.digest
    assert one.digest_at(4) == one.digest
    assert one.digest_at(3) is None


# ------------------------------------------------------------------ against a plain model


class Sent(NamedTuple):
    """One batch of a drawn log."""

    topic: str
    client: int
    ahead: int
    size: int
    salt: bytes


class Model:
    """K1 and offsets as one would write them down first: dicts, lists, no bounds reached."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.last: dict[int, int] = {}
        self.known: dict[tuple[int, int], tuple[int, int, bytes]] = {}
        self.topics: dict[str, list[int]] = {}

    def apply(self, sent: Sent, sequence: int, digest: bytes) -> tuple[str, int]:
        """(outcome, offset)."""
        last = self.last.get(sent.client, 0)
        if sequence > last + 1:
            return "gap", last
        if sequence <= last:
            first, _, known = self.known[sent.client, sequence]
            return ("repeated", first) if known == digest else ("reused", -1)
        first = self.next_offset
        self.next_offset += sent.size
        self.last[sent.client] = sequence
        self.known[sent.client, sequence] = (first, sent.size, digest)
        self.topics.setdefault(sent.topic, []).extend(range(first, first + sent.size))
        return "applied", first


sents = st.builds(
    Sent,
    topic=st.sampled_from(["a", "a.b", "c", "_cursors"]),
    client=st.integers(1, 3),
    ahead=st.sampled_from([1, 1, 1, 1, 0, 0, -1, 2]),
    size=st.integers(1, 4),
    salt=st.sampled_from([b"", b"", b"", b"!"]),
)


@given(st.lists(st.lists(sents, max_size=4), max_size=12))
def test_the_state_machine_does_what_the_model_does(slots: list[list[Sent]]) -> None:
    log, topics, model = Log(), Topics(), Model()
    followed: dict[str, int] = {}
    for slot in slots:
        listed, expected = [], []
        for sent in slot:
            sequence = max(1, model.last.get(sent.client, 0) + sent.ahead)
            one = batch(sent.topic, sent.client, sequence, [b"m"] * sent.size, salt=sent.salt)
            expected.append((sent, sequence, model.apply(sent, sequence, one[0].digest)))
            listed.append(one)
        delivery = topics.deliver([log.slot(*(request([one], sender=1 + i % 3) for i, one in enumerate(listed)))])
        receipts = [(client_id(s.client), n, at) for s, n, (kind, at) in expected if kind in {"applied", "repeated"}]
        assert [(r.client, r.sequence, r.first_offset) for r in delivery.receipts] == receipts
        assert len(delivery.receipts) + len(delivery.refusals) == len(slot)
        for entry in delivery.feed:
            info = entry.info
            assert info.previous == followed.get(info.topic, -1)
            followed[info.topic] = info.first_offset + info.messages - 1
        assert topics.next_offset == model.next_offset
    assert {name: topics.last_offset(name) for name in topics.names()} == {t: o[-1] for t, o in model.topics.items()}
    rows = {name: topics.topic(name) for name in topics.names()}
    assert {name: row.messages for name, row in rows.items() if row} == {t: len(o) for t, o in model.topics.items()}


def drawn_log(slots: list[list[Sent]]) -> list[SlotRecord]:
    """A log of these batches, with cursor operations among them."""
    log, last = Log(), dict[int, int]()
    for slot in slots:
        requests: list[Request] = []
        for i, sent in enumerate(slot):
            sequence = max(1, last.get(sent.client, 0) + sent.ahead)
            if sent.ahead == 1:
                last[sent.client] = sequence
            operation = CursorOperation(1 + sent.size % 3, f"cursor{sent.client}", "a", sequence)
            one = (
                cursor_batch(sent.client, sequence, operation)
                if sent.topic == "_cursors"
                else batch(sent.topic, sent.client, sequence, [b"m"] * sent.size, salt=sent.salt)
            )
            requests.append(request([one], sender=1 + i % 3))
        log.slot(*requests)
    return log.records


@given(st.lists(st.lists(sents, max_size=4), max_size=12), st.data())
def test_state_from_rows_is_the_state_in_memory_at_any_moment(slots: list[list[Sent]], data: st.DataObject) -> None:
    """Rows are taken at drawn moments; whoever starts from them goes on exactly like the one that lived through."""
    records = drawn_log(slots)
    lived = Topics(BOUNDS)
    tables: Tables = {}
    for record in records:
        lived.deliver([record])
        if data.draw(st.booleans()):
            put(tables, lived.take_rows())
            assert lived.take_rows() == []
            again = loaded(tables, BOUNDS)
            assert (again.applied, again.next_offset, again.chain) == (lived.applied, lived.next_offset, lived.chain)
            assert (again.time_us, again.senders) == (lived.time_us, lived.senders)
            assert again.state_digest() == lived.state_digest()
            assert again.digest == lived.digest
    restarted = loaded(tables, BOUNDS)
    restarted.deliver(records[restarted.applied :])
    assert restarted.state_digest() == lived.state_digest()


@given(st.lists(st.lists(sents, min_size=1, max_size=4), min_size=1, max_size=12), st.data())
def test_state_tables_alone_are_enough_to_continue(slots: list[list[Sent]], data: st.DataObject) -> None:
    """C1: a snapshot holds the state tables and no index; the one who gets it judges all that follows alike."""
    records = drawn_log(slots)
    cut = data.draw(st.integers(0, len(records)))
    lived = Topics(BOUNDS)
    lived.deliver(records[:cut])
    tables: Tables = {}
    put(tables, (row for row in lived.take_rows() if row.table in {"clients", "topics", "cursors", "meta"}))
    received = loaded(tables, BOUNDS)
    for record in records[cut:]:
        theirs, ours = lived.deliver([record]), received.deliver([record])
        assert (theirs.feed, theirs.receipts) == (ours.feed, ours.receipts)
        assert [(r.client, r.sequence, r.last, str(r.error)) for r in theirs.refusals] == [
            (r.client, r.sequence, r.last, str(r.error)) for r in ours.refusals
        ]
    assert received.state_digest() == lived.state_digest()


def test_empty_tables_are_the_beginning() -> None:
    topics = loaded({}, BOUNDS)
    assert (topics.applied, topics.next_offset, topics.names(), topics.take_rows()) == (0, 0, [], [])
