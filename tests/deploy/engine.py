"""A container engine through its command line: images, containers found by label, and a compose project."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.project.sources import ROOT

#: Where tests publish ports: an address of this machine that nothing else listens at.
LISTEN = "127.0.0.77"
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
HEALTHY_TIMEOUT_S = 90.0


class CommandFailed(AssertionError):
    """A command's exit code is none of those expected; with what it printed."""


def run(
    *command: str, env: Mapping[str, str] | None = None, timeout_s: float = 120.0, exit_codes: Sequence[int] = (0,)
) -> str:
    """Its standard output. Raises CommandFailed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode not in exit_codes:
        raise CommandFailed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def docker(*arguments: str, timeout_s: float = 120.0) -> str:
    """One command of the engine."""
    return run("docker", *arguments, timeout_s=timeout_s).strip()


def trouble() -> str | None:
    """Why there is no engine, else None."""
    if shutil.which("docker") is None:
        return "no docker command"
    try:
        docker("info", timeout_s=20.0)
    except (CommandFailed, subprocess.TimeoutExpired) as error:
        return str(error).strip().splitlines()[-1]
    return None


def wait_until(holds: Callable[[], bool], what: Callable[[], object], timeout_s: float = HEALTHY_TIMEOUT_S) -> None:
    """Poll a condition. Raises AssertionError with `what()`."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what()}"
        time.sleep(0.1)


def inspect(name: str) -> Any:
    """What the engine knows of a container, an image or a network."""
    return json.loads(docker("inspect", name))[0]


def logs(container: str, lines: int = 8) -> str:
    """The last ones, of both streams."""
    command = ("docker", "logs", "--tail", str(lines), container)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout


def health(container: str) -> str:
    """healthy, unhealthy, starting, or its state if it does not run."""
    state = inspect(container)["State"]
    return str(state["Health"]["Status"]) if state["Running"] and "Health" in state else str(state["Status"])


def labelled(label: str, *, all_of_them: bool = True) -> list[str]:
    """Ids of the containers with a label (key or key=value)."""
    found = docker("ps", "--quiet", *(["--all"] if all_of_them else []), "--filter", f"label={label}")
    return found.split()


class Compose:
    """A project of docker-compose.yml, by Compose v2 where there is one, else by docker-compose 1.29."""

    def __init__(self, project: str, image_tag: str, **variables: str) -> None:
        self.project, self.tag = project, image_tag
        self.variables = {"RINGCAST_TAG": image_tag, "RINGCAST_LISTEN": LISTEN, "COMPOSE_PROFILES": "", **variables}
        self._command = _compose_command()

    def __call__(self, *arguments: str, timeout_s: float = 180.0) -> str:
        """One command of compose."""
        return run(*self._command, "--project-name", self.project, *arguments, env=self.variables, timeout_s=timeout_s)

    def containers(self) -> dict[str, str]:
        """Service -> id of its container, running or not."""
        found = labelled(f"{PROJECT}={self.project}")
        return {inspect(one)["Config"]["Labels"][SERVICE]: one for one in found}

    def up(self) -> float:
        """Start everything and wait until all of it is healthy; seconds that it took."""
        started = time.monotonic()
        self("up", "--detach", "--no-build")
        self.wait_healthy()
        return time.monotonic() - started

    def wait_healthy(self, services: Sequence[str] = ()) -> None:
        """Wait for these services, or for all that have a container and are to run on."""
        containers = self.containers()
        names = list(services or containers)

        def states() -> dict[str, str]:
            return {name: state for name in names if not _well(state := health(containers[name]), containers[name])}

        try:
            wait_until(lambda: not states(), states)
        except AssertionError as error:
            said = "\n".join(f"{name}: {logs(containers[name])}" for name in states())
            raise AssertionError(f"{error}\n{said}") from None

    def cluster_file(self, folder: Path) -> Path:
        """cluster.compose.json for the address at which this project publishes, and with the operator's key."""
        document = json.loads((ROOT / "cluster.compose.json").read_text(encoding="utf-8").replace("127.0.0.1", LISTEN))
        key = operators_key(self.containers()["bus-1"], folder)
        return write_cluster(folder, {**document, "keys": str(key)})

    def remove(self) -> None:
        """Containers, networks and volumes."""
        with suppress(CommandFailed):
            self("down", "--volumes", "--timeout", "1", "--remove-orphans")
        for container in labelled(f"{PROJECT}={self.project}"):
            docker("rm", "--force", "--volumes", container)


def operators_key(container: str, folder: Path) -> Path:
    """The admin's file, out of a container that has all keys."""
    path = folder / "admin.key"
    path.write_text(docker("exec", container, "cat", "/etc/ringcast/keys/client-admin.key"), encoding="utf-8")
    path.chmod(0o600)
    return path


def write_cluster(folder: Path, document: Mapping[str, object]) -> Path:
    """A cluster.json."""
    path = folder / "cluster.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _well(state: str, container: str) -> bool:
    """Healthy, or done if it was to do something once."""
    return state == "healthy" or (state == "exited" and inspect(container)["State"]["ExitCode"] == 0)


def _compose_command() -> list[str]:
    try:
        run("docker", "compose", "version")
    except CommandFailed:
        return ["docker-compose"]
    return ["docker", "compose"]


def networks(container: str) -> Iterator[tuple[str, str]]:
    """(network, address) of each network that a container is in."""
    for name, found in inspect(container)["NetworkSettings"]["Networks"].items():
        yield name, found["IPAddress"]
