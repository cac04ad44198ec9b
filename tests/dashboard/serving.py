"""`ringcast dashboard` as a process, and its stream as a reader sees it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from replicas.dashboard.app import make_app
from replicas.dashboard.board import Board
from replicas.dashboard.serving import _Server, listen

COMMAND = (str(Path(sys.executable).parent / "ringcast"), "dashboard", "--json")


@contextmanager
def dashboard(*arguments: str) -> Iterator[str]:
    """Its URL, as it prints it; SIGTERM ends it, with 0."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait(10)}"
        yield str(json.loads(line)["url"])
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Stream:
    """The newest document, and all events and points so far."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.points: list[list[float | None]] = []
        self._changed = asyncio.Event()

    def take(self, document: dict[str, Any]) -> None:
        """As the page does it."""
        self.state = document
        self.events += document["events"]
        self.points += document["points"]
        self._changed.set()

    async def event(self, kind: str, subject: str, after: int = 0) -> dict[str, Any]:
        """Wait for one with a number above `after`."""
        return await self._first(lambda one: (one["kind"], one["subject"]) == (kind, subject) and one["number"] > after)

    async def told(self, kind: str, text: str) -> dict[str, Any]:
        """Wait for one that says this."""
        return await self._first(lambda one: one["kind"] == kind and text in one["text"])

    async def _first(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 30.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            while True:
                for one in self.events:
                    if wanted(one):
                        return one
                self._changed.clear()
                await self._changed.wait()

    async def until(self, health: str, timeout_s: float = 30.0) -> None:
        """Wait until the cluster is that."""
        async with asyncio.timeout(timeout_s):
            while self.state.get("health") != health:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Stream]:
    """Read /events in the background."""
    found = Stream()

    async def read() -> None:
        async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", f"{url}events") as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    found.take(json.loads(line.removeprefix("data: ")))

    task = asyncio.create_task(read())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def served(board: Board) -> AsyncIterator[str]:
    """The URL of a page in this process that shows what `board` is told."""
    listener, place = listen("127.0.0.1", 0)
    server = _Server(uvicorn.Config(make_app(board, place.names), log_config=None, lifespan="off", ws="none"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield place.url
    finally:
        board.close()
        server.should_exit = True
        await running
        listener.close()
