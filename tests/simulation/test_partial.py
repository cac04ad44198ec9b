"""Links that stay broken: every pattern of three members that leaves two together, and seeds of five and seven."""

from dataclasses import replace
from itertools import combinations

import pytest

from sequencer.core import Core
from sequencer.simulator.cluster import MS, Cluster, Options
from sequencer.simulator.network import Link
from sequencer.simulator.partial import Partial
from sequencer.simulator.run import run_seed

LINKS = [(one, other) for one in (1, 2, 3) for other in (1, 2, 3) if one != other]
PATTERNS = [
    links
    for count in range(1, len(LINKS))
    for links in combinations(LINKS, count)
    if any((a, b) not in links and (b, a) not in links for a, b in LINKS)
]
QUICK = Options(Core, members=3, safety_us=100 * MS, member_changes=0.0, extra=frozenset({"partial"}))


@pytest.mark.parametrize("links", PATTERNS, ids=lambda links: " ".join(f"{a}-{b}" for a, b in links))
def test_every_pattern_of_three_leaves_one_stable_view(links: tuple[Link, ...]) -> None:
    """docs/faults.md, 12; V1, V2, V6, V9."""
    cluster = Cluster(1, QUICK)
    (partial,) = (extra for extra in cluster.extras if isinstance(extra, Partial))
    ids = cluster.config.members
    partial.chosen = [(ids[one - 1], ids[other - 1]) for one, other in links]
    cluster.run()
    assert cluster.counts.lasting_cuts == len(links)


@pytest.mark.parametrize("members", [5, 7])
def test_seeds_of_five_and_seven(members: int) -> None:
    options = replace(QUICK, members=members)
    results = [run_seed(seed, options) for seed in range(1, 5)]
    assert not [result for result in results if result.violation]
    assert sum(result.counts["lasting_cuts"] for result in results) >= 10
