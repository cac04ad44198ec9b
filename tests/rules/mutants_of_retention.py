"""What C3 forbids, one double each."""

from collections.abc import Collection

from sequencer.core import Core
from sequencer.rules import Rules
from sequencer.types import StableState
from tests.rules.doubles import gets_wrong


@gets_wrong("C3 whole with a snapshot alone")
class WholeWithSnapshot(Rules):
    def whole_after_snapshot(self) -> bool:
        return True


@gets_wrong("C3 whole with holes")
class WholeWithHoles(Rules):
    def is_whole(self, state: StableState, first: int, *, holes: bool) -> bool:
        return super().is_whole(state, first, holes=False)


@gets_wrong("C3 takes what does not link")
class TakesAnything(Rules):
    def takes_backfill(self, linked: bytes | None, chain: bytes) -> bool:
        return linked is not None


@gets_wrong("C3 removes the last copy")
class RemovesLastCopy(Rules):
    def copies_needed(self, members: Collection[int]) -> int:
        return 0


@gets_wrong("C3 fetches during an install")
class FetchesDuringInstall(Core):
    def may_backfill(self) -> bool:
        return True


@gets_wrong("C3 whole with what one member says")
class BelievesAnybody(Core):
    def retained_from(self) -> int | None:
        return super().retained_from() if not self.told else min(one.first for one in self.told.values())
