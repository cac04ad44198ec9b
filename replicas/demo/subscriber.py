"""One subscriber process of the demo: connected to one replica alone, it digests what that replica delivers.

`python -m replicas.demo.subscriber ENDPOINT REPLICA IDS_FILE` writes JSON objects to stdout, one a line, now and then:
`{"delivered": n, "next_offset": n}`. Its stdin says one offset, the end: once everything below it has come, the ids of
all messages are in IDS_FILE, one a line and in order, and the last object has the `digest` too.
"""

import asyncio
import hashlib
import json
import math
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ringcast
from replicas.demo.publishers import TOPIC
from ringcast.types import unpack_headers

PROGRESS_INTERVAL_S = 0.1
DIGEST_BYTES = 16


class Received:
    """What came so far: a running digest over (offset, topic, payload) of each message, and the ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.next_offset = 0
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add(self, message: ringcast.Message) -> None:
        """Take one message. Lengths stand before texts, so that no two streams look the same."""
        topic = message.topic.encode()
        head = f"{message.offset}:{len(topic)}:{len(message.payload)}:".encode()
        self._hash.update(head + topic + message.payload)
        self.ids.append(str(unpack_headers(message.packed_headers).get("id")))
        self.next_offset = message.offset + 1

    def report(self, *, whole: bool) -> str:
        """One line of progress, with the digest if this is all."""
        progress: dict[str, int | str] = {"delivered": len(self.ids), "next_offset": self.next_offset}
        return json.dumps({**progress, "digest": self._hash.hexdigest()} if whole else progress)


async def _read_end(end: "asyncio.Future[int]") -> None:
    """The offset behind the last message, from stdin. Whoever started us is gone when stdin ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    end.set_result(int(line) if line.strip() else -1)


async def _report(received: Received) -> None:
    while True:
        await asyncio.sleep(PROGRESS_INTERVAL_S)
        print(received.report(whole=False), flush=True)  # noqa: T201 - the channel to the demo


async def _receive(endpoint: str, replica: int, received: Received, end: "asyncio.Future[int]") -> None:
    async with (
        ringcast.connect(endpoint, replica=replica, timeout=math.inf) as bus,
        bus.subscribe(TOPIC) as subscription,
    ):
        while not (end.done() and received.next_offset >= end.result()):
            batch = asyncio.create_task(subscription.next_batch())
            either: list[asyncio.Future[Any]] = [batch, end]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not batch.done() and received.next_offset >= end.result():
                batch.cancel()
                return
            for message in await batch:
                received.add(message)


async def _main(endpoint: str, replica: int, ids: Path) -> None:
    received = Received()
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    helpers = [asyncio.create_task(_read_end(end)), asyncio.create_task(_report(received))]
    try:
        await _receive(endpoint, replica, received, end)
    finally:
        for helper in helpers:
            helper.cancel()
    if end.result() < 0:
        return
    await asyncio.to_thread(ids.write_text, "".join(f"{name}\n" for name in received.ids), encoding="ascii")
    print(received.report(whole=True), flush=True)  # noqa: T201 - the channel to the demo


@dataclass(slots=True)
class Subscriber:
    """The handle of one subscriber process. `start` it, `finish` it, `close` it in any case."""

    replica: int
    endpoint: str
    ids_file: Path
    delivered: int = 0
    next_offset: int = 0
    digest: str = ""
    process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; what it has received so far is in `delivered`."""
        command = [sys.executable, "-P", "-m", "replicas.demo.subscriber"]
        self.process = await asyncio.create_subprocess_exec(
            *command,
            self.endpoint,
            str(self.replica),
            str(self.ids_file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self.process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            report = json.loads(line)
            self.delivered, self.next_offset = report["delivered"], report["next_offset"]
            self.digest = report.get("digest", "")

    async def finish(self, end: int, timeout_s: float) -> None:
        """Have it receive everything below offset `end`; without that in time, `digest` stays empty."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self._reading is not None
        self.process.stdin.write(f"{end}\n".encode())
        with suppress(TimeoutError, ConnectionError):
            await self.process.stdin.drain()
            await asyncio.wait_for(asyncio.shield(self._reading), timeout_s)

    def ids(self) -> list[str]:
        """The ids received, in order; empty before `finish`."""
        return self.ids_file.read_text(encoding="ascii").split() if self.ids_file.exists() else []

    async def close(self) -> None:
        """End the process."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if self._reading is not None:
            await asyncio.wait({self._reading})


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
