"""What the publishing process is told, what it answers, and how it is run: `python -m bench.client JOB`."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.errors import NotMeasurable, ProcessFailed

#: What a client may need beyond the seconds that it publishes: to connect, to make a stream, to wait for the rest.
GRACE_S = 90.0
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """One workload of one client. `client`: a module in bench/clients. `pids`: servers whose CPU time is counted.

    `rate`: messages a second of the open-loop client (bench/open_loop.py), 0 for the others.
    """

    client: str
    endpoints: tuple[str, ...]
    replicas: int
    workload: str
    payload: int
    count: int
    seconds: float
    window: int = 1
    pids: tuple[int, ...] = ()
    rate: int = 0

    def encoded(self) -> str:
        """As the command's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> "Job":
        """From the command's argument."""
        fields = json.loads(text)
        return cls(**{**fields, "endpoints": tuple(fields["endpoints"]), "pids": tuple(fields["pids"])})


@dataclass(frozen=True, slots=True)
class Sample:
    """What one client measured. `cpu_s`: servers and client. `latency_ms`: p50, p95, p99, max where it was timed."""

    workload: str
    window: int
    messages: int
    seconds: float
    cpu_s: float
    client_cpu_s: float
    latency_ms: dict[str, float] | None = None

    @property
    def messages_per_second(self) -> float:
        """Acknowledged, from the first send to the last receipt."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_s_per_100k(self) -> float | None:
        """CPU seconds of all processes for 100,000 messages."""
        return self.cpu_s / self.messages * 100_000 if self.messages else None


def command(module: str, job: Job) -> list[str]:
    """Python's command line for one of our client processes."""
    # -P: the folder we are in may have a package `bench` of its own.
    return [sys.executable, "-P", "-m", module, job.encoded()]


def run_client(job: Job, module: str = "bench.client") -> dict[str, Any]:
    """Run a client to its end; returns its answer. Raises NotMeasurable, ProcessFailed."""
    with client_process(job, module) as process:
        try:
            output, errors = process.communicate(timeout=job.seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            text = f"the client for {job.client}, {job.workload}, did not end in {job.seconds + GRACE_S:g} s"
            raise ProcessFailed(text) from None
    return answer_of(job, process.returncode, output, errors)


def answer_of(job: Job, code: int, output: str, errors: str) -> dict[str, Any]:
    """The last line that a client wrote. Raises what it reported."""
    lines = output.strip().splitlines()
    if code or not lines:
        last = (errors.strip().splitlines() or ["it wrote nothing"])[-1]
        raise ProcessFailed(f"the client for {job.client}, {job.workload}, ended with exit code {code}: {last}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "not_measurable" in answer:
        raise NotMeasurable(answer["not_measurable"])
    return answer


@contextlib.contextmanager
def client_process(job: Job, module: str) -> Iterator["subprocess.Popen[str]"]:
    """A client with pipes to its stdin and stdout; it is gone behind the block."""
    process = subprocess.Popen(
        command(module, job),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def measure(job: Job) -> Sample:
    """Run one workload. Raises NotMeasurable, ProcessFailed."""
    return Sample(**run_client(job))


def now_s() -> float:
    """A clock that all processes of this machine share."""
    return time.monotonic()
