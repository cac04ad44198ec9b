"""A5: what is committed, and what is delivered."""

from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, log, published, view
from tests.sequencer.harness import Host


def stores_a_slot(trial: Trial, members: int = 3, ring: tuple[int, ...] | None = None) -> Host:
    """A member that has sequenced and stored slot 0, alone so far."""
    member = trial.running(1, members=members, ring=ring)
    member.submit(b"mine")
    member.settle()
    assert member.running.stored == 1
    return member


@rule("A5 quorum minus one", "A5 delivers before commit")
def test_a_slot_is_delivered_once_a_quorum_has_stored_it(trial: Trial) -> None:
    """A5: only once Q members have stored all requests and SEQUENCEs up to k"""
    with trial.decides():
        member = stores_a_slot(trial)
        assert not member.delivered
        member.hear(2, ack(member.number, 1))
        assert len(member.delivered) == 1


@rule("A5 quorum of the ring")
def test_the_quorum_is_of_the_configured_members(trial: Trial) -> None:
    """A5: *Quorum* Q = floor(n/2)+1 of the **configured** members, never of the members that happen to be up"""
    member = stores_a_slot(trial, members=5, ring=(1, 2, 3))
    with trial.decides():
        member.hear(2, ack(member.number, 1))
        assert not member.delivered
        member.hear(3, ack(member.number, 1))
        assert len(member.delivered) == 1


@rule("A5 ACKs of older views")
def test_acks_of_another_view_do_not_count(trial: Trial) -> None:
    """A5: counting ACKs **of the current view only** (!), own and learners' included."""
    member = stores_a_slot(trial)
    older = view(1).number
    with trial.decides():
        member.hear(2, ack(older, 1))
        assert not member.delivered


@rule("A5 learners do not count")
def test_a_learners_ack_counts(trial: Trial) -> None:
    """A5: counting ACKs **of the current view only** (!), own and learners' included."""
    member = stores_a_slot(trial, ring=(1, 2))
    with trial.decides():
        member.hear(3, ack(member.number, 1))
        assert len(member.delivered) == 1


@rule("A5 commit of another view")
def test_a_commit_number_of_another_view_is_ignored(trial: Trial) -> None:
    """A5: A commit number of any other view is ignored"""
    member = stores_a_slot(trial)
    with trial.decides():
        member.hear(2, ack(view(1).number, 0, commit=1))
        assert not member.delivered


@rule("A5 commit beyond what is stored")
def test_a_peers_commit_reaches_as_far_as_this_member_has_stored(trial: Trial) -> None:
    """A5: **in a frame of the view that this member has installed**, then min(peer's commit, own stored) (!)."""
    member = trial.running(2)
    slots = [*log(2, member.number, sender=1)]
    member.hear(1, published(member.number, slots[:1]))
    member.settle()
    with trial.decides():
        member.hear(1, published(member.number, slots[1:], 0, commit=2))
        assert member.running.commit == 1
        assert member.delivered == slots[:1]
        member.settle()
        member.hear(1, ack(member.number, 0, commit=2))
        assert member.delivered == slots
