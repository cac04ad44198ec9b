"""The coordinator's end of a background client (bench/background.py)."""

import contextlib
import json
import select
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from bench.errors import ProcessFailed
from bench.job import Job, client_process

ANSWER_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Conversation:
    """Ask it; each question is one line, each answer one JSON object."""

    def __init__(self, process: "subprocess.Popen[str]", job: Job) -> None:
        self._process = process
        self._job = job

    def ask(self, question: str) -> dict[str, Any]:
        """Raises ProcessFailed if it ended or does not answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(question + "\n")
            stdin.flush()
        except OSError:
            raise ProcessFailed(self._why()) from None
        if not select.select([stdout], [], [], ANSWER_TIMEOUT_S)[0]:
            raise ProcessFailed(f"the background client for {self._job.client} gave no answer to {question!r}")
        line = stdout.readline()
        if not line:
            raise ProcessFailed(self._why())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_for_receipts(self, count: int, timeout_s: float) -> None:
        """Until so many messages more are acknowledged. Raises ProcessFailed."""
        deadline_s = time.monotonic() + timeout_s
        wanted = int(self.ask("where")["total"]) + count
        while int(self.ask("where")["total"]) < wanted:
            if time.monotonic() > deadline_s:
                raise ProcessFailed(f"the background client for {self._job.client} got no receipts in {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _why(self) -> str:
        self._process.kill()
        errors = self._process.stderr.read() if self._process.stderr else ""
        last = (errors.strip().splitlines() or ["it wrote nothing"])[-1]
        return f"the background client for {self._job.client} ended: {last}"


@contextlib.contextmanager
def background(job: Job) -> Iterator[Conversation]:
    """A client that publishes until the end of the block."""
    with client_process(job, "bench.background") as process:
        yield Conversation(process, job)
