"""A3, A4 and A7: what the holder does in its visit, and how the right moves on."""

from sequencer.messages import Broadcast, Retransmit, Token
from sequencer.output import Send
from sequencer.types import GENESIS_CHAIN
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, published, record, request, token
from tests.sequencer.harness import matching, one


def ordered(sends: list[Send]) -> list[tuple[int, int, int]]:
    """(slot, first lsn, last lsn) of all that these frames sequence of one sender's requests."""
    made = [sequence for sent in matching(sends, Broadcast) for sequence in sent.sequences]
    return [(sequence.slot, *entry[2:4]) for sequence in made for entry in sequence.entries]


@rule("A3 sequences without the prefix")
def test_the_holder_has_every_slot_below_its_own(trial: Trial) -> None:
    """A3: Before it sends SEQUENCE for slot k of view v the holder has (1) every SEQUENCE below k"""
    member = trial.running(2, slot_fill_bytes=1)
    below = record(0, GENESIS_CHAIN, [request(1, 1)], member.number)
    member.hear(1, token(member.number, 1, 1))
    with trial.decides():
        assert not [sent for sent in matching(member.submit(b"mine").sends, Broadcast) if sent.sequences]
        out = member.hear(1, published(member.number, [below]))
        assert [sequence.slot for sequence in one(out.sends, Broadcast).sequences] == [1]


@rule("A3 stores whatever has the lsn")
def test_the_holder_has_every_request_with_the_hash_that_the_entry_names(trial: Trial) -> None:
    """A3: and (2) every request those order, with the hash that the entry names."""
    member = trial.running(2)
    below = record(0, GENESIS_CHAIN, [request(3, 1, b"as it was ordered")], member.number)
    member.hear(3, Retransmit(member.number, (request(3, 1, b"another content"),), ()))
    with trial.decides():
        member.hear(1, token(member.number, 1, 1, [below]))
        assert member.running.window.end == 0
        member.hear(1, Retransmit(member.number, (), (below,)))
        assert member.running.window.end == 1


@rule("A3 one request a visit")
def test_one_visit_orders_all_eligible_requests(trial: Trial) -> None:
    """A3: one visit orders *all* eligible requests it has, up to a size cap."""
    member = trial.running(2)
    member.hear(3, Retransmit(member.number, (request(3, 1), request(3, 2), request(1, 1)), ()))
    member.submit(b"mine")
    with trial.decides():
        out = member.hear(1, token(member.number, 1, 0))
        entries = one(out.sends, Broadcast).sequences[0].entries
        assert [(entry.sender, entry.first_lsn, entry.last_lsn) for entry in entries] == [
            (1, 1, 1),
            (2, 1, 1),
            (3, 1, 2),
        ]


@rule("A3 a slot for each request", "A3 waits for its own disk alone")
def test_small_requests_gather_while_the_slot_before_is_written(trial: Trial) -> None:
    """A3: less than `slot_fill_bytes` of requests gather for the next one."""
    written, stored, full = (trial.running(1, slot_fill_bytes=100) for _ in range(3))
    for member in (written, stored, full):
        member.submit(b"one")
        member.hear(3, token(member.number, 3, 1))
    with trial.decides():
        for member in (written, stored, full):
            for _ in range(2):
                assert not ordered(member.submit(b"small").sends)
        assert not ordered(stored.hear(2, ack(stored.number, 1)).sends)
        for sends in (written.settle(), stored.hear(3, ack(stored.number, 1)).sends):
            assert ordered(sends) == [(1, 2, 3)]
        assert ordered(full.submit(bytes(100)).sends) == [(1, 2, 4)]


@rule("A4 keeps the token")
def test_the_token_goes_on_right_after_the_sequence(trial: Trial) -> None:
    """A4: Right after its SEQUENCE the holder sends TOKEN (hop+1, slot k+1) to the next ring member."""
    member = trial.running(1)
    with trial.decides():
        out = member.submit(b"mine")
        one(out.sends, Token, to=2, hop=1, slot=1)
        assert member.running.token is None


@rule("A4 parks for ever")
def test_an_unused_token_goes_on_after_the_idle_hop_interval(trial: Trial) -> None:
    """A4: and passes the token unused every `idle_hop_interval`."""
    member = trial.running(1, idle_hop_interval_ms=100)
    with trial.decides():
        one(member.wait(100), Token, to=2, hop=1, slot=0)


@rule("A4 rotates when idle")
def test_with_nothing_eligible_the_token_parks(trial: Trial) -> None:
    """A4: the token *parks*: the holder sequences the first request that arrives at once"""
    member = trial.running(1, idle_hop_interval_ms=100)
    with trial.decides():
        assert not matching(member.wait(90), Token)
        out = member.hear(3, Retransmit(member.number, (request(3, 1),), ()))
        assert [sequence.slot for sequence in one(out.sends, Broadcast).sequences] == [0]


@rule("A7 the token brings no entries", "A7 the token carries no entries")
def test_a_successor_never_waits_for_what_the_token_told_it(trial: Trial) -> None:
    """A7: so that a successor never waits for a PUB frame it has already been told about"""
    holder, successor = trial.running(1), trial.running(2, slot_fill_bytes=1)
    out = holder.submit(b"mine")
    requests = one(out.sends, Broadcast).requests
    successor.hear(1, Retransmit(successor.number, requests, ()))  # the request came, the SEQUENCE did not
    successor.submit(b"next")
    with trial.decides():
        out = successor.hear(1, one(out.sends, Token, to=2))
        assert successor.running.window.end == 2
        assert [sequence.slot for sequence in one(out.sends, Broadcast).sequences] == [1]


@rule("A7 a frame for each")
def test_request_and_sequence_travel_in_one_frame(trial: Trial) -> None:
    """A7: the holder's own REQUEST and SEQUENCE travel in one PUB multipart message."""
    member = trial.running(1)
    with trial.decides():
        frame = one(member.submit(b"mine").sends, Broadcast)
        assert len(frame.requests) == len(frame.sequences) == 1
