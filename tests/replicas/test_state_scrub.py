"""The scrub of the bus's rows and snapshot files, on real files under a shell that runs (D6)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from replicas.bus import state_scrub
from replicas.bus.retention import Retention, retention_of
from replicas.bus.shell import Shell
from replicas.bus.state_scrub import ROWS, SNAPSHOTS, StateScrub
from replicas.scrubber import Scrubber
from sequencer.output import ServeChunk
from store.contract import TABLES
from store.errors import RowDamaged, SnapshotGone
from store.folder import DATA_NAME
from tests.replicas.test_shell import Opener, until

PACE = 1 << 40


class Scrubbed:
    """A shell that runs, its retention, and what scrubs it."""

    def __init__(self, opener: Opener) -> None:
        self.opener = opener
        self.shell: Shell = opener.open()
        self.retention: Retention = retention_of(self.shell)
        self.state = StateScrub(self.shell, self.retention.make_snapshot, turn_s=0.0)
        self.retention.on_damage = self.state.met
        self.scrubber = Scrubber(1, self.state.parts(), bytes_per_second=PACE, pause_s=1)
        self.state.scrubber = self.scrubber

    async def scrub(self, part: str) -> set[str]:
        """One pass; what is damaged."""
        await self.scrubber.scrub(next(one for one in self.state.parts() if one.name == part))
        return self.scrubber.progress[part].damaged


@pytest.fixture
async def scrubbed(tmp_path: Path) -> AsyncIterator[Scrubbed]:
    opener = Opener(tmp_path / "data")
    found = Scrubbed(opener)
    await until(found.shell.core.in_quorum)
    for number in range(20):
        opener.submit(found.shell, b"%d" % number, topic=f"t{number}")
    await until(lambda: found.shell.machine.topics.next_offset == 20)
    await found.shell.flush_rows()
    found.shell.asides.look(found.shell.cluster())
    yield found
    found.shell.close(5.0)


def served(shell: Shell) -> str:
    """The snapshot that the core would serve."""
    return shell.core.snapshot.snapshot if shell.core.snapshot is not None else ""


def flip(path: Path, content: bytes, random: Random) -> None:
    """One bit of each copy of some bytes in a file that is in use."""
    whole, at, bit = path.read_bytes(), random.randrange(len(content)), random.randrange(8)
    place = whole.find(content)
    assert place >= 0
    with path.open("r+b") as file:
        while place >= 0:
            file.seek(place + at)
            file.write(bytes([whole[place + at] ^ (1 << bit)]))
            place = whole.find(content, place + 1)


@pytest.mark.parametrize("seed", range(8))
async def test_any_flipped_bit_of_a_row_is_found_and_the_folder_set_aside(
    scrubbed: Scrubbed, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    shell, state = scrubbed.shell, scrubbed.state
    assert await scrubbed.scrub(ROWS) == set()
    environment = shell.store._environment  # type: ignore[attr-defined]
    rows = []
    with environment.read() as transaction:
        for table in TABLES:
            with transaction.cursor(environment.databases[table]) as cursor:
                rows += [bytes(value) for _, value in cursor if len(value) > 12]
    flip(shell.config.data / DATA_NAME, random.choice(rows), random)
    assert len(await scrubbed.scrub(ROWS)) >= 1
    await state.mend()
    assert shell.core.view is not None, "no quorum could spare it: it goes on, and says so"
    assert scrubbed.scrubber.damaged
    monkeypatch.setattr(state_scrub, "can_spare", lambda core: True)
    before, cluster = shell.core, shell.cluster()
    await state.mend()
    assert shell.core is not before
    assert (shell.cluster(), shell.core.stable.wiped, shell.core.window.end) == (cluster, True, 0)
    shell.asides.look(0)
    assert [one.folder.name for one in shell.asides.found] == ["data.damaged-1"]
    assert await scrubbed.scrub(ROWS) == set()


async def test_a_damaged_row_that_applying_meets_starts_the_member_over(
    scrubbed: Scrubbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a start that meets it; the process goes on, and does not wait for somebody to start it again."""
    shell = scrubbed.shell
    before, cluster = shell.core, shell.cluster()

    def meet(*_: object) -> int:
        raise RowDamaged(tmp_path, "topics", b"t3")

    monkeypatch.setattr(shell.machine, "deliver", meet)
    scrubbed.opener.submit(shell, b"one more", topic="t3")
    await until(lambda: shell.core is not before)
    assert (shell.cluster(), shell.core.stable.wiped, shell.core.window.end) == (cluster, True, 0)
    shell.asides.look(0)
    assert [one.folder.name for one in shell.asides.found] == ["data.damaged-1"]
    assert "topics" in shell.asides.found[0].why


async def test_a_damaged_snapshot_file_is_made_anew(scrubbed: Scrubbed) -> None:
    store = scrubbed.shell.store
    made = await scrubbed.retention.make_snapshot()
    assert await scrubbed.scrub(SNAPSHOTS) == set()
    path = scrubbed.shell.config.data / "snapshots" / f"{made.name}.snapshot"
    flip(path, path.read_bytes()[20:200], Random(1))
    assert await scrubbed.scrub(SNAPSHOTS) == {made.name}
    assert not path.exists()
    await scrubbed.state.mend()
    again = store.snapshots()[0]
    assert again.name != made.name
    await until(lambda: served(scrubbed.shell) == again.name)
    assert await scrubbed.scrub(SNAPSHOTS) == set()
    assert scrubbed.scrubber.progress[SNAPSHOTS].mended == 1


async def test_a_damaged_chunk_is_never_served(scrubbed: Scrubbed) -> None:
    """And its file goes at once; the newest one that is left is served."""
    shell = scrubbed.shell
    first = await scrubbed.retention.make_snapshot()
    made = await scrubbed.retention.make_snapshot()
    await until(lambda: served(shell) == made.name)
    path = shell.config.data / "snapshots" / f"{made.name}.snapshot"
    flip(path, path.read_bytes()[20:200], Random(1))
    sent: list[object] = []
    shell.serving._send = lambda to, message: sent.append(message)
    shell.serving.serve(ServeChunk(2, shell.core.stable.log_view, made.name, made.slot, made.chain, 0, made.chunks))
    await until(lambda: not path.exists())
    assert not sent
    with pytest.raises(SnapshotGone):
        shell.store.read_chunk(made.name, 0)
    await scrubbed.retention.check()
    await until(lambda: served(shell) == first.name)


async def test_a_snapshot_that_meets_a_damaged_row_says_so(scrubbed: Scrubbed) -> None:
    """Else none would be made any more, nothing trimmed, and the disk would fill."""
    shell = scrubbed.shell
    environment = shell.store._environment  # type: ignore[attr-defined]
    with environment.read() as transaction:
        value = bytes(transaction.get(b"t3", db=environment.databases["topics"]))
    flip(shell.config.data / DATA_NAME, value, Random(3))
    scrubbed.retention.config = shell.config.model_copy(update={"snapshot_slots": 1})
    task = asyncio.create_task(scrubbed.retention.run())
    await until(lambda: bool(scrubbed.scrubber.damaged))
    task.cancel()
