"""What a replica of the product store says of its health: /readyz and its metrics."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from replicas.health import events, gauges
from replicas.products_gateway import ProductGateway
from replicas.products_member import ProductMember
from ringcast.errors import NotLeader


def readiness(member: ProductMember) -> Mapping[str, object]:
    """Ready: it leads, or follows a leader that it knows; a client is served, or sent to whoever serves it."""
    trouble, state = member.trouble(), member.node.state
    ready = (trouble is None or isinstance(trouble, NotLeader)) and state.standing.settled and not state.full
    return {
        "ready": ready,
        "state": member.state,
        "why": None if ready else str(trouble),
        "member": member.node.member,
        "cluster": f"{state.cluster:016x}",
    }


class ProductMetrics(Collector):
    """Read from the member when asked for; nothing is counted twice."""

    def __init__(
        self, member: ProductMember, gateway: ProductGateway, counters: Callable[[], Mapping[str, Mapping[str, float]]]
    ) -> None:
        self._member = member
        self._gateway = gateway
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        """Every metric, labelled with the member."""
        found, labels = self._member.node.status(), {"member": str(self._member.node.member)}
        yield from gauges(
            labels,
            {
                "products_leads": ("1 if this member leads", int(found.role == "leader")),
                "products_leader": ("the member that leads, 0 if none is known", found.leader or 0),
                "products_term": ("the term", found.term),
                "products_voters": ("voters of the newest configuration", len(found.members.voters)),
                "products_log_last": ("index of the newest entry", found.last),
                "products_commit": ("index up to which entries are committed", found.commit),
                "products_applied": ("index up to which the tables can be read", found.visible),
                "products_log_entries": ("entries kept in the log", found.last - found.base),
                "products_log_bytes": ("bytes of the log on disk", self._member.store.log_bytes()),
                "products_clients": ("connected clients", self._gateway.connections),
                "products_unanswered_bytes": ("bytes of requests without an answer", self._gateway.bytes),
                "products_disk_full": ("1 while there is no space (D5)", int(found.full)),
            },
        )
        yield events(labels, self._counters())
