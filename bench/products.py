"""One run of the product store: beside etcd and PySyncObj, then gaps, searches, an empty member, a million items."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ringcast
from bench.clients.products import CATEGORIES, WORDS, item
from bench.errors import BenchError, NotMeasurable, ProcessFailed
from bench.gap import Gaps, peer_gaps
from bench.goals import Goal, evaluate
from bench.measure import anonymous_memory_mb, peak_memory_mb, percentiles_ms
from bench.options import Options
from bench.plan import systems_of
from bench.report import RESULTS
from bench.run import Run, Say, running
from bench.systems import READS, System
from bench.systems.etcd import Etcd
from bench.systems.products import Products
from ringcast.product_store.admin import MakeSnapshot
from ringcast.product_store.rows import Row, import_rows

PEERS = ("etcd", "pysyncobj")
#: What is measured, and can be asked for alone.
PARTS = ("compare", "gaps", "search", "catch_up", "million")
#: There are twice as many workloads as of the bus, and a store fills up: each is shorter.
WORKLOAD: dict[str, Any] = {"windows": (256, 1_024, 4_096), "count": 100_000, "seconds": 5.0, "one_seconds": 3.0}
PAGE = 100
IN_FLIGHT = 4_096
TIMEOUT_S = 600.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items, and how many searches of each kind."""

    search_items: int = 100_000
    searches: int = 300
    catch_up_items: int = 100_000
    million: int = 1_000_000

    @property
    def quick(self) -> "Sizes":
        """Shows that it works, measures nothing."""
        return Sizes(2_000, 10, 2_000, 3_000)


class ProductsRun(Run):
    """`ProductsRun(options, say, parts=PARTS).go()`. `options.kills`: kill -9 of the leader."""

    def __init__(self, options: Options, say: Say, *, parts: Sequence[str] = PARTS, quick: bool = False) -> None:
        super().__init__(options, say, quick=quick)
        self._parts = parts
        self._sizes = Sizes().quick if quick else Sizes()

    def _systems(self) -> list[System]:
        """Etcd is read too; of PySyncObj each node is what an application embeds, so a read asks nobody."""
        peers = replace(self.options, against=tuple(name for name in self.options.against if name in PEERS))
        theirs = [one for one in systems_of(replace(peers, extras=False))[1:] if one.client in self.options.against]
        for one in theirs:
            if isinstance(one, Etcd):
                one.workloads = (*one.workloads, *READS)
        return [Products(self.options.replicas), *theirs]

    def _measure(self, system: System, repetition: int) -> None:
        if "compare" in self._parts:
            super()._measure(system, repetition)

    def _gap(self, system: System) -> None:
        ours = isinstance(system, Products)
        times = self.options.kills if ours else self.options.peer_kills
        if "gaps" not in self._parts or not times:
            return
        self._say(f"{system.label}: gap")
        options = replace(self.options, peer_kills=times)
        gaps = Gaps()
        with self._going_on(system, ["gap"]), running(system):
            peer_gaps(system, options, gaps)
        if gaps.gaps_ms:
            self.results.of(system).gap = gaps.as_dict()

    def _extras(self) -> None:
        works: dict[str, Callable[[Products], dict[str, Any]]] = {
            "search": self._search,
            "catch_up": self._catch_up,
            "million": self._million,
        }
        for name, work in works.items():
            if name not in self._parts:
                continue
            system = Products(self.options.replicas)
            self._say(f"{system.label}: {name}")
            try:
                with running(system):
                    self.results.extras[name] = work(system)
            except (BenchError, ringcast.RingcastError) as error:
                self.results.of(system).not_measured[name] = str(error)
                self._say(f"{system.label}, {name}: not measured: {error}")

    # ---- what only Ringcast is asked for ----

    def _search(self, system: Products) -> dict[str, Any]:
        """Pages of 100 by one client, of categories that hold a twentieth of the items each."""
        sizes = self._sizes

        async def work() -> dict[str, Any]:
            async with ringcast.products(system.endpoints(), timeout=TIMEOUT_S) as store:
                await load(store, sizes.search_items)
                found = {name: await _searches(store, sizes.searches, count) for name, count in KEYWORDS.items()}
            return {"items": sizes.search_items, **found}

        return asyncio.run(work())

    def _catch_up(self, system: Products) -> dict[str, Any]:
        """An empty member, by the others' log or snapshot, with nobody writing meanwhile."""
        if system.replicas < 3:
            raise NotMeasurable(f"with {system.replicas} replicas nobody may be wiped")
        asyncio.run(_loaded(system, self._sizes.catch_up_items))
        leader = system.leader()
        member = next(one for one in system.cluster.replicas if one != leader)
        target = int((system.status(leader) or {"commit": 0})["commit"])
        system.wipe(member)
        began_s = time.monotonic()
        system.cluster.start([member])
        first_s, end_s = _watch(system, member, target)
        return {
            "items": self._sizes.catch_up_items,
            "seconds": round(end_s - first_s, 3),
            "seconds_from_start": round(end_s - began_s, 3),
        }

    def _million(self, system: Products) -> dict[str, Any]:
        """Load, search, snapshot. Memory of the largest replica: all that it ever touched, and what no file holds."""
        count = self._sizes.million
        found: dict[str, Any] = {"items": count}

        async def work() -> None:
            async with ringcast.products(system.endpoints(), timeout=TIMEOUT_S) as store:
                seconds = await load(store, count)
                found["load_seconds"], found["load_per_second"] = round(seconds, 1), round(count / seconds)
                found["search"] = await _searches(store, self._sizes.searches, KEYWORDS["three_keywords"])
                began_s = time.monotonic()
                made: Any = await store.instruct(MakeSnapshot())
                found["snapshot_seconds"] = round(time.monotonic() - began_s, 2)
                found["snapshot_mb"] = round(made["bytes"] / 1e6, 1)

        asyncio.run(work())
        pids = system.pids()
        found["peak_mb"] = round(max(map(peak_memory_mb, pids)), 1)
        found["anonymous_mb"] = round(max(map(anonymous_memory_mb, pids)), 1)
        return found


def merged(folder: Path, document: dict[str, Any], goals: Sequence[Goal]) -> dict[str, Any]:
    """The document, with what `results.json` in the folder has of parts that were not measured now."""
    path = folder / f"{RESULTS}.json"
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if before.get("format") != document["format"] or before["quick"] != document["quick"]:
        return document
    systems = {**before["systems"], **document["systems"]}
    for name, system in systems.items():
        old = before["systems"].get(name, {})
        systems[name] = {key: value or old.get(key, value) for key, value in system.items()}
    whole = {**before, **document, "systems": systems}
    whole["floors"] = document["floors"] or before["floors"]
    return {**whole, "goals": [outcome.as_dict() for outcome in evaluate(whole, goals)]}


#: Keywords of a search -> how many.
KEYWORDS = {"category": 0, "one_keyword": 1, "three_keywords": 3}


async def load(store: ringcast.ProductStore, count: int) -> float:
    """Put so many items on sale; the seconds that it took."""
    rows: Iterator[Row] = (Row(number, item(number, f"item {number}")) for number in range(count))
    began_s = time.monotonic()
    done = await import_rows(store, rows, in_flight=IN_FLIGHT)
    if done.put != count:
        raise ProcessFailed(f"{done.put} of {count} items were put on sale: {done.bad[:1]}")
    return time.monotonic() - began_s


async def _loaded(system: Products, count: int) -> None:
    async with ringcast.products(system.endpoints(), timeout=TIMEOUT_S) as store:
        await load(store, count)


async def _searches(store: ringcast.ProductStore, count: int, keywords: int) -> dict[str, Any]:
    """One after the other, each for other words; milliseconds, and how many items a page had."""
    seconds, matches = [], 0
    for number in range(count):
        words = [f"w{(number * 17 + step * 13) % WORDS}" for step in range(keywords)]
        began_s = time.perf_counter()
        page = await store.search(f"c{number % CATEGORIES}", words, limit=PAGE, timeout=TIMEOUT_S)
        seconds.append(time.perf_counter() - began_s)
        matches += len(page.entries)
    found = percentiles_ms(seconds)
    return {"p50_ms": found.p50, "p99_ms": found.p99, "entries": round(matches / count, 1)}


def _watch(system: Products, member: int, target: int) -> tuple[float, float]:
    """When the member first answered, and when it had applied everything up to `target`."""
    deadline_s = time.monotonic() + TIMEOUT_S
    first_s: float | None = None
    while time.monotonic() < deadline_s:
        found = system.status(member)
        now_s = time.monotonic()
        if found is not None:
            first_s = first_s or now_s
            if found["visible"] >= target:
                return first_s, now_s
        time.sleep(_POLL_S)
    raise ProcessFailed(f"the wiped replica {member} did not catch up within {TIMEOUT_S:g} s")
