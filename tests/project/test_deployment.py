"""The container files configure replicas that start: what they say is read by the replicas' own configurations."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from replicas.bus import config as bus_config
from replicas.market import config as market_config
from replicas.products import config as products_config
from tests.project.manifests import base as kubernetes
from tests.project.manifests import compose, of_kind, pods, services
from tests.project.sources import ROOT, project

DATA = "/var/lib/ringcast"
KEYS = "/etc/ringcast/keys"
LOADERS: Mapping[str, Any] = {
    "bus": bus_config.load,
    "products": products_config.load,
    "sellers": market_config.load,
    "buyers": market_config.load,
}
COUNTS = {"bus": 3, "products": 3, "sellers": 2, "buyers": 2}


def _configuration(role: str, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith("RINGCAST_")]:
        monkeypatch.delenv(name)
    for name, value in {"RINGCAST_DATA": DATA, **environment}.items():
        if name.startswith("RINGCAST_"):
            monkeypatch.setenv(name, value)
    return LOADERS[role]().config


def _compose_configurations(replicas: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    profiles = {3: [], 5: ["five"]}[replicas]
    found = services(compose(RINGCAST_REPLICAS=str(replicas)), profiles)
    return {
        name: _configuration(service["command"][1], service["environment"], monkeypatch)
        for name, service in found.items()
    }


def _kubernetes_configurations(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {pod.name: _configuration(pod.arguments[1], pod.environment, monkeypatch) for pod in pods(kubernetes())}


def _check_each_is_a_replica_of_its_own(found: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    assert {name: config.id for name, config in found.items()} == {
        f"{role}-{member}": member for role, count in counts.items() for member in range(1, count + 1)
    }
    for name, config in found.items():
        role = name.partition("-")[0]
        members = tuple(range(1, counts[role] + 1))
        assert tuple(config.peers) == members, name
        hosts = [getattr(peer, "host", str(peer).partition(":")[0]) for peer in config.peers.values()]
        assert [host.partition(".")[0] for host in hosts] == [f"{role}-{member}" for member in members]
        binds = [value for key, value in config if key.startswith("bind_")]
        assert len(set(binds)) == len(binds) > 1
        assert {bind.partition(":")[0] for bind in binds} == {"0.0.0.0"}


@pytest.mark.parametrize("replicas", [3, 5])
def test_each_service_of_compose_is_a_replica_of_its_own(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = COUNTS | {"bus": replicas, "products": replicas}
    _check_each_is_a_replica_of_its_own(_compose_configurations(replicas, monkeypatch), counts)


def test_each_pod_is_a_replica_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_each_is_a_replica_of_its_own(_kubernetes_configurations(monkeypatch), COUNTS)


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_every_address_that_is_told_is_bound(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers, advertised addresses and the databases of an interface name hosts that exist and ports that are bound."""
    if where == "compose":
        found = _compose_configurations(3, monkeypatch)
        names = {name: [name] for name in found}
    else:
        found = _kubernetes_configurations(monkeypatch)
        # within a namespace the search domain completes the name of a Service
        names = {pod.name: pod.names for pod in pods(kubernetes())}
    bound = {
        f"{host}:{value.rpartition(':')[2]}"
        for name, config in found.items()
        for host in names[name]
        for key, value in config
        if key.startswith("bind_")
    }
    told = set()
    for name, config in found.items():
        role = name.partition("-")[0]
        if role == "bus":
            told |= {config.advertise_client, config.advertise_feed}
        if role in {"sellers", "buyers"}:
            told |= {one for key in ("bus", "products") for one in getattr(config, key).split(",")}
            told |= set(config.peers.values())
        else:
            second = "pub_port" if role == "bus" else "client_port"
            for peer in config.peers.values():
                told |= {f"{peer.host}:{peer.peer_port}", f"{peer.host}:{getattr(peer, second)}"}
    assert told <= bound, sorted(told - bound)


# ---------------------------------------------------------------- compose


def test_compose_follows_the_specification() -> None:
    """Compose v2 is not to be had everywhere: its schema is (github.com/compose-spec/compose-spec, Apache-2.0)."""
    schema = json.loads((ROOT / "tests/project/compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validate(compose(), schema)


def test_compose_uses_nothing_that_only_one_of_both_versions_takes() -> None:
    """docker-compose 1.29 of Debian, and v2."""
    document = compose()
    assert "name" not in document
    assert "configs" not in document
    for name, service in document["services"].items():
        assert "start_interval" not in service.get("healthcheck", {}), name
        assert isinstance(service.get("env_file", ""), str), name
        dependencies = service.get("depends_on", {})
        assert all(isinstance(one, str) or set(one) == {"condition"} for one in _values(dependencies)), name


def _values(dependencies: Any) -> list[Any]:
    return list(dependencies.values()) if isinstance(dependencies, dict) else list(dependencies)


def test_every_replica_is_confined_and_limited() -> None:
    for name, service in services(compose(), ["five"]).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert {"mem_limit", "cpus", "pids_limit", "healthcheck"} <= set(service), name
        # V11: drain_timeout_ms is 5 s, and what is queued gets 10 s more (replicas/hosting.py)
        assert int(service["stop_grace_period"].removesuffix("s")) >= 15, name
        assert {text.partition(":")[0] for text in service["ports"]} == {"127.0.0.1"}, name
        stateful = name.partition("-")[0] in {"bus", "products"}
        assert service["volumes"] == [*([f"{name}:{DATA}"] if stateful else []), f"keys:{KEYS}:ro"], name


def test_interfaces_wait_for_both_databases() -> None:
    for name in ("sellers-1", "sellers-2", "buyers-1", "buyers-2"):
        waits = compose()["services"][name]["depends_on"]
        databases = {f"{role}-{member}" for role in ("bus", "products") for member in (1, 2, 3)}
        assert set(waits) == databases | {"keys"}
        assert {waits[one]["condition"] for one in databases} == {"service_healthy"}


def test_keys_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """CURVE on every socket, from keys that are there before any replica starts."""
    for name, config in {**_compose_configurations(5, monkeypatch), **_kubernetes_configurations(monkeypatch)}.items():
        assert config.keys == Path(KEYS), name
    for name, service in services(compose(), ["five"]).items():
        assert service["depends_on"]["keys"] == {"condition": "service_completed_successfully"}, name
        plain = services(compose(RINGCAST_KEYS_FOLDER=""), ["five"])[name]
        assert plain["environment"]["RINGCAST_KEYS"] == "", name
    for stateful_set in of_kind(kubernetes(), "StatefulSet").values():
        spec = stateful_set["spec"]["template"]["spec"]
        (volume,) = (one for one in spec["volumes"] if one["name"] == "keys")
        assert volume["secret"]["secretName"] == "ringcast-keys"
        assert volume["secret"]["defaultMode"] == 0o440
        mounts = {one["name"]: one for one in spec["containers"][0]["volumeMounts"]}
        assert mounts["keys"] == {"name": "keys", "mountPath": KEYS, "readOnly": True}


def test_the_file_for_clients_outside_names_what_compose_publishes() -> None:
    document = json.loads((ROOT / "cluster.compose.json").read_text(encoding="utf-8"))
    assert document["published"] is True
    found = services(compose(RINGCAST_REPLICAS="5"), ["five"])
    first = services(compose())
    told = {f"{one['role']}-{one['id']}": one for one in document["replicas"]}
    assert set(told) == set(found)
    for name, service in found.items():
        published = {text.rpartition(":")[2]: text.rpartition(":")[0] for text in service["ports"]}
        for key in ("client", "feed", "http"):
            bind = service["environment"].get(f"RINGCAST_BIND_{key.upper()}")
            if bind is None:
                assert key not in told[name]
            else:
                address = published.pop(bind.rpartition(":")[2])
                assert told[name][key].partition("://")[2] == address, name
        assert not published, name  # nothing else is published
        assert told[name].get("spare", False) == (name not in first), name


def test_every_variable_of_compose_is_explained() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+)(?::?-([^}]*))?\}", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert explained == used | {"COMPOSE_PROFILES": ""}


# ---------------------------------------------------------------- the image


def test_the_image_is_one_for_all_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["ringcast"\]$', text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}", "${BASE_IMAGE}"]
    assert f'image.version="{project()["version"]}"' in text
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    assert default is not None
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", default[1]), "the base is pinned"
    assert f"BASE_IMAGE:-{default[1]}}}" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_a_build_needs_no_network() -> None:
    """No BuildKit either: it is not everywhere."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--no-index" in text
    assert "syntax=" not in text
    assert "--mount" not in text


def test_the_build_context_holds_what_the_image_copies() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for names in copied for name in names.split()} == allowed


def test_the_data_folder_is_the_volume() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"RINGCAST_DATA={DATA}" in text
    assert f"VOLUME {DATA}" in text
    assert {pod.data for pod in pods(kubernetes()) if pod.arguments[1] in {"bus", "products"}} == {DATA}
    assert Path(DATA).is_absolute()
    assert set(of_kind(kubernetes(), "StatefulSet")) == set(COUNTS)
