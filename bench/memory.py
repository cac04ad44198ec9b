"""What replicas hold in memory while many messages pass, one member stutters and one subscriber hardly reads."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import ringcast.sync
from bench.clients.ringcast import TOPIC
from bench.conversation import background
from bench.errors import NotMeasurable, ProcessFailed
from bench.gap import open_loop
from bench.measure import anonymous_memory_mb
from bench.options import Options
from bench.systems.ringcast import Ringcast

TIMEOUT_S = 600.0
#: Of the messages: processes, buffers and tables take their size.
WARM_UP = 0.1
#: A member that is slow, slower, and so slow that the ring goes on without it (V1: 300 ms).
PAUSES_S = (0.1, 0.2, 1.0)
_PAUSE_EVERY_S = 1.0
_READ_EVERY_S = 0.02


def memory(system: Ringcast, options: Options) -> dict[str, Any]:
    """Publish `memory_messages` at full speed: the largest replica in the first and in the second half of them.

    Only memory of the process's own counts (RssAnon): what it shows of the log's file is the kernel's cache. Raises
    ProcessFailed, NotMeasurable.
    """
    if system.replicas < 3:
        raise NotMeasurable(f"with {system.replicas} replicas none may be slow")
    wanted, samples = options.memory_messages, []
    deadline_s = time.monotonic() + TIMEOUT_S
    with background(replace(open_loop(system, options), rate=0)) as talk, _slow_subscriber(system) as read:
        for pause_s in cycle(PAUSES_S):
            total = int(talk.ask("where")["total"])
            samples.append((total, max(map(anonymous_memory_mb, system.pids()))))
            if total >= wanted:
                break
            if time.monotonic() > deadline_s:
                raise ProcessFailed(f"{total:,} of {wanted:,} messages were published within {TIMEOUT_S:g} s")
            system.pause(system.replicas)
            time.sleep(pause_s)
            system.resume(system.replicas)
            time.sleep(_PAUSE_EVERY_S - pause_s)
    begin, middle = WARM_UP * total, (1 + WARM_UP) / 2 * total
    early = max((mb for at, mb in samples if begin <= at < middle), default=samples[0][1])
    late = max(mb for at, mb in samples if at >= middle)
    return {
        "messages": total,
        "read_by_slow_subscriber": len(read),
        "early_mb": round(early, 1),
        "late_mb": round(late, 1),
        "growth": round(late / early, 3),
        "samples": [[at, round(mb, 1)] for at, mb in samples],
    }


@contextlib.contextmanager
def _slow_subscriber(system: Ringcast) -> Iterator[list[int]]:
    """Reads a message now and then, of one replica; gives the offsets that it read."""
    read: list[int] = []
    ended = threading.Event()

    def work() -> None:
        with ringcast.sync.connect(system.endpoints()) as bus, bus.subscribe(TOPIC, replica=1) as messages:
            for message in messages:
                read.append(message.offset)
                if ended.wait(_READ_EVERY_S):
                    return

    thread = threading.Thread(target=work, name="slow subscriber")
    thread.start()
    try:
        yield read
    finally:
        ended.set()
        thread.join()
