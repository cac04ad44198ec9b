"""A6 and V8: one live token per view."""

from sequencer.messages import Broadcast, Token
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, new_view, published, record, request, token, view
from tests.sequencer.harness import matching, one


@rule("A6 takes tokens after a restart")
def test_a_restarted_member_takes_no_token(trial: Trial) -> None:
    """A6: A restarted member goes on storing and acknowledging in the view it had installed, but takes no token"""
    member = trial.bench(2, installed=view(1))
    slot = record(0, bytes(16), [request(1, 1)], member.number)
    with trial.decides():
        member.hear(1, published(member.number, [slot]), token(member.number, 1, 1))
        assert member.running.token is None
        assert [sent.status.stored for sent in matching(member.settle(), Broadcast)] == [1]


@rule("A6 any hop")
def test_a_token_is_accepted_once(trial: Trial) -> None:
    """A6: the hop is newer than any that it has itself *accepted* in this view"""
    member = trial.running(2)
    member.submit(b"mine")
    passed = token(member.number, 1, 0)
    assert matching(member.hear(1, passed).sends, Token, to=3)
    with trial.decides():
        out = member.hear(1, passed)
        assert member.running.token is None
        assert one(out.sends, Broadcast).status.accepted_hop == 1  # the passer missed the proof of arrival


@rule("A6 a token of another view")
def test_a_token_of_another_view_is_dropped(trial: Trial) -> None:
    """A6: A TOKEN is accepted only if its view is the installed view"""
    member = trial.running(2)
    with trial.decides():
        member.hear(1, token(view(1).number, 1, 0))
        assert member.running.token is None


@rule("A6 out of turn")
def test_a_token_is_accepted_by_the_member_whose_turn_it_is(trial: Trial) -> None:
    """A6: this member is ring[hop mod |ring|]"""
    member = trial.running(2)
    with trial.decides():
        member.hear(1, token(member.number, 2, 0))
        assert member.running.token is None
        member.hear(1, token(member.number, 4, 0))
        assert member.running.token is not None


@rule("A6 does not resend the token")
def test_the_passer_resends_its_copy(trial: Trial) -> None:
    """A6: The passer keeps a copy and resends it until it has proof of arrival"""
    member = trial.running(1, resend_interval_ms=40)
    passed = one(member.submit(b"mine").sends, Token)
    with trial.decides():
        assert matching(member.wait(100), Token, to=2) == [passed, passed]


@rule("A6 sees no proof of arrival")
def test_an_ack_with_the_accepted_hop_proves_arrival(trial: Trial) -> None:
    """A6: proof of arrival: an ACK with accepted hop >= h, or a SEQUENCE of this view with slot >= the token's next"""
    member = trial.running(1, resend_interval_ms=40)
    member.submit(b"mine")
    member.hear(2, ack(member.number, 0, accepted_hop=1))
    with trial.decides():
        assert not matching(member.wait(100), Token)


@rule("A6 sees no proof of arrival")
def test_a_later_slot_proves_arrival(trial: Trial) -> None:
    """A6: or a SEQUENCE of this view with slot >= the token's next slot."""
    member = trial.running(1, resend_interval_ms=40)
    member.submit(b"mine")
    later = record(1, member.running.window.end_chain, [request(3, 1)], member.number)
    member.hear(3, published(member.number, [later]))
    with trial.decides():
        assert not matching(member.wait(100), Token)


@rule("V8 creates none")
def test_the_first_ring_member_creates_the_token_as_it_installs(trial: Trial) -> None:
    """V8: The first ring member creates the token (hop 0, slot = base) in the very step that completes its install"""
    member = trial.bench(1, installed=view(1))
    member.hear(3, new_view(view(2)))
    with trial.decides():
        member.sync()
        held = member.running.token
        assert held is not None
        assert (held.view, held.hop, held.slot) == (view(2).number, 0, 0)


@rule("V8 everyone creates one")
def test_the_other_ring_members_create_none(trial: Trial) -> None:
    """V8: The first ring member creates the token (hop 0, slot = base) in the very step that completes its install"""
    with trial.decides():
        assert trial.running(2).running.token is None


@rule("V8 creates again after a restart")
def test_no_token_is_created_for_a_view_found_at_start(trial: Trial) -> None:
    """V8: never for a view that it finds durable at start"""
    with trial.decides():
        member = trial.bench(1, installed=view(1))
        member.wait(10)
        assert member.running.token is None


@rule("V8 creates again on a repeated NEW_VIEW")
def test_no_token_is_created_on_a_repeated_new_view(trial: Trial) -> None:
    """V8: nor on a repeated NEW_VIEW."""
    member = trial.running(1)
    member.submit(b"mine")
    assert member.running.token is None
    with trial.decides():
        member.hear(3, new_view(view(2)))
        member.settle()
        assert member.running.token is None
