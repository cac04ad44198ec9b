"""A worker that does what it is told by its supervisor's command line: `python -m tests.replicas.supervised STEP...`.

The steps are those of one worker after the other: `exit-N`, `SIGNAME` (it kills itself), `up-STEP` (it comes up first),
`sleep` (until a signal ends it). Each worker prints its pid and how often it was restarted, on one line.
"""

import os
import signal
import sys
import time

from replicas import supervisor


def main(steps: list[str]) -> None:
    """Supervise; in each worker, take the step that is its turn."""
    supervisor.supervise(lambda: None)
    past = supervisor.restarts()
    print(os.getpid(), past.times, past.reason, flush=True)
    step = steps[past.times]
    if step.startswith("up-"):
        supervisor.came_up()
        step = step.removeprefix("up-")
    if step == "sleep":
        while True:
            time.sleep(60)
    if step.startswith("exit-"):
        sys.exit(int(step.removeprefix("exit-")))
    os.kill(os.getpid(), signal.Signals[step])


if __name__ == "__main__":
    main(sys.argv[1:])
