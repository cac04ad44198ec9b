"""V7: how a member makes its log a prefix of what the view chose."""

from sequencer.messages import Broadcast, Chains, Fetch, Installed, Records
from sequencer.types import SlotRecord, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, log, new_view, prepare, view
from tests.sequencer.harness import Host, matching, one


def installing(trial: Trial, log_here: tuple[SlotRecord, ...], base: tuple[SlotRecord, ...], **how: int) -> Host:
    """Member 1 with a log of view 1 has heard NEW_VIEW of view 2, whose source is member 3."""
    member = trial.bench(1, log=log_here, installed=view(1), **how)
    member.hear(3, new_view(view(2, base)))
    member.settle()
    return member


@rule("V7 install below the promise")
def test_a_view_below_the_promise_is_dropped(trial: Trial) -> None:
    """V7: On NEW_VIEW v: dropped if v <= log view (answered INSTALLED if equal) or v < promised."""
    member = trial.bench(1, installed=view(1))
    member.hear(3, prepare(ViewNumber(5, 3)))
    member.settle()
    with trial.decides():
        member.hear(3, new_view(view(2)))
        member.settle()
        assert member.running.stable.log_view == view(1).number


@rule("V7 installs an older view")
def test_a_view_not_above_the_log_view_is_dropped(trial: Trial) -> None:
    """V7: On NEW_VIEW v: dropped if v <= log view (answered INSTALLED if equal) or v < promised."""
    member = trial.running(1)
    with trial.decides():
        one(member.hear(3, new_view(view(2))).sends, Installed, to=3, number=view(2).number)
        assert not member.hear(3, new_view(view(1))).persists
        assert member.running.installing is None


@rule("V7 no cut beyond the end")
def test_what_the_source_does_not_have_is_cut(trial: Trial) -> None:
    """V7: cuts everything beyond the announced end and everything from the first slot whose chain differs"""
    member = installing(trial, log(5), log(3))
    with trial.decides():
        assert member.disk.log == log(3)
        assert member.number == view(2).number


@rule("V7 no cut beyond the end")
def test_the_source_cuts_too(trial: Trial) -> None:
    """V7: (the source cuts too: a slot in its writer queue may have landed late)"""
    member = trial.bench(1, log=log(4), installed=view(1))
    with trial.decides():
        member.hear(3, new_view(view(2, log(3), source=1)))
        member.settle()
        assert member.disk.log == log(3)


@rule("V7 no cut where the chain differs")
def test_what_differs_from_the_sources_log_is_cut_and_fetched(trial: Trial) -> None:
    """V7: cuts everything beyond the announced end and everything from the first slot whose chain differs"""
    common = log(2)
    here, there = log(2, after=common, word=b"old "), log(2, after=common)
    member = installing(trial, here, there)
    asked = one(member.sends, Fetch, to=3, first=4)
    assert asked.chain == here[3].sequence.chain != there[3].sequence.chain
    with trial.decides():
        out = member.hear(3, Chains(view(2).number, 0, tuple(made.sequence.chain for made in there)))
        one(out.sends, Fetch, to=3, first=2, chain=common[1].sequence.chain)
        member.hear(3, Records(view(2).number, 2, there[2:]))
        member.settle()
        assert member.disk.log == there


@rule("V7 fetches from anyone")
def test_the_rest_is_fetched_from_who_has_it(trial: Trial) -> None:
    """V7: the rest **from the source or a member that has installed v**, checking the chain before each write"""
    member = installing(trial, (), log(2), fetch_interval_ms=50)
    with trial.decides():
        assert {send.to for send in [*member.sends, *member.wait(200)] if isinstance(send.message, Fetch)} == {3}
        member.hear(2, ack(view(2).number, 2, promised=view(2).number))
        assert {send.to for send in member.wait(200) if isinstance(send.message, Fetch)} == {2, 3}


@rule("V7 log view before prefix")
def test_the_log_view_is_raised_when_the_prefix_is_complete(trial: Trial) -> None:
    """V7: Raising the log view before the prefix is complete loses data."""
    member = trial.bench(1, log=log(1), installed=view(1))
    with trial.decides():
        out = member.hear(3, new_view(view(2, log(3))))
        member.settle()
        assert member.running.stable.log_view == view(1).number
        assert not matching(out.sends, Installed)
        member.hear(3, Records(view(2).number, 1, log(3)[1:2]))
        member.settle()
        assert member.running.stable.log_view == view(1).number
        member.hear(3, Records(view(2).number, 2, log(3)[2:]))
        member.settle()
        assert member.running.stable.log_view == view(2).number


@rule("V7 acknowledges before the install is durable")
def test_a_member_acknowledges_in_the_view_once_the_last_transaction_is_durable(trial: Trial) -> None:
    """V7: and in one last transaction writes log view, ring, base. Only then may it acknowledge in v."""
    member = trial.bench(1, log=log(1), installed=view(1))
    with trial.decides():
        out = member.hear(3, new_view(view(2, log(1))))
        early = [*out.sends, *member.wait(60, settle=False)]
        assert {sent.status.stored for sent in matching(early, Broadcast)} == {0}
        assert [sent.status.stored for sent in matching(member.settle(), Broadcast, to=None)] == [1]


@rule("V7 cuts below its commit point")
def test_a_cut_below_the_commit_point_is_never_made(trial: Trial) -> None:
    """V7: A cut below its own commit point is never made: the member stops with a divergence alarm."""
    member = trial.bench(1, log=log(3), installed=view(1), commit=2)
    with trial.decides():
        out = member.hear(3, new_view(view(2, log(1))))
        assert "divergence" in out.halt
        assert "slots below 2" in out.halt
        member.disk.sync()
        assert member.disk.log == log(3)
