"""`/livez /readyz /metrics` over HTTP/1.0, in the replica's own loop.

Live: the loop turns; it never looks at the quorum, or an orchestrator would kill healthy members of a group that lost
one. Ready: the member serves now, as its role understands it. Three fixed paths and no request body: an HTTP framework
would be the largest part of the process.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

REQUEST_BYTES_MAX = 8 << 10
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64


def gauges(labels: Mapping[str, str], values: Mapping[str, tuple[str, float]]) -> Iterable[Metric]:
    """Families of one value each: name -> (text, value)."""
    for name, (text, value) in values.items():
        family = GaugeMetricFamily(f"ringcast_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        yield family


def events(labels: Mapping[str, str], groups: Mapping[str, Mapping[str, float]]) -> Metric:
    """The counters of each part."""
    family = CounterMetricFamily("ringcast_events", "What happened, by part and name", labels=[*labels, "part", "name"])
    for part, counters in groups.items():
        for name, value in counters.items():
            family.add_metric([*labels.values(), part, name], value)
    return family


class HealthServer:
    """A listener for the three paths. `ready`: the JSON of /readyz, 200 if its `ready` is true. `close()` it."""

    def __init__(self, ready: Callable[[], Mapping[str, object]], metrics: Callable[[], Collector]) -> None:
        self._answer_ready = ready
        self._registry = CollectorRegistry()
        self._registry.register(_Late(metrics))
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self, host: str, port: int) -> str:
        """Bind; returns host:port with the port that was given. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES_MAX)
        found = self._server.sockets[0].getsockname()
        return f"{host}:{found[1]}"

    def close(self) -> None:
        """Stop to listen."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > CONNECTIONS_MAX:
                return
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return  # whoever it was speaks no HTTP, or is gone
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _response(405, b"only GET\n")
        body: tuple[int, bytes, str]
        if path == b"/livez":
            body = (200, b"live\n", "text/plain")
        elif path == b"/readyz":
            body = self._ready()
        elif path == b"/metrics":
            body = (200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
        else:
            body = (404, b"paths: /livez /readyz /metrics\n", "text/plain")
        status, content, kind = body
        return _response(status, content if method == b"GET" else b"", kind)

    def _ready(self) -> tuple[int, bytes, str]:
        answer = self._answer_ready()
        return (200 if answer["ready"] else 503), json.dumps(answer).encode() + b"\n", "application/json"


class _Late(Collector):
    """A collector that is made when it is asked: the replica's parts may change."""

    def __init__(self, make: Callable[[], Collector]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        """What the present one says."""
        return self._make().collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing at registration: the parts may not be there yet."""
        return ()


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _response(status: int, body: bytes, kind: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
