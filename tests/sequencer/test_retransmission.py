"""A8: whom a member asks, what it answers, and which answers it takes."""

from dataclasses import replace

import pytest

from sequencer.messages import LsnRange, Nack, Retransmit
from sequencer.output import PeerLost, ServeRecords
from sequencer.retransmission import holds_what_it_names
from sequencer.types import GENESIS_CHAIN, Entry, Request
from tests.sequencer.builders import ack, entries, incarnation, log, prepare, published, record, request, view
from tests.sequencer.harness import matching, one, running
from tests.sequencer.snapshots import feed_snapshot


def test_another_member_is_asked_when_the_first_does_not_answer() -> None:
    """Who has stored the slot, then the ring, in turns."""
    member = running(2, members=5, suspect_timeout_ms=2_000, token_timeout_ms=2_000)
    member.hear(4, ack(member.number, 3))
    member.wait(500)
    asked = [send.to for send in member.sends if isinstance(send.message, Nack)]
    assert asked[:5] == [4, 1, 3, 5, 4]


def test_with_nobody_to_ask_it_asks_nobody() -> None:
    member = running(2)
    member.hear(1, published(member.number, log(2, member.number, sender=1)[1:], newest_lsn=9))
    member.step(PeerLost(1), PeerLost(3))
    assert not matching(member.wait(100), Nack)


def test_own_requests_are_not_asked_for() -> None:
    """What is missing of its own it has itself."""
    member = running(2)
    member.running.buffer.told_newest(2, member.running.stable.incarnation, 3)
    assert not matching(member.wait(100), Nack)


def test_a_gap_that_a_view_change_interrupts_is_not_asked_for() -> None:
    member = running(2)
    member.hear(3, ack(member.number, newest_lsn=2))
    member.hear(3, prepare(view(5).number))
    assert not matching(member.wait(100), Nack)


def test_a_gap_waits_while_a_snapshot_is_opened() -> None:
    member = running(2)
    member.hear(3, ack(member.number, newest_lsn=2))
    feed_snapshot(member, member.number, slot=4, sender=1)
    assert not matching(member.wait(20, settle=False), Nack)
    member.settle()
    assert matching(member.wait(20), Nack)


def test_slots_that_are_on_disk_only_are_served_from_there() -> None:
    """And what follows in memory is asked for again by the asker."""
    member = running(1, base=log(6), window_slots=2)
    out = member.hear(3, Nack(member.number, 1, 6, (LsnRange(3, incarnation(3), 1, 1),)))
    assert out.serves == [ServeRecords(3, member.number, 1, 4, retransmit=True)]
    assert not matching(out.sends, Retransmit)


def test_requests_are_found_wherever_they_are() -> None:
    """Own ones until they are delivered, others' while they are not ordered."""
    member = running(2)
    member.hear(1, Retransmit(member.number, (request(1, 1),), ()))
    member.submit(b"mine")
    mine = member.running.stable.incarnation
    wanted = (LsnRange(1, incarnation(1), 1, 2), LsnRange(2, mine, 1, 9), LsnRange(2, incarnation(2, 9), 1, 1))
    answer = one(member.hear(3, Nack(member.number, 0, 0, wanted)).sends, Retransmit, to=3)
    assert [(found.sender, found.lsn) for found in answer.requests] == [(1, 1), (2, 1)]
    assert not matching(member.hear(3, Nack(member.number, 0, 5, ())).sends, Retransmit)


def test_an_answer_of_another_view_is_not_taken() -> None:
    member = running(2)
    member.hear(1, Retransmit(view(1).number, (request(1, 1),), log(1, view(1).number)))
    assert member.running.window.end == 0
    assert member.running.buffer.get(1, incarnation(1), 1) is None


def test_records_that_are_here_already_are_passed_over() -> None:
    member = running(2)
    slots = log(3, member.number, sender=1)
    member.hear(1, Retransmit(member.number, (), slots[:2]))
    member.hear(1, Retransmit(member.number, (), slots))
    assert member.running.window.end == 3


def test_a_record_must_hold_what_it_names() -> None:
    """A3: nothing of the answer behind it is taken either."""
    member = running(2)
    slots = log(2, member.number, sender=1)
    hollow = replace(slots[0], requests=())
    out = member.hear(1, Retransmit(member.number, (), (hollow, slots[1])))
    assert [fact.fields["rule"] for fact in out.facts if fact.name == "record_refused"] == ["A8"]
    assert member.running.window.end == 0


def test_a_member_far_behind_asks_for_more_at_once() -> None:
    """It does not wait for the next NACK's delay."""
    member = running(2)
    slots = log(9, member.number, sender=1)
    member.hear(1, ack(member.number, 9))
    out = member.hear(1, Retransmit(member.number, (), slots[:4]))
    one(out.sends, Nack, to=1, first_slot=4, end_slot=9)


@pytest.mark.parametrize(
    ("named", "held"),
    [
        ((), ()),
        (entries([request(1, 1)]), ()),
        ((), (request(1, 1),)),
        (entries([request(1, 1)]), (request(1, 1, b"other"),)),
        (entries([request(1, 1), request(1, 2)]), (request(1, 2), request(1, 1))),
        ((Entry(1, incarnation(1), 1, 2, (request(1, 1).digest,)),), (request(1, 1),)),
    ],
)
def test_what_does_not_hold_what_it_names(named: tuple[Entry, ...], held: tuple[Request, ...]) -> None:
    """A3: exactly the requests of its entries, in their order; a slot is never empty; counts agree."""
    assert not holds_what_it_names(named, held)


def test_what_holds_what_it_names() -> None:
    requests = (request(1, 1), request(1, 2), request(2, 7))
    assert holds_what_it_names(entries(requests), requests)
    assert record(0, GENESIS_CHAIN, requests, view(1).number).requests == requests
