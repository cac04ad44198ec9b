"""The wheel, installed in an empty environment and used from an application that has packages named like ours."""

import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from replicas.bus.addresses import free_ports
from tests.project.sources import PACKAGES, ROOT

pytestmark = pytest.mark.timeout(180)

CLIENT_NEEDS = ("pyzmq", "msgpack")

# Prints the top-level modules that importing all of the client brought in and that are not the standard library's.
IMPORT_ALL = """
import importlib, pkgutil, sys
import cli, store
assert (cli.WHOSE, store.WHOSE) == ("the application's", "the application's")
before = set(sys.modules)
import ringcast
for module in pkgutil.walk_packages(ringcast.__path__, "ringcast."):
    importlib.import_module(module.name)
added = {name.partition(".")[0] for name in set(sys.modules) - before if hasattr(sys.modules[name], "__file__")}
print(*sorted(added - sys.stdlib_module_names))
"""

# Publishes and reads back, as the application would.
USE = """
import asyncio, sys
import cli, store
assert (cli.WHOSE, store.WHOSE) == ("the application's", "the application's")
import ringcast

async def main() -> None:
    async with ringcast.connect(sys.argv[1], timeout=30) as bus:
        receipts = [await bus.publish("greetings", text) for text in (b"one", b"two", b"three")]
        async with bus.subscribe("greetings", start=receipts[0].offset) as messages:
            async for message in messages:
                print(message.offset - receipts[0].offset, message.payload.decode())
                if message.offset == receipts[-1].offset:
                    return

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and with what its metadata asks for, and nothing else; gives its `bin`."""
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in CLIENT_NEEDS:
        _copy_distribution(name, site)
    assert "No broken requirements" in _run(*pip, "check").stdout
    return folder / "bin"


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A folder as a user has it: with a store and a cli of its own."""
    for package in PACKAGES:
        if package != "ringcast":
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").write_text('WHOSE = "the application\'s"\n')
    return tmp_path


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[str]:
    """A cluster of one replica, run from the development environment; gives its client endpoint."""
    names = ("PEER", "PUB", "CLIENT", "FEED", "HTTP")
    addresses = dict(zip(names, (f"127.0.0.1:{port}" for port in free_ports(len(names), "127.0.0.1")), strict=True))
    pub_port = addresses["PUB"].rpartition(":")[2]
    settings = {f"RINGCAST_BIND_{name}": address for name, address in addresses.items()}
    settings |= {"RINGCAST_ID": "1", "RINGCAST_PEERS": f"1={addresses['PEER']}:{pub_port}"}
    settings |= {"RINGCAST_DATA": str(tmp_path / "data")}
    command = (Path(sys.executable).parent / "ringcast", "serve", "bus")
    with (tmp_path / "replica.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=_environment() | settings, stdout=log, stderr=log)
        try:
            yield f"tcp://{addresses['CLIENT']}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    assert process.returncode == 0, (tmp_path / "replica.log").read_text()


def test_wheel_holds_the_packages_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert "ringcast/py.typed" in names
    data = [*(ROOT / "cli/data").glob("*.txt"), *(ROOT / "replicas/dashboard/page").iterdir()]
    assert {path.suffix for path in data} == {".txt", ".html", ".css", ".js", ".svg"}
    assert {path.relative_to(ROOT).as_posix() for path in data} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_client_needs_two_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    plain = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(re.split(r"[^\w-]", line.removeprefix("Requires-Dist: "))[0] for line in plain) == sorted(
        CLIENT_NEEDS
    )
    assert "Requires-Python: >=3.11" in lines


def test_the_application_keeps_its_own_packages(environment: Path, application: Path) -> None:
    (application / "application.py").write_text(IMPORT_ALL)
    run = _run(environment / "python", "application.py", cwd=application)
    assert run.stdout.split() == ["msgpack", "ringcast", "zmq"]


@pytest.mark.processes
def test_the_application_speaks_to_a_replica(environment: Path, application: Path, replica: str) -> None:
    (application / "application.py").write_text(USE)
    run = _run(environment / "python", "application.py", replica, cwd=application)
    assert run.stdout.splitlines() == ["0 one", "1 two", "2 three"]


def test_an_unreachable_cluster_is_a_typed_error(environment: Path, application: Path) -> None:
    (application / "application.py").write_text(USE.replace("timeout=30", "timeout=0.5"))
    with socket.socket() as silent:  # bound and not listening: nobody is there, and nobody else can come to be
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        run = _run(environment / "python", "application.py", address, cwd=application, exit_code=1)
    assert run.stderr.splitlines()[-1].startswith("ringcast.errors.Unreachable: ")


def test_the_command_without_the_extra_says_how_to_get_it(environment: Path, tmp_path: Path) -> None:
    run = _run(environment / "ringcast", "version", cwd=tmp_path, exit_code=1)
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "pip install 'ringcast[server]'" in run.stderr


def _copy_distribution(name: str, site: Path) -> None:
    """Copy an installed distribution, so that the test asks no index."""
    installed = distribution(name)
    for file in installed.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(installed.locate_file(file)), target)


def _environment() -> dict[str, str]:
    """Ours, without what would lend an interpreter our packages or a replica our settings."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "RINGCAST_"))
    }


def _run(*command: str | Path, cwd: Path = ROOT, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == exit_code, f"{command[0]} exited with {run.returncode}:\n{run.stdout}{run.stderr}"
    return run
