"""Whom NetworkPolicies let in, as a cluster would read them (kubernetes.io, "Network Policies": ingress)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.project.manifests import Document

Labels = Mapping[str, str]


class Pod(NamedTuple):
    """One that wants to connect. `namespace`: the labels of its namespace."""

    labels: Labels
    namespace: Labels


def open_ports(policies: Iterable[Document], target: Labels, namespace: Labels, asking: Pod) -> set[int] | None:
    """The ports of the pod `target` that `asking` reaches; None if no policy selects it: all are open."""
    own = [one for one in policies if _selects(one["spec"]["podSelector"], target)]
    if not own:
        return None
    return {
        port["port"]
        for policy in own
        for rule in policy["spec"].get("ingress", [])
        if any(_is_peer(peer, namespace, asking) for peer in rule["from"])
        for port in rule["ports"]
    }


def _is_peer(peer: Document, namespace: Labels, asking: Pod) -> bool:
    """Both selectors of one entry have to hold; without one for namespaces it speaks of the policy's own."""
    if "namespaceSelector" in peer:
        there = _selects(peer["namespaceSelector"], asking.namespace)
    else:
        there = asking.namespace == namespace
    return there and _selects(peer.get("podSelector", {}), asking.labels)


def _selects(selector: Document, labels: Labels) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    named = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return named and all(_holds(one, labels) for one in selector.get("matchExpressions", ()))


def _holds(expression: Document, labels: Labels) -> bool:
    assert expression["operator"] == "In", f"{expression} is not understood here"
    return labels.get(expression["key"]) in expression["values"]
