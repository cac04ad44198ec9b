"""The page over real HTTP on loopback: headers, GET alone, framing, and readers that are slow or go."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from replicas.dashboard import app as dashboard_app
from replicas.dashboard.app import HEADERS, EventStream, frame
from replicas.dashboard.board import Board
from replicas.dashboard.serving import AddressTaken, Place, listen
from replicas.settings import ConfigError
from tests.dashboard.nouns import gone, snapshot
from tests.dashboard.serving import served


@pytest.fixture
def board() -> Board:
    found = Board("cluster.json", "")
    found.look(snapshot(), 1)
    return found


@pytest.fixture
async def client(board: Board) -> AsyncIterator[httpx.AsyncClient]:
    """Of a server on a free port."""
    async with served(board) as url, httpx.AsyncClient(base_url=url, timeout=10) as found:
        yield found


async def test_the_page_and_its_files(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert {"dashboard.js", "dashboard.css", "icon.svg"} <= named
    for name in (*named, "ring.js", "charts.js", "tables.js", "format.js"):
        found = await client.get(f"/{name}")
        assert found.status_code == 200, name
        assert "://" not in found.text.replace("http://www.w3.org/2000/svg", ""), f"{name} names another place"
        for imported in re.findall(r'from "\./([^"]+)"', found.text):
            assert (await client.get(f"/{imported}")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/dashboard.js", "/events", "/nothing"])
async def test_every_answer_has_the_headers(client: httpx.AsyncClient, path: str) -> None:
    async with client.stream("GET", path) as found:
        assert {name: found.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in found.headers or found.headers["server"] == "uvicorn"
    assert "'unsafe-inline'" not in HEADERS["content-security-policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/events", "/nothing"])
async def test_only_get(client: httpx.AsyncClient, method: str, path: str) -> None:
    found = await client.request(method, path)
    assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


async def test_head_of_the_stream_ends(client: httpx.AsyncClient) -> None:
    found = await client.head("/events")
    assert (found.status_code, found.content) == (200, b"")


@pytest.mark.parametrize("path", ["/nothing", "/..%2fapp.py", "/%2e%2e/app.py", "/__init__.py"])
async def test_there_is_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_another_name_is_refused(client: httpx.AsyncClient) -> None:
    """A DNS name of somebody that leads to 127.0.0.1 must not let their page read this one."""
    for host, status in (("evil.example", 421), ("evil.example:80", 421), ("localhost:1234", 200), ("127.0.0.1", 200)):
        assert (await client.get("/", headers={"host": host})).status_code == status, host


async def test_the_stream_is_framed_and_carries_what_is_new(client: httpx.AsyncClient, board: Board) -> None:
    async with client.stream("GET", "/events") as found:
        assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = found.aiter_lines()
        assert [await anext(lines) for _ in range(3)] == ["retry: 1000", "", "id: 1"]
        first = json.loads((await anext(lines)).removeprefix("data: "))
        assert (first["first"], first["health"]) == (True, "healthy")
        assert not await anext(lines)
        board.look(snapshot(gone(2)), 2)
        assert await anext(lines) == "id: 2"
        second = json.loads((await anext(lines)).removeprefix("data: "))
        assert [event["subject"] for event in second["events"]] == ["replica 2", "bus"]
        board.close()
        assert not [line async for line in lines if line]


def test_a_frame_is_one_line_whatever_it_holds() -> None:
    assert frame({"text": "two\nlines\r"}, 7) == b'id: 7\ndata: {"text":"two\\nlines\\r"}\n\n'


class Reader:
    """An ASGI server's side of one request. `stuck`: it takes nothing."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self._stuck = stuck

    async def send(self, message: Any) -> None:
        if self._stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        self.sent.append(message)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a reader or the stream moves on
            await asyncio.sleep(0.005)


async def test_a_reader_that_goes_is_forgotten(board: Board) -> None:
    stream, reader = EventStream(board), Reader()
    running = asyncio.create_task(stream({"type": "http", "method": "GET"}, reader.receive, reader.send))
    await until(lambda: stream.readers == 1 and len(reader.sent) == 3)
    reader.gone.set()
    await asyncio.wait_for(running, 10)
    assert stream.readers == 0


async def test_a_reader_that_takes_nothing_is_cut_and_holds_nobody_up(board: Board) -> None:
    stream, stuck, well = EventStream(board, send_timeout_s=0.05), Reader(stuck=True), Reader()
    scope = {"type": "http", "method": "GET"}
    cut = asyncio.create_task(stream(scope, stuck.receive, stuck.send))
    running = asyncio.create_task(stream(scope, well.receive, well.send))
    await until(lambda: len(well.sent) == 3)
    board.look(snapshot(), 2)
    await until(lambda: len(well.sent) == 4)
    await asyncio.wait_for(cut, 10)
    assert stream.readers == 1
    board.close()
    await asyncio.wait_for(running, 10)
    assert well.sent[-1] == {"type": "http.response.body", "body": b""}


async def test_a_slow_reader_skips_looks_but_no_events(board: Board) -> None:
    stream, reader, free = EventStream(board), Reader(), asyncio.Event()

    async def send(message: Any) -> None:
        if len(reader.sent) == 3:
            await free.wait()
        await reader.send(message)

    running = asyncio.create_task(stream({"type": "http", "method": "GET"}, reader.receive, send))
    await until(lambda: len(reader.sent) == 3)
    for number in range(20):
        board.look(snapshot(gone(3)) if number % 2 == 0 else snapshot(), number)
        await asyncio.sleep(0)
    free.set()
    await until(lambda: b'"number":40' in reader.sent[-1].get("body", b""))
    assert len(reader.sent) <= 6
    told = [json.loads(one["body"].partition(b"data: ")[2]) for one in reader.sent[2:]]
    assert [event["number"] for document in told for event in document["events"]] == list(range(1, 41))
    reader.gone.set()
    await asyncio.wait_for(running, 10)


async def test_there_are_so_many_readers_and_no_more(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_app, "READERS_MAX", 0)
    reader = Reader()
    await EventStream(board)({"type": "http", "method": "GET"}, reader.receive, reader.send)
    assert reader.sent[0]["status"] == 503


def test_a_taken_port_says_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressTaken, match=rf"127\.0\.0\.1:{port}: Address already in use; .*--port 0"):
            listen("127.0.0.1", port)


def test_what_is_no_address_is_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"--host 'not an address' is no address"):
        listen("not an address", 0)


def test_names_are_checked_on_loopback_alone() -> None:
    assert Place("127.0.0.1", 80).names == ("localhost", "127.0.0.1")
    assert Place("0.0.0.0", 80).names == ()
    assert Place("::1", 8080).url == "http://[::1]:8080/"
