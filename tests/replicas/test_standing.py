"""What a replica says of links that are broken."""

from replicas.bus.standing import OUTSIDE, broken_links, state_of, trouble_of
from sequencer.output import PeerLost
from sequencer.quorum import bits
from tests.sequencer.builders import ack, view
from tests.sequencer.harness import bench, running


def test_a_member_outside_the_ring_names_the_link() -> None:
    member = bench(3, installed=view(1))
    member.install(view(2, ring=(1, 2), proposer=1, source=1))
    for other in (1, 2):
        member.hear(other, ack(member.number))
    assert (state_of(member.running, leaving=False), broken_links(member.running)) == ("serving", None)
    member.step(PeerLost(2))
    assert state_of(member.running, leaving=False) == OUTSIDE
    assert broken_links(member.running) == "does not hear replica 2"
    assert trouble_of(member.running, leaving=False) is None  # a quorum is heard: it orders and acknowledges
    member.hear(1, ack(member.number, heard=bits((1, 2))))
    assert broken_links(member.running) == "does not hear replica 2; replica 1 does not hear it"


def test_a_ring_member_serves_whoever_else_is_not_heard() -> None:
    member = running(1, ring=(1, 2))
    member.step(PeerLost(3))
    assert state_of(member.running, leaving=False) == "serving"
    assert broken_links(member.running) == "does not hear replica 3"
