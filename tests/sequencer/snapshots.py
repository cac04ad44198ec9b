"""A snapshot as a peer sends it: the first slots of a log of one sender."""

from sequencer.messages import SnapshotChunk
from sequencer.types import ViewNumber
from tests.sequencer.builders import log
from tests.sequencer.disk import Snapshot, State
from tests.sequencer.harness import Host

CHUNKS = (b"one half", b"the other")


def snapshot_chunks(
    member: Host, number: ViewNumber, slot: int, *, name: str = "peer", log_view: ViewNumber | None = None
) -> list[SnapshotChunk]:
    """The chunks of a snapshot of the state behind slot - 1, known to the member's world."""
    state = State()
    for made in log(slot, log_view or ViewNumber(1, 3)):
        state = state.after(made)
    member.world.snapshots[name] = Snapshot(name, state, CHUNKS)
    return [
        SnapshotChunk(number, name, slot, state.chain, index, len(CHUNKS), data) for index, data in enumerate(CHUNKS)
    ]


def feed_snapshot(member: Host, number: ViewNumber, slot: int, sender: int) -> None:
    """Give it all chunks in one step; its disk has not synced yet."""
    member.hear(sender, *snapshot_chunks(member, number, slot))
