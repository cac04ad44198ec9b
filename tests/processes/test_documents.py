"""README and tutorial say what happens: their code runs, and their commands print what is written there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from tests.project.sources import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = {
    f"{name}-{number}": code
    for name in ("README.md", "docs/tutorial.md")
    for number, (kind, code) in enumerate(BLOCK.findall((ROOT / name).read_text(encoding="utf-8")))
    if kind == "python"
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as `ringcast up` leaves it: a running cluster in ./ringcast-data."""
    place = tmp_path_factory.mktemp("documents")
    cluster = LocalCluster.create(place / "ringcast-data", 3)
    cluster.start()
    cluster.wait_ready()
    yield place
    cluster.stop()


@pytest.mark.parametrize("name", PYTHON)
def test_python_runs_as_it_is_written(folder: Path, name: str) -> None:
    script = folder / f"{name.replace('/', '-')}.py"
    script.write_text(PYTHON[name])
    found = _run([sys.executable, "-W", "error", str(script)], folder)
    assert found.returncode == 0, found.stderr
    assert found.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_commands_print_what_is_written(document: str, tmp_path: Path) -> None:
    blocks = [text for kind, text in BLOCK.findall((ROOT / document).read_text()) if kind == "console"]
    steps = [step for block in blocks for step in _steps(block) if not step[0].startswith("pip ")]
    assert steps
    try:
        for command, expected in steps:
            found = _run(["bash", "-c", f"{command} 2>&1"], tmp_path)
            if expected:  # a block that shows commands alone promises no output
                assert _pattern(expected).fullmatch(_trimmed(found.stdout)), f"$ {command}\n{found.stdout}"
    finally:
        _run(["bash", "-c", "ringcast down"], tmp_path)


def _steps(block: str) -> Iterator[tuple[str, str]]:
    """(command, what it prints) of each `$ ` line."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, _trimmed(output)


def _pattern(expected: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, expected.split("..."))), re.DOTALL)


def _trimmed(text: str) -> str:
    """Without what depends on the width of a pid or a port."""
    return "\n".join(re.sub(" +", " ", line).strip() for line in text.strip().splitlines())


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run in a folder where `ringcast` and `python` are those of this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=environment)
