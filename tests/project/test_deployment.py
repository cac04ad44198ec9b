"""The container files configure replicas that start: what they say is read by the replica's own configuration."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from replicas.config import BusConfig, load
from tests.project.sources import ROOT

MEMBERS = (1, 2, 3)
BINDS = ("peer", "pub", "client", "feed", "http")
DATA = "/var/lib/ringcast"


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def _compose(member: int) -> dict[str, str]:
    environment: dict[str, str] = _yaml("docker-compose.yml")["services"][f"bus-{member}"]["environment"]
    return environment


def _kubernetes(member: int) -> dict[str, str]:
    """The environment of one pod, as the kubelet would make it."""
    (generator,) = _yaml("k8s/base/kustomization.yaml")["configMapGenerator"]
    environment = dict(literal.split("=", 1) for literal in generator["literals"])
    stateful_set = _yaml("k8s/base/statefulset.yaml")
    assert stateful_set["spec"]["ordinals"]["start"] == MEMBERS[0]
    assert stateful_set["spec"]["replicas"] == len(MEMBERS)
    fields = {"metadata.labels['apps.kubernetes.io/pod-index']": str(member), "metadata.name": f"bus-{member}"}
    for variable in _container()["env"]:
        text = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        environment[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], text)
    return environment


def _container() -> Any:
    (container,) = _yaml("k8s/base/statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    return container


def _configuration(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> BusConfig:
    for name in [name for name in os.environ if name.startswith("RINGCAST_")]:
        monkeypatch.delenv(name)
    image = dict(re.findall(r"\b(RINGCAST_\w+)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    for name, value in (image | environment).items():
        monkeypatch.setenv(name, value)
    return load().config


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("environment", [_compose, _kubernetes])
def test_each_replica_gets_a_configuration_of_its_own(
    environment: Any, member: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _configuration(environment(member), monkeypatch)
    assert config.id == member
    assert config.members == MEMBERS
    assert config.data == Path(DATA)
    binds = [getattr(config, f"bind_{bind}") for bind in BINDS]
    assert len(set(binds)) == len(BINDS)
    assert {bind.partition(":")[0] for bind in binds} == {"0.0.0.0"}
    assert config.peers[member].host == f"bus-{member}" + (".bus-peers" if environment is _kubernetes else "")
    assert [config.peers[member].peer_port, config.peers[member].pub_port] == [_port(binds[0]), _port(binds[1])]


@pytest.mark.parametrize("environment", [_compose, _kubernetes])
def test_no_two_replicas_advertise_one_address(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [_configuration(environment(member), monkeypatch) for member in MEMBERS]
    addresses = [address for config in configs for address in (config.advertise_client, config.advertise_feed)]
    assert None not in addresses
    assert len(set(addresses)) == len(addresses)


def test_compose_publishes_what_its_replicas_advertise() -> None:
    for member in MEMBERS:
        service = _yaml("docker-compose.yml")["services"][f"bus-{member}"]
        published = {inside: f"{host}:{port}" for host, port, inside in (text.split(":") for text in service["ports"])}
        environment = service["environment"]
        assert published[str(_port(environment["RINGCAST_BIND_CLIENT"]))] == environment["RINGCAST_ADVERTISE_CLIENT"]
        assert published[str(_port(environment["RINGCAST_BIND_FEED"]))] == environment["RINGCAST_ADVERTISE_FEED"]
        assert service["volumes"] == [f"bus-{member}:{DATA}"]


def test_kubernetes_names_the_ports_that_replicas_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _configuration(_kubernetes(1), monkeypatch)
    bound = {bind: _port(getattr(config, f"bind_{bind}")) for bind in BINDS}
    assert {port["name"]: port["containerPort"] for port in _container()["ports"]} == bound
    services = yaml.safe_load_all((ROOT / "k8s/base/services.yaml").read_text(encoding="utf-8"))
    named = {port["name"]: port["port"] for service in services for port in service["spec"]["ports"]}
    assert named == bound


def test_the_image_exposes_the_ports_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    exposed = re.search(r"^EXPOSE (.+)$", text, re.MULTILINE)
    assert exposed is not None
    assert [int(port) for port in exposed[1].split()] == [
        _port(_compose(1)[f"RINGCAST_BIND_{b.upper()}"]) for b in BINDS
    ]
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}", "${BASE_IMAGE}"]
    assert _container()["args"] == ["serve", "bus"]


def test_the_image_gets_what_the_project_is_made_of() -> None:
    """A folder that the Dockerfile copies and .dockerignore leaves out would fail only when built."""
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for names in copied for name in names.split()} == allowed


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
