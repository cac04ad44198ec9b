"""The publishing client as who starts it sees it."""

import pytest

from bench import client
from bench.job import Job


def test_why_a_client_failed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC's errors are many lines long and end with a bracket: of the last line alone nobody learns anything."""

    async def fail(job: Job) -> None:
        raise RuntimeError("<the call failed:\n\tdetails = too slow\n>")

    monkeypatch.setattr(client, "run", fail)
    job = Job(client="etcd", endpoints=(), replicas=3, workload="tasks", payload=100, count=1, seconds=1.0)
    with pytest.raises(SystemExit, match=r"^RuntimeError: <the call failed: details = too slow >$"):
        client.main(job.encoded())
