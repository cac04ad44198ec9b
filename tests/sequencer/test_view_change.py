"""V1-V6: proposals that are slow, refused, overtaken or answered late."""

from typing import Any

from sequencer.messages import (
    Broadcast,
    Healthy,
    Installed,
    Join,
    Known,
    Leave,
    NewView,
    Prepare,
    Promise,
    Refused,
)
from sequencer.output import PeerLost
from sequencer.types import BackOff, Identity, Incarnation, ViewNumber
from tests.sequencer.builders import ack, identity, join, new_view, prepare, promise, view
from tests.sequencer.harness import Host, bench, matching, one, running


def proposes(members: int = 3, **limits: Any) -> tuple[Host, ViewNumber]:
    """Member 1 has sent PREPARE since member 3's connection broke."""
    member = running(1, members=members, **limits)
    member.step(PeerLost(3))
    prepared = matching([*member.settle(), *member.wait(1)], Prepare, to=2)
    return member, prepared[0].number


def keep_heard(member: Host, ms: int, *others: int) -> None:
    """These members, which run nothing, send heartbeats for a while."""
    for _ in range(ms // 50):
        for other in others:
            member.hear(other, ack(member.number, runs=False))
        member.wait(50)


def test_prepare_is_sent_again_to_those_that_have_not_promised() -> None:
    """V3: and a number that does not succeed within view_timeout is given up for a higher one."""
    member, number = proposes(5, view_timeout_ms=600, resend_interval_ms=40)
    member.hear(2, promise(number, view(2).number))
    before = len(member.sends)
    keep_heard(member, 1_400, 2, 4, 5)
    again = [send for send in member.sends[before:] if isinstance(send.message, Prepare)]
    assert {send.to for send in again if send.message.number == number} == {3, 4, 5}  # type: ignore[union-attr]
    assert matching(member.sends, Prepare, to=2)[-1].number > number


def test_a_slow_disk_keeps_the_prepare_back() -> None:
    """V2: its own promise is durable first; the resend timer sends nothing that was not sent."""
    member = running(1, view_timeout_ms=100)
    member.step(PeerLost(3))
    member.wait(101, settle=False)
    assert not matching(member.sends, Prepare)
    member.wait(400, settle=False)
    assert member.proposal() is None
    assert not matching(member.settle(), Prepare)  # given up before it was durable


def test_the_announcement_is_sent_again_until_it_is_installed() -> None:
    member, number = proposes()
    member.hear(2, promise(number, view(2).number))
    member.hear(2, Installed(ViewNumber(1, 1)))
    before = len(member.sends)
    member.wait(200, settle=False)  # its own disk is slow, so the view does not run yet
    assert {send.to for send in member.sends[before:] if isinstance(send.message, NewView)} == {2}
    member.hear(2, Installed(number))
    before = len(member.sends)
    member.wait(200, settle=False)
    assert not matching(member.sends[before:], NewView)


def test_a_refused_number_is_given_up_for_a_higher_one() -> None:
    """V2."""
    member, number = proposes()
    member.hear(2, Refused(ViewNumber(1, 1), ViewNumber(9, 2)))
    assert member.proposal() is not None
    member.hear(2, Refused(number, ViewNumber(9, 2)))
    assert member.proposal() is None
    before = len(member.sends)
    keep_heard(member, 300, 2)
    assert matching(member.sends[before:], Prepare, to=2)[0].number == ViewNumber(10, 1)


def test_a_refusal_that_comes_while_it_waits_for_more_promises_ends_the_number() -> None:
    """The wait for the last promises ends without an announcement."""
    member, number = proposes(5)
    member.hear(2, promise(number, view(2).number))
    member.hear(4, promise(number, view(2).number))
    assert "announce" in member.running.timers
    member.hear(5, Refused(number, ViewNumber(9, 5)))
    assert not matching(member.wait(50), NewView)


def test_promises_for_no_number_of_ours_are_ignored() -> None:
    member, number = proposes()
    member.hear(2, promise(ViewNumber(99, 1), view(2).number))
    assert member.proposal() is not None
    assert not matching(member.wait(1), NewView)
    member.hear(3, prepare(ViewNumber(200, 3)))  # a higher number ends ours
    assert member.proposal() is None
    member.hear(2, promise(number, view(2).number))
    assert not matching(member.settle(), NewView)


def test_an_announcement_cannot_be_refused_or_deposed_any_more() -> None:
    member, number = proposes()
    member.hear(2, promise(number, view(2).number))
    member.wait(25)
    member.hear(3, Refused(number, ViewNumber(9, 3)), Healthy(number, view(2)), cluster=77)
    assert member.proposal() is not None


def test_vectors_of_strangers_are_kept() -> None:
    """V0, V12: they may be members of a configuration that is not known here yet."""
    member = bench(1, installed=view(1))
    own = member.running.stable
    itself = Known(1, Identity(own.incarnation, own.storage))
    member.hear(3, Prepare(ViewNumber(5, 3), 0, (itself, Known(2, identity(2)), Known(60, identity(60)))))
    assert set(member.running.stable.known) == {2, 3, 60}
    one(member.settle(), Promise, to=3)


def test_an_older_incarnation_does_not_replace_a_newer_one() -> None:
    """V0."""
    member = bench(1, installed=view(1))
    member.hear(3, Prepare(ViewNumber(5, 3), 0, (Known(2, identity(2, 7)),)))
    member.hear(3, Prepare(ViewNumber(6, 3), 0, (Known(2, identity(2, 6)),)))
    assert member.running.stable.known[2].incarnation == Incarnation(7, 102)


def test_back_offs_rise_end_and_are_forgotten_after_a_while_in_the_ring() -> None:
    """V9: 1 s, 2 s ... 30 s; reset after 60 s in the ring."""
    member = bench(1, installed=view(1), back_off_reset_ms=2_000)
    back_offs = (BackOff(2, 0), BackOff(3, 4))
    member.install(view(2, ring=(1, 2))._replace(back_offs=back_offs))
    absences = member.running.absences
    assert {m: absence.level for m, absence in absences.items()} == {2: 0, 3: 4}
    until = absences[3].until_us
    assert until == member.world.now_us + 16_000_000
    member.wait(1_000)
    member.install(view(3, ring=(1, 2))._replace(back_offs=back_offs))
    assert member.running.absences[3].until_us == until  # the same wait, not a new one
    member.wait(1_500)
    member.install(view(4, ring=(1, 2))._replace(back_offs=back_offs))
    assert set(member.running.absences) == {3}


def test_a_back_off_is_bounded() -> None:
    member = bench(1, installed=view(1))
    member.install(view(2, ring=(1, 2))._replace(back_offs=(BackOff(3, 60),)))
    assert member.running.absences[3].until_us == member.world.now_us + 30_000_000


def test_who_is_suspected_out_of_the_ring_gets_a_back_off_and_who_leaves_does_not() -> None:
    """V9, V11."""
    member, number = proposes()
    member.hear(2, promise(number, view(2).number))
    member.wait(25)
    assert matching(member.sends, NewView, to=2)[0].view.back_offs == (BackOff(3, 0),)
    leaving = running(1)
    leaving.hear(3, Leave())
    prepared = matching([*leaving.settle(), *leaving.wait(1)], Prepare, to=2)[0]
    leaving.hear(3, promise(prepared.number, view(2).number))
    leaving.hear(2, promise(prepared.number, view(2).number))
    leaving.wait(25)
    announced = matching(leaving.sends, NewView, to=2)[0].view
    assert (announced.ring, announced.back_offs) == ((1, 2), ())


def test_a_member_of_another_partition_joins_when_the_ring_is_healthy() -> None:
    """V4."""
    member, number = proposes()
    member.hear(2, Healthy(ViewNumber(1, 1), view(2)))
    assert member.proposal() is not None
    member.hear(2, Healthy(number, view(7, ring=(2, 3))))
    assert member.proposal() is None
    assert member.running.counter_seen == 7
    assert matching(member.wait(150), Join)


def test_a_view_that_was_announced_is_a_number_that_was_seen() -> None:
    """V2: its PREPARE and every status may have been lost; a proposal below it would take the promise back (V3)."""
    member = running(1)
    announced = view(9, ring=(2, 3))
    member.hear(2, new_view(announced))
    member.settle()
    assert member.running.stable.log_view == announced.number
    assert member.running.counter_seen == 9


def test_statuses_say_what_was_promised() -> None:
    """V2: HEARTBEAT carries promised numbers, the other's and ours."""
    member = running(1)
    member.hear(3, ack(view(1).number, promised=ViewNumber(40, 3), runs=False), join(3))
    assert member.running.counter_seen == 40
    member.hear(2, prepare(ViewNumber(50, 2)))
    one(member.settle(), Promise, to=2)
    assert matching(member.wait(80), Broadcast)[-1].status.promised == ViewNumber(50, 2)


def test_a_promise_that_says_that_nobody_counts_completes_nothing() -> None:
    """V0: it names newer incarnations of the proposer and of its own sender."""
    member = running(1)
    member.hear(3, ack(member.number, runs=False), of_counter=2)
    asked = matching([*member.settle(), *member.wait(1)], Prepare, to=2)[0]
    newer = (Known(1, identity(1, 99)), Known(2, identity(2, 99)))
    member.hear(2, promise(asked.number, member.number, (), *newer))
    member.settle()
    assert member.asks_restart()
    assert not matching(member.sends, NewView)
