"""When a replica advises `recover --accept-loss`, and what it answers to it, over a group of real cores (D2, V0)."""

from typing import Any

import pytest

from replicas.bus.accepted_loss import FACTS, RecoverQueries, advice
from replicas.bus.standing import state_of, trouble_of
from ringcast.errors import NotReady, Refused, RingcastError
from ringcast.wire import LOCAL, Answer, Fetched, Query
from sequencer.messages import NewView
from sequencer.output import RecoverAsked
from tests.sequencer.disk import Disk
from tests.sequencer.group import Group


def advised(group: Group) -> set[int]:
    """The members that advise it."""
    return {host.member for host in group.up if advice(host.running)}


def killed(**limits: Any) -> Group:
    """A group whose processes all ended after some slots."""
    group = Group(**limits).begin()
    group.publish(1, b"a", b"b")
    for member in group.config.members:
        group.kill(member)
    return group


def answers(group: Group, member: int, accept_loss: object = True) -> list[Fetched | Answer | RingcastError]:
    """What the query gets from a member."""
    found: list[Fetched | Answer | RingcastError] = []
    asked: list[RecoverAsked] = []
    queries = RecoverQueries(asked.append)
    for number in (1, 2):
        queries.take(Query(number, "recover", {"accept_loss": accept_loss}, LOCAL), lambda one, _: found.append(one))  # type: ignore[dict-item]
    for event in asked:
        for fact in group[member].step(event).facts:
            if fact.name in FACTS:
                queries.tell(fact, group[member].running, next_offset=7)
    return found


def test_a_cluster_that_is_born_is_never_advised() -> None:
    """V0: after a genesis some are still blank while one has installed; all were named, so nobody has forgotten."""
    group = Group()
    group.hold(lambda sender, receiver, message: isinstance(message, NewView))
    group.start()
    group.run_until(lambda: any(not host.running.blank for host in group.up))
    for _ in range(100):
        assert advised(group) == set()
        group.run(10)
    group.release()
    group.run_until(group.runs)
    assert advised(group) == set()


def test_all_lost_their_memory() -> None:
    group = killed(durability="memory")
    for member in group.config.members:
        group[member].start(lost_memory=True)
    group.run(500)
    assert advised(group) == {1, 2, 3}
    assert "at most 0 of 3 replicas" in str(trouble_of(group[1].running, leaving=False))
    first, second = answers(group, 2)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (first.request, second.request, first.next_offset) == (1, 2, 7)
    assert first.result == {"began": True, "why": "", "healthy": False, "heard": (1, 2, 3), "missing": ()}
    group.run_until(lambda: not advised(group))
    refused = answers(group, 2)[0]
    assert isinstance(refused, Answer)
    assert (refused.result["began"], refused.result["healthy"]) == (False, True)
    assert "is healthy" in str(refused.result["why"])


def test_one_that_lost_its_memory_needs_no_operator() -> None:
    group = killed(durability="memory")
    group.start(1, 2)
    group[3].start(lost_memory=True)
    group.run_until(group.runs)
    assert advised(group) == set()


def test_two_new_disks_and_one_that_remembers() -> None:
    group = killed()
    for member in (2, 3):
        group[member].disk = Disk(group.world)
    group.start(1, 2)
    group.run(500)
    assert advised(group) == set()  # the third one may have its disk still
    refused = answers(group, 1)[0]
    assert isinstance(refused, Answer)
    assert refused.result["missing"] == (3,)
    assert "replica 3 is not heard" in str(refused.result["why"])
    group.start(3)
    group.run(500)
    assert advised(group) == {1, 2, 3}
    assert state_of(group[1].running, leaving=False) == "waiting for a quorum that remembers"
    blank = answers(group, 2)[0]
    assert isinstance(blank, Answer)
    assert "ask a replica that still has its data" in str(blank.result["why"])
    group[1].step(RecoverAsked())
    group.run_until(lambda: not advised(group))
    assert group.runs()
    assert all(host.running.status().possible_loss for host in group.up)


@pytest.mark.parametrize("value", [False, None, 1, "yes"])
def test_only_true_accepts_loss(value: object) -> None:
    group = Group().begin()
    found = answers(group, 1, value)
    assert [type(one) for one in found] == [Refused, Refused]


def test_a_restart_of_the_core_answers_who_waits() -> None:
    found: list[object] = []
    queries = RecoverQueries(lambda event: None)
    queries.take(Query(1, "recover", {"accept_loss": True}, LOCAL), lambda one, _: found.append(one))
    queries.abandon(NotReady(replica=1, state="restarting"))
    queries.abandon(NotReady(replica=1, state="restarting"))
    assert [type(one) for one in found] == [NotReady]
