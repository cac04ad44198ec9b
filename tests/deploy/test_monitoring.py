"""Prometheus' own tool reads the alert rules and the configuration."""

import shutil

import pytest

from tests.deploy.engine import run

pytestmark = pytest.mark.usefixtures("engine")


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert shutil.which("promtool"), "promtool is missing: `make test-deploy` installs it (Debian's package prometheus)"
    assert "SUCCESS" in run("promtool", "check", "rules", "k8s/monitoring/alerts.yml")
    assert "SUCCESS" in run("promtool", "check", "config", "k8s/monitoring/prometheus.yml")
