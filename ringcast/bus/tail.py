"""What of the live feed continues a subscriber's position without a hole. No I/O.

The feed may lose any frame. One topic: a batch whose `previous` is below the position leaves nothing out. Several
topics: their order is the whole order, and only consecutive offsets prove that nothing is missing, so a subscriber of a
pattern takes the whole feed. Either way the control topic finds what was lost at the end.
"""

from enum import Enum

from ringcast.bus.feed import Control, FeedBatch
from ringcast.bus.topics import matches


class Verdict(Enum):
    """What a feed message means for the position."""

    TAKE = "the next batch: hand it over"
    SKIP = "nothing new"
    HOLE = "something is missing: fetch from the position"


class Tail:
    """The position of one subscription: every matching message below `position` has been taken."""

    def __init__(self, pattern: str, position: int) -> None:
        self.pattern = pattern
        self.single = not pattern.endswith(">")
        self.position = position

    def advance(self, position: int) -> None:
        """Everything below `position` is taken (a fetch said so); never goes back."""
        self.position = max(self.position, position)

    def on_batch(self, batch: FeedBatch) -> Verdict:
        """TAKE moves the position behind the batch; the caller hands on its messages from the old position on."""
        info = batch.info
        end = info.first_offset + info.messages
        matching = matches(self.pattern, info.topic)
        if end <= self.position or (self.single and not matching):
            return Verdict.SKIP
        if (info.previous if self.single else info.first_offset - 1) >= self.position:
            return Verdict.HOLE
        self.position = end
        return Verdict.TAKE if matching else Verdict.SKIP

    def on_control(self, control: Control) -> Verdict:
        """A hole if the replica delivered something of ours that did not come; else the position may move up."""
        if control.next_offset <= self.position:
            return Verdict.SKIP
        if not self.single or control.since > self.position or control.changed.get(self.pattern, -1) >= self.position:
            return Verdict.HOLE
        self.position = control.next_offset
        return Verdict.SKIP
