"""A1 and A2: requests, and which of them may be sequenced."""

from sequencer.messages import Broadcast, LsnRange, Nack, Retransmit
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, incarnation, log, published, record, request, token, view
from tests.sequencer.harness import matching, one


@rule("A1 never publishes again")
def test_a_request_that_is_not_sequenced_is_published_again(trial: Trial) -> None:
    """A1: it publishes again what is not sequenced after `resend_interval`."""
    member = trial.running(2, resend_interval_ms=40)
    first = one(member.submit(b"hello").sends, Broadcast, to=None)
    with trial.decides():
        again = [sent for sent in matching(member.wait(45), Broadcast, to=None) if sent.requests]
        assert [sent.requests for sent in again] == [first.requests]


@rule("A1 forgets a request once it is published")
def test_a_request_is_kept_until_it_is_delivered(trial: Trial) -> None:
    """A1: publishes REQUEST and keeps it until it is delivered"""
    member = trial.running(2)
    mine = one(member.submit(b"hello").sends, Broadcast).requests
    slot = record(0, member.running.window.end_chain, mine, member.number)
    member.hear(1, published(member.number, [slot]))
    wanted = Nack(member.number, 0, 0, (LsnRange(2, mine[0].incarnation, 1, 1),))
    with trial.decides():
        assert one(member.hear(3, wanted).sends, Retransmit, to=3).requests == mine
        member.settle()
        member.hear(1, ack(member.number, 1))
        assert member.delivered == [slot]
        assert not matching(member.hear(3, wanted).sends, Retransmit)


@rule("A1 does not hear of the newest lsn")
def test_a_lost_last_request_is_a_gap_too(trial: Trial) -> None:
    """A1: ACK and HEARTBEAT carry the newest lsn, so that a lost last REQUEST is a gap too."""
    member = trial.running(2)
    member.hear(3, ack(member.number, newest_lsn=2))
    with trial.decides():
        asked = one(member.wait(10), Nack, to=3)
        assert asked.requests == (LsnRange(3, incarnation(3), 1, 2),)


@rule("A2 any order on store")
def test_a_slot_that_skips_a_request_is_not_stored(trial: Trial) -> None:
    """A2: The holder may sequence request (s, i, l) only when (s, i, l-1) is sequenced, or l = 1."""
    member = trial.running(2)
    skipping = record(0, member.running.window.end_chain, [request(3, 2)], member.number)
    with trial.decides():
        member.hear(1, published(member.number, [skipping]))
        assert member.running.window.end == 0
        first = record(0, member.running.window.end_chain, [request(3, 1)], member.number)
        member.hear(1, Retransmit(member.number, (), (first,)))
        assert member.running.window.end == 1


@rule("A2 any order when sequencing")
def test_the_holder_waits_for_the_request_before(trial: Trial) -> None:
    """A2: The holder may sequence request (s, i, l) only when (s, i, l-1) is sequenced, or l = 1."""
    member = trial.running(2)
    member.hear(1, token(member.number, 1, 0))
    with trial.decides():
        early = member.hear(3, published(member.number, [], 0), Retransmit(member.number, (request(3, 2),), ()))
        assert not [sent for sent in matching(early.sends, Broadcast) if sent.sequences]
        late = member.hear(3, Retransmit(member.number, (request(3, 1),), ()))
        entry = one(late.sends, Broadcast).sequences[0].entries[0]
        assert (entry.first_lsn, entry.last_lsn) == (1, 2)


@rule("A2 an older incarnation again")
def test_a_request_of_an_older_incarnation_is_never_eligible_again(trial: Trial) -> None:
    """A2: Once a slot orders a request of (s, i), no request of an older incarnation of s is ever eligible"""
    newer = log(1, sender=3, of=incarnation(3, 2))
    member = trial.running(2, base=newer)
    old = record(1, newer[0].sequence.chain, [request(3, 1, b"old", incarnation(3, 1))], member.number)
    with trial.decides():
        member.hear(1, Retransmit(member.number, (), (old,)))
        assert member.running.window.end == 1


@rule("A2 table stays after a cut")
def test_the_table_goes_back_with_a_cut(trial: Trial) -> None:
    """A2: is derived from the log, goes back with a cut, and is part of the snapshot."""
    uncommitted = log(3, sender=3)
    member = trial.bench(1, log=uncommitted, installed=view(1))
    member.install(view(2, uncommitted[:2]))
    with trial.decides():
        again = record(2, uncommitted[1].sequence.chain, [request(3, 3, b"again")], member.number)
        member.hear(2, published(member.number, [again]))
        assert member.running.window.end == 3
