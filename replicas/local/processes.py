"""Processes by (pid, start time): a pid alone is given again, so a signal goes only to the process that was meant."""

import os
import signal
import subprocess
from pathlib import Path


def start_time(pid: int) -> str | None:
    """When a process started, as an opaque text; None if it does not run (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return _start_time_by_ps(pid) if not Path("/proc/self/stat").exists() else None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} and _threads(pid) <= 1 else fields[19].decode()


def _threads(pid: int) -> int:
    """A killed process is a zombie by its first thread while others still hold its files."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _start_time_by_ps(pid: int) -> str | None:
    """Where there is no /proc."""
    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = found.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def is_running(pid: int, started: str) -> bool:
    """Does this very process run?"""
    return pid > 0 and start_time(pid) == started


def send_signal(pid: int, started: str, number: signal.Signals) -> bool:
    """Signal a process if it is the one that started then; False if that one is gone, or never was (pid 0)."""
    if pid <= 0:
        return False
    if not hasattr(os, "pidfd_open"):
        if not is_running(pid, started):
            return False
        os.kill(pid, number)
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor holds the process: what is checked now is what is signalled.
        if not is_running(pid, started):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
