"""Volumes and free space that k8s/ and compose ask for follow from the retention that they set."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from replicas.bus.config import BusConfig, PeerAddress
from replicas.bus.space import log_bytes_hard, log_bytes_max, log_bytes_never_trimmed, volume_bytes
from tests.project.manifests import base, of_kind, pods
from tests.project.sources import ROOT

GIB = 1 << 30
#: Each overlay and what it stands on.
OVERLAYS = {"three": (), "five": (), "dev": ("three",), "prod": ("five",)}
_SIZE = re.compile(r"(\d+)Gi")
_KEYS = ("RINGCAST_RETENTION_BYTES", "RINGCAST_SNAPSHOT_BYTES")


def _config(settings: Mapping[str, str]) -> BusConfig:
    given: dict[str, Any] = {key.removeprefix("RINGCAST_").lower(): int(settings[key]) for key in _KEYS}
    return BusConfig(id=1, data=Path("data"), peers={1: PeerAddress("127.0.0.1", 1, 2)}, **given)


def _gib(text: str) -> int:
    found = _SIZE.fullmatch(text)
    assert found is not None, text
    return int(found[1]) * GIB


def _overlay(name: str, settings: Mapping[str, str], volume: int) -> tuple[Mapping[str, str], int]:
    """What an overlay changes of the bus's settings and of its volume."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "k8s/overlays" / name / "kustomization.yaml").read_text())
    for generator in document.get("configMapGenerator", []):
        if generator["name"] == "bus":
            settings = {**settings, **dict(literal.split("=", 1) for literal in generator["literals"])}
    for patch in document.get("patches", []):
        if "bus" in patch.get("target", {}).get("name", "").split("|"):
            for change in yaml.safe_load(patch["patch"]):
                if change["path"].endswith("/storage"):
                    volume = _gib(change["value"])
    return settings, volume


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_volume_of_kubernetes_holds_what_the_settings_allow(name: str) -> None:
    assert {path.name for path in (ROOT / "k8s/overlays").iterdir()} == set(OVERLAYS)
    settings: Mapping[str, str] = next(pods(base(), "bus")).environment
    (claim,) = of_kind(base(), "StatefulSet")["bus"]["spec"]["volumeClaimTemplates"]
    volume = _gib(claim["spec"]["resources"]["requests"]["storage"])
    for layer in (*OVERLAYS[name], name):
        settings, volume = _overlay(layer, settings, volume)
    assert volume_bytes(_config(settings)) <= volume


def test_compose_says_what_disk_its_replicas_need() -> None:
    example = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line.startswith(_KEYS)
    )
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-bus"]
    assert {key: compose[key] for key in _KEYS} == {key: f"${{{key}:-{example[key]}}}" for key in _KEYS}
    said = 4 * GIB
    for path in (".env.example", "docs/operations.md"):
        assert "4 GiB of disk" in (ROOT / path).read_text()
    assert said * 3 // 4 < volume_bytes(_config(example)) <= said


def test_the_documents_have_the_numbers_of_the_defaults() -> None:
    config = BusConfig(id=1, data=Path("data"), peers={1: PeerAddress("127.0.0.1", 1, 2)})
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert log_bytes_never_trimmed(config) == 82 << 20
    assert "82 MiB" in text
    assert log_bytes_max(config) == 9 * GIB
    assert config.retention_bytes < log_bytes_hard(config) < log_bytes_max(config)
    assert f"{volume_bytes(config) / GIB:.1f} GiB with the default settings" in text
