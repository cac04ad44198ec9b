"""V12: how members change, and against whom promises and ACKs count."""

from sequencer.messages import Broadcast, Joined, NewView, Prepare, Promise
from sequencer.output import ChangeMembersAsked, PeerLost
from sequencer.types import GENESIS_CHAIN, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import (
    ack,
    change_request,
    join,
    log,
    new_view,
    prepare,
    promise,
    record,
    request,
    status,
    token,
    view,
)
from tests.sequencer.harness import Host, matching, one

THREE, FOUR = (1, 2, 3), (1, 2, 3, 4)
LATER = ViewNumber(7, 2)


def facts(member: Host, name: str) -> list[dict[str, object]]:
    """The fields of each fact of this name."""
    return [fact.fields for fact in member.facts if fact.name == name]


def stores_removal(trial: Trial, members: int = 3) -> Host:
    """Member 1 has sequenced, and stored, a change that removes the highest id; nobody else has stored it."""
    member = trial.running(1, members=members)
    member.step(ChangeMembersAsked(tuple(range(1, members)), b""))
    member.settle()
    assert [fields["slot"] for fields in facts(member, "change_stored")] == [0]
    return member


@rule("V12 two changes at once")
def test_no_second_change_before_the_first_is_used(trial: Trial) -> None:
    """V12: so there is no second change before the first is committed in a view made with it."""
    member = stores_removal(trial)
    second = change_request(2, 1, (1, 2), (1,), since=0)
    with trial.decides():
        member.hear(2, Broadcast(status(member.number), (second,)))
        member.hear(3, token(member.number, 3, 1))
        assert member.running.window.end == 1
        assert member.running.next_members == (1, 2)


@rule("V12 changes in a view that no quorum has installed")
def test_the_view_is_installed_by_a_quorum_first(trial: Trial) -> None:
    """V12: a quorum of the view's members has installed the view"""
    member = trial.bench(1, installed=view(1))
    member.install(view(2))
    wish = change_request(2, 1, THREE, (1, 2))
    with trial.decides():
        member.hear(2, Broadcast(status(view(1).number), (wish,)))
        assert member.running.window.end == 0
        member.hear(3, ack(member.number))
        assert member.running.next_members == (1, 2)


@rule("V12 never uses a change", "V12 uses a change before its commit")
def test_a_change_is_used_from_the_view_after_its_commit(trial: Trial) -> None:
    """V12: A change is used from the view after its commit, which the first ring member makes"""
    member = stores_removal(trial)
    with trial.decides():
        assert not matching(member.sends, Prepare)
        member.hear(2, ack(member.number, 1))
        member.hear(3, ack(member.number, 1))
        asked = one(member.settle(), Prepare, to=2)
        member.hear(2, promise(asked.number, member.number, member.disk.log, members=(1, 2)))
        member.wait(25)
        assert {sent.view.members for sent in matching(member.sends, NewView, to=2)} == {(1, 2)}


@rule("V12 counts against its own old configuration", "V12 announces its own configuration")
def test_promises_count_against_what_the_source_says(trial: Trial) -> None:
    """V12: never against what the proposer itself has installed."""
    member = trial.running(1)
    member.step(PeerLost(3))
    asked = matching([*member.settle(), *member.wait(1)], Prepare, to=2)[0]
    newer = log(2)
    with trial.decides():
        member.hear(2, promise(asked.number, LATER, newer, members=FOUR))
        member.wait(30)
        assert not matching(member.sends, NewView)
        assert matching(member.sends, Prepare, to=4)
        member.hear(4, promise(asked.number, LATER, newer, members=FOUR))
        member.wait(30)
        announced = {(sent.view.members, sent.view.ring, sent.view.source) for sent in matching(member.sends, NewView)}
        assert announced == {(FOUR, (1, 2, 4), 2)}


@rule("V12 counts the new members only")
def test_the_members_of_the_log_view_must_promise_too(trial: Trial) -> None:
    """V12: Promises count against the members of the source's log view, of which Q must promise"""
    member = trial.running(1, members=4)
    member.step(PeerLost(4))
    asked = matching([*member.settle(), *member.wait(1)], Prepare, to=2)[0]
    made = member.number
    with trial.decides():
        for promiser in (2, 3):
            changed = record(0, GENESIS_CHAIN, [change_request(2, 1, FOUR, THREE)], made)
            member.hear(promiser, promise(asked.number, made, (changed,), members=THREE, log_members=FOUR))
            member.wait(30)
            assert bool(matching(member.sends, NewView)) == (promiser == 3)


@rule("V12 promises with the members of its view")
def test_a_promise_tells_the_configuration_of_its_end(trial: Trial) -> None:
    """V12: A view has the members that the log of its source says at the base"""
    member = stores_removal(trial)
    member.step(PeerLost(3))
    with trial.decides():
        member.hear(2, prepare(ViewNumber(9, 2), 1, 2, 3))
        said = one(member.settle(), Promise, to=2)
        assert (said.log_members, said.members, said.end) == (THREE, (1, 2), 1)


@rule("V12 keeps a change that was cut")
def test_a_change_that_is_cut_is_forgotten(trial: Trial) -> None:
    """V12: judged from the log alone"""
    member = stores_removal(trial)
    with trial.decides():
        member.hear(2, new_view(view(9, proposer=2, source=2)))
        member.settle()
        assert member.running.next_members == THREE


@rule("V12 counts ACKs against the next configuration")
def test_acks_count_against_the_installed_view(trial: Trial) -> None:
    """V12: ACKs and read answers count against the members of the installed view."""
    member = stores_removal(trial, members=4)
    with trial.decides():
        member.hear(2, ack(member.number, 1))
        assert not member.delivered
        member.hear(3, ack(member.number, 1))
        assert len(member.delivered) == 1


@rule("V12 adds whom nobody has heard")
def test_a_newcomer_has_sent_join_with_this_clusters_id(trial: Trial) -> None:
    """V12: while the one to be added has not sent JOIN with this cluster's id"""
    member = trial.running(1)
    with trial.decides():
        member.hear(4, join(4), cluster=0)
        member.step(ChangeMembersAsked(FOUR, b""))
        assert [fields["why"] for fields in facts(member, "change_refused")] == ["the new member is not heard"]
        member.hear(4, join(4, wiped=True))
        member.step(ChangeMembersAsked(FOUR, b""))
        assert facts(member, "change_asked")


@rule("V12 adds before the dead is removed")
def test_a_dead_member_is_removed_before_its_replacement_is_added(trial: Trial) -> None:
    """V12: a dead member is removed before its replacement is added"""
    member = trial.running(1)
    member.hear(4, join(4, wiped=True))
    member.step(PeerLost(3))
    with trial.decides():
        member.step(ChangeMembersAsked(FOUR, b""))
        assert facts(member, "change_refused")


@rule("V12 takes orders from outsiders")
def test_what_orders_is_taken_from_members(trial: Trial) -> None:
    """V12: What orders (REQUEST to RETRANSMIT, READ, LEAVE) is taken from the members of the view"""
    member = trial.running(1)
    with trial.decides():
        member.hear(4, Broadcast(status(member.number), (request(4, 1),)))
        assert member.running.window.end == 0
        member.hear(2, Broadcast(status(member.number), (request(2, 1),)))
        assert member.running.window.end == 1


@rule("V12 goes on when it was removed", "V12 installs what does not hold it")
def test_a_removed_member_proposes_nothing(trial: Trial) -> None:
    """V12: A member that a newer view does not hold is *removed*: it proposes nothing and takes no batches"""
    member = trial.running(3)
    without = view(9, ring=(1, 2), proposer=2, source=2, members=2)
    with trial.decides():
        member.hear(2, new_view(without))
        assert facts(member, "member_removed")
        assert member.running.stable.promised != without.number
        for _ in range(20):
            member.hear(1, ack(without.number))
            member.hear(2, ack(without.number))
            assert not matching(member.wait(50), Prepare)
            assert not member.running.in_quorum()


@rule("V12 lets the removed depose")
def test_a_removed_member_deposes_nobody(trial: Trial) -> None:
    """V12: a PREPARE of no member of these, with a log view below the receiver's, is answered JOINED."""
    member = trial.running(1, members=2)
    member.step(PeerLost(2))
    with trial.decides():
        told = member.hear(3, prepare(ViewNumber(9, 3), 1, 3)).sends
        assert one([*told, *member.settle()], Joined, to=3).view == member.running.view
        member.hear(4, Prepare(ViewNumber(9, 4), 0, (), log_view=LATER))
        one(member.settle(), Promise, to=4)
