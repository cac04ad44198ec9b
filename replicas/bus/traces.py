"""What a replica remembers of the slots it delivered last: who ordered them, and when they were here. In memory alone.

The log says what was ordered; how it came to be is worth knowing for minutes, and not worth a byte on the disk.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ringcast.strict import Plain
from sequencer.types import Sequence, SlotRecord

#: Slots that are remembered; at full speed that is some ten seconds.
SLOTS_MAX = 1 << 15


class Trace(NamedTuple):
    """A slot here. Wall clock of this machine; `holder` 0: this member itself, -1: not known any more.

    `stored_us`: it went to this disk (group commits take the next flush), 0 = not known.
    """

    slot: int
    holder: int
    stored_us: int
    delivered_us: int


class Traces:
    """Slots that are under way, then the last SLOTS_MAX that were delivered."""

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._delivered: deque[Trace] = deque(maxlen=SLOTS_MAX)

    def ordered(self, sequences: Iterable[Sequence], holder: int) -> None:
        """A holder's frame with the slots that it ordered; 0: our own."""
        if len(self._holders) > SLOTS_MAX:
            self._holders.clear()  # a snapshot jumped over them
        for sequence in sequences:
            self._holders[sequence.slot] = holder

    def delivered(self, record: SlotRecord, stored_us: int, wall_us: int) -> None:
        """A slot is applied here."""
        self._delivered.append(Trace(record.slot, self._holders.pop(record.slot, -1), stored_us, wall_us))

    def find(self, slot: int) -> Mapping[str, Plain]:
        """Holder, stored_us, delivered_us; empty: it is not remembered."""
        traces = self._delivered
        place = slot - traces[0].slot if traces else -1
        if 0 <= place < len(traces) and traces[place].slot == slot:
            return traces[place]._asdict()
        return next((one._asdict() for one in traces if one.slot == slot), {})
