"""What the guard of this process (broker/guard.py) has to say: in status, at doctor's, and as metrics."""

import os
import time
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.guard import Guard
from ringcast.strict import Plain

#: How long a cut is told of.
RECENT_S = 60.0
#: Of the descriptors that clients may take.
DESCRIPTORS_HIGH = 0.9
#: Why a connection is cut (broker/ports.py, guard.py).
CUT_REASONS = ("connection_bytes", "port_bytes", "memory_bytes", "parts", "descriptors")

_guards: list[Guard] = []


def guarded_by(guard: Guard) -> None:
    """The one that this process has from now on."""
    _guards[:] = [guard]


def report() -> dict[str, Plain]:
    """For status: `limits`, a sentence for each limit that is reached, or was within the last minute."""
    return {"limits": tuple(sentence for guard in _guards for sentence in _sentences(guard))}


def _sentences(guard: Guard) -> Iterable[str]:
    limits, now_s = guard.limits, time.monotonic()
    open_now, for_clients = descriptors(), limits.descriptors - limits.reserve
    recent = guard.recent_cuts(now_s, RECENT_S)
    refused = any(why == "descriptors" for _, why in recent)
    if refused or open_now > for_clients * DESCRIPTORS_HIGH:
        then = "new clients are refused" if refused else "new clients will be refused"
        yield (
            f"{open_now} of {limits.descriptors} file descriptors are open, and {limits.reserve} of them are kept for "
            f"peers and HTTP (descriptor_reserve): {then}; raise RLIMIT_NOFILE"
        )
    for (port, why), count in recent.items():
        if why != "descriptors":
            yield f"{count} connections of the port {port} were cut within a minute, beyond {why}; the log names them"
    high = limits.memory_bytes * 3 // 4
    if guard.memory_bytes > high:
        yield (
            f"{guard.memory_bytes >> 20} MiB of memory are in use, above three quarters of memory_bytes "
            f"({limits.memory_bytes >> 20} MiB): the connections that hold most are cut"
        )


def descriptors() -> int:
    """How many file descriptors this process has open; 0 if it has none left to look."""
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    except OSError:
        return 0


class GuardMetrics(Collector):
    """Memory, connections and cuts, by port. Open descriptors are `process_open_fds` and `process_max_fds`."""

    def collect(self) -> Iterable[Metric]:
        for guard in _guards:
            used = GaugeMetricFamily("ringcast_memory_bytes", "Resident memory that is no file's")
            used.add_metric([], guard.memory_bytes)
            limit = GaugeMetricFamily("ringcast_memory_limit_bytes", "The setting memory_bytes")
            limit.add_metric([], guard.limits.memory_bytes)
            connections = GaugeMetricFamily("ringcast_connections", "Connections of a port", labels=["port"])
            unread = GaugeMetricFamily("ringcast_unread_bytes", "What came and was not read yet", labels=["port"])
            cut = CounterMetricFamily("ringcast_connections_cut", "By port and limit", labels=["port", "reason"])
            for port in guard.ports:
                connections.add_metric([port.name], len(port.connections))
                unread.add_metric([port.name], port.held)
                for why in CUT_REASONS:
                    cut.add_metric([port.name, why], port.counters[f"cut_{why}"])
            yield from (used, limit, connections, unread, cut)
