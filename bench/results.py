"""What a run found: samples of each system and workload, their medians, and the whole as one JSON document."""

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.job import Sample
from bench.measure import middle
from bench.options import Options
from bench.systems import System
from bench.systems.nats import program

FORMAT = 1
LATENCIES = ("p50", "p95", "p99", "max")


@dataclass(slots=True)
class SystemResult:
    """One system. `samples`: by workload, one for each repetition; `not_measured`: by workload, why not."""

    label: str
    remark: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    peaks_mb: list[float] = field(default_factory=list)
    gap: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Medians of the repetitions beside what they are medians of."""
        return {
            "label": self.label,
            "remark": self.remark,
            "peak_memory_mb_per_replica": _rounded(middle(self.peaks_mb)),
            "workloads": {name: _workload(samples) for name, samples in self.samples.items() if samples},
            "not_measured": self.not_measured,
            "gap": self.gap,
        }


def _workload(samples: list[Sample]) -> dict[str, Any]:
    timed = [one.latency_ms for one in samples if one.latency_ms]
    latency = {name: _rounded(middle(one[name] for one in timed), 4) for name in LATENCIES} if timed else None
    return {
        "window": samples[0].window,
        "messages_per_second": _rounded(middle(one.messages_per_second for one in samples)),
        "cpu_s_per_100k": _rounded(middle(one.cpu_s_per_100k for one in samples), 3),
        "latency_ms": latency,
        "repetitions": [
            {
                "messages_per_second": _rounded(one.messages_per_second),
                "messages": one.messages,
                "seconds": _rounded(one.seconds, 3),
                "cpu_s": _rounded(one.cpu_s, 3),
                "client_cpu_s": _rounded(one.client_cpu_s, 3),
                "latency_ms": one.latency_ms,
            }
            for one in samples
        ],
    }


def _rounded(value: float | None, places: int = 1) -> float | None:
    return None if value is None else round(value, places)


@dataclass(slots=True)
class Results:
    """Everything of one run. `skipped`: systems that are not installed, and why."""

    options: Options
    quick: bool = False
    systems: dict[str, SystemResult] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    floors: list[dict[str, float]] = field(default_factory=list)
    extras: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, system: System) -> SystemResult:
        """The result of a system, made at its first use."""
        return self.systems.setdefault(system.name, SystemResult(system.label, system.remark))

    def as_dict(self) -> dict[str, Any]:
        """The JSON document, without the goals (bench/goals.py adds them)."""
        names = self.floors[0] if self.floors else {}
        return {
            "format": FORMAT,
            "quick": self.quick,
            "machine": machine(),
            "options": asdict(self.options),
            "skipped": self.skipped,
            "floors": {name: middle(one[name] for one in self.floors) for name in names},
            "systems": {name: result.as_dict() for name, result in self.systems.items()},
            **self.extras,
        }


def machine() -> dict[str, Any]:
    """What the numbers were measured on: kinds and versions, no names and no places."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": _number(platform.release()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "servers": {name: _server_version(name) for name in SERVERS},
    }


PACKAGES = ("ringcast", "pyzmq", "uvloop", "lmdb", "nats-py", "grpcio", "PySyncObj", "redis")
SERVERS = ("nats-server", "etcd", "redis-server")
_VERSION_TIMEOUT_S = 10.0


def _number(text: str) -> str | None:
    """The first version number in a text."""
    found = re.search(r"\d+(\.\d+)+", text)
    return None if found is None else found[0]


def _server_version(name: str) -> str | None:
    found = program(name)
    if found is None:
        return None
    run = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_TIMEOUT_S)
    return _number(run.stdout)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
