"""V0: blank members and the first view, wiped members and their way back."""

from dataclasses import replace

from sequencer.messages import Broadcast, Join, Joined, Known, NewView, Prepare, Promise, Read, ReadOk
from sequencer.output import RecoverAsked
from sequencer.types import NO_VIEW, Identity, Incarnation, ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import (
    CLUSTER,
    ack,
    identity,
    incarnation,
    join,
    new_view,
    prepare,
    promise,
    stable,
    token,
    vector,
    view,
)
from tests.sequencer.disk import World
from tests.sequencer.harness import Host, matching, one


def blank(trial: Trial, member: int) -> Host:
    """A started member with a new disk."""
    host = Host(World(), trial.bench().config, member, rules=trial.rules, core=trial.core)
    host.start()
    host.settle()
    return host


def genesis(member: Host, storage: int = 0) -> Prepare:
    """Member 1's genesis PREPARE, as `member` hears it."""
    state = member.running.stable
    itself = Known(state.member, Identity(state.incarnation, storage or state.storage))
    return Prepare(ViewNumber(1, 1), CLUSTER, (itself, *vector(1, 3)))


def wiped(trial: Trial) -> Host:
    """A started member 1 that knows it is wiped."""
    return trial.bench(1, state=stable(1, wiped=True))


@rule("V0 wiped members take part")
def test_a_wiped_member_neither_promises_nor_acknowledges(trial: Trial) -> None:
    """V0: sends JOIN to all, and neither promises, nor acknowledges, nor answers reads, nor creates or takes a token"""
    installed = view(1)
    member = trial.bench(1, state=stable(1, installed, wiped=True))
    with trial.decides():
        member.hear(3, prepare(ViewNumber(5, 3), 1, 2, 3), token(installed.number, 3, 0), Read(9))
        after = [*member.settle(), *member.wait(100)]
        assert not matching(after, Promise)
        assert not matching(after, ReadOk)
        assert member.running.token is None
        assert all(sent.status.wiped for sent in matching(after, Broadcast))


@rule("V0 readmitted by any view")
def test_a_wiped_member_is_readmitted_by_a_view_that_names_its_disk(trial: Trial) -> None:
    """V0: until it has installed a view whose PREPARE already carried its present storage id in the vector"""
    member = wiped(trial)
    another_disk, this_disk = Identity(incarnation(1, 2), 555), identity(1, 2)
    with trial.decides():
        for named in (None, another_disk):
            member.hear(3, new_view(view(2, ring=(2, 3), learners={1: named})))
            member.settle()
            assert member.running.view is None
        member.hear(3, new_view(view(3, ring=(2, 3), learners={1: this_disk})))
        member.settle()
        assert member.number == view(3).number
        assert not member.durable().wiped


@rule("V0 counts promises of old incarnations")
def test_a_promise_of_an_old_incarnation_is_not_counted(trial: Trial) -> None:
    """V0: a promise of an incarnation older than any collected vector says is not counted."""
    member = trial.running(1, members=5)
    member.hear(5, ack(member.number, runs=False), of_counter=2)
    number = matching([*member.settle(), *member.wait(1)], Prepare, to=2)[0].number
    with trial.decides():
        member.hear(2, promise(number, view(2).number))
        newer = Known(2, identity(2, counter=9))
        member.hear(3, promise(number, view(2).number, (), newer))
        assert not matching(member.wait(50), NewView)
        member.hear(4, promise(number, view(2).number))
        announced = matching([*member.sends, *member.wait(50)], NewView, to=3)[0].view
        assert announced.ring == (1, 3, 4)


@rule("V0 genesis by a quorum")
def test_the_first_view_needs_genesis_promises_of_all(trial: Trial) -> None:
    """V0: The first view needs genesis promises of *all* n."""
    member = blank(trial, 1)
    for other in (2, 3):
        member.hear(other, join(other), cluster=0)
    asked = matching([*member.settle(), *member.wait(5)], Prepare, to=2)[0]
    assert asked.genesis
    assert {known.member: known.identity.storage for known in asked.vector} == {1: 1_001, 2: 1_002, 3: 1_003}
    with trial.decides():
        member.hear(2, promise(asked.number, NO_VIEW), cluster=0)
        assert not matching([*member.settle(), *member.wait(50)], NewView)
        member.hear(3, promise(asked.number, NO_VIEW), cluster=0)
        assert matching(member.settle(), NewView, to=2)[0].view.ring == (1, 2, 3)


@rule("V0 answers a genesis of another disk")
def test_a_blank_member_answers_a_genesis_that_names_its_disk(trial: Trial) -> None:
    """V0: A blank member answers it only if its present storage id is named, and adds the id to its durable *marks*."""
    member = blank(trial, 2)
    asked = genesis(member)
    other = genesis(member, storage=555)
    with trial.decides():
        member.hear(1, other, cluster=0)
        assert not matching(member.settle(), Promise)
        member.hear(1, asked, cluster=0)
        one(member.settle(), Promise, to=1)
        assert member.durable().marks == {CLUSTER}


@rule("D6 lost members found a cluster", "D6 a set-aside disk is a new one")
def test_a_lost_member_promises_no_genesis(trial: Trial) -> None:
    """D6: else it is blank, but says wiped in its JOIN, and neither proposes nor promises a genesis"""
    member = Host(World(), trial.bench().config, 2, rules=trial.rules, core=trial.core)
    member.start(lost=0)
    after = [*member.settle(), *member.wait(5)]
    member.hear(1, genesis(member), cluster=0)
    with trial.decides():
        assert {sent.wiped for sent in matching(after, Join)} == {True}
        assert not matching(member.settle(), Promise)
        assert member.durable().marks == frozenset()


@rule("D6 lost members found a cluster")
def test_a_blank_member_proposes_no_genesis_beside_a_lost_one(trial: Trial) -> None:
    """D6: nor does a blank member that hears it propose one"""
    member = blank(trial, 1)
    member.hear(2, join(2), cluster=0)
    member.hear(3, join(3, wiped=True), cluster=0)
    with trial.decides():
        assert not matching([*member.settle(), *member.wait(500)], Prepare)
        assert not member.running.stable.marks


@rule("D6 a set-aside disk is a new one")
def test_members_that_are_all_lost_wait_for_an_operator(trial: Trial) -> None:
    """D6: whose cluster is known is a wiped member of it from the start"""
    group = trial.group()
    for host in group.hosts.values():
        host.start(lost=CLUSTER)
    group.run(1_000)
    with trial.decides():
        for host in group.up:
            assert (host.durable().cluster, host.durable().wiped) == (CLUSTER, True)
            assert host.running.view is None
        group[2].step(RecoverAsked())
        group.run_until(group.runs)
        assert {host.durable().cluster for host in group.up} == {CLUSTER}
        assert all(host.running.status().possible_loss for host in group.up)


@rule("V0 forgets its marks")
def test_a_marked_blank_member_becomes_an_ordinary_promiser(trial: Trial) -> None:
    """V0: an ordinary promiser of X with log view 0 if X is among its marks, else wiped"""
    member = blank(trial, 2)
    member.hear(1, genesis(member), cluster=0)
    member.settle()
    with trial.decides():
        member.hear(1, Joined(view(1, proposer=1), None))
        member.settle()
        assert (member.running.blank, member.running.stable.wiped) == (False, False)
        member.hear(3, prepare(ViewNumber(5, 3), 1, 3))
        assert one(member.settle(), Promise, to=3).log_view == NO_VIEW


@rule("V0 a new disk is an ordinary member")
def test_a_blank_member_that_meets_another_cluster_is_wiped(trial: Trial) -> None:
    """V0: A member is *wiped* when, blank, it met a cluster that is not among its marks"""
    member = blank(trial, 2)
    with trial.decides():
        for other in (1, 3):
            member.hear(other, Joined(view(1), identity(2, counter=7)))
        member.settle()
        state = member.durable()
        assert (state.cluster, state.wiped, state.incarnation.counter) == (CLUSTER, True, 8)
        member.hear(3, prepare(ViewNumber(5, 3), 1, 2, 3))
        assert not matching(member.settle(), Promise)


@rule("V0 believes that its disk is whole")
def test_a_member_whose_disk_went_back_comes_back_as_wiped(trial: Trial) -> None:
    """V0: when a peer knows an incarnation of it that is not below its present one and is not the same."""
    with trial.decides():
        for told in (Joined(view(1), identity(1, 9)), prepare(ViewNumber(5, 3), 2), _cloned()):
            member = trial.bench(1, installed=view(1))
            before = member.running.stable
            message = replace(told, vector=(Known(1, identity(1, 9)),)) if isinstance(told, Prepare) else told
            member.hear(3, message)
            member.settle()
            assert member.asks_restart()
            assert member.durable().wiped
            assert member.durable().storage != before.storage
            assert not matching(member.sends, Promise)


def _cloned() -> Joined:
    """A peer has heard of another process with this member's present counter."""
    return Joined(view(1), Identity(Incarnation(2, 1 << 70), 1_001))


@rule("V0 takes frames of any cluster")
def test_frames_of_another_cluster_are_dropped(trial: Trial) -> None:
    """V0: Frames with id 0 are accepted for JOIN and genesis only; a blank member reads any id."""
    member = trial.running(2)
    with trial.decides():
        for cluster in (0, 5):
            member.hear(1, token(member.number, 1, 0), cluster=cluster)
            assert member.running.token is None


@rule("V0 keeps what it learns in memory")
def test_the_vector_is_durable_before_the_answer(trial: Trial) -> None:
    """V0: durable at the receiver before it answers"""
    member = trial.bench(1, installed=view(1))
    member.hear(3, prepare(ViewNumber(5, 3), 2, 3))
    with trial.decides():
        one(member.sync().sends, Promise, to=3)
        assert member.durable().known.get(2) == identity(2)
