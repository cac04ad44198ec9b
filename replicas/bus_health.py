"""What a bus replica says of its health: /readyz and its metrics."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from replicas.accepted_loss import advice
from replicas.health import events, gauges
from replicas.shell import Shell


def readiness(shell: Shell) -> Mapping[str, object]:
    """Ready: the member can order and acknowledge now."""
    trouble = shell.unready()
    return {
        "ready": trouble is None,
        "state": shell.state,
        "why": str(trouble) if trouble else None,
        "advice": advice(shell.core),
        "member": shell.config.id,
        "cluster": f"{shell.cluster():016x}",
    }


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
        found = {
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
        yield from gauges(labels, found)
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
        yield events(labels, groups)
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
