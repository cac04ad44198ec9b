"""A quick run on real processes: the document has its shape, its numbers are possible; no time is judged."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.errors import BenchError
from bench.floors import measure_floors
from bench.gap import Gaps
from bench.job import Job, measure
from bench.options import PEERS, Options
from bench.plan import systems_of
from bench.run import Run, running
from bench.systems import ONE, System
from cli.app import app

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def test_a_quick_run_of_ringcast_alone(tmp_path: Path) -> None:
    command = ["bench", "bus", "--quick", "--against", "", "--kills", "1", "--no-extras", "--json"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    assert (document["format"], document["quick"], list(document["systems"])) == (1, True, ["ringcast"])
    ringcast = document["systems"]["ringcast"]
    assert ringcast["not_measured"] == {}
    assert list(ringcast["workloads"]) == ["pipelined", "batched", "tasks", "one"]
    for name, workload in ringcast["workloads"].items():
        assert _number(workload["messages_per_second"]), name
        assert _number(workload["repetitions"][0]["messages"]), name
    latency = ringcast["workloads"]["one"]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert _number(ringcast["peak_memory_mb_per_replica"])
    for kind in ("undisturbed", "client_on_survivor", "client_on_killed", "holder_stopped"):
        assert (ringcast["gap"][kind]["times"], ringcast["gap"][kind]["without_receipt"]) == (1, 0)
        assert _number(ringcast["gap"][kind]["worst_ms"])
    assert document["goals"]
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == document


def test_readers_idleness_hops_catching_up_and_memory() -> None:
    run = Run(Options(against=()), lambda _: None, quick=True)
    run._extras()
    extras = run.results.extras
    assert run.results.systems == {}
    assert len(extras["idle"]["percent"]) == 3
    assert extras["hops"]["traced"] > 0
    assert extras["subscriber"]["messages"] == run.options.count
    assert _number(extras["subscriber"]["async_for_per_second"])
    assert _number(extras["subscriber"]["batches_per_second"])
    assert extras["catch_up"]["mb"] >= run.options.catch_up_mb
    assert _number(extras["catch_up"]["mb_per_second"])
    assert extras["memory"]["messages"] >= run.options.memory_messages
    assert _number(extras["memory"]["late_mb"])


def test_floors() -> None:
    assert all(map(_number, measure_floors(10).values()))


@pytest.mark.parametrize(
    "system",
    [one for one in systems_of(Options(against=PEERS, extras=False))[1:] if one.name not in {"nats", "pysyncobj"}],
    ids=lambda one: one.name,
)
def test_a_peer_answers_and_is_gone_afterwards(system: System) -> None:
    missing = system.missing()
    if missing is not None:
        pytest.skip(missing)
    workload = ONE if ONE in system.workloads else system.workloads[0]
    with running(system):
        pids = system.pids()
        sample = measure(Job(system.client, system.endpoints(), 3, workload, 100, 20, 2.0, 8, tuple(pids)))
        assert len(pids) >= 2
    assert sample.messages >= 1
    assert system.pids() == []


def test_a_peer_that_is_not_there_is_skipped_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.systems.redis.program", lambda _: None)
    said: list[str] = []
    run = Run(Options(against=("redis",), extras=False), said.append, quick=True)
    assert [system.name for system in run._present()] == ["ringcast"]
    assert said == [f"redis is skipped: {run.results.skipped['redis']}"]


@pytest.mark.parametrize(
    ("error", "why"), [(BenchError("the client ended"), "the client ended"), (OSError("gone"), "OSError: gone")]
)
def test_a_workload_that_fails_is_named_and_the_rest_goes_on(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job: Job) -> Any:
        raise error

    monkeypatch.setattr("bench.run.measure", refuse)
    run = Run(Options(replicas=1, against=(), extras=False, kills=0), lambda _: None, quick=True)
    found = run.go().systems["ringcast"]
    assert found.samples == {}
    assert set(found.not_measured.values()) == {why}


def test_the_gaps_before_a_failure_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_and_no_more(_system: System, _options: Options, found: dict[str, Gaps]) -> None:
        found["client_on_survivor"] = Gaps([20.0, 40.0])
        raise BenchError("a replica was aborted")

    monkeypatch.setattr("bench.run.ringcast_gaps", two_and_no_more)
    run = Run(Options(replicas=1, against=(), extras=False), lambda _: None, quick=True)
    run._gap(systems_of(run.options)[0])
    found = run.results.systems["ringcast"]
    assert found.gap is not None
    assert (found.gap["client_on_survivor"]["median_ms"], found.not_measured) == (30, {"gap": "a replica was aborted"})


def test_after_its_minutes_a_run_begins_nothing_more() -> None:
    run = Run(Options(replicas=1, against=(), extras=False, run_minutes=0), lambda _: None, quick=True)
    found = run.go().systems["ringcast"]
    assert (found.samples, found.gap) == ({}, None)
    assert set(found.not_measured.values()) == {"the 0 minutes of the run were over"}


def test_an_unknown_peer_is_wrong_usage() -> None:
    result = CliRunner().invoke(app, ["bench", "bus", "--against", "kafka"])
    assert result.exit_code == 2
    assert "kafka" in result.stderr


def test_an_interrupt_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "cli", "bench", "bus", "--quick", "--against", "", "--no-extras"]
    run = subprocess.Popen(command, env={"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stderr is not None
    for line in run.stderr:
        if b"pipelined" in line:
            break
    (folder,) = tmp_path.glob("ringcast-bench-*")
    pids = [one["pid"] for one in json.loads((folder / "cluster.json").read_text(encoding="utf-8"))["replicas"]]
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=30)
    assert run.returncode == 130
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.glob("ringcast-bench-*")) == []
