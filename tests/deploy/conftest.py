"""The engine, a base image, and the image of this tree; everything that was made is taken away at the end.

`make test-deploy` brings the engine (.ci/engine). In CI a missing one is a failure, on a person's machine a skip.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.deploy.engine import CommandFailed, Compose, docker, run, trouble
from tests.project.sources import ROOT

SUITE = "bookworm"
BASE = f"ringcast-base:{SUITE}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Images are built within the time limit of the test that is the first to need one."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine that answers."""
    why = trouble()
    if why is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"no container engine: {why}")
    pytest.skip(f"no container engine: {why}; `make test-deploy` installs and starts one (Debian, as root)")


@pytest.fixture(scope="session")
def base_image(engine: None) -> str:
    """RINGCAST_BASE_IMAGE, or Debian with Python and nothing else, made here: no image is pulled."""
    given = os.environ.get("RINGCAST_BASE_IMAGE")
    if given:
        return given
    with suppress(CommandFailed):
        docker("image", "inspect", BASE)
        return BASE
    with tempfile.TemporaryDirectory(prefix="ringcast-base-") as name:
        root = Path(name) / "root"
        packages = "python3,python3-venv"
        run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root), timeout_s=480)
        shutil.rmtree(root / "var/cache/apt/archives")
        packed = Path(name) / "root.tar"
        run("tar", "--directory", str(root), "--create", "--file", str(packed), ".")
        docker("import", str(packed), BASE)
    return BASE


@pytest.fixture(scope="session")
def image(base_image: str) -> Iterator[str]:
    """The tag of `ringcast:TAG`, built without a network from wheels for the base image's Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = docker("run", "--rm", "--network", "none", "--entrypoint", "python3", base_image, "-c", code)
    tools = Path(sys.executable).parent
    run(str(ROOT / ".ci/wheels"), version, str(tools / "uv"), sys.executable, timeout_s=300)
    tag = f"test-{secrets.token_hex(4)}"
    docker(
        *("build", "--quiet", "--network", "none", "--build-arg", f"BASE_IMAGE={base_image}"),
        *("--tag", f"ringcast:{tag}", "."),
        timeout_s=300,
    )
    yield tag
    with suppress(CommandFailed, subprocess.TimeoutExpired):
        docker("rmi", "--force", f"ringcast:{tag}")


@pytest.fixture(scope="module")
def compose(image: str) -> Iterator[Compose]:
    """A project that nobody has started."""
    project = Compose(f"ringcast-{secrets.token_hex(4)}", image)
    yield project
    project.remove()
