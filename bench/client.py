"""The publishing client, a process of its own: `python -m bench.client JOB` (bench/job.py) prints what it measured."""

import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from typing import cast

import uvloop

from bench.clients import Client, StoreClient, Where, client_of
from bench.errors import NotMeasurable
from bench.job import Job, Sample
from bench.loads import Load, in_tasks, one_by_one
from bench.measure import CpuMeter, percentiles_ms
from bench.systems import BATCHED, LOCAL, LOCAL_ONE, ONE, PIPELINED, READ_ONE, READS, TASKS

#: Part of the count that goes before anything is timed: connections, caches and elections settle in it.
WARM_UP_PART = 20
WARM_UP_MIN, WARM_UP_SECONDS = 300, 1.0


async def _carry_out(client: Client, workload: str, load: Load) -> tuple[int, dict[str, float] | None]:
    if workload in READS:
        reads = cast("StoreClient", client)
        look = partial(_look, reads, local=workload in {LOCAL, LOCAL_ONE})
        if workload in {READ_ONE, LOCAL_ONE}:
            seconds = await one_by_one(load, look)
            return len(seconds), asdict(percentiles_ms(seconds))
        return await in_tasks(load, look), None
    if workload == ONE:
        seconds = await one_by_one(load, client.publish)
        return len(seconds), asdict(percentiles_ms(seconds))
    if workload == PIPELINED:
        return await client.pipelined(load), None
    if workload == BATCHED:
        return await client.batched(load), None
    assert workload == TASKS, workload
    return await client.tasks(load), None


async def _look(client: StoreClient, _: bytes, *, local: bool) -> object:
    return await client.read(local=local)


async def run(job: Job) -> Sample:
    """Connect, warm up, measure. Raises NotMeasurable and whatever the system's library raises."""
    payload = os.urandom(job.payload)
    async with client_of(job.client)(Where(job.endpoints, job.replicas)) as client:
        if job.workload in READS:
            await cast("StoreClient", client).prepare()
        warm_up = Load(payload, max(WARM_UP_MIN, job.count // WARM_UP_PART), WARM_UP_SECONDS, job.window)
        await _carry_out(client, job.workload, warm_up)
        load = Load(payload, job.count, job.seconds, job.window)
        meter = CpuMeter((*job.pids, os.getpid()))
        began_s = time.perf_counter()
        load.restart()
        messages, latency_ms = await _carry_out(client, job.workload, load)
        seconds = time.perf_counter() - began_s
        used = meter.used()
    return Sample(job.workload, job.window, messages, seconds, sum(used), used[-1], latency_ms)


def main(text: str) -> None:
    """Print a Sample as JSON, or why there is none."""
    try:
        sample = uvloop.run(run(Job.decoded(text)))
    except NotMeasurable as error:
        print(json.dumps({"not_measurable": str(error)}))  # noqa: T201 - the answer to who started us
        return
    except Exception as error:  # noqa: BLE001 - whatever a peer's library raises: one line for who started us
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    print(json.dumps(asdict(sample)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
