"""V3 and V4: what a promise means, and who does not give one."""

from sequencer.messages import Broadcast, Healthy, Join, NewView, Prepare, Promise, Records, Refused
from sequencer.output import PeerLost
from sequencer.types import ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import log, new_view, prepare, promise, published, view
from tests.sequencer.harness import matching, one

HIGHER = ViewNumber(5, 3)


@rule("V3 promises below its promise")
def test_a_lower_number_is_refused(trial: Trial) -> None:
    """V3: A member that has promised nothing higher, and has no NEW_VIEW of this number"""
    member = trial.bench(1, installed=view(1))
    member.hear(3, prepare(HIGHER))
    member.settle()
    with trial.decides():
        out = member.hear(2, prepare(ViewNumber(4, 2)))
        one(out.sends, Refused, to=2, number=ViewNumber(4, 2), promised=HIGHER)
        assert not matching(member.settle(), Promise)


@rule("V3 promises again what it has the NEW_VIEW of")
def test_a_number_whose_new_view_is_here_is_not_promised_again(trial: Trial) -> None:
    """V3: A member that has promised nothing higher, and has no NEW_VIEW of this number"""
    member = trial.bench(1, installed=view(1))
    announced = view(5, log(2))
    member.hear(3, new_view(announced))
    member.settle()
    with trial.decides():
        one(member.hear(3, prepare(HIGHER)).sends, Refused, to=3)
        assert member.running.installing == announced
        assert not matching(member.settle(), Promise)


@rule("V3 promise not durable")
def test_a_promise_is_durable_before_it_is_answered(trial: Trial) -> None:
    """V3: ends an install in progress, makes the promise durable, then answers"""
    member = trial.bench(1, installed=view(1))
    with trial.decides():
        assert not matching(member.hear(3, prepare(HIGHER)).sends, Promise)
        one(member.sync().sends, Promise, to=3, number=HIGHER)
        assert member.durable().promised == HIGHER
        one(member.hear(3, prepare(HIGHER)).sends, Promise, to=3)  # again, to a PREPARE sent again


@rule("V3 end taken before queued acknowledgements")
def test_the_end_is_taken_when_the_promise_is_durable(trial: Trial) -> None:
    """V3: The answer's end is taken when the promise itself is durable"""
    member = trial.running(2)
    slots = log(2, member.number, sender=1)
    member.hear(1, published(member.number, slots))
    member.hear(3, prepare(HIGHER))
    with trial.decides():
        answer = one(member.sync().sends, Promise, to=3)
        assert (answer.end, answer.chain) == (2, slots[1].sequence.chain)
        assert answer.log_view == member.number


@rule("V3 acknowledges after the promise")
def test_no_acknowledgement_of_a_lower_view_leaves_after_the_promise(trial: Trial) -> None:
    """V3: After that point no acknowledgement of a lower view leaves, also none that waits in a queue"""
    member = trial.running(2)
    member.hear(1, published(member.number, log(1, member.number, sender=1)))
    member.hear(3, prepare(HIGHER))
    with trial.decides():
        after = [*member.sync().sends, *member.wait(200)]
        assert {sent.status.stored for sent in matching(after, Broadcast)} == {0}


@rule("V3 stores after the promise")
def test_nothing_of_a_lower_view_is_stored_after_the_promise(trial: Trial) -> None:
    """V3: and nothing of a lower view is stored or sequenced"""
    member = trial.running(2)
    member.hear(3, prepare(HIGHER))
    with trial.decides():
        member.hear(1, published(member.number, log(1, member.number, sender=1)))
        assert member.running.window.end == 0


@rule("V3 goes on installing")
def test_a_promise_ends_an_install_in_progress(trial: Trial) -> None:
    """V3: A member that has promised nothing higher, and has no NEW_VIEW of this number, ends an install in progress"""
    member = trial.bench(1, installed=view(1))
    announced = view(4, log(2))
    member.hear(3, new_view(announced))
    member.settle()
    member.hear(3, prepare(HIGHER))
    with trial.decides():
        member.hear(3, Records(announced.number, 0, log(2)))
        member.settle()
        assert member.running.window.end == 0
        assert member.running.stable.log_view == view(1).number


@rule("V4 lets itself be deposed")
def test_a_healthy_ring_is_not_deposed_from_outside(trial: Trial) -> None:
    """V4: answers HEALTHY (with the view's NEW_VIEW) to a PREPARE from outside the ring"""
    member = trial.running(1, ring=(1, 2))
    with trial.decides():
        out = member.hear(3, prepare(HIGHER))
        assert one(out.sends, Healthy, to=3, number=HIGHER).view == member.running.view
        assert not matching(member.settle(), Promise)
        member.step(PeerLost(2))
        member.hear(3, prepare(HIGHER))
        one(member.settle(), Promise, to=3)  # no longer healthy


@rule("V4 insists")
def test_a_member_that_hears_of_a_healthy_ring_joins_it(trial: Trial) -> None:
    """V4: so a member that comes back from a partition can't depose it. It sends JOIN instead."""
    member = trial.running(1)
    member.step(PeerLost(3))
    number = matching([*member.settle(), *member.wait(1)], Prepare, to=2)[0].number
    ring = view(2, ring=(2, 3))
    with trial.decides():
        member.hear(2, Healthy(number, ring))
        member.hear(2, promise(number, view(2).number))
        member.hear(3, promise(number, view(2).number))
        after = member.wait(150)
        assert not matching(after, NewView)
        assert matching(after, Join)
