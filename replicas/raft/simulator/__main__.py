"""`python -m replicas.raft.simulator`, and `ringcast simulate --raft`."""

import json
import sys
from collections.abc import Iterable
from itertools import count

from replicas.raft.simulator.cluster import EXTRAS, Options
from replicas.raft.simulator.run import run_seed, simulate
from sequencer.simulator.__main__ import options_parser


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a seed found a violation."""
    chosen = options_parser("python -m replicas.raft.simulator", EXTRAS).parse_args(arguments)
    if chosen.trace is not None:
        options = Options(members=chosen.members, extra=chosen.faults, trace=lambda line: sys.stdout.write(line + "\n"))
        result = run_seed(chosen.trace, options)
        sys.stdout.write(f"seed {result.seed}: {result.violation or 'no violation'}\n")
        return 1 if result.violation else 0
    seeds: Iterable[int] = chosen.seeds or (count(1) if chosen.seconds else range(1, 101))
    options = Options(members=chosen.members, extra=chosen.faults)
    report = simulate(seeds, options, jobs=chosen.jobs, seconds=chosen.seconds)
    sys.stdout.write((json.dumps(report.as_json(), indent=2) if chosen.json else report.as_text()) + "\n")
    return 1 if report.failing else 0


if __name__ == "__main__":
    sys.exit(main())
