"""Faults that the simulator found in the core, made again: each as a double, with a seed that shows it.

The seeds that found them first no longer draw the same run, since the simulator has grown; so each fault is kept as a
double of the mended code. A fault that comes back is caught by the same seed.
"""

from typing import Any

from sequencer.core import Core
from sequencer.messages import Chains, Joined, NewView
from sequencer.output import Received
from sequencer.types import Incarnation, View
from tests.simulation.mutants import SNAPSHOTS, Mutation


class SpeaksWhenWiped(Core):
    """A member that had found itself rolled back went on sending, under an incarnation that was not durable."""

    def become_wiped(self, told: Incarnation) -> None:
        super().become_wiped(told)
        self.started = True


class CutsUncompared(Core):
    """A second, stale CHAINS cut slots beyond those it compared, also after the log view was raised over them."""

    def on_chains(self, sender: int, message: Chains) -> None:
        view = self.installing
        if view is None or message.view != view.number or not message.chains or self.opening:
            return
        last = message.first + len(message.chains) - 1
        common = message.first - 1
        for slot in range(min(last, self.window.end - 1), message.first - 1, -1):
            if self.window.chain(slot) == message.chains[slot - message.first]:
                common = slot
                break
        if common + 1 < self.window.end:
            self.cut(common + 1)
            self.continue_install()


class LosesTimers(Core):
    """Timers that came due while the disk was full were gone for good: an install stood still."""

    def run_timers(self) -> None:
        if self.disk_full:
            due = [name for name, time in self.timers.items() if time <= self.now_us]
            for name in due:
                if name not in {"heartbeat", "leave"}:
                    del self.timers[name]
        super().run_timers()


class HearsOnlyAnswers(Core):
    """Only JOINED and NEW_VIEW bound a blank member to a marked cluster: none came from a proposer that restarted."""

    def accepts(self, event: Received) -> bool:
        if self.blank and event.cluster in self.stable.marks and not isinstance(event.message, Joined | NewView):
            return False
        return super().accepts(event)


class ForgetsItsSnapshot(Core):
    """That a snapshot reached beyond the base was known in memory only: after a crash, a false alarm of divergence."""

    def begins_beyond(self, view: View) -> bool:
        return self.installed_now and super().begins_beyond(view)


STRUCK: dict[str, Any] = {"weights": {"crash_armed": 60}, **SNAPSHOTS}
ROLLBACK: dict[str, Any] = {"weights": {"rollback": 80, "crash": 20}}
GENESIS: dict[str, Any] = {"weights": {"crash_all": 30, "split": 40}, "weather": {"loss": 0.3}, "safety_us": 700_000}
CHURN: dict[str, Any] = {
    "weights": {"restart_loop": 30, "isolate_holder": 60, "flap": 20},
    "weather": {"duplication": 0.3, "slow": 0.3, "slow_spread": 3_000},
    "think_ms": 20,
}
FULL: dict[str, Any] = {"weights": {"fill_disk": 60, "isolate": 30}, "config": {"catch_up_limit_slots": 8}}
REGRESSIONS = (
    Mutation("D3 speaks before its new incarnation is durable", 200, 4, SpeaksWhenWiped, ROLLBACK),
    Mutation("V7 cuts what was not compared", 300, 29, CutsUncompared, CHURN),
    Mutation("D5 loses timers while the disk is full", 200, 63, LosesTimers, FULL),
    Mutation("V0 hears only JOINED and NEW_VIEW", 400, 316, HearsOnlyAnswers, GENESIS),
    Mutation("C1 forgets that a snapshot was used", 300, 85, ForgetsItsSnapshot, STRUCK),
)
