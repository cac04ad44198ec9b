"""K3: linearizable reads."""

from sequencer.messages import Read, ReadOk
from sequencer.output import ReadAsked, ReadReady
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, stable, view
from tests.sequencer.harness import Host, matching, one


def asks(trial: Trial) -> tuple[Host, int]:
    """Member 1 runs view 2 and has asked all for a reader's sake: the nonce of its READ."""
    member = trial.running(1)
    out = member.step(ReadAsked(7))
    return member, one(out.sends, Read, to=2).nonce


@rule("K3 its own answer only", "K3 the lowest answer")
def test_a_read_waits_for_the_maximum_of_a_quorum(trial: Trial) -> None:
    """K3: waits until its state machine has *applied* their maximum, then reads"""
    with trial.decides():
        member, nonce = asks(trial)
        assert not member.reads
        member.hear(2, ReadOk(nonce, member.number, 4))
        assert member.reads == [ReadReady(7, 4)]


@rule("K3 answers of any view")
def test_answers_of_another_view_do_not_count(trial: Trial) -> None:
    """K3: sends READ with a nonce to all, takes Q answers of its own installed view (none from a wiped member)"""
    member, nonce = asks(trial)
    with trial.decides():
        member.hear(2, ReadOk(nonce, view(1).number, 9))
        assert not member.reads


@rule("K3 a wiped member answers")
def test_a_wiped_member_does_not_answer(trial: Trial) -> None:
    """K3: sends READ with a nonce to all, takes Q answers of its own installed view (none from a wiped member)"""
    member = trial.bench(1, state=stable(1, view(1), wiped=True))
    with trial.decides():
        assert not matching(member.hear(2, Read(9)).sends, ReadOk)
        healthy = trial.running(1)
        one(healthy.hear(2, Read(9)).sends, ReadOk, to=2, nonce=9, view=healthy.number)


@rule("K3 does not ask again after an install")
def test_after_an_install_in_between_it_asks_again(trial: Trial) -> None:
    """K3: after an install in between it asks again."""
    member, nonce = asks(trial)
    before = len(member.sends)
    member.install(view(3))
    with trial.decides():
        member.hear(2, ack(member.number), ReadOk(nonce, view(2).number, 9))
        assert not member.reads
        again = one(member.sends[before:], Read, to=2).nonce
        member.hear(2, ReadOk(again, member.number, 5))
        assert member.reads == [ReadReady(7, 5)]


@rule("K3 a reader joins a READ that has left")
def test_a_reader_shares_only_a_read_that_leaves_later(trial: Trial) -> None:
    """K3: a reader shares only a READ that leaves after it asked"""
    member, rounds = trial.running(1), trial.read_rounds()
    rounds.join("before")
    nonce = one(member.step(*rounds.take()).sends, Read, to=2).nonce
    member.hear(2, ReadOk(nonce, member.number, 4))
    rounds.join("after")  # in the same turn of the loop; a message may have been acknowledged elsewhere since
    with trial.decides():
        later = one(member.step(*rounds.take()).sends, Read, to=2).nonce
        rounds.ready(*member.reads[0])
        assert [ended.readers for ended in rounds.due(4)] == [["before"]]
        member.hear(2, ReadOk(later, member.number, 5))
        rounds.ready(*member.reads[1])
        assert [(ended.slot, ended.readers) for ended in rounds.due(5)] == [(5, ["after"])]
