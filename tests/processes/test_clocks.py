"""Wall clocks of real processes that leap and come back (D7): message times, who orders, holds, the ordered reset."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ringcast
from cli.app import app
from replicas.bus.overview import Overview
from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, PRODUCTS, Role
from tests.processes.agreement import until
from tests.processes.products_load import SELLER, leader_of
from tests.processes.running import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

DAY_S = 86_400
YEARS_S = 3_650 * DAY_S
SKEW = Path(__file__).with_name("skew")


class Skewed(LocalCluster):
    """Each member's clock is off by what a file of its own says."""

    def start(self, members: Any = None) -> list[int]:
        started = []
        for member in members or self.replicas:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PYTHONPATH", str(SKEW))
                patch.setenv("SKEW_FILE", str(self.folder / f"skew-{member}"))
                started += super().start([member])
        return started

    def skew(self, *members: int, seconds: int) -> None:
        """From now on."""
        for member in members:
            new = self.folder / f"skew-{member}.new"
            new.write_text(str(seconds))
            new.replace(self.folder / f"skew-{member}")


def skewed(folder: Path, role: Role) -> Skewed:
    """Three replicas whose clocks are right."""
    return Skewed.create(folder, 3, {"check_invariants": True} if role is BUS else {}, role=role)


def command(cluster: LocalCluster, *arguments: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    result = CliRunner().invoke(app, [*arguments, "--cluster", str(cluster.path), "--json"])
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout)


def off_s(receipt: ringcast.Receipt) -> float:
    """How far a message's time is off."""
    return abs((receipt.time - datetime.now(UTC)).total_seconds())


async def wait_for(cluster: LocalCluster, holds: Callable[[dict[int, Any]], bool]) -> None:
    """Until what the replicas say of the clocks is so."""
    async with Overview(cluster.path) as overview, asyncio.timeout(30):
        while not holds({one["replica"]: one["clock"] for one in await overview.look() if "clock" in one}):  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.05)


async def test_one_wrong_clock_moves_no_message_and_a_quorum_of_them_is_reset(tmp_path: Path) -> None:
    with running(skewed(tmp_path / "bus", BUS)) as cluster:
        async with ringcast.connect(cluster.path, replica=2, timeout=20) as bus:
            assert off_s(await bus.publish("ev", b"before")) < 10
            cluster.skew(2, seconds=YEARS_S)
            await wait_for(cluster, lambda clocks: 2 in clocks[2]["beyond"] and 2 in clocks[1]["beyond"])
            during = [await bus.publish("ev", b"during") for _ in range(5)]
            assert max(map(off_s, during)) < 10
            traces = [await bus.query("trace", {"slot": one.slot}, local=True) for one in during]
            assert {trace["holder"] for trace in traces} <= {1, 3}  # 0 would be member 2 itself
            shown = await asyncio.to_thread(command, cluster, "clock", code=1)
            assert [one["standing"].split(":")[0] for one in shown["replicas"]][1] == "beyond the bound"
            findings = await asyncio.to_thread(command, cluster, "doctor", code=1)
            assert "it orders nothing" in json.dumps(findings)
            cluster.skew(2, seconds=0)
            await wait_for(cluster, lambda clocks: not any(clock["beyond"] for clock in clocks.values()))

            cluster.skew(1, 2, seconds=DAY_S)  # an accident
            await wait_for(cluster, lambda clocks: all(3 in clock["beyond"] for clock in clocks.values()))
            assert off_s(await bus.publish("ev", b"tomorrow")) > DAY_S / 2
            cluster.skew(1, 2, seconds=0)
            await wait_for(cluster, lambda clocks: all(clock["ahead_us"] for clock in clocks.values()))
            assert (await asyncio.to_thread(command, cluster, "clock", code=1))["ahead_us"] > 1_000_000
            now = datetime.now(UTC)
            assert (await asyncio.to_thread(command, cluster, "clock", "reset"))["reset"]
            assert not (await asyncio.to_thread(command, cluster, "clock", "reset"))["reset"]
            today = await bus.publish("ev", b"today")
            assert off_s(today) < 10
            found = await bus.offset_at(int(now.timestamp() * 1e6))
            assert found in {today.offset - 1, today.offset}
            await asyncio.to_thread(command, cluster, "clock")


async def test_a_leader_with_a_wrong_clock_releases_no_hold_early_and_none_late(tmp_path: Path) -> None:
    """Its clock a day ahead for a moment, every hold was released at once, and for a day none afterwards."""
    with running(skewed(tmp_path / "products", PRODUCTS)) as cluster:
        async with (
            ringcast.products(cluster.path, timeout=20) as store,
            ringcast.products(cluster.path, timeout=20) as idle,
        ):
            await store.put("lamp", seller=SELLER, category="home", price=1, quantity=100, id="lamp")
            await idle.change_quantity("lamp", SELLER, 1)
            await store.reserve("long", [("lamp", 1)], hold_s=3_600)
            leader = await leader_of(cluster)
            cluster.skew(leader, seconds=DAY_S)
            await until(lambda: _offset(cluster, leader) > DAY_S / 2)
            assert await store.sweep() == ()
            assert await idle.change_quantity("lamp", SELLER, 1) > 0  # its session has not ended
            await store.reserve("short", [("lamp", 1)], hold_s=0.5)
            cluster.skew(leader, seconds=0)
            released: tuple[str, ...] = ()
            async with asyncio.timeout(20):
                while not released:
                    released = await store.sweep()
            assert released == ("short",)
            held = await store.reservation("long")
            assert held is not None
            assert held.state == "held"


def _offset(cluster: LocalCluster, member: int) -> float:
    found = command(cluster, "products", "status")
    one = next(one for one in found["replicas"] if one["replica"] == member)
    return float(one.get("clock_offset_us") or 0) / 1e6
