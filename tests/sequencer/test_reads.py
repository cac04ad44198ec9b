"""K3: rounds of reads."""

from sequencer.messages import Read, ReadOk
from sequencer.output import PeerLost, ReadAsked, ReadReady
from tests.sequencer.builders import prepare, view
from tests.sequencer.group import Group
from tests.sequencer.harness import bench, matching, one, running


def test_readers_of_one_turn_share_a_round() -> None:
    member = running(1)
    out = member.step(ReadAsked(1), ReadAsked(2))
    nonce = one(out.sends, Read, to=2).nonce
    member.hear(2, ReadOk(nonce, member.number, 3))
    assert member.reads == [ReadReady(1, 3), ReadReady(2, 3)]
    assert not member.hear(3, ReadOk(nonce, member.number, 9)).reads


def test_a_reader_without_a_view_waits_for_one() -> None:
    member = bench(1, installed=view(1))
    member.hear(3, prepare(view(5).number))
    assert not matching(member.step(ReadAsked(1)).sends, Read)
    before = len(member.sends)
    member.install(view(5))
    assert matching(member.sends[before:], Read, to=2)


def test_those_that_did_not_answer_are_asked_again() -> None:
    """Until a quorum has answered."""
    member = running(1, members=5, read_interval_ms=50)
    nonce = one(member.step(ReadAsked(1)).sends, Read, to=2).nonce
    member.hear(2, ReadOk(nonce, member.number, 0))
    before = len(member.sends)
    member.wait(50)
    assert {send.to for send in member.sends[before:] if isinstance(send.message, Read)} == {3, 4, 5}
    member.hear(3, ReadOk(nonce, member.number, 0))
    assert member.reads == [ReadReady(1, 0)]
    before = len(member.sends)
    member.wait(200)
    assert not matching(member.sends[before:], Read)


def test_answers_to_unknown_nonces_are_ignored() -> None:
    member = running(1)
    member.step(PeerLost(9))
    assert not member.hear(2, ReadOk(4, member.number, 3)).reads


def test_a_member_alone_reads_at_once() -> None:
    group = Group(1).begin()
    group.publish(1, b"one")
    group[1].step(ReadAsked(1))
    assert group[1].reads == [ReadReady(1, 1)]
