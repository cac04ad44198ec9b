"""The supervisor of `ringcast serve`: the role runs in a child process, which is started again when it crashes.

A client must not cost the ring a member: an assertion in libzmq (broker/sockets.py, SocketLimits), a bug in a C library
or the kernel's OOM killer end the worker, and the supervisor starts the next one at once, then ever later, without
end. A worker that stops in order, or with an exit code that an operator has to read first, is not started again, and
the supervisor ends as the worker did. `kill -9` of the worker is an order too, unless the kernel gave it for want of
memory.

The supervisor forks before anything heavy is imported, so this module imports the standard library's small modules
alone. The worker dies with its supervisor (PR_SET_PDEATHSIG); the processes do not talk but for one byte, "came up".
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from replicas.clocks import wall_us

ROLES = frozenset({"bus", "products", "sellers", "buyers"})
#: "0" turns the supervisor off, as --no-supervise does.
VARIABLE = "RINGCAST_SUPERVISE"
#: Exit codes that another start does not change, or that are to be read first (docs/operations.md, "Exit codes").
FINAL_CODES = frozenset({0, 2, 3, 4, 5, 7, 130})
#: Signals by which somebody ends a process on purpose.
ORDERS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM})
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_NOT_TO_STOP = frozenset({signal.SIGUSR1, signal.SIGUSR2})
#: The first restart is at once, the second after FIRST_PAUSE_S, and each later one after twice the pause.
FIRST_PAUSE_S = 0.5
PAUSE_S_MAX = 10.0
#: A worker that ran for so long is taken for sound: the next restart is at once again.
SOUND_AFTER_S = 30.0
_OPTIONS_WITH_VALUE = frozenset({"--cluster", "--keys"})
_PR_SET_PDEATHSIG = 1


class Restarts(NamedTuple):
    """How often this process's supervisor has started a worker again, and why and when it last did."""

    times: int = 0
    reason: str = ""
    at_us: int = 0


class _Process:
    """What the worker has of its supervisor: inherited by fork."""

    restarts = Restarts()
    came_up: int | None = None  # the descriptor to say it on


def restarts() -> Restarts:
    """Those of this process's supervisor; none without one."""
    return _Process.restarts


def report() -> dict[str, str | int | None]:
    """The part of every role's status and /readyz that the supervisor knows."""
    found = _Process.restarts
    return {"restarts": found.times, "last_restart": found.reason or None, "last_restart_us": found.at_us}


def came_up() -> None:
    """The worker listens: from now on an unexpected exit code is a crash, and no mistake in its settings."""
    descriptor, _Process.came_up = _Process.came_up, None
    if descriptor is not None:
        os.write(descriptor, b"1")
        os.close(descriptor)


# ---------------------------------------------------------------------- decisions


def is_wanted(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Does this command line run a role, and under a supervisor?"""
    left = list(arguments)
    while left and left[0].startswith("-"):
        if left.pop(0) in _OPTIONS_WITH_VALUE and left:
            left.pop(0)
    if len(left) < 2 or left[0] != "serve" or left[1] not in ROLES or {"--help", "--no-supervise"} & set(left):
        return False
    return "--supervise" in left or is_on(environment)


def is_on(environment: Mapping[str, str]) -> bool:
    """As the environment says, where no option does."""
    return environment.get(VARIABLE, "").lower() not in {"0", "false", "no", "off", "f", "n"}


class End(NamedTuple):
    """How a worker ended: by a signal, or with an exit code. `starved`: the kernel ended some for want of memory."""

    by_signal: int | None
    code: int
    starved: bool = False

    def __str__(self) -> str:
        if self.by_signal is None:
            return f"exit code {self.code}"
        number = self.by_signal
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"{name}, out of memory" if self.starved and number == signal.SIGKILL else name


def is_crash(end: End, *, ever_up: bool) -> bool:
    """Is the worker to be started again? `ever_up`: one of this supervisor's workers has come up."""
    if end.by_signal is not None:
        return end.by_signal not in ORDERS or (end.by_signal == signal.SIGKILL and end.starved)
    return end.code not in FINAL_CODES and ever_up


class BackOff:
    """How long to wait before a restart."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def pause_s(self, ran_s: float) -> float:
        """After a worker that ran for so long."""
        if ran_s >= SOUND_AFTER_S:
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row == 1:
            return 0.0
        return min(FIRST_PAUSE_S * 2.0 ** min(self._in_a_row - 2, 16), PAUSE_S_MAX)


def oom_kills() -> int:
    """Processes that the kernel has ended for want of memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat", "rb") as file:  # noqa: PTH123 - pathlib costs more than the rest of this module
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


# ---------------------------------------------------------------------- processes


def supervise(listed: Callable[[], None]) -> None:
    """Return in a worker, each time one is started; the supervisor itself ends as the last worker did.

    `listed`: called in each worker first, where `ringcast up` is told which process it is.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be inherited, it would hide how a worker ended
    # What is ignored (SIGHUP below nohup) stays so: a blocked signal would be found waiting all the same.
    heard = tuple(one for one in FORWARDED if signal.getsignal(one) is not signal.SIG_IGN)
    watched = (signal.SIGCHLD, *heard)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    back_off, ever_up = BackOff(), False
    while True:
        started, kills = time.monotonic(), oom_kills()
        read_end, write_end = os.pipe()
        supervisor = os.getpid()
        worker = os.fork()
        if worker == 0:
            os.close(read_end)
            _become_worker(supervisor, write_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            listed()
            return
        os.close(write_end)
        end, told_to_stop = _wait(worker, watched)
        ever_up |= os.read(read_end, 1) == b"1"
        os.close(read_end)
        end = end._replace(starved=oom_kills() > kills)
        if told_to_stop or not is_crash(end, ever_up=ever_up):
            _end_like(end, before)
        ran_s = time.monotonic() - started
        pause_s = back_off.pause_s(ran_s)
        count = _Process.restarts.times + 1
        _Process.restarts = Restarts(count, str(end), wall_us())
        _say(f"process {worker} ended by {end} after {ran_s:.1f} s: restart {count} in {pause_s:g} s")
        if _told_to_stop_within(pause_s, heard):
            _end_like(End(None, 0), before)


def _become_worker(supervisor: int, write_end: int) -> None:
    _Process.came_up = write_end
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - the supervisor does without

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != supervisor:  # it died before we asked
        os._exit(128 + signal.SIGKILL)


def _wait(worker: int, watched: Sequence[signal.Signals]) -> tuple[End, bool]:
    """Forward signals until the worker has ended; how it did, and whether one of them told it to."""
    told_to_stop = False
    while True:
        found = signal.sigwaitinfo(watched)
        if found.si_signo != signal.SIGCHLD:
            told_to_stop |= found.si_signo not in _NOT_TO_STOP
            if found.si_code <= 0:  # what the terminal sends (a code above 0) has reached the worker too
                os.kill(worker, found.si_signo)
            continue
        # As process 1 of a container we also have its orphans.
        while (reaped := _reap()) is not None:
            if reaped[0] == worker:
                status = reaped[1]
                if os.WIFSIGNALED(status):
                    return End(os.WTERMSIG(status), 128 + os.WTERMSIG(status)), told_to_stop
                return End(None, os.waitstatus_to_exitcode(status)), told_to_stop


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _told_to_stop_within(seconds: float, heard: Sequence[signal.Signals]) -> bool:
    """Wait before a restart; no worker is there to be told."""
    stops = [one for one in heard if one not in _NOT_TO_STOP]
    return signal.sigtimedwait(stops, seconds) is not None


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # its log may have no reader any more
        os.write(2, f"ringcast supervisor: {text}\n".encode())


def _end_like(end: End, mask: "set[int | signal.Signals]") -> NoReturn:
    """End as the worker did, so that our parent sees the same. Process 1 cannot die by a signal: it says the code."""
    if end.by_signal is not None:
        if end.by_signal not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(end.by_signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.kill(os.getpid(), end.by_signal)
    os._exit(end.code)
