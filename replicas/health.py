"""`/livez /readyz /startupz /metrics` over HTTP/1.0, in the replica's own loop.

Live: the loop turns; it never looks at the quorum, or an orchestrator would kill healthy members of a group that lost
one. Started: the data folder is open and every address bound; this server is the last thing that starts. Ready: the
member serves now, as its role understands it. `?verbose` names each check, one a line, as Kubernetes does. Four fixed
paths and no request body: an HTTP framework would be the largest part of the process.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from replicas import supervisor
from replicas.limits import GuardMetrics

REQUEST_BYTES_MAX = 8 << 10
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64


#: A check by name: None if it is well, else why not.
Checks = Mapping[str, str | None]


class HealthServer:
    """A listener for the four paths. `ready`: the JSON of /readyz, 200 if its `ready` is true. `close()` it.

    `checks`: what `?verbose` lists. `role`: for the metric `ringcast_build_info`.
    """

    def __init__(
        self,
        ready: Callable[[], Mapping[str, object]],
        metrics: Callable[[], Collector],
        *,
        role: str = "bus",
        checks: Callable[[], Checks] = dict,
    ) -> None:
        self._answer_ready = ready
        self._checks = checks
        self._registry = CollectorRegistry()
        self._registry.register(_Late(metrics))
        self._registry.register(_Build(role))
        self._registry.register(_Restarts())
        self._registry.register(GuardMetrics())
        ProcessCollector(registry=self._registry)
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
        path, _, query = rest.partition(b" ")[0].partition(b"?")
        verbose = query.partition(b"=")[0] == b"verbose"
        if method not in {b"GET", b"HEAD"}:
            return _response(405, b"only GET\n")
        body: tuple[int, bytes, str]
        if path == b"/livez":
            body = _verbose(200, "livez", {"loop": None}) if verbose else (200, b"live\n", "text/plain")
        elif path == b"/startupz":
            started: Checks = {"data folder": None, "addresses": None}
            body = _verbose(200, "startupz", started) if verbose else (200, b"started\n", "text/plain")
        elif path == b"/readyz":
            body = self._ready(verbose=verbose)
        elif path == b"/metrics":
            body = (200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
        else:
            body = (404, b"paths: /livez /readyz /startupz (each with ?verbose) /metrics\n", "text/plain")
        status, content, kind = body
        return _response(status, content if method == b"GET" else b"", kind)

    def _ready(self, *, verbose: bool) -> tuple[int, bytes, str]:
        answer = {**self._answer_ready(), **supervisor.report()}
        status = 200 if answer["ready"] else 503
        if verbose:
            why = None if answer["ready"] else str(answer["why"])
            return _verbose(status, "readyz", {**self._checks(), "serving": why})
        return status, json.dumps(answer).encode() + b"\n", "application/json"


def _verbose(status: int, name: str, checks: Checks) -> tuple[int, bytes, str]:
    """`[+]` is well, `[-]` is not, and why."""
    lines = [f"[+] {check} ok" if why is None else f"[-] {check}: {why}" for check, why in checks.items()]
    lines.append(f"{name} check {'passed' if status == 200 else 'failed'}")
    return status, "\n".join(lines).encode() + b"\n", "text/plain; charset=utf-8"


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


class _Build(Collector):
    """Which program this is, as a metric that is always 1."""

    def __init__(self, role: str) -> None:
        self._role = role

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("ringcast_build_info", "always 1", labels=["version", "role"])
        family.add_metric([version("ringcast"), self._role], 1)
        yield family


class _Restarts(Collector):
    """What the supervisor of this process has done; both are there before there was any, so that alerts can compare."""

    def collect(self) -> Iterable[Metric]:
        found = supervisor.restarts()
        count = CounterMetricFamily("ringcast_restarts", "How often the supervisor started this replica again")
        count.add_metric([], found.times)
        last = GaugeMetricFamily(
            "ringcast_last_restart_timestamp_seconds", "When it did so last, and why; 0: never", labels=["reason"]
        )
        last.add_metric([found.reason], found.at_us / 1e6)
        yield from (count, last)


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _response(status: int, body: bytes, kind: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
