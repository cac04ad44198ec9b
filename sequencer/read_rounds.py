"""K3 in a shell: which readers share a READ. Used by every shell around a core, the simulator's included.

A reader may share only a READ that leaves after the reader asked: answers to an earlier one can be older than what was
acknowledged before the read. So the readers that gather are part of the next step's input: `take` hands them to that
step with its events, and a reader that comes later gathers for the step after it. No timer and no callback ends a
round, so nothing can run between the end of a round and the step in which its READ leaves.
"""

from typing import Generic, TypeVar

from sequencer.output import ReadAsked

Reader = TypeVar("Reader")


class Round(Generic[Reader]):
    """Readers of one READ. `nonce` 0: no step has taken them. `slot`: where to read, None until the ring said it."""

    __slots__ = ("nonce", "readers", "slot")

    def __init__(self) -> None:
        self.nonce = 0
        self.readers: list[Reader] = []
        self.slot: int | None = None


class ReadRounds(Generic[Reader]):
    """The rounds of one shell. Each round ends once, through `due`, `drop` or `drop_all`."""

    def __init__(self) -> None:
        self._gathering: Round[Reader] | None = None
        self._asked: dict[int, Round[Reader]] = {}
        self._nonce = 0

    def __len__(self) -> int:
        """Rounds that have not ended."""
        return len(self._asked) + (self._gathering is not None)

    def join(self, reader: Reader) -> Round[Reader]:
        """Add a reader to the round that the next step takes; the caller owes that step."""
        if self._gathering is None:
            self._gathering = Round()
        self._gathering.readers.append(reader)
        return self._gathering

    def take(self) -> list[ReadAsked]:
        """Close the round: the event that the step must get together with all its other events."""
        one = self._gathering
        if one is None:
            return []
        self._gathering = None
        self._nonce += 1
        one.nonce = self._nonce
        self._asked[one.nonce] = one
        return [ReadAsked(one.nonce)]

    def ready(self, nonce: int, slot: int) -> None:
        """The core's answer: read once every slot below `slot` is applied. A round that was dropped stays dropped."""
        if nonce in self._asked:
            self._asked[nonce].slot = slot

    def due(self, applied: int) -> list[Round[Reader]]:
        """The rounds that end because every slot below `applied` is applied: their readers may read."""
        if not self._asked:
            return []
        ended = [one for one in self._asked.values() if one.slot is not None and one.slot <= applied]
        for one in ended:
            del self._asked[one.nonce]
        return ended

    def drop(self, one: Round[Reader]) -> bool:
        """End a round without a read; False if it had ended before."""
        if one is self._gathering:
            self._gathering = None
            return True
        return self._asked.pop(one.nonce, None) is not None

    def drop_all(self) -> list[Round[Reader]]:
        """End every round without a read."""
        ended = [*self._asked.values(), *([] if self._gathering is None else [self._gathering])]
        self._asked.clear()
        self._gathering = None
        return ended
