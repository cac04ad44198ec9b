"""The paced background scrub: passes, pace, what it names, and what it leaves to a part's owner."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.scrubber import Part, Scrubber, Step
from store.errors import DiskFailed, StoreClosed, StoreDamaged

FAST = 1 << 40


class Things:
    """What a pass reads: `count` things of 10 bytes, some of them damaged. `told`: what the owner heard of."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.bad: set[str] = set()
        self.raises: Exception | None = None
        self.told: list[str] = []
        self.part = Part("things", self._steps, lambda: 10 * self.count, self.told.append)

    def _steps(self) -> Iterator[Step]:
        for number in range(self.count):
            if self.raises is not None:
                raise self.raises
            name = f"thing {number}"
            yield Step(10, (name,) if name in self.bad else ())


def scrubber_of(things: Things, bytes_per_second: int = FAST, pause_s: float = 0.001) -> Scrubber:
    return Scrubber(1, [things.part], bytes_per_second=bytes_per_second, pause_s=pause_s)


async def test_a_damaged_thing_is_told_once_and_mended_by_a_pass_that_finds_it_whole() -> None:
    things = Things()
    things.bad = {"thing 1", "thing 2"}
    scrubber = scrubber_of(things)
    for _ in range(3):
        assert await scrubber.scrub(things.part)
    assert things.told == ["thing 1", "thing 2"]
    assert scrubber.damaged == 2
    things.bad = {"thing 2"}
    await scrubber.scrub(things.part)
    progress = scrubber.progress["things"]
    assert (progress.damaged, progress.found, progress.mended, progress.passes) == ({"thing 2"}, 2, 1, 4)
    assert progress.read_bytes == 4 * 30
    things.bad = {"thing 1", "thing 2"}
    await scrubber.scrub(things.part)
    assert things.told == ["thing 1", "thing 2", "thing 1"]


async def test_what_is_met_elsewhere_counts_too() -> None:
    things = Things()
    scrubber = scrubber_of(things)
    scrubber.damage("things", "thing 0")
    scrubber.damage("things", "thing 0")
    assert things.told == ["thing 0"]
    scrubber.mended("things", "thing 0")
    scrubber.mended("things", "thing 0")
    assert scrubber.progress["things"].mended == 1
    assert not scrubber.damaged


@pytest.mark.parametrize("error", [StoreClosed("closed"), DiskFailed(Path("data"), "I/O error")])
async def test_a_pass_that_ends_early_says_nothing_of_the_rest(error: Exception) -> None:
    things = Things()
    things.bad = {"thing 1"}
    scrubber = scrubber_of(things)
    await scrubber.scrub(things.part)
    things.raises = error
    assert not await scrubber.scrub(things.part)
    assert scrubber.progress["things"].damaged == {"thing 1"}
    assert scrubber.progress["things"].passes == 1


async def test_a_store_that_cannot_be_trusted_is_damage() -> None:
    things = Things()
    things.raises = StoreDamaged(Path("data"), "a page is not found")
    scrubber = scrubber_of(things)
    assert not await scrubber.scrub(things.part)
    assert things.told == ["a page is not found"]


async def test_its_pace_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("replicas.scrubber.asyncio.sleep", note)
    things = Things(5)
    await scrubber_of(things, bytes_per_second=20).scrub(things.part)
    assert sum(slept) == pytest.approx(50 / 20)


async def test_it_runs_pass_after_pass_and_can_be_woken() -> None:
    things = Things()
    scrubber = scrubber_of(things, pause_s=3_600)
    task = asyncio.create_task(scrubber.run())
    async with asyncio.timeout(10):
        for passes in (1, 2, 3):
            while scrubber.progress["things"].passes < passes:
                scrubber.again()
                await asyncio.sleep(0.001)
    task.cancel()


async def test_pace_zero_is_no_scrub() -> None:
    things = Things()
    scrubber = scrubber_of(things, bytes_per_second=0)
    await scrubber.run()
    assert not scrubber.progress["things"].passes


async def test_what_humans_and_prometheus_see() -> None:
    things = Things()
    things.bad = {"thing 0"}
    scrubber = scrubber_of(things)
    await scrubber.scrub(things.part)
    status = scrubber.status()["things"]
    assert isinstance(status, dict)
    assert status["damaged"] == ("thing 0",)
    assert (status["passes"], status["progress"]) == (1, 1.0)
    samples = {sample.name: sample for family in scrubber.metrics({"member": "1"}) for sample in family.samples}
    assert samples["ringcast_scrub_damaged"].value == 1
    assert samples["ringcast_scrub_bytes_total"].value == 30
    assert samples["ringcast_scrub_damaged"].labels == {"member": "1", "part": "things"}
