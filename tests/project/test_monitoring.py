"""Alerts and the dashboard name metrics that are exported, and each alert has its entry in the runbook."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.project.manifests import compose
from tests.project.sources import ROOT
from tests.replicas.alone import ROLES, metric_names

FOLDER = ROOT / "k8s/monitoring"
_METRIC = re.compile(r"\b(?:ringcast|process)_\w+")


def _alerts() -> dict[str, str]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def _panels() -> dict[str, list[str]]:
    document = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return {
        one["title"]: [target["expr"] for target in one["targets"]] for one in document["panels"] if "targets" in one
    }


@pytest.fixture
async def exported(tmp_path: Path) -> set[str]:
    """Of all roles."""
    return {name for role in ROLES for name in await metric_names(role, tmp_path / role)}


def test_every_metric_that_is_named_is_exported(exported: set[str]) -> None:
    expressions = {**{name: [expression] for name, expression in _alerts().items()}, **_panels()}
    for title, texts in expressions.items():
        for text in texts:
            assert text.count("(") == text.count(")"), title
            missing = set(_METRIC.findall(text)) - exported
            assert not missing, f"{title}: {missing} of {text!r}"
    assert len(_alerts()) > 15
    assert len(_panels()) > 10


def test_each_alert_has_an_entry_in_the_runbook() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    runbook = text.partition("\n## Runbook\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(\w+)\*\*", runbook, re.MULTILINE) == list(_alerts())


def test_prometheus_asks_the_ports_that_replicas_bind() -> None:
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    asked = {
        (name, target["port"])
        for job in document["scrape_configs"]
        for target in job["dns_sd_configs"]
        for name in target["names"]
    }
    services = compose(RINGCAST_REPLICAS="5")["services"]
    bound = {
        (name, int(service["environment"]["RINGCAST_BIND_HTTP"].rpartition(":")[2]))
        for name, service in services.items()
        if service.get("command", [""])[0] == "serve"
    }
    assert asked == bound
