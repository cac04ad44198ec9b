"""C3: who is whole, what a member takes to become so, and who may go."""

from sequencer.members_change import FEW_COPIES
from sequencer.messages import Backfill, Backfilled, Holdings
from sequencer.output import DamageFound, PrependRecord
from sequencer.types import DamagedRun
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, log, new_view, view
from tests.sequencer.harness import matching, one, persisted
from tests.sequencer.replaced import LOG, SLOT, asked, filled, hear_others, piece


@rule("C3 whole with a snapshot alone")
def test_a_member_filled_by_a_snapshot_is_not_whole(trial: Trial) -> None:
    """C3: A snapshot brings no log, so the transaction that uses one says that the member is not whole."""
    member = filled(trial.bench)
    with trial.decides():
        assert not member.durable().whole
        assert not member.running.whole
        assert one(member.wait(60), Holdings, to=2) == Holdings(SLOT, False, True)


@rule("C3 takes what does not link")
def test_a_piece_that_does_not_link_is_refused(trial: Trial) -> None:
    """C3: a piece is put below the log only if it links to that chain, hash by hash."""
    member = filled(trial.bench)
    member.hear(3, Holdings(0, True, False))
    assert asked(member) == Backfill(SLOT, LOG[SLOT - 1].sequence.chain, 0)
    other = log(SLOT, word=b"another ")
    with trial.decides():
        out = member.hear(3, Backfilled(2, other[1].sequence.chain, other[2:SLOT], (b"", b"")))
        assert not persisted(out, PrependRecord)
        assert len(persisted(member.hear(3, piece(2, SLOT)), PrependRecord)) == 2


@rule("C3 whole with what one member says")
def test_what_is_left_is_enough_only_when_all_have_said_what_they_hold(trial: Trial) -> None:
    """C3: when all members have said what they hold and none of them is whole, with what is left."""
    member = filled(trial.bench)
    with trial.decides():
        member.hear(2, Holdings(SLOT, False, False))
        hear_others(member)
        member.wait(60)
        assert not member.running.whole
        member.hear(2, Holdings(SLOT, False, False))
        member.hear(3, Holdings(5, False, False))
        hear_others(member)
        member.wait(60)
        assert member.running.whole


@rule("C3 fetches during an install")
def test_nothing_is_fetched_while_a_view_is_being_installed(trial: Trial) -> None:
    """C3: While a view is being installed the log below its base does not change."""
    member = filled(trial.bench)
    member.hear(3, Holdings(0, True, False))
    newer = view(3, log(9, after=LOG), proposer=2, source=2)
    member.hear(2, new_view(newer))
    member.settle()
    with trial.decides():
        hear_others(member)
        assert not matching(member.wait(120), Backfill)
        assert not persisted(member.hear(3, piece(2, SLOT)), PrependRecord)


@rule("C3 whole with holes")
def test_a_member_with_a_hole_is_no_copy(trial: Trial) -> None:
    """C3: A damaged record in a log that is in use is a *hole*: it is filled in the same way"""
    member = trial.running(1, base=LOG, window_slots=1)
    for other in (2, 3):
        member.hear(other, ack(member.number, 6))
    member.settle()
    run = DamagedRun(2, 3, LOG[1].sequence.chain, LOG[3].sequence.chain)
    member.step(DamageFound((run,)))
    with trial.decides():
        assert not member.running.whole
        member.hear(3, Holdings(0, True, False))
        one(member.wait(60), Backfill, to=3, below=4, first=2)


@rule("C3 removes the last copy")
def test_a_removal_that_leaves_too_few_copies_is_refused(trial: Trial) -> None:
    """C3: A removal is refused while fewer than a quorum of whole copies would stay"""
    member = trial.running(1, base=LOG)
    member.hear(2, Holdings(5, False, True))
    with trial.decides():
        assert member.running.refuses_change((1, 2), b"") == FEW_COPIES
        assert not member.running.refuses_change((1, 2), b"", accept_loss=True)
        assert not member.running.refuses_change((1, 3), b"")
