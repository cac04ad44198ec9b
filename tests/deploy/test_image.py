"""The image: small, nobody special, a read-only root, and nothing in it that it does not need."""

import pytest

from tests.deploy.engine import CommandFailed, docker, inspect
from tests.project.sources import ROOT, project

ADDED_BYTES_MAX = 150 * 1_000_000
CONFINED = ("run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL")


def test_it_adds_little_to_its_base(image: str, base_image: str) -> None:
    added = inspect(f"ringcast:{image}")["Size"] - inspect(base_image)["Size"]
    assert 0 < added < ADDED_BYTES_MAX


def test_it_runs_as_nobody_special_on_a_read_only_root(image: str) -> None:
    version = docker(*CONFINED, f"ringcast:{image}", "--version")
    assert version == project()["version"]
    shell = (*CONFINED, "--entrypoint", "sh", f"ringcast:{image}", "-c")
    assert docker(*shell, "id -u; id -g").split() == ["10001", "10001"]
    with pytest.raises(CommandFailed, match="Read-only file system"):
        docker(*shell, "touch /opt/ringcast/x")
    with pytest.raises(CommandFailed):
        docker(*shell, "command -v pip || /opt/ringcast/bin/python3 -m pip --version")


def test_it_says_what_it_is(image: str) -> None:
    config = inspect(f"ringcast:{image}")["Config"]
    assert config["Entrypoint"] == ["ringcast"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == project()["version"]
    assert labels["licenses"] == project()["license"]


def test_a_wrong_configuration_ends_it_with_a_sentence(image: str) -> None:
    with pytest.raises(CommandFailed, match=r"exit code 2[\s\S]*id: Field required"):
        docker(*CONFINED, "--env", "RINGCAST_PEERS=1..3=bus-{id}:7101", f"ringcast:{image}")


def test_every_file_of_the_build_needs_no_network() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--no-index" in text
    assert "syntax=" not in text
    assert "--mount" not in text
