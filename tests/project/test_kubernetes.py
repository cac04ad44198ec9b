"""k8s/base is valid for several versions of Kubernetes, and keeps what the protocol and pod security ask for.

Rendered overlays are checked by tests/deploy, which has kubectl.
"""

from typing import Any

import kubernetes_validate
import pytest

from tests.project.manifests import Document, base, of_kind

#: The oldest that has a pod's ordinal as a label, and later ones.
VERSIONS = ("1.28", "1.31", "1.34", "1.36")
ROLES = ("bus", "products", "sellers", "buyers")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid(version: str) -> None:
    for document in base():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_key_would_be_found() -> None:
    document = next(one for one in base() if one["kind"] == "StatefulSet")
    document["spec"]["podManagmentPolicy"] = "Parallel"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


def _stateful_sets() -> dict[str, Document]:
    return of_kind(base(), "StatefulSet")


def _container(stateful_set: Document) -> Any:
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("role", ROLES)
def test_members_start_together_and_keep_their_names(role: str) -> None:
    spec = _stateful_sets()[role]["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["ordinals"] == {"start": 1}
    service = of_kind(base(), "Service")[spec["serviceName"]]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert service["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert "podAntiAffinity" in spec["template"]["spec"]["affinity"]


@pytest.mark.parametrize("role", ROLES)
def test_ports_have_the_same_names_everywhere(role: str) -> None:
    named = {port["name"]: port["containerPort"] for port in _container(_stateful_sets()[role])["ports"]}
    for name, service in of_kind(base(), "Service").items():
        if name in {role, f"{role}-peers"}:
            assert {port["name"]: port["port"] for port in service["spec"]["ports"]}.items() <= named.items()
    policy = of_kind(base(), "NetworkPolicy")[role]["spec"]
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert opened == set(named.values())
    assert all(rule["from"] for rule in policy["ingress"])


@pytest.mark.parametrize("role", ROLES)
def test_probes_ask_what_they_should(role: str) -> None:
    container = _container(_stateful_sets()[role])
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in paths.items()} == {
        "startup": "/startupz",
        "liveness": "/livez",  # never the quorum
        "readiness": "/readyz",
    }
    assert {get["port"] for get in paths.values()} == {"http"}


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_has_the_time_that_leaving_takes(role: str) -> None:
    """V11: preStop, 5 s to hand on and drain, 10 s to write what is queued."""
    spec = _stateful_sets()[role]["spec"]["template"]["spec"]
    command, seconds = _container(_stateful_sets()[role])["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert spec["terminationGracePeriodSeconds"] > int(seconds) + 15


@pytest.mark.parametrize("role", ROLES)
def test_pods_meet_the_restricted_standard(role: str) -> None:
    """kubernetes.io, "Pod Security Standards", Restricted."""
    spec = _stateful_sets()[role]["spec"]["template"]["spec"]
    security, own = spec["securityContext"], _container(_stateful_sets()[role])["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10_001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    labels = of_kind(base(), "Namespace")["ringcast"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_drain_takes_one_member_at_a_time() -> None:
    budgets = of_kind(base(), "PodDisruptionBudget")
    assert set(budgets) == set(ROLES)
    assert {budget["spec"]["maxUnavailable"] for budget in budgets.values()} == {1}
