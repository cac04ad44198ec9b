"""Requests, slots, token and commit point: what the rule tests leave."""

from sequencer.messages import Broadcast, Token
from sequencer.output import SnapshotOpened
from sequencer.types import GENESIS_CHAIN
from tests.sequencer.builders import ack, log, new_view, prepare, published, record, request, token, view
from tests.sequencer.group import Group
from tests.sequencer.harness import Host, bench, matching, one, running
from tests.sequencer.snapshots import feed_snapshot


def ordered(sends: list[object]) -> list[int]:
    """The slots that left in broadcasts."""
    return [sequence.slot for send in sends for sequence in getattr(send.message, "sequences", ())]  # type: ignore[attr-defined]


def test_what_is_submitted_without_a_view_is_published_once_there_is_one() -> None:
    """A1, V10."""
    member = bench(2, installed=view(1))
    assert not [sent for sent in matching(member.submit(b"early").sends, Broadcast) if sent.requests]
    member.wait(100)
    assert not [sent for sent in matching(member.sends, Broadcast) if sent.requests]
    member.install(view(2))
    assert [sent.requests[0].frames[1] for sent in matching(member.sends, Broadcast) if sent.requests] == [b"early"]


def test_with_nothing_pending_nothing_is_sent_again() -> None:
    member = running(1)
    member.submit(b"mine")
    member.settle()
    member.hear(2, ack(member.number, 1, accepted_hop=1))
    assert not [sent for sent in matching(member.wait(200), Broadcast) if sent.requests]
    assert len(member.running.own) == 0


def test_an_ordered_request_is_not_sent_again_while_it_waits_for_a_quorum() -> None:
    member = running(1)
    member.submit(b"mine")
    assert len(member.running.own) == 1
    assert not [sent for sent in matching(member.wait(200), Broadcast) if sent.requests]


def test_bytes_beyond_the_commit_point_are_limited() -> None:
    """A9: looked up only when so many slots could reach the limit."""
    member = running(1, uncommitted_bytes_max=300, slot_bytes_max=200, request_bytes_max=100)
    member.submit(bytes(150))
    member.settle()
    member.hear(3, token(member.number, 3, 1))
    assert [len(sent.sequences) for sent in matching(member.submit(bytes(150)).sends, Broadcast)] == [1]
    member.settle()
    member.hear(3, token(member.number, 6, 2))
    assert [len(sent.sequences) for sent in matching(member.submit(b"more").sends, Broadcast)] == [0]
    out = member.hear(2, ack(member.number, 1))
    assert [len(sent.sequences) for sent in matching(out.sends, Broadcast)] == [1]


def test_a_slot_far_ahead_is_not_kept() -> None:
    """A9: twice the slots that may be beyond the commit point."""
    member = running(2, uncommitted_slots_max=2)
    slots = log(6, member.number, sender=1)
    member.hear(1, published(member.number, slots[1:]))
    assert sorted(member.running.sequences) == [1, 2, 3]
    assert member.running.known_end == 6


def test_the_time_of_a_slot_is_never_below_the_one_before() -> None:
    """SEQUENCE: the holder's wall clock, for users and retention."""
    far = 1 << 60
    before = record(0, GENESIS_CHAIN, [request(3, 1)], view(1).number, time_us=far)
    member = running(1, base=(before,))
    assert one(member.submit(b"mine").sends, Broadcast).sequences[0].time_us == far


def test_a_group_of_one_passes_the_token_to_itself() -> None:
    """V0: in the same step."""
    group = Group(1).begin()
    for turn in range(3):
        group.publish(1, b"%d" % turn)
    group.run(500)
    assert group[1].running.token is not None
    assert len(group[1].delivered) == 3


def test_a_token_whose_slot_is_not_here_is_not_passed_unused() -> None:
    """A3, A4: the holder would pass on a right that it does not know to be next."""
    member = running(2)
    member.hear(1, token(member.number, 1, 1))
    assert not matching(member.wait(250), Token)
    assert member.running.token is not None
    member.hear(1, published(member.number, log(1, member.number, sender=1)))
    assert matching(member.wait(151), Token, to=3, slot=1)


def lagging_holder() -> Host:
    """Member 2 holds the token for slot 4, lacks every slot, and has just used a snapshot that is not open yet."""
    member = running(2, window_slots=1)
    member.hear(1, token(member.number, 1, 4))
    feed_snapshot(member, member.number, slot=4, sender=1)
    assert member.running.opening
    return member


def test_the_token_waits_for_a_snapshot_to_be_opened() -> None:
    """C1: the A2 table is not known before; then the token goes on as ever."""
    member = lagging_holder()
    assert not matching(member.wait(200, settle=False), Token)
    state = member.world.snapshots["peer"].state
    member.disk.sync()
    member.state = state
    member.step(SnapshotOpened(state.applied, state.chain, state.time_us, tuple(state.senders.items())))
    assert not member.running.opening
    assert matching(member.wait(151), Token, to=3, slot=4)


def test_a_second_opening_changes_nothing() -> None:
    """Or one of another slot."""
    member = lagging_holder()
    member.step(SnapshotOpened(3, GENESIS_CHAIN, 0, ()))
    assert member.running.opening
    member.settle()
    senders = member.running.window.senders
    member.step(SnapshotOpened(4, GENESIS_CHAIN, 0, ()))
    assert member.running.window.senders == senders


def test_a_passed_token_is_sent_again_after_a_snapshot_was_opened() -> None:
    """A6: the copy is kept meanwhile."""
    member = running(2, window_slots=1)
    member.hear(1, token(member.number, 1, 0))
    passed = one(member.wait(151), Token, to=3)
    feed_snapshot(member, member.number, slot=4, sender=1)
    assert matching(member.wait(45, settle=False), Token) == [passed]


def test_a_duplicate_of_a_passed_tokens_slot_is_not_proof() -> None:
    """A6: a SEQUENCE below the token's next slot is the passer's own, seen again."""
    member = running(1)
    sent = one(member.submit(b"mine").sends, Broadcast)
    member.hear(3, Broadcast(ack(member.number).status, (), sent.sequences))
    assert member.running.passed is not None


def test_a_view_that_is_left_takes_no_statuses() -> None:
    """V3: after the promise nothing of the old view counts."""
    member = running(1)
    member.submit(b"mine")
    member.settle()
    member.hear(3, prepare(view(5).number))
    member.hear(2, ack(member.number, 1))
    assert not member.delivered
    member.hear(3, new_view(view(5)))


def test_an_ack_goes_to_who_waits_for_it_at_once_and_to_all_a_little_later() -> None:
    """A5, as mended."""
    member = running(2)
    member.hear(1, published(member.number, log(1, member.number, sender=1)))
    assert [sent.status.stored for sent in matching(member.settle(), Broadcast, to=1)] == [1]
    assert not matching(member.wait(4), Broadcast)
    assert one(member.wait(2), Broadcast, to=None).status.stored == 1


def test_an_ack_that_nobody_needs_any_more_is_not_sent() -> None:
    """A5, as mended: whoever told the commit has told all."""
    member = running(2)
    member.hear(1, published(member.number, log(1, member.number, sender=1)))
    member.settle()
    assert member.hear(1, ack(member.number, 1, commit=1)).delivers
    assert not matching(member.wait(20), Broadcast)


def test_who_submitted_tells_the_commit() -> None:
    """A5, as mended: it was told first."""
    member = running(1)
    member.submit(b"mine")
    member.settle()
    assert member.hear(2, ack(member.number, 1)).delivers
    assert one(member.wait(2), Broadcast, to=None).status.commit == 1
    assert not matching(member.wait(20), Broadcast)
