"""A member that a snapshot has filled: its log begins where the snapshot stands, and the log below is missing (C3)."""

from collections.abc import Callable

from sequencer.messages import Backfill, Backfilled, Records
from sequencer.types import GENESIS_CHAIN
from tests.sequencer.builders import ack, log, new_view, view
from tests.sequencer.harness import Host, bench, one
from tests.sequencer.snapshots import feed_snapshot

SLOT = 4
LOG = log(6)
VIEW = view(2, LOG)


def filled(make: Callable[..., Host] = bench, **limits: int) -> Host:
    """Member 1 has installed view 2 by a snapshot at slot 4; slots 4 and 5 came as records, 0 to 3 are missing."""
    member = make(1, installed=view(1), **limits)
    member.hear(3, new_view(VIEW))
    member.settle()
    feed_snapshot(member, VIEW.number, SLOT, 3)
    member.settle()
    member.hear(3, Records(VIEW.number, SLOT, LOG[SLOT:]))
    member.settle()
    assert member.running.view == VIEW
    hear_others(member)
    return member


def hear_others(member: Host) -> None:
    """Members 2 and 3 run the view too."""
    for other in (2, 3):
        member.hear(other, ack(member.number, 6, promised=member.number))


def piece(first: int, below: int) -> Backfilled:
    """What a peer answers."""
    before = LOG[first - 1].sequence.chain if first else GENESIS_CHAIN
    return Backfilled(first, before, LOG[first:below], (b"note",) * (below - first))


def asked(member: Host, ms: float = 60) -> Backfill:
    """The piece that it asks for next."""
    hear_others(member)
    return one(member.wait(ms), Backfill)
