"""Tickets: what a step hands to the writer, and what waits until it is durable (D4)."""

from sequencer.messages import Broadcast, Promise
from sequencer.output import AppendRecord, CutLog, PeerLost, SaveStable
from sequencer.types import ViewNumber
from tests.sequencer.builders import ack, log, new_view, prepare, published, view
from tests.sequencer.harness import bench, matching, one, persisted, running


def test_each_step_that_persists_has_a_ticket_of_its_own() -> None:
    """And the others have none."""
    member = running(2)
    slots = log(2, member.number, sender=1)
    tickets = [member.hear(1, published(member.number, [slot])).ticket for slot in slots]
    assert tickets[1] == tickets[0] + 1
    assert member.step().ticket == 0


def test_what_is_stored_moves_ticket_by_ticket() -> None:
    """D2: the ACK follows the disk, not the log in memory."""
    member = running(2)
    for slot in log(3, member.number, sender=1):
        member.hear(1, published(member.number, [slot]))
    assert member.running.stored == 0
    assert one(member.sync(2).sends, Broadcast).status.stored == 2
    assert one(member.sync().sends, Broadcast).status.stored == 3


def test_what_is_stored_goes_back_with_a_cut() -> None:
    """V7: once the cut is durable."""
    member = bench(1, log=log(3), installed=view(1))
    assert member.running.stored == 3
    out = member.hear(3, new_view(view(2, log(1))))
    assert [type(operation) for operation in out.persists] == [SaveStable, CutLog, SaveStable]
    assert member.running.stored == 3
    member.settle()
    assert member.running.stored == 1


def test_an_answer_waits_for_all_that_was_persisted_before_it() -> None:
    """D4, V3: the writer is FIFO, so the promise covers the slots before it."""
    member = running(2)
    slots = log(2, member.number, sender=1)
    for slot in slots:
        assert persisted(member.hear(1, published(member.number, [slot])), AppendRecord)
    member.hear(3, prepare(ViewNumber(9, 3)))
    assert not matching(member.sync(2).sends, Promise)
    assert one(member.sync().sends, Promise, to=3).end == 2


def test_an_answer_that_has_nothing_to_wait_for_leaves_at_once() -> None:
    """V3: the same promise again, when everything is durable."""
    member = running(2)
    member.hear(3, prepare(ViewNumber(9, 3)))
    member.settle()
    assert matching(member.hear(3, prepare(ViewNumber(9, 3))).sends, Promise, to=3)


def test_an_answer_without_an_operation_of_its_own_waits_for_what_is_on_its_way() -> None:
    """D4."""
    member = running(2)
    member.hear(3, prepare(ViewNumber(9, 3)))
    assert not matching(member.hear(3, prepare(ViewNumber(9, 3))).sends, Promise)
    assert len(matching(member.sync().sends, Promise, to=3)) == 2


def test_who_is_heard() -> None:
    """Any frame within the suspect timeout, and no broken connection; itself always."""
    member = running(1, suspect_timeout_ms=300)
    assert member.running.heard() == [1, 2, 3]
    member.step(PeerLost(3))
    assert member.running.heard() == [1, 2]
    member.world.now_us += 300_000
    member.step()
    assert member.running.heard() == [1]
    member.hear(2, ack(member.number))
    assert member.running.heard() == [1, 2]
