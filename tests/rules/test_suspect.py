"""V1 and V2: who is suspected, and who proposes, when."""

from sequencer.messages import Join, Prepare, Token
from sequencer.output import PeerFound, PeerLost, Received
from sequencer.types import ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import CLUSTER, ack, incarnation, join, view
from tests.sequencer.harness import Host, matching


def suspects(member: Host) -> tuple[int, ...]:
    """Whom a member suspects now."""
    return member.running.status().suspects


def all_is_well(member: Host, ms: int, *quiet: int) -> None:
    """The others, but for the quiet ones, send frames for a while."""
    for _ in range(ms // 50):
        for other in member.config.members:
            if other not in (*quiet, member.member):
                member.hear(other, ack(member.number))
        member.wait(50)


@rule("V1 does not see broken connections")
def test_a_broken_connection_is_suspected_at_once(trial: Trial) -> None:
    """V1: A ring member whose connection broke and could not be made again at once (socket monitor"""
    member = trial.running(1)
    with trial.decides():
        member.step(PeerLost(3))
        assert suspects(member) == (3,)
        assert matching([*member.sends, *member.wait(1)], Prepare, to=2)
        member.step(PeerFound(3))
        assert not member.running.suspects(view(2))


@rule("V1 does not mind silence")
def test_silence_in_this_view_is_suspected(trial: Trial) -> None:
    """V1: one that sent no frame of this view for `suspect_timeout`"""
    member = trial.running(1, suspect_timeout_ms=300, idle_hop_interval_ms=10_000)
    all_is_well(member, 250, 3)
    member.hear(3, ack(view(1).number, promised=view(2).number))  # a frame, but not of this view
    assert suspects(member) == ()
    with trial.decides():
        member.world.now_us += 60_000
        member.hear(2, ack(member.number))
        assert matching([*member.sends, *member.wait(1)], Prepare, to=2)


@rule("V1 does not see restarts")
def test_a_newer_incarnation_is_suspected(trial: Trial) -> None:
    """V1: one whose incarnation is newer than the one that installed the view"""
    member = trial.running(1)
    with trial.decides():
        member.hear(3, ack(member.number, runs=False), of_counter=2)
        assert matching([*member.sends, *member.wait(1)], Prepare, to=2)


@rule("V1 does not miss the token")
def test_a_successor_that_does_not_take_the_token_is_suspected(trial: Trial) -> None:
    """V1: a successor that gives no proof of token arrival within `token_timeout`"""
    member = trial.running(1, token_timeout_ms=300, suspect_timeout_ms=1_000, idle_hop_interval_ms=100)
    member.wait(100)
    assert matching(member.sends, Token, to=2)
    with trial.decides():
        all_is_well(member, 250)
        assert suspects(member) == ()
        all_is_well(member, 100)
        assert matching(member.sends, Prepare, to=2)


@rule("V1 is never stuck")
def test_no_new_slot_while_one_is_waited_for_names_nobody(trial: Trial) -> None:
    """V1: no new slot for `token_timeout` while an own request is not sequenced or an ordered one is not stored"""
    member = trial.running(2, token_timeout_ms=300, suspect_timeout_ms=1_000)
    member.submit(b"mine")
    with trial.decides():
        all_is_well(member, 250)
        assert not matching(member.sends, Prepare)
        all_is_well(member, 200)
        assert suspects(member) == ()
        assert matching(member.sends, Prepare, to=1)


@rule("V1 deposes a ring that runs without it")
def test_a_member_that_started_does_not_depose_a_ring_that_runs(trial: Trial) -> None:
    """V1: (HEARTBEAT) that they run one and the same view: then it sends JOIN and does not propose."""
    member = trial.bench(1, installed=view(1))
    with trial.decides():
        for _ in range(20):
            member.hear(2, ack(view(2).number))
            member.hear(3, ack(view(2).number))
            member.wait(50)
        assert not matching(member.sends, Prepare)
        assert matching(member.sends, Join)


@rule("V1 timers before input")
def test_waiting_input_is_handled_before_any_timer_that_is_due(trial: Trial) -> None:
    """V1: Waiting input is handled before any timer that is due (a process woken from SIGSTOP must not depose"""
    member = trial.running(2, propose_delay_ms=60)
    member.step(PeerLost(3))
    member.wait(20)
    member.world.now_us += 150_000  # SIGSTOP, while the delay by rank runs off
    with trial.decides():
        member.step(PeerFound(3), Received(CLUSTER, 1, incarnation(1), ack(member.number)))
        assert not matching([*member.settle(), *member.wait(10)], Prepare)


@rule("V2 proposes without a quorum")
def test_a_member_that_hears_no_quorum_does_not_propose(trial: Trial) -> None:
    """V2: A member proposes only while it hears Q members that are not wiped (a genesis: all n), itself included"""
    member = trial.running(1)
    with trial.decides():
        assert not matching(member.wait(2_000), Prepare)
        member.hear(3, ack(member.number))
        assert matching(member.wait(10), Prepare, to=3)


@rule("V2 counts wiped members")
def test_wiped_members_do_not_make_a_quorum(trial: Trial) -> None:
    """V2: A member proposes only while it hears Q members that are not wiped (a genesis: all n), itself included"""
    member = trial.running(1)
    member.step(PeerLost(2))
    member.hear(3, ack(view(1).number, wiped=True, runs=False))
    with trial.decides():
        for _ in range(20):
            member.hear(3, ack(view(1).number, wiped=True, runs=False))
            member.wait(50)
        assert not matching(member.sends, Prepare)


@rule("V2 everyone at once")
def test_the_live_member_with_the_lowest_id_proposes_first(trial: Trial) -> None:
    """V2: The live member with the lowest id first, others after a delay by rank (randomised)"""
    first, second = trial.running(1, propose_delay_ms=60), trial.running(2, propose_delay_ms=60)
    first.step(PeerLost(3))
    second.step(PeerLost(3))
    with trial.decides():
        assert matching([*first.settle(), *first.wait(1)], Prepare, to=2)
        assert not matching([*second.settle(), *second.wait(59)], Prepare)
        assert matching(second.wait(60), Prepare, to=1)


@rule("V2 counters from its own promises only")
def test_a_proposal_takes_a_counter_above_all_it_has_seen(trial: Trial) -> None:
    """V2: It takes a counter above all it has seen (REFUSED, JOIN and HEARTBEAT carry promised numbers)"""
    with trial.decides():
        by_join, by_heartbeat = trial.running(1), trial.running(1)
        by_join.hear(3, join(3, promised=ViewNumber(8, 3)))
        by_heartbeat.hear(3, ack(by_heartbeat.number, promised=ViewNumber(8, 3)))
        for member in (by_join, by_heartbeat):
            member.step(PeerLost(3))
            prepared = matching([*member.settle(), *member.wait(1)], Prepare, to=2)
            assert prepared[0].number == ViewNumber(9, 1)
