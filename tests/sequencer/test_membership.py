"""V0, V9, V11, D2: joiners, genesis, leavers and the operator's last resort, where the rule tests do not reach."""

from sequencer.messages import Healthy, Join, Joined, Known, Leave, NewView, Prepare, Promise
from sequencer.output import LeaveAsked, PeerLost, RecoverAsked
from sequencer.types import NO_VIEW, Identity, ViewNumber
from tests.sequencer.builders import CLUSTER, ack, identity, join, new_view, prepare, promise, stable, token, view
from tests.sequencer.disk import World
from tests.sequencer.harness import Host, bench, matching, one, running


def blank(member: int = 1) -> Host:
    """A started member with a new disk."""
    host = Host(World(), bench().config, member)
    host.start()
    host.settle()
    return host


def all_blank(member: Host) -> None:
    """The others present themselves as blank."""
    for other in member.others():
        member.hear(other, join(other), cluster=0)


def genesis(member: Host, counter: int, proposer: int) -> Prepare:
    """A genesis PREPARE that names this member's disk."""
    state = member.running.stable
    return Prepare(ViewNumber(counter, proposer), CLUSTER, (Known(2, Identity(state.incarnation, state.storage)),))


def test_a_blank_member_takes_no_ordinary_prepare() -> None:
    member = blank(2)
    member.hear(1, prepare(ViewNumber(5, 1)))
    assert not matching(member.settle(), Promise)


def test_a_blank_member_promises_the_highest_genesis() -> None:
    member = blank(2)
    member.hear(3, genesis(member, 1, 3), cluster=0)
    member.settle()
    member.hear(1, genesis(member, 1, 1), cluster=0)
    assert not matching(member.settle(), Promise)


def test_others_propose_a_genesis_when_the_first_does_not() -> None:
    """V0: after a delay by rank, while all n are blank and heard; what others propose meanwhile may succeed."""
    member = blank(2)
    for _ in range(20):
        all_blank(member)
        member.wait(50)
    asked = matching(member.sends, Prepare, to=3)
    assert asked[0].genesis
    waits = blank(2)
    waits.hear(1, genesis(waits, 1, 1), cluster=0)
    waits.settle()
    for _ in range(8):
        all_blank(waits)
        waits.wait(50)
    assert not matching(waits.sends, Prepare)


def test_no_genesis_while_one_is_missing_or_belongs_to_a_cluster() -> None:
    """V0."""
    member = blank(1)
    member.hear(2, join(2), cluster=0)
    member.wait(100)
    assert not matching(member.sends, Prepare)
    member.hear(3, join(3), cluster=CLUSTER)
    member.hear(2, join(2), cluster=0)
    assert not matching([*member.settle(), *member.wait(100)], Prepare)


def test_a_genesis_that_waits_for_its_turn_ends_when_somebody_is_not_blank() -> None:
    """Or is not heard any more."""
    for joins in (True, False):
        member = blank(2)
        all_blank(member)
        assert "genesis" in member.running.timers
        if joins:
            member.hear(3, join(3), cluster=CLUSTER)
        for _ in range(10 * joins):
            member.hear(1, join(1), cluster=0)
            member.hear(3, join(3), cluster=CLUSTER)
            member.wait(60)
        member.wait(700)
        assert not matching(member.sends, Prepare)


def test_a_second_join_does_not_begin_a_genesis_again() -> None:
    """One proposal at a time; PREPARE is sent again by its own timer."""
    member = blank(1)
    all_blank(member)
    asked = matching([*member.settle(), *member.wait(5)], Prepare, to=2)
    all_blank(member)
    member.wait(100)
    assert {sent.number for sent in matching(member.sends, Prepare)} == {asked[0].number}


def test_a_genesis_is_announced_once_its_cluster_id_is_durable() -> None:
    """D3."""
    member = blank(1)
    all_blank(member)
    asked = matching([*member.settle(), *member.wait(5)], Prepare, to=2)[0]
    member.hear(2, promise(asked.number, NO_VIEW), cluster=0)
    out = member.hear(3, promise(asked.number, NO_VIEW), cluster=0)
    assert not matching(out.sends, NewView)
    member.sync()
    assert member.durable().cluster == asked.genesis
    assert {send.cluster for send in member.sends if isinstance(send.message, NewView)} == {asked.genesis}


def test_one_answer_is_not_enough_to_be_wiped() -> None:
    """V0: Q members, or all others, have said what they know: the new incarnation is above it all."""
    member = blank(2)
    member.hear(1, Joined(view(1), identity(2, counter=3)))
    assert member.running.blank
    member.hear(1, Joined(view(1), identity(2, counter=3)))
    assert member.running.blank
    member.hear(3, Joined(view(1), None))
    member.settle()
    assert member.durable().wiped
    assert member.durable().incarnation.counter == 4


def test_joined_does_not_move_a_member_of_the_ring() -> None:
    member = running(1)
    assert not member.hear(2, Joined(view(9), None)).persists
    assert member.running.counter_seen == 9


def test_an_older_run_of_a_member_learns_that_it_is_over() -> None:
    """V0: its JOIN is answered with what is known, and changes nothing else."""
    member = running(1)
    member.hear(3, join(3), of_counter=5)
    out = member.hear(3, join(3, promised=ViewNumber(9, 3)), of_counter=4)
    answer = one(out.sends, Joined, to=3)
    assert answer.known is not None
    assert answer.known.incarnation.counter == 5
    assert member.running.peer(3).join == join(3)


def test_a_joiner_of_no_cluster_is_answered_but_not_let_in() -> None:
    """V9: it has to know who it is first."""
    member = running(1, ring=(1, 2))
    out = member.hear(3, join(3, wiped=True, disk=555), cluster=0)
    one(out.sends, Joined, to=3)
    assert not matching(member.settle(), Prepare)


def test_a_joiner_that_is_behind_or_leaves_is_not_let_in() -> None:
    """V9 (c)."""
    member = running(1, ring=(1, 2), catch_up_limit_slots=1, slot_fill_bytes=1)
    for payload in (b"1", b"2", b"3"):
        member.submit(payload)
        member.hear(2, token(member.number, 2 * member.running.window.end, member.running.window.end))
    assert member.running.window.end == 3
    member.hear(3, join(3), ack(member.number, 1))
    assert not matching(member.settle(), Prepare)
    member.hear(3, join(3), ack(member.number, 2, leaving=True))
    assert not matching(member.settle(), Prepare)
    member.hear(3, ack(member.number, 2))
    member.hear(2, ack(member.number, 2))
    assert matching([*member.settle(), *member.wait(1)], Prepare, to=2)


def test_a_stale_join_is_forgotten() -> None:
    member = running(1, ring=(1, 2), suspect_timeout_ms=5_000)
    member.hear(2, ack(member.number, accepted_hop=1 << 40))
    member.hear(3, join(3))
    member.wait(500)
    assert member.running.fresh_joiners() == []


def test_leave_only_makes_it_sooner() -> None:
    """V11: the leaver's status says it too; without a status there is nothing to hasten."""
    member = bench(1, installed=view(1))
    member.hear(3, Leave())
    assert member.running.peer(3).status is None
    member.hear(3, ack(view(1).number), Leave(), Leave())
    status = member.running.peer(3).status
    assert status is not None
    assert status.leaving


def test_a_leaver_asks_until_it_has_left_and_then_no_more() -> None:
    member = running(2)
    member.step(LeaveAsked())
    assert len(matching(member.wait(100), Leave, to=1)) >= 2
    member.install(view(3, ring=(1, 3)))
    assert member.running.left
    before = len(member.sends)
    member.wait(100)
    assert not matching(member.sends[before:], Leave)


def test_a_leaver_keeps_a_token_whose_slot_is_not_here() -> None:
    """A3: it hands on what it may hand on."""
    member = running(2)
    member.hear(1, token(member.number, 1, 1))
    member.step(LeaveAsked())
    assert member.running.token is not None


def test_a_leaver_that_has_just_started_says_nothing_yet() -> None:
    """D3: LEAVE waits until the incarnation is durable."""
    member = Host(World(), bench().config, 2)
    member.disk.stable = stable(2, view(1))
    member.start()
    assert not member.step(LeaveAsked()).sends
    member.settle()
    assert matching(member.wait(50), Leave, to=1)


def test_a_leaver_neither_proposes_nor_lets_anyone_in() -> None:
    member = running(1, ring=(1, 2))
    member.step(LeaveAsked())
    member.hear(3, join(3, promised=ViewNumber(8, 3)))
    assert not matching([*member.settle(), *member.wait(10)], Prepare)


# ---------------------------------------------------------------------- recover --accept-loss (D2, V0)


def hears_all(member: Host) -> None:
    """All others were heard just now, both wiped."""
    for other in member.others():
        member.hear(other, ack(view(1).number, wiped=True, runs=False))


def test_recover_needs_all_n_and_a_ring_that_does_not_run() -> None:
    healthy = running(1)
    alone = bench(1, installed=view(1))
    new = blank(1)
    for member in (healthy, alone, new):
        out = member.step(RecoverAsked())
        assert [fact.name for fact in out.facts if fact.name.startswith("recover")] == ["recover_refused"]
        assert not matching(member.settle(), Prepare)


def test_recover_makes_a_view_from_the_promises_of_all() -> None:
    member = bench(1, state=stable(1, view(1), wiped=True))
    hears_all(member)
    member.step(RecoverAsked())
    asked = one(member.settle(), Prepare, to=2)
    assert asked.accept_loss
    member.hear(2, promise(asked.number, view(1).number))
    assert not matching([*member.settle(), *member.wait(50)], NewView)
    member.hear(3, promise(asked.number, view(1).number))
    announced = matching(member.sends, NewView, to=2)[0].view
    assert announced.accepted_loss == asked.number
    member.settle()
    assert not member.durable().wiped
    assert member.running.status().possible_loss


def test_wiped_members_promise_when_loss_is_accepted() -> None:
    """And a later view carries on what status has to say."""
    member = bench(2, state=stable(2, view(1), wiped=True))
    member.hear(3, Prepare(ViewNumber(7, 3), 0, (), accept_loss=True))
    one(member.settle(), Promise, to=3)
    member.hear(3, new_view(view(7, ring=(1, 2, 3))._replace(accepted_loss=ViewNumber(7, 3))))
    member.settle()
    assert not member.durable().wiped
    member.hear(1, ack(member.number))
    member.hear(3, ack(member.number))
    member.step(PeerLost(3))
    number = matching([*member.settle(), *member.wait(100)], Prepare, to=1)[0].number
    member.hear(1, promise(number, member.number))
    member.wait(50)
    assert matching(member.sends, NewView, to=1)[0].view.accepted_loss == ViewNumber(7, 3)


def test_a_blank_member_is_bound_before_it_promises() -> None:
    """V0: its incarnation rises above what the vector knows; it answers the next PREPARE."""
    member = blank(2)
    asked = Prepare(ViewNumber(7, 3), 0, (Known(2, identity(2, counter=6)),), accept_loss=True)
    member.hear(3, asked)
    assert not matching(member.settle(), Promise)
    state = member.durable()
    assert (state.cluster, state.wiped, state.incarnation.counter) == (CLUSTER, True, 7)
    member.hear(3, Prepare(ViewNumber(7, 3), 0, (), accept_loss=True))
    one(member.settle(), Promise, to=3)


def test_a_healthy_ring_and_a_higher_promise_refuse_to_lose_anything() -> None:
    member = running(1)
    asked = Prepare(ViewNumber(7, 3), 0, (), accept_loss=True)
    one(member.hear(3, asked).sends, Healthy, to=3)
    promised = bench(1, installed=view(1))
    promised.hear(2, prepare(ViewNumber(9, 2)))
    promised.settle()
    promised.hear(3, asked)
    assert not matching(promised.settle(), Promise)


def test_join_says_who_is_there() -> None:
    member = bench(3, state=stable(3, wiped=True))
    sent = matching(member.wait(150), Join, to=1)[-1]
    assert (sent.storage, sent.wiped, sent.end, sent.promised) == (1_003, True, 0, NO_VIEW)
