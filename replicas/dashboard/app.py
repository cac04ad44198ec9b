"""The page and its stream over HTTP: GET alone, nothing from elsewhere, and no address that does anything."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from replicas.dashboard.board import Board, Seen

READERS_MAX = 32
#: A page that took nothing for so long is gone or asleep; when it wakes, it connects again by itself.
SEND_TIMEOUT_S = 10.0
#: What EventSource waits before it connects again.
RETRY_MS = 1_000

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def make_app(board: Board, hosts: Sequence[str] = ()) -> ASGIApp:
    """The page at /, its files beside it, the stream at /events. `hosts`: names that it answers to; none: to any."""
    pages = {
        path.name: path.read_bytes() for path in (files("replicas.dashboard") / "page").iterdir() if path.is_file()
    }
    assert "index.html" in pages

    def page(request: Request) -> Response:
        name = str(request.path_params.get("name", "index.html"))
        content = pages.get(name)
        if content is None:
            return PlainTextResponse("not here: the page is at /\n", status_code=404)
        return Response(content, media_type=KINDS["." + name.rpartition(".")[2]])

    routes = [Route("/", page), Route("/events", EventStream(board)), Route("/{name}", page)]
    return Guard(Starlette(routes=routes), hosts)


class Guard:
    """Before everything else: GET and HEAD alone, our own names alone, and the same headers on every answer.

    Without the names anybody's page could, by a DNS name that comes to mean 127.0.0.1, read what only this machine may.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *ours]}
            await send(message)

        await self._answer(scope)(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> ASGIApp:
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("only GET: this page changes nothing\n", 405, {"allow": "GET, HEAD"})
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._hosts and _name(host) not in self._hosts:
            return PlainTextResponse(f"this page answers to {', '.join(sorted(self._hosts))} alone\n", 421)
        return self._app


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


class EventStream:
    """Server-sent events: each is all that is new to this reader, as one JSON document."""

    def __init__(self, board: Board, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._board = board
        self._send_timeout_s = send_timeout_s
        self.readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self.readers >= READERS_MAX:
            full = PlainTextResponse(f"{READERS_MAX} pages are open: close one\n", 503, {"retry-after": "5"})
            await full(scope, receive, send)
            return
        kind = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self.readers += 1
        gone = asyncio.create_task(_until_gone(receive))
        try:
            with suppress(TimeoutError, OSError):
                await self._tell(send, gone)
        finally:
            self.readers -= 1
            gone.cancel()

    async def _tell(self, send: Send, gone: "asyncio.Task[None]") -> None:
        """Until the reader is gone, or takes nothing (TimeoutError), or the board is closed."""
        board, seen = self._board, Seen()
        await self._send(send, f"retry: {RETRY_MS}\n\n".encode())
        while not gone.done() and not board.closed:
            document, seen = board.news(seen)
            await self._send(send, frame(document, seen.version))
            newer = asyncio.create_task(board.newer(seen))
            try:
                await asyncio.wait({gone, newer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                newer.cancel()
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def frame(document: object, number: int) -> bytes:
    """One event. JSON has no bare line feed, so the data is one line."""
    return f"id: {number}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n".encode()
