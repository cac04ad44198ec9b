"""The outbox alone: any sequence of faults, and each batch is applied exactly once, in order (K1, K2)."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast import wire
from ringcast.bus.batch import pack
from ringcast.bus.outbox import REWINDS_MAX, Action, Outbox
from ringcast.errors import AlreadyApplied, PublishUnknown, SessionExpired
from tests.client.doubles import LIMITS, Order


def welcome(credit: int = 1 << 20, outstanding: int = 64, opened: int = 1) -> wire.Welcome:
    limits = LIMITS._replace(outstanding_max=outstanding)
    return wire.Welcome(1, (1, 1), (1, 1), opened, credit, limits, "", 0, ())


@given(st.integers(0, 1 << 32), st.integers(100, 2_000), st.integers(1, 8))
@settings(max_examples=150)
def test_exactly_once_in_order_under_any_fault(seed: int, credit: int, outstanding: int) -> None:
    """A network that loses frames, receipts and connections; never within a connection out of order."""
    asyncio.run(_run(random.Random(seed), credit, outstanding))


async def _run(chance: random.Random, credit: int, outstanding: int) -> None:
    order, outbox = Order(), Outbox()
    batches = [outbox.add("a", pack([b"%d" % number + b" " * chance.randrange(50)]), 1) for number in range(30)]
    outbox.connected(welcome(credit, outstanding))
    answers: list[wire.Receipt | wire.Refused] = []
    loss, steps = 0.3, 0
    while len(outbox):
        steps += 1
        loss = 0.3 if steps < 500 else 0.0
        for header, packed in outbox.take():
            assert outbox.sent_bytes <= max(credit, len(packed))
            if chance.random() >= loss:
                answers.append(order.apply(header, packed))
        if answers and chance.random() < 0.9:
            verdict = answers.pop(0)
            if chance.random() < loss:
                continue
            if isinstance(verdict, wire.Receipt):
                outbox.on_receipt(verdict._replace(credit=credit))
                continue
            action, _ = outbox.on_refused(verdict)
            assert action is not Action.REOPEN
            if action is Action.SEND:
                continue
        elif answers:
            continue
        # Nothing is in flight any more, or the outbox asked for it: another connection.
        answers.clear()
        outbox.connected(welcome(credit, outstanding))
    assert [int(payload) for payload in order.payloads()] == list(range(30))
    assert [batch.receipt.result().offset for batch in batches] == list(range(30))
    assert (outbox.pending_bytes, outbox.sent_bytes) == (0, 0)


async def test_the_span_from_the_oldest_unanswered_batch_is_bounded() -> None:
    """K1 remembers the last W batches of a client: one unanswered batch holds all that lie W beyond it."""
    outbox = Outbox()
    for _ in range(6):
        outbox.add("a", pack([b"x"]), 1)
    outbox.connected(welcome(outstanding=3))
    assert [header.sequence for header, _ in outbox.take()] == [1, 2, 3]
    for number in (2, 3):
        outbox.on_receipt(wire.Receipt(outbox.client, number, number - 1, 1, 1, 1, 1 << 20))
    assert list(outbox.take()) == []
    outbox.on_receipt(wire.Receipt(outbox.client, 1, 0, 1, 1, 1, 1 << 20))
    assert [header.sequence for header, _ in outbox.take()] == [4, 5, 6]


async def test_a_gap_is_sent_again_when_all_that_was_sent_has_its_answer() -> None:
    """An answer that comes after the rewind is never that of a send before it."""
    outbox = Outbox()
    for _ in range(5):
        outbox.add("a", pack([b"x"]), 1)
    outbox.connected(welcome())
    assert len(list(outbox.take())) == 5
    outbox.add("a", pack([b"x"]), 1)
    outbox.on_refused(wire.Refused(outbox.client, 2, "too_large", {}))
    assert list(outbox.take()) == []
    outbox.on_receipt(wire.Receipt(outbox.client, 1, 0, 1, 1, 1, 1 << 20))
    for number in (3, 4, 5):
        assert list(outbox.take()) == []
        outbox.on_refused(wire.Refused(outbox.client, number, "sequence_gap", {}, 1))
    again = [(header.sequence, header.topic) for header, _ in outbox.take()]
    assert again == [(2, "_cursors"), (3, "a"), (4, "a"), (5, "a"), (6, "a")]


async def test_a_batch_that_one_replica_refused_and_another_has_applied_gets_its_receipt() -> None:
    """The filler has another number of messages, so that the receipt of the batch itself is known."""
    outbox = Outbox()
    outbox.connected(welcome())
    batches = [outbox.add("a", pack([b"x"] * count), count) for count in (1, 2, 3)]
    list(outbox.take())
    for batch in batches:
        outbox.on_refused(wire.Refused(outbox.client, batch.sequence, "not_allowed", {}))
    assert [header.messages for header, _ in outbox.take()] == [2, 1, 1]
    for batch in batches:
        outbox.on_receipt(wire.Receipt(outbox.client, batch.sequence, 9, batch.messages, 9, 9, 500))
    assert [batch.receipt.result().offset for batch in batches] == [9, 9, 9]


async def test_a_gap_that_never_closes_asks_for_another_replica() -> None:
    outbox = Outbox()
    outbox.add("a", pack([b"x"]), 1)
    outbox.connected(welcome())
    actions = []
    for _ in range(REWINDS_MAX):
        list(outbox.take())
        actions.append(outbox.on_refused(wire.Refused(outbox.client, 1, "window_exceeded", {}))[0])
    assert actions == [Action.SEND] * (REWINDS_MAX - 1) + [Action.MOVE]


async def test_a_table_that_knows_less_than_our_receipts_ends_the_id() -> None:
    outbox = Outbox()
    outbox.connected(welcome())
    outbox.add("a", pack([b"x"]), 1)
    list(outbox.take())
    outbox.on_receipt(wire.Receipt(outbox.client, 1, 0, 1, 0, 0, 100))
    second, before = outbox.add("a", pack([b"y"]), 1), outbox.client
    list(outbox.take())
    assert outbox.on_refused(wire.Refused(before, 2, "sequence_gap", {}, 0))[0] is Action.REOPEN
    assert (outbox.opened, second.sequence, outbox.client == before) == (None, 1, False)


async def test_answers_to_others_change_nothing() -> None:
    outbox = Outbox()
    outbox.connected(welcome(credit=500))
    batch = outbox.add("a", pack([b"x"]), 1)
    list(outbox.take())
    outbox.on_receipt(wire.Receipt(b"0" * 16, 1, 9, 1, 9, 9, 9))
    outbox.on_receipt(wire.Receipt(outbox.client, 7, 9, 1, 9, 9, 500))
    outbox.on_receipt(wire.Receipt(outbox.client, 1, 9, 2, 9, 9, 500))
    assert outbox.on_refused(wire.Refused(b"0" * 16, 1, "session_expired", {}))[0] is Action.SEND
    assert (outbox.credit, len(outbox), batch.receipt.done()) == (500, 1, False)


@pytest.mark.parametrize(
    ("answer", "expected"), [("id_reused", AlreadyApplied), ("too_large", PublishUnknown), (None, "TooLarge")]
)
async def test_the_filler_tells_whether_the_refused_batch_was_applied(answer: str | None, expected: object) -> None:
    """Refused for good here, but perhaps applied through another replica before: its number tells."""
    outbox = Outbox()
    outbox.connected(welcome())
    batch = outbox.add("a", pack([b"x"]), 1)
    list(outbox.take())
    outbox.on_refused(wire.Refused(outbox.client, 1, "too_large", {}))
    [(filler, _)] = outbox.take()
    assert (filler.topic, filler.sequence) == ("_cursors", 1)
    assert not batch.receipt.done()
    if answer is None:
        outbox.on_receipt(wire.Receipt(outbox.client, 1, 5, 2, 5, 5, 100))
    else:
        outbox.on_refused(wire.Refused(outbox.client, 1, answer, {}))
    error = batch.receipt.exception()
    assert type(error) is expected or type(error).__name__ == expected or answer == "too_large"


async def test_batches_behind_an_expired_one_move_in_order_and_others_are_unknown() -> None:
    outbox = Outbox()
    batches = [outbox.add("a", pack([b"%d" % number]), 1) for number in range(4)]
    outbox.connected(welcome(outstanding=2))
    list(outbox.take())
    outbox.connected(welcome(outstanding=3))
    list(outbox.take())
    assert [batch.attempts for batch in batches] == [2, 2, 1, 0]
    before = outbox.client
    action, error = outbox.on_refused(wire.refusal(before, 1, SessionExpired(client="x", opened=1, horizon=2)))
    assert action is Action.REOPEN
    assert isinstance(error, SessionExpired)
    assert [type(batch.receipt.exception()) for batch in batches[:2]] == [PublishUnknown] * 2
    outbox.connected(welcome(opened=9))
    headers = [header for header, _ in outbox.take()]
    assert [(header.sequence, header.opened) for header in headers] == [(1, 9), (2, 9)]
    assert {header.client for header in headers} == {outbox.client} != {before}
