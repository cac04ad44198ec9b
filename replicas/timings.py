"""How long the ordering takes, measured where it happens: once a slot, a token or a frame, never once a message.

*Publish*: from the client's PUBLISH to its receipt. *Stable*: from a slot's way to this disk until a quorum has it, as
seen here. *Deliver*: from the holder's ordering of a slot (its wall clock, A4) until it is applied here; between two
machines it is as true as their clocks. *Rotation*: between two of this member's tokens of one view.
"""

from collections import Counter, deque
from collections.abc import Sequence

from replicas.bus.traces import Traces
from replicas.metrics import Histogram
from sequencer.messages import Broadcast, Message, Token
from sequencer.output import AppendRecord, CutLog, Persist, ResetDisk, UseSnapshot
from sequencer.types import SlotRecord, ViewNumber

US = 1e-6


class Timings:
    """`frames`: what was sent to peers and came from them, by (direction, kind)."""

    def __init__(self) -> None:
        self.publish = Histogram()
        self.stable = Histogram()
        self.deliver = Histogram()
        self.rotation = Histogram()
        self.sync = Histogram()
        self.sent: Counter[type[Message]] = Counter()
        self.received: Counter[type[Message]] = Counter()
        self.traces = Traces()
        self._appended: deque[tuple[int, int]] = deque()  # (slot, when) on their way to a quorum, slots ascending
        self._token: tuple[ViewNumber, int] | None = None
        self._token_us = 0

    def persisted(self, persist: Persist, now_us: int) -> None:
        """An instruction goes to the disk."""
        appended = self._appended
        if type(persist) is AppendRecord:
            appended.append((persist.record.slot, now_us))
        elif type(persist) is CutLog:
            while appended and appended[-1][0] >= persist.end:
                appended.pop()
        elif isinstance(persist, UseSnapshot | ResetDisk):
            appended.clear()

    def delivered(self, records: Sequence[SlotRecord], now_us: int, wall_us: int) -> None:
        """Committed slots are applied and on their way to clients."""
        appended = self._appended
        for record in records:
            slot, ordered_us, stored_us = record.slot, record.sequence.time_us, 0
            self.deliver.observe((wall_us - ordered_us) * US)
            while appended and appended[0][0] <= slot:
                own, when_us = appended.popleft()
                if own == slot:
                    self.stable.observe((now_us - when_us) * US)
                    stored_us = wall_us - (now_us - when_us)
            self.traces.delivered(record, stored_us, wall_us)

    def sends(self, message: Message, now_us: int) -> None:
        """A frame leaves for peers. A token that is sent again (A6) is no new one."""
        self.sent[type(message)] += 1
        if type(message) is Broadcast and message.sequences:
            self.traces.ordered(message.sequences, 0)
        if type(message) is Token:
            last, token = self._token, (message.view, message.hop)
            if last == token:
                return
            if last is not None and last[0] == message.view:
                self.rotation.observe((now_us - self._token_us) * US)
            self._token, self._token_us = token, now_us

    def receives(self, message: Message, sender: int) -> None:
        """A frame of a peer."""
        self.received[type(message)] += 1
        if type(message) is Broadcast and message.sequences:
            self.traces.ordered(message.sequences, sender)
