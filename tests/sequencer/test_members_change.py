"""V12 in groups of real cores: members come, go and come back; what is refused; who is told what."""

import pytest

from sequencer.members_change import INFO_BYTES_MAX
from sequencer.messages import Joined, Prepare
from sequencer.output import ChangeMembersAsked, LeaveAsked
from tests.sequencer.group import Group
from tests.sequencer.harness import matching, running


def joined(group: Group, member: int) -> None:
    """The newcomer is bound to the cluster and everybody has heard its JOIN since."""
    group.run_until(lambda: not group[member].running.blank and group[member].running.started)
    group.run(250)


def test_a_newcomer_becomes_a_member_and_takes_its_turn() -> None:
    group = Group().begin()
    group.publish(1, b"a")
    group.enter(4, 1, 2, 3)
    joined(group, 4)
    group.wish(2, 1, 2, 3, 4)
    group.run_until(lambda: group.uses(1, 2, 3, 4) and group[4].running.in_ring)
    group.publish(4, b"b")
    status = group[4].running.status()
    assert (status.members, status.next_members, status.removed) == ((1, 2, 3, 4), (1, 2, 3, 4), False)
    assert group[4].state.configuration.members == (1, 2, 3, 4)
    assert group[4].running.founders == (1, 2, 3)
    group.check()


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_removed_member_knows_it_and_the_others_go_on(gone: int) -> None:
    """Also the first ring member, who makes the view without itself."""
    group = Group().begin()
    group.publish(gone, b"a")
    rest = tuple(member for member in (1, 2, 3) if member != gone)
    group.wish(gone, *rest)
    group.run_until(lambda: group.uses(*rest) and group[gone].running.removed)
    group.publish(rest[0], b"b")
    assert group[gone].running.status().removed
    assert not group[gone].running.in_quorum()
    proposed = len(matching(group[gone].sends, Prepare))
    group.run(2_000)
    assert len(matching(group[gone].sends, Prepare)) == proposed
    group.check()


def test_a_removed_member_that_restarts_is_told_again_and_may_come_back_with_its_old_disk() -> None:
    group = Group().begin()
    group.kill(3)
    group.run_until(lambda: group.runs(1, 2))
    group.wish(1, 1, 2)
    group.run_until(lambda: group.uses(1, 2))
    group.start(3)
    group.run_until(lambda: group[3].running.removed)
    group.run(250)
    group.wish(1, 1, 2, 3)
    group.run_until(lambda: group.uses(1, 2, 3) and group[3].running.in_ring)
    assert not group[3].running.removed
    group.publish(3, b"back")
    group.check()


@pytest.mark.parametrize("gone", [1, 3])
def test_a_removed_member_is_dismissed_once_a_quorum_runs_without_it(gone: int) -> None:
    """Until then the view without it may have failed, and it is needed still."""
    group = Group(4).begin()
    rest = tuple(member for member in (1, 2, 3, 4) if member != gone)
    waiting = group.hold(lambda sender, receiver, message: receiver == gone and isinstance(message, Joined))
    group.wish(2, *rest)
    group.run_until(lambda: group.uses(*rest) and group[gone].running.removed)
    group.run(250)
    assert not group[gone].running.dismissed
    group.holds.remove(waiting)
    group.run_until(lambda: group[gone].running.dismissed)
    assert not any(group[member].running.dismissed for member in rest)


def test_one_that_runs_without_it_is_no_quorum() -> None:
    group = Group(4).begin()
    group.drop(lambda sender, receiver, message: receiver == 3 and sender != 1 and isinstance(message, Joined))
    group.wish(2, 1, 2, 4)
    group.run_until(lambda: group.uses(1, 2, 4) and group[3].running.removed)
    group.run(500)
    assert list(group[3].running.without_us) == [1]
    assert not group[3].running.dismissed


def test_a_newcomer_knows_that_it_has_to_be_added() -> None:
    group = Group().begin()
    group.enter(4, 1, 2, 3)
    assert not group[4].running.outside
    group.run_until(lambda: group[4].running.outside)
    assert not group[4].running.removed
    assert not group[4].running.dismissed
    group.wish(2, 1, 2, 3, 4)
    group.run_until(lambda: group.uses(1, 2, 3, 4) and group[4].running.in_ring)
    assert not group[4].running.outside


def test_a_removed_member_leaves_at_once() -> None:
    group = Group().begin()
    group.wish(1, 1, 2)
    group.run_until(lambda: group[3].running.removed)
    group[3].step(LeaveAsked())
    assert group[3].running.left


def test_a_dead_member_is_replaced_by_another_disk_under_its_id() -> None:
    group = Group().begin()
    group.publish(3, b"a")
    group.kill(3)
    group.run_until(lambda: group.runs(1, 2))
    group.wish(1, 1, 2)
    group.run_until(lambda: group.uses(1, 2))
    group.enter(3, 1, 2)
    joined(group, 3)
    group.wish(2, 1, 2, 3)
    group.run_until(lambda: group.uses(1, 2, 3) and group[3].running.in_ring)
    group.publish(3, b"b")
    group.check()


def test_from_one_member_to_two_and_back_to_the_other_one() -> None:
    group = Group(1).begin()
    group.publish(1, b"a")
    group.enter(2, 1)
    joined(group, 2)
    group.wish(1, 1, 2)
    group.run_until(lambda: group.uses(1, 2) and group[2].running.in_ring)
    group.wish(2, 2)
    group.run_until(lambda: group.uses(2) and group[1].running.removed)
    group.publish(2, b"b")
    group.check()


def test_the_second_of_two_members_is_let_in_by_a_first_one_that_restarted() -> None:
    """The view names the newcomer's disk, and nobody but the newcomer can make another one."""
    group = Group(1).begin()
    group.enter(2, 1)
    joined(group, 2)
    deaf = group.drop(lambda sender, receiver, _: receiver == 2)
    group.wish(1, 1, 2)
    group.run_until(lambda: group[1].running.members == (1, 2))
    group.kill(1)
    group.drops.remove(deaf)
    group.start(1)
    group.run_until(lambda: group.uses(1, 2) and group[2].running.in_ring)
    group.publish(2, b"b")


def test_an_old_configuration_learns_of_the_new_one_from_strangers() -> None:
    """Member 1 slept while all others were replaced: it knows none of those that run now."""
    group = Group(5).begin()
    group.kill(1)
    group.run_until(lambda: group.runs(2, 3, 4, 5))
    members: tuple[int, ...] = (1, 2, 3, 4, 5)
    for new, old in ((6, 2), (7, 3), (8, 4), (9, 5)):
        group.enter(new, *members)
        joined(group, new)
        members = (*members, new)
        group.wish(old + 1, *members)
        group.run_until(lambda now=members: group.uses_all(*now[1:]) == now)  # type: ignore[misc]
        group.run_until(lambda who=new: group[who].running.in_ring)  # type: ignore[misc]
        members = tuple(member for member in members if member != old)
        group.wish(new, *members)
        group.run_until(lambda now=members: group.uses_all(*now[1:]) == now)  # type: ignore[misc]
        group.kill(old)
    group.start(1)
    group.run_until(lambda: group[1].running.members == members and group[1].running.in_ring)
    group.publish(1, b"again")
    group.check()


@pytest.mark.parametrize(
    ("new", "info", "why"),
    [
        ((), b"", "1 to 7 members"),
        (tuple(range(1, 9)), b"", "1 to 7 members"),
        ((1,), b"", "one member at a time"),
        ((1, 2, 3), b"", "one member at a time"),
        ((1, 2, 3, 64), b"", "one member at a time"),
        ((1, 2), bytes(INFO_BYTES_MAX + 1), "info too large"),
    ],
)
def test_what_is_refused(new: tuple[int, ...], info: bytes, why: str) -> None:
    """V12, and the limits of everything (A9)."""
    member = running(1)
    member.step(ChangeMembersAsked(new, info))
    assert [fact.fields["why"] for fact in member.facts if fact.name == "change_refused"] == [why]


def test_a_second_wish_is_refused_while_the_first_is_on_its_way() -> None:
    """V12: before it is stored, and while it is not used."""
    member = running(2)
    for stored in (False, True):
        member.step(ChangeMembersAsked((1, 2), b""))
        assert member.facts[-1].name == ("change_refused" if stored else "change_asked")
    assert str(member.facts[-1].fields["why"]).startswith("another change is under way")
