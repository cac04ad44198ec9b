"""A client that publishes until it is told to end, and says when its receipts came: `python -m bench.background JOB`.

With a rate it is an open loop: a message leaves when its time has come, whatever became of those before, and each is
tried again until it is acknowledged. Without one it publishes batches as fast as they are acknowledged (Ringcast only).

Commands on stdin, one a line; each is answered by one JSON object: `mark`, `gap` (since the mark), `where`,
`between A B` (acknowledged in that time), `end`. Times are of the clock that all processes share.
"""

import asyncio
import json
import os
import sys
import time
from bisect import bisect_left

import uvloop

from bench.clients import Client, Where, client_of
from bench.clients.ringcast import BATCH, RingcastClient
from bench.job import Job

#: Batches under way at full speed.
OVERLAP = 8
_RETRY_PAUSE_S = 0.005


class Acknowledged:
    """When receipts came, in order, and for how many messages each."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self._totals = [0]
        self._mark = 0
        self._mark_s = time.monotonic()

    def add(self, messages: int = 1) -> None:
        """Now."""
        self.times_s.append(time.monotonic())
        self._totals.append(self._totals[-1] + messages)

    @property
    def total(self) -> int:
        """Messages so far."""
        return self._totals[-1]

    def mark(self) -> None:
        """From here on `gap_s` counts; the time since the newest receipt counts too."""
        self._mark = len(self.times_s)
        self._mark_s = self.times_s[-1] if self.times_s else time.monotonic()

    def gap_s(self) -> tuple[float, int]:
        """The longest time between two receipts since the mark, and how many came; without any, the time until now."""
        since = self.times_s[self._mark :]
        if not since:
            return time.monotonic() - self._mark_s, 0
        return max(after - before for before, after in zip([self._mark_s, *since], since, strict=False)), len(since)

    def between(self, begin_s: float, end_s: float) -> int:
        """Messages acknowledged in that time."""
        return self._totals[bisect_left(self.times_s, end_s)] - self._totals[bisect_left(self.times_s, begin_s)]


async def _keep_trying(client: Client, payload: bytes, acknowledged: Acknowledged) -> None:
    while True:
        try:
            await client.publish(payload)
        except client.transient:
            await asyncio.sleep(_RETRY_PAUSE_S)
        else:
            acknowledged.add()
            return


async def _open_loop(client: Client, payload: bytes, rate: int, acknowledged: Acknowledged) -> None:
    async with asyncio.TaskGroup() as group:
        due_s = time.monotonic()
        while True:
            group.create_task(_keep_trying(client, payload, acknowledged))
            due_s += 1 / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def _full_speed(client: Client, payload: bytes, acknowledged: Acknowledged) -> None:
    assert isinstance(client, RingcastClient)

    async def work() -> None:
        while True:
            await client.publish_batch(payload)
            acknowledged.add(BATCH)

    async with asyncio.TaskGroup() as group:
        for _ in range(OVERLAP):
            group.create_task(work())


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _answer(line: str, client: Client, acknowledged: Acknowledged) -> dict[str, object]:
    command, *arguments = line.split()
    if command == "mark":
        acknowledged.mark()
    elif command == "gap":
        gap_s, receipts = acknowledged.gap_s()
        return {"gap_ms": gap_s * 1_000, "receipts": receipts}
    elif command == "where":
        return {"attached": client.attached(), "total": acknowledged.total}
    elif command == "between":
        begin_s, end_s = map(float, arguments)
        return {"messages": acknowledged.between(begin_s, end_s)}
    return {}


async def run(job: Job) -> None:
    """Publish and answer until `end`, or until stdin ends because whoever started us is gone."""
    where = Where(job.endpoints, job.replicas, leading=False)
    payload, acknowledged = os.urandom(job.payload), Acknowledged()
    async with client_of(job.client)(where) as client:
        loop = _open_loop(client, payload, job.rate, acknowledged) if job.rate else None
        publishing = asyncio.ensure_future(loop or _full_speed(client, payload, acknowledged))
        commands = await _stdin()
        while line := (await commands.readline()).decode().strip():
            if publishing.done():
                await publishing
            if line == "end":
                break
            print(json.dumps(_answer(line, client, acknowledged)), flush=True)  # noqa: T201
        publishing.cancel()
        await asyncio.wait({publishing})


if __name__ == "__main__":
    uvloop.run(run(Job.decoded(sys.argv[1])))
