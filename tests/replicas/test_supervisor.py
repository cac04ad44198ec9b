"""replicas/supervisor.py: which ends are crashes, how long it waits, and what its processes do to each other."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicas.local.processes import start_time
from replicas.supervisor import (
    FINAL_CODES,
    PAUSE_S_MAX,
    SOUND_AFTER_S,
    VARIABLE,
    BackOff,
    End,
    is_crash,
    is_wanted,
    oom_kills,
)
from tests.project.sources import ROOT

HEAVY = ("zmq", "lmdb", "pydantic", "typer", "structlog", "asyncio", "ctypes", "subprocess", "json")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("serve bus", True),
        ("serve products --config products.toml", True),
        ("--cluster c.json --keys=k serve sellers", True),
        ("serve buyers --no-supervise", False),
        ("serve bus --help", False),
        ("serve", False),
        ("serve nothing", False),
        ("publish serve bus", False),
        ("--version", False),
        ("", False),
    ],
)
def test_command_lines_that_run_a_role_are_supervised(line: str, wanted: bool) -> None:
    assert is_wanted(line.split(), {}) is wanted


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("False", False), ("no", False), ("1", True), ("", True)])
def test_the_environment_turns_it_off_and_an_option_on_again(value: str, wanted: bool) -> None:
    assert is_wanted(["serve", "bus"], {VARIABLE: value}) is wanted
    assert is_wanted(["serve", "bus", "--supervise"], {VARIABLE: value})


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGPIPE, 40])
def test_a_signal_that_nobody_sends_is_a_crash_at_any_time(number: int) -> None:
    for ever_up in (False, True):
        assert is_crash(End(number, 128 + number), ever_up=ever_up)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_a_signal_that_an_operator_sends_is_an_order(number: int) -> None:
    assert not is_crash(End(number, 128 + number), ever_up=True)


def test_a_kill_by_the_kernel_for_want_of_memory_is_a_crash() -> None:
    end = End(signal.SIGKILL, 137, starved=True)
    assert is_crash(end, ever_up=True)
    assert str(end) == "SIGKILL, out of memory"
    assert not is_crash(End(signal.SIGTERM, 143, starved=True), ever_up=True)


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_what_an_operator_has_to_read_first_is_final(code: int) -> None:
    assert not is_crash(End(None, code), ever_up=True)


@pytest.mark.parametrize("code", [1, 6, 70])
def test_other_exit_codes_are_crashes_once_a_worker_was_up(code: int) -> None:
    """At the first start they are a mistake that `up` reports: an address that is taken, a broken installation."""
    assert not is_crash(End(None, code), ever_up=False)
    assert is_crash(End(None, code), ever_up=True)
    assert str(End(None, code)) == f"exit code {code}"


def test_pauses_double_up_to_a_bound_and_end_with_a_worker_that_ran_well() -> None:
    back_off = BackOff()
    pauses = [back_off.pause_s(0.1) for _ in range(8)]
    assert pauses[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == PAUSE_S_MAX
    assert back_off.pause_s(SOUND_AFTER_S) == 0.0
    assert back_off.pause_s(1.0) == 0.5


def test_the_kernel_says_how_often_memory_ran_out() -> None:
    assert oom_kills() >= 0


def test_the_supervisor_imports_nothing_heavy() -> None:
    text = "import sys, cli.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(HEAVY) & set(done.stdout.split())


# ---------------------------------------------------------------------- processes


@contextmanager
def inherited(number: signal.Signals, handler: signal.Handlers) -> Iterator[None]:
    """What processes that are started meanwhile find set for this signal."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def supervised(*steps: str) -> Iterator[subprocess.Popen[str]]:
    """A supervisor with workers that do these steps, one each."""
    command = [sys.executable, "-m", "tests.replicas.supervised", *steps]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> tuple[int, int, str]:
    """What the next worker says: its pid, restarts, the last reason."""
    assert process.stdout is not None
    pid, times, reason = process.stdout.readline().rstrip("\n").split(" ", 2)
    return int(pid), int(times), reason


def test_a_worker_that_crashes_is_followed_by_another_that_knows_why() -> None:
    with supervised("SIGABRT", "up-exit-1", "SIGSEGV", "exit-3") as process:
        pids = set()
        for times, reason in enumerate(("", "SIGABRT", "exit code 1", "SIGSEGV")):
            pid, *rest = line(process)
            assert rest == [times, reason]
            pids.add(pid)
        assert process.wait(30) == 3
        assert len(pids) == 4
        assert process.stderr is not None
        said = process.stderr.read().splitlines()
        assert len(said) == 3
        assert "ended by SIGABRT after" in said[0]
        assert said[0].endswith("restart 1 in 0 s")


@pytest.mark.parametrize(("step", "code"), [("exit-0", 0), ("exit-2", 2), ("exit-1", 1), ("up-exit-4", 4)])
def test_it_ends_as_a_worker_that_is_final_did(step: str, code: int) -> None:
    with supervised(step) as process:
        assert process.wait(30) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_is_the_workers_and_ends_both(number: signal.Signals) -> None:
    # A shell without job control starts what runs in the background with SIGINT ignored, these tests too.
    with inherited(number, signal.SIG_DFL), supervised("up-sleep") as process:
        worker, *_ = line(process)
        process.send_signal(number)
        # Python's worker ends by KeyboardInterrupt, the others by default.
        assert process.wait(30) == -number
        assert start_time(worker) is None


def test_a_signal_that_is_ignored_is_no_order() -> None:
    """As SIGHUP below nohup."""
    with inherited(signal.SIGHUP, signal.SIG_IGN), supervised("up-sleep", "up-sleep") as process:
        worker, *_ = line(process)
        process.send_signal(signal.SIGHUP)
        os.kill(worker, signal.SIGABRT)
        assert line(process)[1:] == (1, "SIGABRT")


def test_kill_9_of_the_worker_is_an_order() -> None:
    with supervised("up-sleep") as process:
        worker, *_ = line(process)
        os.kill(worker, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


def test_the_worker_dies_with_its_supervisor() -> None:
    with supervised("up-sleep") as process:
        worker, *_ = line(process)
        descriptor = os.pidfd_open(worker)
        process.kill()
        try:
            assert select.select([descriptor], [], [], 30)[0]
        finally:
            os.close(descriptor)


def test_it_is_stopped_while_it_waits_before_a_restart() -> None:
    with supervised(*["SIGABRT"] * 6, "sleep") as process:
        for _ in range(3):
            line(process)
        process.send_signal(signal.SIGTERM)  # in the pause of a second or more behind the third crash
        assert process.wait(30) in {0, -signal.SIGABRT, -signal.SIGTERM}


def test_it_is_small() -> None:
    with supervised("up-sleep") as process:
        line(process)
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        resident_kb = int(next(row.split()[1] for row in status.splitlines() if row.startswith("VmRSS")))
        assert resident_kb < 24_000
