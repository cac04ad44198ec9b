"""What an interface replica says of its health: /readyz and its metrics."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.security import Security
from replicas.market.gateway import MarketGateway
from replicas.metrics import counters, dropped, events, gauges
from ringcast.errors import RingcastError


def readiness(party: str, member: int, cluster: int, trouble: RingcastError | None) -> Mapping[str, object]:
    """Ready: both databases answered a moment ago."""
    return {
        "ready": trouble is None,
        "state": "serving" if trouble is None else "waiting for the databases",
        "why": None if trouble is None else str(trouble),
        "party": party,
        "member": member,
        "cluster": f"{cluster:016x}",
    }


class MarketMetrics(Collector):
    """Read from the gateway when asked for; nothing is counted twice."""

    def __init__(
        self,
        gateway: MarketGateway,
        labels: Mapping[str, str],
        trouble: Callable[[], object],
        security: Security | None,
    ) -> None:
        self._gateway = gateway
        self._security = security
        self._labels = labels
        self._trouble = trouble

    def collect(self) -> Iterable[Metric]:
        """Every metric, labelled with party and member."""
        gateway, labels = self._gateway, self._labels
        purchases = gateway.purchases
        yield from gauges(
            labels,
            {
                "ready": ("1 if /readyz says yes", int(self._trouble() is None)),
                "market_clients": ("connected clients", gateway.connections),
                "market_busy": ("calls and questions under way", gateway.busy),
            },
        )
        groups: dict[str, Mapping[str, float]] = {"gateway": gateway.counters}
        if self._security is not None:
            groups["security"] = self._security.all_counters()
        yield events(labels, groups)
        yield dropped(labels, groups)
        yield from counters(
            labels,
            {
                f"market_orders_{name}": (f"orders that this interface has {name}", count)
                for name, count in purchases.counters.items()
            },
        )
        yield _function_seconds(gateway, labels)


def _function_seconds(gateway: MarketGateway, labels: Mapping[str, str]) -> Metric:
    family = HistogramMetricFamily(
        "ringcast_market_function_seconds",
        "From a call's arrival until its outcome, by function",
        labels=[*labels, "function"],
    )
    for name, histogram in list(gateway.seconds.items()):
        (single,) = (histogram.family("x", "x", {**labels, "function": name}),)
        family.samples += [one._replace(name=one.name.replace("ringcast_x", family.name)) for one in single.samples]
    return family
