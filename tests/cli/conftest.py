"""One running replica for all tests of the command, and a way to call it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from replicas.local.cluster import LocalCluster

Ringcast = Callable[..., Result]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster of one."""
    found = LocalCluster.create(tmp_path_factory.mktemp("cli") / "data", 1)
    found.start()
    try:
        found.wait_ready()
        yield found
    finally:
        found.stop()


@pytest.fixture
def ringcast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ringcast:
    """Call the command in an empty folder, with nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RINGCAST_CLUSTER", raising=False)

    def call(*arguments: str, stdin: str | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


@pytest.fixture
def on(ringcast: Ringcast, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Ringcast:
    """Call the command on the running cluster."""
    monkeypatch.setenv("RINGCAST_CLUSTER", str(cluster.path))
    return ringcast


def document(result: Result) -> Any:
    """What a command printed with --json."""
    return json.loads(result.stdout)
