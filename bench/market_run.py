"""`ringcast bench marketplace`: the deployment, the scenarios, and what came of them as one JSON document."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from bench.market_load import FUNCTIONS, HASHED, READS, Samples, Worker, hashes, mean_hash_s
from bench.measure import CpuMeter, percentiles_ms
from bench.results import machine
from replicas.local.market import LocalMarket
from replicas.market.audit import audit

FORMAT = 1
CLIENTS = (1, 10, 100)
#: At least so many samples of each function in each cell.
SAMPLES = 200
#: A window has a middle for each client.
ROUNDS_MIN = 4
MIX_S = 10.0
QUICK_S = 60.0
QUICK_CLIENTS = 10
#: Name -> the row of docs/marketplace.md.
SCENARIOS = {
    "normal": "all replicas run normally (no failures)",
    "interfaces": "one sellers interface and one buyers interface, to which clients are connected, fail",
    "product_replica": "one product database replica (not the leader) fails",
    "product_leader": "the product database replica acting as leader fails",
    "bus_replica": "one bus replica (not the token holder) fails",
    "token_holder": "the bus replica that holds the token fails",
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MarketOptions:
    """What is run. `replicas`: of the bus and of the product store."""

    replicas: int = 3
    interfaces: int = 4
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    clients: tuple[int, ...] = CLIENTS
    samples: int = SAMPLES


class MarketRun:
    """One deployment and everything that is measured on it."""

    def __init__(self, options: MarketOptions, market: LocalMarket, say: Say) -> None:
        self._options = options
        self._market = market
        self._say = say
        self._units: dict[str, int] = {}
        self._windows = 0

    async def table(self) -> dict[str, Any]:
        """Every scenario with every number of clients, and the audit."""
        scenarios: dict[str, Any] = {}
        for name in self._options.scenarios:
            cells = {}
            for clients in self._options.clients:
                cells[str(clients)] = await self._cell(name, clients)
                await asyncio.to_thread(self._market.start)
            scenarios[name] = {"title": SCENARIOS[name], "clients": cells}
        found = await audit(self._market.path, put_on_sale=self._units)
        return {"scenarios": scenarios, "audit": found.document()}

    async def _cell(self, scenario: str, clients: int) -> dict[str, Any]:
        rounds = max(ROUNDS_MIN, -(-self._options.samples // clients))
        samples = Samples()
        middle = asyncio.Event()
        done = 0

        async def work(worker: Worker) -> None:
            nonlocal done
            for _ in range(rounds):
                await worker.round()
                done += 1
                if done >= clients * rounds // 2:
                    middle.set()

        async with self._workers(clients, samples) as workers:
            before, hops = await hashes(workers), _Hops(self._market)
            started = perf_counter()
            tasks = [asyncio.create_task(work(worker)) for worker in workers]
            waiting = asyncio.create_task(middle.wait())
            await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            killed = await self._kill(scenario, workers) if middle.is_set() else []
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            waiting.cancel()
            seconds = perf_counter() - started
            samples.errors += [repr(one) for one in ended if isinstance(one, BaseException)]
            hashed = mean_hash_s(before, await hashes(workers))
            self._keep(workers)
        found = _summary(samples, hashed)
        self._say(
            f"{scenario}, {clients} clients: {len(samples.ended)} calls in {seconds:.1f} s, longest gap "
            f"{found['longest_gap_ms']:.0f} ms, {len(samples.errors)} errors, {len(samples.lost)} lost"
        )
        if not killed:
            found["cpu_ms_per_call"] = hops.per_call(len(samples.ended))
        return {**found, "seconds": round(seconds, 1), "rounds": rounds, "killed": killed}

    def _workers(self, clients: int, samples: Samples) -> "_Workers":
        self._windows += 1
        return _Workers([Worker(self._market.path, f"w{self._windows}c{place}", samples) for place in range(clients)])

    def _keep(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            self._units |= worker.units

    async def _kill(self, scenario: str, workers: Sequence[Worker]) -> list[str]:
        """kill -9; returns whom."""
        market = self._market
        match scenario:
            case "normal":
                return []
            case "interfaces":
                sellers, buyers = workers[0].seller.replica, workers[0].buyer.replica
                await asyncio.gather(
                    asyncio.to_thread(market.sellers.kill, sellers), asyncio.to_thread(market.buyers.kill, buyers)
                )
                return [f"sellers {sellers}", f"buyers {buyers}"]
            case "product_replica" | "product_leader":
                leader = await market.leader()
                victim = leader if scenario == "product_leader" else _other(market.products.running(), leader)
                await asyncio.to_thread(market.products.kill, victim)
                return [f"products {victim}"]
        holder = await market.token_holder()
        victim = holder if scenario == "token_holder" else _other(market.bus.running(), holder)
        await asyncio.to_thread(market.bus.kill, victim)
        return [f"bus {victim}"]

    async def mix(self, clients: int, seconds: float, kill: str = "normal") -> dict[str, Any]:
        """All functions but those with a password, mixed (70% reads), for so long; `kill`: a scenario, at half time."""
        samples, stopped = Samples(), asyncio.Event()
        async with self._workers(clients, samples) as workers:
            await asyncio.gather(*(worker.enter() for worker in workers))
            hops, started = _Hops(self._market), perf_counter()
            tasks = [asyncio.create_task(worker.mix(stopped)) for worker in workers]
            await asyncio.sleep(seconds / 2)
            killed = await self._kill(kill, workers)
            await asyncio.sleep(max(0.0, seconds - (perf_counter() - started)))
            stopped.set()
            took = perf_counter() - started
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            samples.errors += [repr(one) for one in ended if isinstance(one, BaseException)]
            self._keep(workers)
        found = _summary(samples, None)
        if not killed:
            found["cpu_ms_per_call"] = hops.per_call(len(samples.ended))
        rate = round(len(samples.ended) / took)
        self._say(f"mixed, {clients} clients: {rate} functions/s, {len(samples.errors)} errors")
        return {**found, "clients": clients, "seconds": round(took, 1), "functions_per_second": rate, "killed": killed}

    async def quick(self) -> dict[str, Any]:
        """All functions mixed for a minute, the leader of the product store killed in the middle; and the audit."""
        found = await self.mix(QUICK_CLIENTS, QUICK_S, "product_leader")
        await asyncio.to_thread(self._market.start)
        checked = await audit(self._market.path, put_on_sale=self._units)
        return {"mix": found, "audit": checked.document()}


class _Hops:
    """CPU time by role since it was made: where the time of a call goes. Only while nobody is killed."""

    def __init__(self, market: LocalMarket) -> None:
        self._meters = {
            name: CpuMeter([replica.pid for replica in cluster.replicas.values()])
            for name, cluster in market.clusters.items()
        }
        self._clients = process_time()

    def per_call(self, calls: int) -> dict[str, float]:
        """Milliseconds a call, of all replicas of a role together, and of the clients."""
        used = {name: sum(meter.used()) for name, meter in self._meters.items()}
        used["clients"] = process_time() - self._clients
        return {name: round(1_000 * seconds / max(1, calls), 3) for name, seconds in used.items()}


class _Workers:
    """Clients that are connected, from `async with` to its end."""

    def __init__(self, workers: list[Worker]) -> None:
        self._all = workers
        self._open = AsyncExitStack()

    async def __aenter__(self) -> list[Worker]:
        for worker in self._all:
            await self._open.enter_async_context(worker)
        return self._all

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()


def _other(members: Iterable[int], not_this: int) -> int:
    return next(one for one in members if one != not_this)


def _summary(samples: Samples, hashed_s: float | None) -> dict[str, Any]:
    """Milliseconds. `without_hash`: the mean less that of the password's hash, where a function makes one."""
    functions = {}
    for name in FUNCTIONS:
        seconds = samples.seconds[name]
        if not seconds:
            continue
        mean, ranks = sum(seconds) / len(seconds), percentiles_ms(seconds)
        row = {
            "samples": len(seconds),
            "mean": round(1_000 * mean, 3),
            "p50": ranks.p50,
            "p99": ranks.p99,
            "max": ranks.max,
        }
        if name in HASHED and hashed_s is not None:
            row["mean_without_hash"] = round(1_000 * max(0.0, mean - hashed_s), 3)
        functions[name] = row
    gaps = [later - earlier for earlier, later in zip(samples.ended, samples.ended[1:], strict=False)]
    return {
        "functions": functions,
        "longest_gap_ms": round(1_000 * max(gaps, default=0.0), 1),
        "errors": len(samples.errors),
        "lost": len(samples.lost),
        "what": [*samples.errors, *samples.lost][:20],
    }


def run(options: MarketOptions, say: Say, *, quick: bool) -> dict[str, Any]:
    """Start the deployment, measure, end it; the document. Raises LocalClusterError, RingcastError."""
    return _on_deployment(options, say, lambda one: one.quick() if quick else _whole(one, options))


async def _whole(one: MarketRun, options: MarketOptions) -> dict[str, Any]:
    mixed = await one.mix(max(options.clients), MIX_S) if "normal" in options.scenarios else None
    found = await one.table()
    return {**found, **({"mix": mixed} if mixed else {})}


def _on_deployment(
    options: MarketOptions, say: Say, work: Callable[[MarketRun], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ringcast-bench-") as folder:
        count, interfaces = options.replicas, options.interfaces
        market = LocalMarket.create(
            Path(folder) / "market", bus=count, products=count, sellers=interfaces, buyers=interfaces
        )
        try:
            market.start()
            say(f"{count} bus, {count} products, {interfaces} sellers, {interfaces} buyers run")

            async def measured() -> dict[str, Any]:
                return await work(MarketRun(options, market, say))

            found = asyncio.run(measured())
        finally:
            market.kill_all()
    deployment = {"bus": count, "products": count, "sellers": interfaces, "buyers": interfaces}
    return {"format": FORMAT, "machine": machine(), "deployment": deployment, "reads": sorted(READS), **found}


def good(document: dict[str, Any]) -> bool:
    """No errors, nothing lost, a clean audit."""
    cells = [cell for one in document.get("scenarios", {}).values() for cell in one["clients"].values()]
    cells += [document["mix"]] if "mix" in document else []
    return bool(document["audit"]["clean"]) and not any(cell["errors"] or cell["lost"] for cell in cells)
