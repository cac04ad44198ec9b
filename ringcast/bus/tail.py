"""What of the live feed continues a subscriber's position without a hole. No I/O.

The feed may lose any frame. One topic: a batch whose `previous` is below the position leaves nothing out. Several
topics: their order is the whole order, and only consecutive offsets prove that nothing is missing, so a subscriber of a
pattern takes the whole feed. Either way the control topic finds what was lost at the end.
"""

from collections.abc import Mapping
from enum import Enum

from ringcast.bus.feed import Control, FeedBatch
from ringcast.bus.topics import matches


class Verdict(Enum):
    """What a feed message means for the position."""

    TAKE = "the next batch: hand it over"
    SKIP = "nothing new"
    HOLE = "something is missing: fetch from the position"


def is_single(pattern: str) -> bool:
    """Does it match one topic only?"""
    return not pattern.endswith(">")


def last_changed(pattern: str, changed: Mapping[str, int]) -> int:
    """The last offset of the topics of a control message that match; -1: none of them does."""
    if is_single(pattern):
        return changed.get(pattern, -1)
    return max((last for topic, last in changed.items() if matches(pattern, topic)), default=-1)


class Tail:
    """The position of one subscription: every matching message below `position` has been taken."""

    __slots__ = ("pattern", "position", "single")

    def __init__(self, pattern: str, position: int) -> None:
        self.pattern = pattern
        self.single = is_single(pattern)
        self.position = position

    def advance(self, position: int) -> None:
        """Everything below `position` is taken (a fetch said so); never goes back."""
        self.position = max(self.position, position)

    def on_batch(self, batch: FeedBatch) -> Verdict:
        """TAKE moves the position behind the batch; the caller hands on its messages from the old position on."""
        info = batch.info
        end = info.first_offset + info.messages
        if end <= self.position:
            return Verdict.SKIP
        if not matches(self.pattern, info.topic):
            # Of a pattern: it may fill the space up to the next one that matches. If it does not, nothing is lost yet.
            if not self.single and info.first_offset <= self.position:
                self.position = end
            return Verdict.SKIP
        if (info.previous if self.single else info.first_offset - 1) >= self.position:
            return Verdict.HOLE
        self.position = end
        return Verdict.TAKE

    def on_control(self, control: Control, last: int) -> Verdict:
        """A hole if the replica delivered something of ours that did not come; else the position may move up.

        `last`: `last_changed` of our pattern, which many subscriptions share.
        """
        if control.next_offset <= self.position:
            return Verdict.SKIP
        if control.since > self.position or last >= self.position:
            return Verdict.HOLE
        self.position = control.next_offset
        return Verdict.SKIP
