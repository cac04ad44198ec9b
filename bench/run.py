"""One run: systems x workloads x repetitions, then gaps, then what only Ringcast is asked for."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.catch_up import catch_up
from bench.errors import BenchError, NotMeasurable
from bench.floors import measure_floors
from bench.gap import Gaps, peer_gaps, ringcast_gaps
from bench.hops import TracedRingcast, hops
from bench.job import Job, Sample, measure, run_client
from bench.measure import CpuMeter, middle, peak_memory_mb
from bench.memory import memory
from bench.options import Options
from bench.plan import systems_of, turned
from bench.results import Results
from bench.systems import ONES, System
from bench.systems.ringcast import Ringcast

Say = Callable[[str], None]

#: Elections, first snapshots and the last client's farewell are no idleness.
SETTLE_S = 2.0
_SETTLE_QUICK_S = 0.2


@contextlib.contextmanager
def running(system: System) -> Iterator[System]:
    """Its servers in a temporary folder, which is gone behind the block, as they are."""
    folder = Path(tempfile.mkdtemp(prefix="ringcast-bench-"))
    try:
        system.start(folder)
        yield system
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Run:
    """`Run(options, say).go()`; `say` hears a line at each step."""

    def __init__(self, options: Options, say: Say, *, quick: bool = False) -> None:
        self.options = options.quick if quick else options
        self.results = Results(self.options, quick)
        self._say = say
        self._end_s = time.monotonic() + 60 * self.options.run_minutes
        self._windows: dict[tuple[str, str], int] = {}

    def go(self) -> Results:
        """Measure everything; what fails is in `not_measured`, and the rest goes on."""
        systems = self._present()
        for repetition in range(self.options.repetitions):
            self._say(f"repetition {repetition + 1} of {self.options.repetitions}: floors")
            self.results.floors.append(measure_floors(self.options.floor_count))
            for system in turned(systems, repetition):
                self._measure(system, repetition)
        for system in systems:
            self._gap(system)
        if self.options.extras:
            self._extras()
        return self.results

    def _systems(self) -> list[System]:
        return systems_of(self.options)

    def _present(self) -> list[System]:
        found = []
        for system in self._systems():
            missing = system.missing()
            if missing is None:
                found.append(system)
            else:
                self.results.skipped[system.name] = missing
                self._say(f"{system.name} is skipped: {missing}")
        return found

    # ---- throughput and latency ----

    def _measure(self, system: System, repetition: int) -> None:
        result = self.results.of(system)
        for block in self._blocks(system):
            wanted = [workload for workload in block if workload not in result.not_measured]
            if not wanted:
                continue
            with self._going_on(system, wanted):
                self._in_time()
                for workload in wanted if repetition == 0 and system.fresh else ():
                    self._tune(system, workload)
                with running(system):
                    for workload in wanted:
                        with self._going_on(system, [workload]):
                            self._workload(system, workload)
                    result.peaks_mb.append(max(map(peak_memory_mb, system.pids())))

    def _blocks(self, system: System) -> list[list[str]]:
        """Workloads that share servers."""
        every = list(system.workloads)
        return [[workload] for workload in every] if system.fresh else [every]

    def _workload(self, system: System, workload: str) -> None:
        self._in_time()
        if not system.fresh:
            self._tune(system, workload)
        window = self._windows.get((system.name, workload), 1)
        sample = self._sample(system, workload, window, tuning=False)
        self.results.of(system).samples.setdefault(workload, []).append(sample)
        self._say(f"{system.label}, {workload}, window {window}: {sample.messages_per_second:,.0f}/s")

    @contextlib.contextmanager
    def _going_on(self, system: System, workloads: list[str]) -> Iterator[None]:
        """Whatever fails within is told and kept, and the run goes on: one system must not take the others with it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a peer's library may raise anything
            why = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            for workload in workloads:
                self.results.of(system).not_measured.setdefault(workload, why)
            self._say(f"{system.label}, {', '.join(workloads)}: not measured: {why}")

    def _in_time(self) -> contextlib.nullcontext[None]:
        """Raises NotMeasurable when nothing may be begun any more."""
        if time.monotonic() > self._end_s:
            raise NotMeasurable(f"the {self.options.run_minutes} minutes of the run were over")
        return contextlib.nullcontext()

    def _tune(self, system: System, workload: str) -> None:
        """Find the best window, once for each system and workload."""
        key = (system.name, workload)
        if key in self._windows:
            return
        windows = self.options.windows if workload not in ONES else (1,)
        if len(windows) == 1:
            self._windows[key] = windows[0]
            return
        rates = {window: self._tuning_rate(system, workload, window) for window in windows}
        self._windows[key] = max(rates, key=rates.__getitem__)

    def _tuning_rate(self, system: System, workload: str, window: int) -> float:
        if not system.fresh:
            return self._sample(system, workload, window, tuning=True).messages_per_second
        with running(system):
            return self._sample(system, workload, window, tuning=True).messages_per_second

    def _sample(self, system: System, workload: str, window: int, *, tuning: bool) -> Sample:
        options = self.options
        one = workload in ONES
        seconds = options.tune_seconds if tuning else options.one_seconds if one else options.seconds
        job = self._job(system, workload, options.one_count if one else options.count, seconds)
        return measure(replace(job, window=window, pids=tuple(system.pids())))

    def _job(self, system: System, workload: str, count: int, seconds: float) -> Job:
        replicas = system.replicas if isinstance(system, Ringcast) else self.options.replicas
        return Job(system.client, system.endpoints(), replicas, workload, self.options.payload, count, seconds)

    # ---- gaps ----

    def _gap(self, system: System) -> None:
        ours = isinstance(system, Ringcast)
        if (ours and system.name != "ringcast") or not (self.options.kills if ours else self.options.peer_kills):
            return
        self._say(f"{system.label}: gap")
        result = self.results.of(system)
        found: dict[str, Gaps] = {}
        gaps = Gaps()
        with self._going_on(system, ["gap"]):
            if isinstance(system, Ringcast):
                with self._in_time(), running(system):
                    ringcast_gaps(system, self.options, found)
            else:
                self._peer_gaps(system, gaps)
        of_kinds = {kind: gaps.as_dict() for kind, gaps in found.items()} or None
        result.gap = gaps.as_dict() if gaps.gaps_ms else of_kinds

    def _peer_gaps(self, system: System, gaps: Gaps) -> None:
        """A system whose publisher is one of its nodes is new for each kill: once killed, that node may lead."""
        kills = self.options.peer_kills
        times, options = (kills, replace(self.options, peer_kills=1)) if system.fresh else (1, self.options)
        for _ in range(times):
            with self._in_time(), running(system):
                peer_gaps(system, options, gaps)

    # ---- what only Ringcast is asked for ----

    def _extras(self) -> None:
        works: dict[str, Callable[[Ringcast], dict[str, Any]]] = {
            "idle": self._idle,
            "hops": lambda system: hops(system, self.options),
            "subscriber": self._subscriber,
            "catch_up": lambda system: catch_up(system, self.options),
            "memory": lambda system: memory(system, self.options),
        }
        for name, work in works.items():
            self._say(f"Ringcast: {name}")
            kind = TracedRingcast if name == "hops" else Ringcast
            system = kind(self.options.replicas, self.options.durability)
            with self._going_on(system, [name]), self._in_time(), running(system):
                self.results.extras[name] = work(system)

    def _idle(self, system: Ringcast) -> dict[str, Any]:
        time.sleep(_SETTLE_QUICK_S if self.results.quick else SETTLE_S)
        began_s = time.monotonic()
        meter = CpuMeter(system.pids())
        time.sleep(self.options.idle_seconds)
        percents = [100 * used / (time.monotonic() - began_s) for used in meter.used()]
        return {"percent": [round(one, 2) for one in percents], "worst_percent": round(max(percents), 2)}

    def _subscriber(self, system: Ringcast) -> dict[str, Any]:
        job = self._job(system, "subscriber", self.options.count, self.options.seconds)
        rounds = [run_client(job, "bench.subscriber") for _ in range(self.options.repetitions)]
        return {name: middle(one[name] for one in rounds) for name in rounds[0]}
