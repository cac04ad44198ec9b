"""What a replica of the product store says of its health: /readyz and its metrics."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from replicas.health import Checks
from replicas.metrics import Histogram, counters, disk_space, dropped, events, gauges
from replicas.products.gateway import ProductGateway
from replicas.products.member import ProductMember
from ringcast.errors import NotLeader
from store.aside import told


def readiness(member: ProductMember) -> Mapping[str, object]:
    """Ready: it leads, or follows a leader that it knows; a client is served, or sent to whoever serves it."""
    trouble, state = member.trouble(), member.node.state
    ready = (trouble is None or isinstance(trouble, NotLeader)) and state.standing.settled
    ready = ready and not state.full and not state.filling.distrusted
    return {
        "ready": ready,
        "state": member.state,
        "why": None if ready else member.state if state.full or state.filling.distrusted else str(trouble),
        "advice": member.advice(),
        "member": member.node.member,
        "cluster": f"{state.cluster:016x}",
    }


def checks(member: ProductMember) -> Checks:
    """What `/readyz?verbose` lists."""
    state, trouble, damage = member.node.state, member.trouble(), member.damage()
    return {
        "disk": "no space (D5)" if state.full else None,
        "tables": f"damaged, to be filled again (R24): {damage}" if damage else None,
        "folder": told(member.asides.found) if any(one.pending for one in member.asides.found) else None,
        "standing": None if state.standing.settled else "its disk is not proven yet: no vote",
        "membership": None if state.log.members.find(member.node.member) is not None else "not a member",
        "leader": None if trouble is None or isinstance(trouble, NotLeader) else str(trouble),
    }


class ProductTimings:
    """How long changes and syncs take, measured where it happens."""

    def __init__(self) -> None:
        self.change = Histogram()
        self.sync = Histogram()


class ProductMetrics(Collector):
    """Read from the member when asked for; nothing is counted twice."""

    def __init__(
        self,
        member: ProductMember,
        gateway: ProductGateway,
        timings: ProductTimings,
        counts: Callable[[], Mapping[str, Mapping[str, float]]],
    ) -> None:
        self._member = member
        self._gateway = gateway
        self._timings = timings
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Every metric, labelled with the member."""
        found, labels = self._member.node.status(), {"member": str(self._member.node.member)}
        file = self._member.store.file_size()
        yield from gauges(
            labels,
            {
                "ready": ("1 if /readyz says yes", int(bool(readiness(self._member)["ready"]))),
                "products_leads": ("1 if this member leads", int(found.role == "leader")),
                "products_leader": ("the member that leads, 0 if none is known", found.leader or 0),
                "products_clock_offset_seconds": (
                    "this member's wall clock less what the clocks of a quorum say; 0 while they are not known (D7)",
                    (self._member.node.time.offset_us() or 0) / 1e6,
                ),
                "products_term": ("the term", found.term),
                "products_voters": ("voters of the newest configuration", len(found.members.voters)),
                "products_log_last": ("index of the newest entry", found.last),
                "products_commit": ("index up to which entries are committed", found.commit),
                "products_applied": ("index up to which the tables can be read", found.visible),
                "products_lag_entries": (
                    "committed entries that cannot be read yet",
                    max(0, found.commit - found.visible),
                ),
                "products_log_entries": ("entries kept in the log", found.last - found.base),
                "products_log_bytes": ("bytes of the log on disk", self._member.store.log_bytes()),
                "products_file_bytes": ("the database file, which never shrinks", file.size_bytes),
                "products_file_free_bytes": (
                    "of them, pages that hold nothing (`ringcast compact`)",
                    file.free_bytes,
                ),
                "products_clients": ("connected clients", self._gateway.connections),
                "products_unanswered_bytes": ("bytes of requests without an answer", self._gateway.bytes),
                "products_state_damaged": (
                    "1 while its tables are damaged (R24)",
                    int(bool(found.distrusted or self._member.node.suspected)),
                ),
                "folders_set_aside": (
                    "folders that were set aside and are still there",
                    len(self._member.asides.found),
                ),
                "products_disk_full": ("1 while there is no space (D5)", int(found.full)),
            },
        )
        yield from self._member.scrubber.metrics(labels)
        groups = self._counts()
        yield events(labels, groups)
        yield dropped(labels, groups)
        raft, gateway = groups["raft"], groups["gateway"]
        yield from counters(
            labels,
            {
                "products_elections": ("elections that this member began", raft.get("elections", 0)),
                "products_led": ("elections that this member won", raft.get("led", 0)),
                "products_entries": ("entries that this member proposed", gateway.get("entries", 0)),
                "products_refused": ("requests that were refused with a typed error", gateway.get("refused", 0)),
                "products_overloaded": ("requests beyond what may be unanswered", gateway.get("overloaded", 0)),
            },
        )
        change = "From proposing an entry until its outcome, on the leader"
        yield self._timings.change.family("products_change_seconds", change, labels)
        yield self._timings.sync.family("products_sync_seconds", "A synced commit", labels)
        yield from disk_space(labels, self._member.store.path)
