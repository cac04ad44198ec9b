"""Processes by pid and start time."""

import os
import signal
import subprocess
import sys

from replicas.local.processes import is_running, send_signal, start_time


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_process_is_known_by_its_start() -> None:
    own = start_time(os.getpid())
    assert own is not None
    assert is_running(os.getpid(), own)
    assert not is_running(os.getpid(), own + "1")
    assert not is_running(0, own)


def test_only_the_process_that_was_meant_is_signalled() -> None:
    with _sleeper() as child:
        started = start_time(child.pid) or ""
        assert not send_signal(child.pid, started + "1", signal.SIGKILL)
        assert child.poll() is None
        assert send_signal(child.pid, started, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        assert not send_signal(child.pid, started, signal.SIGKILL)
        assert not is_running(child.pid, started)
    assert not send_signal(0, "", signal.SIGTERM)


def test_a_zombie_does_not_run() -> None:
    with _sleeper() as child:
        started = start_time(child.pid) or ""
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert start_time(child.pid) is None
        assert not is_running(child.pid, started)
