"""`/livez /readyz /metrics` over HTTP/1.0, in the replica's own loop.

Live: the loop turns; it never looks at the quorum, or an orchestrator would kill healthy members of a ring that lost
one. Ready: the member can order and acknowledge now. Three fixed paths and no request body: an HTTP framework would be
the largest part of the process.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from replicas.accepted_loss import advice
from replicas.shell import Shell

REQUEST_BYTES_MAX = 8 << 10
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64


class ShellMetrics(Collector):
    """Read from the shell when asked for; nothing is counted twice."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def collect(self) -> Iterable[Metric]:
        """Every metric, labelled with ring and member."""
        shell = self._shell
        labels = {"ring": str(shell.config.ring), "member": str(shell.config.id)}
        status = shell.core.status()
        view = status.view
        gauges = {
            "in_quorum": ("1 if this member can acknowledge now", int(status.in_quorum)),
            "view": ("counter of the installed view", view.number.counter if view else 0),
            "ring_members": ("members in the ring of the installed view", len(view.ring) if view else 0),
            "log_end_slots": ("slots in the log", status.end),
            "committed_slots": ("slots that are committed", status.commit),
            "log_first_slot": ("first slot that is kept", shell.store.bounds()[0]),
            "log_bytes": ("bytes of the log on disk", shell.store.log_bytes()),
            "next_offset": ("messages delivered here, ever", shell.machine.topics.next_offset),
            "writer_backlog_bytes": ("bytes that wait for the disk", shell.disk.backlog_bytes),
            "clients": ("connected clients", shell.gateway.connections if shell.gateway else 0),
            "peers_connected": (
                "peers whose connection stands",
                len(shell.transport.connected) if shell.transport else 0,
            ),
            "disk_full": ("1 while there is no space (D5)", int(status.disk_full)),
        }
        for name, (text, value) in gauges.items():
            family = GaugeMetricFamily(f"ringcast_{name}", text, labels=list(labels))
            family.add_metric(list(labels.values()), value)
            yield family
        yield from self._counters(labels)

    def _counters(self, labels: Mapping[str, str]) -> Iterator[Metric]:
        shell = self._shell
        groups: dict[str, Mapping[str, float]] = {"shell": shell.counters}
        if shell.transport is not None:
            groups["transport"] = shell.transport.counters
        if shell.gateway is not None:
            groups["gateway"] = shell.gateway.counters
        if shell.feed is not None:
            groups["feed"] = shell.feed.counters
        family = CounterMetricFamily(
            "ringcast_events", "What happened, by part and name", labels=[*labels, "part", "name"]
        )
        for part, counters in groups.items():
            for name, value in counters.items():
                family.add_metric([*labels.values(), part, name], value)
        yield family
        for part, of, counts in (
            ("disk", "Group commits", shell.disk.counts),
            ("journal", "Records of the journal", shell.disk.journaled),
        ):
            for name, value in (
                ("commits", counts.commits),
                ("written_bytes", counts.written_bytes),
                ("commit_seconds", counts.commit_seconds),
            ):
                single = CounterMetricFamily(f"ringcast_{part}_{name}", f"{of}: {name}", labels=list(labels))
                single.add_metric(list(labels.values()), value)
                yield single


class HealthServer:
    """A listener for the three paths. `close()` it."""

    def __init__(self, shell: Callable[[], Shell]) -> None:
        self._shell = shell
        self._registry = CollectorRegistry()
        self._registry.register(_Late(lambda: ShellMetrics(shell())))
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
        shell = self._shell()
        trouble = shell.unready()
        answer = {
            "ready": trouble is None,
            "state": shell.state,
            "why": str(trouble) if trouble else None,
            "advice": advice(shell.core),
            "member": shell.config.id,
            "cluster": f"{shell.cluster():016x}",
        }
        return (503 if trouble else 200), json.dumps(answer).encode() + b"\n", "application/json"


class _Late(Collector):
    """A collector that is made when it is asked: the shell's parts change with a restart of the core."""

    def __init__(self, make: Callable[[], Collector]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        """What the present one says."""
        return self._make().collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing at registration: there may be no shell yet."""
        return ()


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _response(status: int, body: bytes, kind: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
