"""`python -m sequencer.simulator`: the simulator without the rest of Ringcast."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from functools import partial
from itertools import count

from sequencer.simulator.cluster import EXTRAS
from sequencer.simulator.extras import parse_names
from sequencer.simulator.run import simulate, trace_seed


def seed_range(text: str) -> range:
    """'7' or '1..1000', both ends included."""
    first, dots, last = text.partition("..")
    try:
        found = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write one seed (7) or a range (1..1000)") from None
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: the range is empty")
    return found


def options_parser(program: str, faults: Iterable[str]) -> argparse.ArgumentParser:
    """What every simulator can be told."""
    parser = argparse.ArgumentParser(program, description="A faulty cluster, from one seed.")
    parser.add_argument("--seeds", type=seed_range, help="one seed or a range, 1..1000 (default 1..100)")
    parser.add_argument("--members", type=int, default=0, choices=range(8), help="members; default: by seed, mostly 3")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each CPU)")
    parser.add_argument("--seconds", type=float, default=0, help="run seeds for so long (with --seeds: at most)")
    parser.add_argument("--trace", type=int, metavar="SEED", help="run one seed and print what happens")
    parser.add_argument(
        "--faults",
        type=partial(parse_names, known=faults),
        default=frozenset(),
        metavar="NAME,...",
        help=f"add these faults: {', '.join(sorted(faults))}",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a seed found a violation."""
    chosen = options_parser("python -m sequencer.simulator", EXTRAS).parse_args(arguments)
    if chosen.trace is not None:
        result = trace_seed(chosen.trace, chosen.members, chosen.faults)
        sys.stdout.write(f"seed {result.seed}: {result.violation or 'no violation'}\n")
        return 1 if result.violation else 0
    seeds: Iterable[int] = chosen.seeds or (count(1) if chosen.seconds else range(1, 101))
    report = simulate(seeds, chosen.members, chosen.jobs, chosen.seconds, chosen.faults)
    sys.stdout.write((json.dumps(report.as_json(), indent=2) if chosen.json else report.as_text()) + "\n")
    return 1 if report.failing else 0


if __name__ == "__main__":
    sys.exit(main())
