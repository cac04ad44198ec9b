"""The step itself: envelopes, timers, what a human sees, what `check_invariants` refuses."""

from dataclasses import replace

import pytest

from sequencer.errors import InvariantError
from sequencer.messages import Broadcast, Clock, Join, NewView, Token
from sequencer.output import DiskFilled, DiskFreed, LeaveAsked, PeerLost, Received, SaveStable
from sequencer.quorum import bits
from sequencer.types import NO_VIEW, Incarnation, ViewNumber
from tests.sequencer.builders import CLUSTER, ack, incarnation, join, log, new_view, published, stable, token, view
from tests.sequencer.disk import World
from tests.sequencer.harness import Host, bench, matching, one, persisted, running


def blank(member: int = 1) -> Host:
    """A started member with a new disk."""
    host = Host(World(), bench().config, member)
    host.start()
    host.settle()
    return host


def test_a_member_is_one_of_the_configured_members() -> None:
    with pytest.raises(InvariantError, match="a member is one of the configured members: 9"):
        bench(9, state=stable(9))


def test_a_frame_under_its_own_id_means_a_clone() -> None:
    """V0: equal or higher counter and other bits: it stops and comes back as wiped; older ones are its own echoes."""
    member = running(1)
    present = member.running.stable.incarnation
    member.hear(1, join(1), of=present)
    member.hear(1, join(1), of=Incarnation(present.counter - 1, 7))
    assert not member.asks_restart()
    member.hear(1, join(1), of=Incarnation(present.counter, present.nonce ^ 1))
    assert not member.wait(500, settle=False)  # D3: silent until what it is now is durable
    member.settle()
    assert member.asks_restart()
    assert member.durable().wiped


def test_frames_of_strangers_and_of_runs_that_are_over_are_dropped() -> None:
    member = running(2)
    member.hear(9, token(member.number, 1, 0), of=incarnation(9))
    member.hear(1, ack(member.number), of_counter=5)
    member.hear(1, token(member.number, 1, 0), of_counter=4)
    assert member.running.token is None
    member.hear(1, token(member.number, 1, 0), of_counter=5)
    assert member.running.token is not None


def test_nothing_is_heard_before_the_incarnation_is_durable() -> None:
    member = Host(World(), bench().config, 2)
    member.start()
    assert not member.hear(1, join(1), cluster=0).sends


def test_a_blank_member_takes_no_frames_of_a_ring() -> None:
    """V0: but a NEW_VIEW of a cluster among its marks it installs."""
    member = blank(2)
    member.hear(1, ack(ViewNumber(1, 1)), token(ViewNumber(1, 1), 1, 0))
    assert member.running.token is None
    assert member.running.peer(1).status is None
    marked = Host(World(), member.config, 2)
    marked.disk.stable = stable(2, cluster=0, marks=frozenset({CLUSTER}))
    marked.start()
    marked.settle()
    marked.hear(1, NewView(view(1, proposer=1, source=1)))
    marked.settle()
    assert marked.number == ViewNumber(1, 1)


def test_frames_of_another_cluster_are_counted() -> None:
    member = running(2)
    out = member.hear(1, ack(member.number), cluster=5)
    assert [fact.fields["cluster"] for fact in out.facts if fact.name == "frame_refused"] == [5]


def test_timers_wait_for_space() -> None:
    """D5: while the disk is full only HEARTBEAT and LEAVE go on; the others come when there is space."""
    member = bench(1, installed=view(1))
    member.hear(3, new_view(view(2, log(2))))
    member.settle()
    member.step(DiskFilled(1))
    assert not member.step(DiskFilled(1)).persists
    sends = member.wait(300)
    assert {type(send.message) for send in sends} == {Broadcast, Clock}
    member.hear(3, token(ViewNumber(2, 3), 0, 0))
    member.step(DiskFreed())
    assert matching(member.wait(100), Join)


def test_a_full_disk_counts_what_others_store() -> None:
    """D5, A5: it stores nothing more, and delivers what it has once a quorum has it."""
    member = running(2)
    member.hear(1, published(member.number, log(1, member.number, sender=1)))
    member.settle()
    member.step(DiskFilled(1))
    assert member.running.delivered == 0
    member.hear(1, ack(member.number, stored=1))
    assert member.running.delivered == 1


def test_a_member_without_a_token_has_none_to_hand_on_when_its_disk_is_full() -> None:
    member = running(2)
    assert not matching(member.step(DiskFilled(1)).sends, Token)


def test_time_never_goes_back() -> None:
    """And a deadline is never in the past after a step."""
    member = running(1)
    member.world.now_us -= 500
    member.step()
    assert member.running.now_us == member.world.now_us + 500
    assert member.running.deadline() > member.running.now_us


def test_the_status_of_a_member() -> None:
    member = running(1, base=log(2))
    member.step(PeerLost(3), PeerLost(1), PeerLost(9))
    status = member.running.status()
    assert (status.member, status.cluster, status.view) == (1, CLUSTER, member.running.view)
    assert (status.runs, status.in_ring, status.holds_token, status.in_quorum) == (True, True, True, True)
    assert (status.first, status.end, status.stored, status.commit, status.delivered) == (0, 2, 2, 2, 2)
    assert (status.acked, status.suspects) == ({1: 2, 2: 2, 3: 2}, (3,))
    assert (status.unheard, status.unheard_by) == ((3,), ())
    member.hear(2, ack(member.number, heard=bits((2, 3))))
    assert member.running.status().unheard_by == (2,)
    assert not any((status.wiped, status.damaged, status.leaving, status.left, status.disk_full, status.possible_loss))
    new = blank().running.status()
    assert (new.view, new.suspects, new.cluster, new.in_quorum) == (None, (), 0, False)
    member.step(LeaveAsked())
    assert member.running.status().leaving


def test_a_wiped_peer_is_not_part_of_a_quorum() -> None:
    member = running(1)
    member.hear(2, ack(member.number, wiped=True, runs=False))
    member.step(PeerLost(3))
    assert not member.running.in_quorum()


def test_the_commit_point_is_written_with_the_stable_state() -> None:
    """D3: a lower bound after a restart."""
    member = running(1, base=log(2))
    out = member.hear(3, new_view(view(3, log(2))))
    assert [saved.commit for saved in persisted(out, SaveStable)] == [2, 2]


def test_what_the_invariants_refuse() -> None:
    """Each of them, broken by hand."""
    member = running(1, base=log(3))
    core = member.running
    core.check_invariants()
    for name, value, sentence in (
        ("delivered", 4, "delivered <= commit"),
        ("commit", 9, "commit <= end"),
        ("stable", replace(core.stable, promised=NO_VIEW), "log view <= promised"),
        ("accepted_hop", -1, "a held token was accepted"),
        ("view", view(2, log(3), ring=(1,)), "a ring holds a quorum"),
        ("acked", {1: 3, 2: 3, 3: 3}, ""),
    ):
        kept = getattr(core, name)
        setattr(core, name, value)
        if sentence:
            with pytest.raises(InvariantError, match=sentence):
                core.check_invariants()
        setattr(core, name, kept)
    core.commit = core.delivered = 2
    with pytest.raises(InvariantError, match="what Q acknowledged is committed"):
        core.check_invariants()
    core.commit = core.delivered = 3
    core.window.forget(3, 0, 0)
    core.delivered = 2
    with pytest.raises(InvariantError, match="the window holds all that is not delivered"):
        core.check_invariants()


def test_a_frame_is_answered_in_the_step_that_takes_it() -> None:
    """Input before timers, and both in one batch."""
    member = running(2)
    member.world.now_us += 60_000
    out = member.step(Received(CLUSTER, 1, incarnation(1), token(member.number, 1, 0)))
    assert one(out.sends, Broadcast).status.accepted_hop == 1
