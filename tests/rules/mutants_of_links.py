"""What the rules about links that stay broken forbid, one double each (V1, V2, V4, V6, V9)."""

from sequencer.core import Core
from sequencer.quorum import bits
from sequencer.types import BackOff, View
from tests.rules.doubles import gets_wrong


@gets_wrong("V1 goes by what it hears itself")
class OwnEars(Core):
    """As it was: a learner that hears one of a ring of two wants another view."""

    def runs_without_us(self) -> bool:
        return not self.in_ring and self.quorum_runs_a_view()


@gets_wrong("V1 does not ask who runs a newer view")
class AsksNobody(Core):
    def is_left_behind(self) -> bool:
        return False


@gets_wrong("V1 sees its own links only")
class SeesOwnLinks(Core):
    def says_torn(self, view: View) -> bool:
        return False


@gets_wrong("V2 proposes between two that do not hear each other")
class Hub(Core):
    def hears_quorum(self) -> bool:
        for peer in self.peers.values():
            if peer.status is not None:
                peer.status = peer.status._replace(heard=bits(range(1, 64)))
        return super().hears_quorum()


@gets_wrong("V2 never pauses")
class NeverPauses(Core):
    def pause_ms(self) -> int:
        return 0


@gets_wrong("V4 learners go by what they hear themselves")
class Deposable(Core):
    def is_told_whole(self, view: View) -> bool:
        return False


@gets_wrong("V9 joiners that were let in for nothing do not wait")
class JoinersDoNotWait(Core):
    def next_back_offs(self, ring: tuple[int, ...], out: set[int]) -> tuple[BackOff, ...]:
        joiners = self.proposal.joiners if self.proposal is not None else frozenset()
        return super().next_back_offs(ring, out - joiners)


@gets_wrong("A8 passes nothing on")
class PassesNothingOn(Core):
    def plan_relays(self) -> None:
        return
