"""How fast a stored topic is read: `python -m bench.subscriber JOB` fills it, reads it twice, and prints the rates."""

import json
import os
import sys
import time

import uvloop

import ringcast
from bench.clients.ringcast import BATCH, TOPIC
from bench.job import Job

TIMEOUT_S = 120.0


async def run(job: Job) -> dict[str, object]:
    """Messages a second by `async for`, and by `.batches()` with their payloads unpacked."""
    payload = os.urandom(job.payload)
    # A topic of its own: what others published in other batches would count too.
    topic = f"{TOPIC}.stored.p{os.getpid()}"
    async with ringcast.connect(job.endpoints, timeout=TIMEOUT_S) as bus:
        async with bus.publisher(topic, batch_messages=BATCH) as publisher:
            for _ in range(job.count):
                await publisher.send(payload)
        by_message = await _by_message(bus, topic, job.count)
        by_batch = await _by_batch(bus, topic, job.count)
    return {"messages": job.count, "async_for_per_second": by_message, "batches_per_second": by_batch}


async def _by_message(bus: ringcast.Bus, topic: str, count: int) -> float:
    received = 0
    began_s = time.perf_counter()
    async with bus.subscribe(topic) as subscription:
        async for _ in subscription:
            received += 1
            if received >= count:
                break
    return received / (time.perf_counter() - began_s)


async def _by_batch(bus: ringcast.Bus, topic: str, count: int) -> float:
    received = 0
    began_s = time.perf_counter()
    async with bus.subscribe(topic) as subscription:
        async for batch in subscription.batches():
            received += len(batch.payloads())
            if received >= count:
                break
    return received / (time.perf_counter() - began_s)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Job.decoded(sys.argv[1])))))  # noqa: T201 - the answer to who started us
