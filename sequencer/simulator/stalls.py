"""Links that keep their frames back for a while, so that many come at once (`--faults bursts`, both simulators)."""

from random import Random

from sequencer.simulator.network import Link

MS = 1_000
USUAL_US, LONG_US = 30 * MS, 300 * MS
LONG_SHARE = 0.1
STALL_US_MAX = 900 * MS


def draw_stall(random: Random, members: list[int]) -> tuple[Link, int] | None:
    """A direction, and for how many us; None with a single member."""
    if len(members) < 2:
        return None
    sender, receiver = random.sample(members, 2)
    mean = LONG_US if random.random() < LONG_SHARE else USUAL_US
    return (sender, receiver), min(1 + int(random.expovariate(1 / mean)), STALL_US_MAX)


def draw_late_links(random: Random, members: list[int]) -> list[tuple[Link, int]]:
    """At the start: mostly one member's connections from others come up late, and what was sent to it comes at once."""
    if random.random() < 0.5:
        return []
    late = random.choice(members)
    return [((other, late), random.randint(1, STALL_US_MAX)) for other in members if other != late]
