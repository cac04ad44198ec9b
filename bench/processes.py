"""The servers of one system: started in a folder, known by pid and start time, ended whatever happens."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ProcessFailed
from replicas.local.processes import is_running, send_signal, start_time

READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02
_LOG_TAIL_LINES = 5


@dataclass(slots=True)
class _Server:
    command: Sequence[str]
    log: Path
    child: subprocess.Popen[bytes]
    started: str


class Servers:
    """Child processes by number, 1 and up. `stop()` in a finally."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: dict[int, _Server] = {}

    def launch(self, number: int, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start one; its output goes to `server-N.log`."""
        log = self.folder / f"server-{number}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._servers[number] = _Server(command, log, child, start_time(child.pid) or "")

    def relaunch(self, number: int) -> None:
        """Start one again, on its old data."""
        self.launch(number, self._servers[number].command)

    def pids(self) -> list[int]:
        """Of those that run."""
        return [one.child.pid for one in self._servers.values() if is_running(one.child.pid, one.started)]

    def kill(self, number: int) -> None:
        """kill -9, and wait until it is gone."""
        self._signal(self._servers[number], signal.SIGKILL)
        self._servers[number].child.wait(_STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End all, with SIGKILL: their data goes with the folder."""
        for server in self._servers.values():
            self._signal(server, signal.SIGKILL)
        for server in self._servers.values():
            server.child.wait(_STOP_TIMEOUT_S)

    def _signal(self, server: _Server, number: signal.Signals) -> None:
        if server.child.poll() is None:
            send_signal(server.child.pid, server.started, number)

    def wait(self, what: str, reached: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait for a condition while all run. Raises ProcessFailed with the end of a log."""
        deadline_s = time.monotonic() + timeout_s
        while not reached():
            for server in self._servers.values():
                code = server.child.poll()
                if code is not None and code != -signal.SIGKILL:
                    raise ProcessFailed(f"{server.command[0]} ended with exit code {code}: {_tail(server.log)}")
            if time.monotonic() > deadline_s:
                logs = next(iter(self._servers.values())).log
                raise ProcessFailed(f"no {what} within {timeout_s:g} s: {_tail(logs)}")
            time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return f"see {log}" + "".join(f"\n  {line}" for line in lines)
