"""A8, A9 and A10: what is missing, how much there may be, and the chain over it all."""

from dataclasses import replace

from sequencer.messages import Broadcast, LsnRange, Nack, Records, Retransmit
from sequencer.types import GENESIS_CHAIN
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import (
    ack,
    incarnation,
    log,
    new_view,
    published,
    record,
    request,
    token,
    view,
)
from tests.sequencer.harness import matching, one


@rule("A8 asks for nothing")
def test_a_missing_request_is_asked_for(trial: Trial) -> None:
    """A8: A lsn gap, a slot gap or an ordered request that is missing is NACKed, after a short delay, with back-off"""
    member = trial.running(2, nack_delay_ms=5)
    member.hear(3, Retransmit(member.number, (request(3, 1), request(3, 4)), ()))
    with trial.decides():
        assert not matching(member.wait(4), Nack)
        assert one(member.wait(2), Nack, to=3).requests == (LsnRange(3, incarnation(3), 2, 3),)


@rule("A8 asks for nothing")
def test_a_missing_slot_is_asked_for(trial: Trial) -> None:
    """A8: A lsn gap, a slot gap or an ordered request that is missing is NACKed, after a short delay, with back-off"""
    member = trial.running(2)
    slots = log(3, member.number, sender=1)
    member.hear(1, published(member.number, slots[1:], 0))
    with trial.decides():
        one(member.wait(6), Nack, to=1, first_slot=0, end_slot=3)
        member.hear(1, Retransmit(member.number, (), slots[:1]))
        assert member.running.window.end == 3


@rule("A8 asks for nothing")
def test_an_ordered_request_that_is_missing_is_asked_for(trial: Trial) -> None:
    """A8: A lsn gap, a slot gap or an ordered request that is missing is NACKed, after a short delay, with back-off"""
    member = trial.running(2)
    slot = record(0, GENESIS_CHAIN, [request(3, 1)], member.number)
    member.hear(1, Broadcast(published(member.number, []).status, (), (slot.sequence,)))
    with trial.decides():
        one(member.wait(6), Nack, to=1, first_slot=0, end_slot=1)


@rule("A8 asks without back-off")
def test_asking_again_backs_off(trial: Trial) -> None:
    """A8: A lsn gap, a slot gap or an ordered request that is missing is NACKed, after a short delay, with back-off"""
    member = trial.running(2, suspect_timeout_ms=1_000, token_timeout_ms=1_000)
    member.hear(3, ack(member.number, newest_lsn=1))
    with trial.decides():
        asked = len(matching(member.wait(5 + 40 + 80 + 160 + 10), Nack, to=3))
        assert asked == 4


@rule("A8 answers without limit")
def test_a_peer_has_a_budget(trial: Trial) -> None:
    """A8: and a per-peer budget"""
    member = trial.running(1, nack_budget_per_second=2)
    member.submit(b"mine")
    wanted = Nack(member.number, 0, 1, ())
    with trial.decides():
        out = member.hear(3, wanted, wanted, wanted)
        assert len(matching(out.sends, Retransmit, to=3)) == 2
        assert len(matching(member.hear(2, wanted).sends, Retransmit, to=2)) == 1
        member.wait(1_000)
        assert len(matching(member.hear(3, wanted).sends, Retransmit, to=3)) == 1


@rule("A8 answers for any view")
def test_only_a_member_that_has_installed_the_view_answers(trial: Trial) -> None:
    """A8: Only a member that has installed the view answers a NACK of it"""
    member = trial.running(1)
    member.submit(b"mine")
    with trial.decides():
        assert not matching(member.hear(3, Nack(view(1).number, 0, 1, ())).sends, Retransmit)
        assert matching(member.hear(3, Nack(member.number, 0, 1, ())).sends, Retransmit)


@rule("A8 answers nothing")
def test_the_answer_carries_the_view_of_each_slot(trial: Trial) -> None:
    """A8: their content with the view in which each slot was sequenced"""
    base = log(2)
    member = trial.running(1, base=base)
    member.submit(b"mine")
    with trial.decides():
        sent = one(member.hear(3, Nack(member.number, 1, 3, ())).sends, Retransmit, to=3)
        assert [made.sequence.view for made in sent.records] == [view(1).number, member.number]


@rule("A8 view of a record")
def test_a_slot_is_stored_only_if_it_was_sequenced_in_the_installed_view(trial: Trial) -> None:
    """A8: a slot >= base is stored only if it was sequenced in the installed view (!)"""
    member = trial.running(2)
    stale = record(0, GENESIS_CHAIN, [request(1, 1)], view(1).number)
    with trial.decides():
        member.hear(1, published(member.number, [stale]))
        member.hear(1, Retransmit(member.number, (), (stale,)))
        assert member.running.window.end == 0


@rule("A8 keeps SEQUENCEs of the view before")
def test_sequences_of_older_views_are_dropped_at_an_install(trial: Trial) -> None:
    """A8: At an install all NACKs and SEQUENCEs of older views are dropped."""
    member = trial.running(2)
    slots = log(2, member.number, sender=1)
    member.hear(1, published(member.number, slots[1:]))  # slot 0 is missing
    member.install(view(3, slots[:1]), slots[:1])
    with trial.decides():
        later = record(3, slots[1].sequence.chain, [request(1, 4)], member.number)
        member.hear(1, published(member.number, [later]))
        assert member.running.window.end == 1


@rule("A9 slots beyond commit")
def test_slots_beyond_commit_are_limited(trial: Trial) -> None:
    """A9: Limits, all in one validated config: slots sequenced beyond commit"""
    member = trial.running(1, uncommitted_slots_max=1)
    member.submit(b"one")
    member.settle()
    member.hear(3, token(member.number, 3, 1))
    with trial.decides():
        assert not [sent for sent in matching(member.submit(b"two").sends, Broadcast) if sent.sequences]
        out = member.hear(2, ack(member.number, 1))
        assert [sequence.slot for sequence in one(out.sends, Broadcast).sequences] == [1]


@rule("A9 outstanding without limit")
def test_own_requests_are_limited(trial: Trial) -> None:
    """A9: requests and bytes outstanding per sender, bytes per request and per slot."""
    limits = {"own_requests_max": 2, "own_bytes_max": 1_000, "request_bytes_max": 900}
    by_count, by_size = trial.running(2, **limits), trial.running(2, **limits)
    with trial.decides():
        assert by_count.running.room() == 1_000
        by_count.submit(b"1")
        assert by_count.running.room() == 1_000 - len(b"headers1")
        by_count.submit(b"2")
        assert by_count.running.room() == 0
        by_size.submit(bytes(1_000))
        assert by_size.running.room() == 0


@rule("A9 slots of any size")
def test_a_slot_is_limited(trial: Trial) -> None:
    """A9: requests and bytes outstanding per sender, bytes per request and per slot."""
    member = trial.running(2, slot_bytes_max=100, slot_requests_max=3)
    for payload in (bytes(60), bytes(60), b"", b"", b"", b"", b""):
        member.submit(payload)
    with trial.decides():
        ordered = []
        for hop in (1, 4, 7):
            member.settle()
            out = member.hear(1, token(member.number, hop, member.running.window.end))
            made = [sequence for sent in matching(out.sends, Broadcast) for sequence in sent.sequences]
            ordered.append([entry[2:4] for sequence in made for entry in sequence.entries])
        assert ordered == [[(1, 1)], [(2, 4)], [(5, 7)]]


@rule("A9 buffers without limit")
def test_buffered_requests_of_a_sender_are_limited(trial: Trial) -> None:
    """A9: requests and bytes outstanding per sender, bytes per request and per slot."""
    member = trial.running(1, sender_requests_max=2)
    with trial.decides():
        member.hear(3, Retransmit(member.number, tuple(request(3, lsn) for lsn in (2, 3)), ()))
        assert [member.running.buffer.get(3, incarnation(3), lsn) is not None for lsn in (2, 3)] == [True, False]


@rule("A9 buffers without limit")
def test_buffered_bytes_of_a_sender_are_limited(trial: Trial) -> None:
    """A9: requests and bytes outstanding per sender, bytes per request and per slot."""
    size = request(3, 2).size
    member = trial.running(1, own_bytes_max=size, request_bytes_max=size)
    with trial.decides():
        lsns = (2, 3, 4)
        member.hear(3, Retransmit(member.number, tuple(request(3, lsn) for lsn in lsns), ()))
        assert [lsn for lsn in lsns if member.running.buffer.get(3, incarnation(3), lsn) is not None] == [2, 3]


@rule("A10 any chain")
def test_the_chain_is_checked_on_store(trial: Trial) -> None:
    """A10: Checked on store and on fetch"""
    member = trial.running(2)
    slot = record(0, GENESIS_CHAIN, [request(1, 1)], member.number)
    forged = replace(slot, sequence=replace(slot.sequence, time_us=9))
    with trial.decides():
        member.hear(1, Retransmit(member.number, (), (forged,)))
        assert member.running.window.end == 0


@rule("A10 any chain")
def test_the_chain_is_checked_on_fetch(trial: Trial) -> None:
    """A10: Checked on store and on fetch"""
    base = log(2)
    other = log(2, word=b"other ")
    member = trial.bench(2, log=base[:1], installed=view(1))
    member.hear(3, new_view(view(2, base)))
    with trial.decides():
        member.hear(3, Records(view(2).number, 1, other[1:]))
        assert member.running.window.end == 1
        member.hear(3, Records(view(2).number, 1, base[1:]))
        assert member.running.window.end == 2
