"""The shell around a real core and a real store, a ring of one: turns, tickets, rows, snapshots, trouble."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from replicas import clocks
from replicas.bus import shell as shells
from replicas.bus.config import BusConfig, PeerAddress
from replicas.bus.recovery import open_store
from replicas.bus.retention import retention_of
from replicas.bus.shell import Shell
from replicas.bus.standing import state_of, trouble_of
from replicas.bus.topics import TopicBounds
from replicas.customers.commands import COMMANDS, Command, CreateAccount, encode_command
from ringcast.bus.batch import digest, pack
from ringcast.bus.request import BatchHeader, encode_batch_headers
from ringcast.bus.topics import CUSTOMERS_TOPIC
from ringcast.errors import NotReady, RingcastError
from ringcast.market.types import Party
from ringcast.wire import LINEARIZABLE, LOCAL, Answer, Fetched, Query
from sequencer.output import Output, ReadAsked, RecoverAsked, ResetDisk, TrimAsked
from store.aside import memory_of
from store.contract import TrimLog
from store.errors import DiskFailed, DiskFull, WrongFolder

CLIENT = bytes(16)
Start = Callable[..., Shell]


class Opener:
    """Shells on one folder; remembers how they ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ends: list[tuple[int, str]] = []
        self.sequence = 0

    def open(self, **settings: Any) -> Shell:
        """A shell of a cluster of one, without any socket."""
        config = BusConfig(id=1, data=self.folder, peers={1: PeerAddress("127.0.0.1", 1, 2)}, **settings)
        opened = open_store(config, TopicBounds())
        return Shell(config, opened, lambda code, reason: self.ends.append((code, reason)))

    def submit(self, shell: Shell, *payloads: bytes, topic: str = "t") -> None:
        """One batch."""
        self.sequence += 1
        packed = pack(list(payloads))
        header = BatchHeader(topic, CLIENT, self.sequence, len(payloads), shell.core.commit, 0, digest(packed))
        shell.submit((encode_batch_headers([header]), packed))


@pytest.fixture
async def opener(tmp_path: Path) -> Opener:
    return Opener(tmp_path / "data")


@pytest.fixture
async def shell(opener: Opener) -> AsyncIterator[Shell]:
    found = opener.open()
    await until(found.core.in_quorum)
    yield found
    found.close(5.0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, a bounded time."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing else says when a turn changed something
            await asyncio.sleep(0.002)


def delivered(shell: Shell, count: int) -> Callable[[], bool]:
    """So many messages are delivered."""
    return lambda: shell.machine.topics.next_offset == count


async def test_a_ring_of_one_orders_and_a_restart_finds_it(opener: Opener) -> None:
    shell = opener.open()
    assert shell.state == "starting"
    assert isinstance(shell.trouble(), NotReady)
    await until(shell.core.in_quorum)
    assert shell.trouble() is None
    assert shell.cluster() == shell.core.stable.cluster != 0
    opener.submit(shell, b"a", b"b")
    await until(delivered(shell, 2))
    opener.submit(shell, b"c")
    await until(delivered(shell, 3))
    chain = shell.machine.topics.chain
    assert shell.close(5.0)
    again = opener.open()
    await until(again.core.in_quorum)
    assert (again.machine.topics.next_offset, again.machine.topics.chain) == (3, chain)
    assert again.core.stable.incarnation > shell.core.stable.incarnation
    again.close(5.0)
    assert opener.ends == []


async def test_what_was_not_saved_as_rows_is_delivered_again(opener: Opener) -> None:
    """K1: the rows are a function of the log; a crash before they are written loses nothing."""
    shell = opener.open()
    await until(shell.core.in_quorum)
    opener.submit(shell, b"a")
    await until(delivered(shell, 1))
    shell.machine.close()
    shell.disk.stop(5.0)
    shell.stop(0, "as if killed")
    shell.store.close()
    again = opener.open()
    await until(delivered(again, 1))
    again.close(5.0)


async def test_requests_of_one_turn_are_one_step(opener: Opener, shell: Shell) -> None:
    steps = shell.counters["steps"]
    room = shell.room()
    for _ in range(10):
        opener.submit(shell, b"x" * 1_000)
    assert shell.room() < room - 10_000
    await asyncio.sleep(0)
    assert shell.counters["steps"] == steps + 1
    await until(delivered(shell, 10))


async def test_rows_become_durable_by_themselves(opener: Opener, shell: Shell) -> None:
    opener.submit(shell, b"a")
    await until(delivered(shell, 1))
    await until(lambda: shell.store.row("meta", b"applied") is not None and shell.machine.topics.unsaved_slots == 0)
    await shell.flush_rows()
    assert [key for key, _ in shell.store.rows("offsets")] == [bytes(8)]


@pytest.mark.parametrize("emptied", [False, True])
async def test_customers_are_in_memory_until_the_disk_has_them(opener: Opener, shell: Shell, emptied: bool) -> None:
    """Of a log that began in this process too, or memory and the time of a scan would grow with every account."""
    if emptied:  # V0
        shell._persist(Output(persists=[ResetDisk()]), 0)
        shell.machine.topics._applied = shell.core.commit
    rows = shell.machine.topics.customers.rows
    account = CreateAccount(Party.BUYER, "ann", bytes(16), bytes(32))
    opener.submit(
        shell, encode_command(Command(CLIENT, 0, 0, 0, bytes(8), COMMANDS.encode(account))), topic=CUSTOMERS_TOPIC
    )
    await until(delivered(shell, 1))
    assert rows.held
    await shell.flush_rows()
    await until(lambda: not rows.held)
    assert len(rows.scan(b"n", b"o")) == 1


async def test_a_woken_process_takes_its_input_before_its_timers(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: what waits in the sockets is stepped first."""
    clock = clocks.now_us
    steps: list[tuple[int, list[Any]]] = []
    step = shell.core.step

    def note(now: int, wall: int, events: list[Any]) -> Output:
        steps.append((now, list(events)))
        return step(now, wall, events)

    monkeypatch.setattr(shell.core, "step", note)
    monkeypatch.setattr(shells, "now_us", lambda: clock() + 10_000_000)
    shell._plan_turn()
    await asyncio.sleep(0)
    assert steps == []
    assert shell.counters["late_timers"] == 1
    event = TrimAsked(0)
    shell.feed_event(event)
    await until(lambda: bool(steps))
    assert steps[0][1] == [event]
    assert shell.trouble() is None


async def test_a_view_change_turns_no_client_away(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile is published in the new view (V10); without one for longer there is no quorum."""
    assert shell.trouble() is None
    monkeypatch.setattr(shells, "trouble_of", lambda *_, **__: NotReady(replica=1, state="catching up"))
    assert shell.unready() is not None
    assert shell.trouble() is None
    clock = clocks.now_us
    with monkeypatch.context() as later:
        later.setattr(shells, "now_us", lambda: clock() + shells.VIEW_CHANGE_US)
        assert shell.trouble() is not None
    shell.leaving = True
    assert shell.trouble() is not None


async def test_a_failed_step_ends_the_process(opener: Opener, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Output:
        raise ValueError("our bug")

    monkeypatch.setattr(shell.core, "step", fail)
    opener.submit(shell, b"a")
    await until(lambda: bool(opener.ends))
    ((code, reason),) = opener.ends
    assert code == 3
    assert "our bug" in reason
    opener.submit(shell, b"b")
    await asyncio.sleep(0)
    assert len(opener.ends) == 1


async def test_a_failed_disk_ends_the_process(opener: Opener, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: never retried in place."""

    def fail(_: object) -> None:
        raise DiskFailed(opener.folder, "EIO")

    monkeypatch.setattr(shell.store, "commit", fail)
    monkeypatch.setattr(shell.store, "journal", fail)
    opener.submit(shell, b"a")
    await until(lambda: bool(opener.ends))
    assert opener.ends[0][0] == 4
    assert shell.machine.topics.next_offset == 0


async def test_a_full_disk_is_survived(opener: Opener, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: read-only and unready, then on as if nothing was."""
    commit = shell.store.commit
    full = True

    def fail(operations: Any) -> None:
        if full:
            raise DiskFull(opener.folder, "ENOSPC")
        commit(operations)

    monkeypatch.setattr(shell.store, "commit", fail)
    opener.submit(shell, b"a")
    await until(lambda: shell.disk.full)
    await until(lambda: shell.state.startswith("read-only"))
    assert shell.trouble() is not None
    full = False
    await until(delivered(shell, 1))
    await until(shell.core.in_quorum)
    assert opener.ends == []


async def test_snapshots_and_retention(opener: Opener) -> None:
    """C1, C2: a snapshot is made, the log goes up to it, a restart stands on it."""
    shell = opener.open(snapshot_slots=5, retention_bytes=1 << 20, group={"window_slots": 8})
    await until(shell.core.in_quorum)
    retention = retention_of(shell)
    await retention.check()
    assert shell.store.snapshots() == ()
    for count in range(1, 31):
        opener.submit(shell, b"x" * 100_000)
        await until(delivered(shell, count))
    await retention.check()
    (snapshot,) = shell.store.snapshots()
    assert snapshot.slot == 30
    await until(lambda: shell.store.bounds()[0] > 0)
    first, end = shell.store.bounds()
    assert 0 < first < end == 30
    assert shell.machine.queries.compacted_below == first
    await shell.flush_rows()
    assert len(list(shell.store.rows("offsets"))) == end - first
    shell.close(5.0)
    again = opener.open()
    await until(again.core.in_quorum)
    opener.submit(again, b"y")
    await until(delivered(again, 31))
    again.close(5.0)


async def test_reads_linearizable_and_local(opener: Opener, shell: Shell) -> None:
    """K3: a linearizable read comes after everything that was acknowledged before it."""
    answers: list[Fetched | Answer | RingcastError] = []
    opener.submit(shell, b"a")
    await until(delivered(shell, 1))
    for number, consistency in enumerate((LINEARIZABLE, LINEARIZABLE, LOCAL), 1):
        shell.answer(Query(number, "topics", {}, consistency), lambda answer, _: answers.append(answer))
    assert [answer.request for answer in answers if isinstance(answer, Answer)] == [3]
    await until(lambda: len(answers) == 3)
    assert [answer.request for answer in answers if isinstance(answer, Answer)] == [3, 1, 2]
    assert len(shell.reads) == 0


async def test_a_reader_that_comes_while_a_step_runs_waits_for_the_next_one(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K3: the READ of this step may be answered before a message that is acknowledged to the reader was stored."""
    answers: list[Fetched | Answer | RingcastError] = []
    asked: list[int] = []
    step = shell.core.step

    def read() -> None:
        shell.answer(Query(1, "topics", {}, LINEARIZABLE), lambda answer, _: answers.append(answer))

    def note(now: int, wall: int, events: list[Any]) -> Output:
        asked.append(sum(isinstance(event, ReadAsked) for event in events))
        if len(asked) == 1:
            read()  # as a gateway whose frames are taken after the step's own, and before the end of the turn
        return step(now, wall, events)

    monkeypatch.setattr(shell.core, "step", note)
    shell.feed_event(TrimAsked(0))  # the turn is planned before the reader comes, and ends after the step
    read()
    await until(lambda: len(answers) == 2)
    assert asked[:2] == [1, 1]


async def test_a_core_that_asked_for_a_restart_is_not_stepped_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sequencer/output.py: `restart` means stop stepping this core, while the disk writes what it asked for before."""
    before, written = shell.core, threading.Event()
    step, commit = before.step, shell.store.commit
    steps = 0

    def end(now: int, wall: int, events: list[Any]) -> Output:
        nonlocal steps
        steps += 1
        output = step(now, wall, events)
        output.restart = True
        return output

    def slow(operations: Any) -> None:
        assert written.wait(10)
        commit(operations)

    monkeypatch.setattr(before, "step", end)
    monkeypatch.setattr(shell.store, "commit", slow)
    shell.disk.submit(0, [TrimLog(0)])
    answers: list[Any] = []
    shell.feed_event(TrimAsked(0))
    await until(lambda: steps == 1)
    shell.answer(Query(1, "topics", {}, LINEARIZABLE), lambda answer, _: answers.append(answer))
    shell.feed_event(TrimAsked(0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (steps, answers) == (1, [])
    written.set()
    await until(lambda: shell.core is not before)
    assert steps == 1
    assert isinstance(answers[0], NotReady)
    await until(shell.core.in_quorum)


async def test_a_read_without_a_ring_says_why(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicas.bus.reads.READ_TIMEOUT_S", 0.05)
    config = {1: PeerAddress("127.0.0.1", 1, 2), 2: PeerAddress("127.0.0.1", 3, 4)}
    bus = BusConfig(id=1, data=opener.folder, peers=config)
    shell = Shell(bus, open_store(bus, TopicBounds()), lambda *_: None)
    answers: list[Any] = []
    shell.answer(Query(1, "topics", {}, LINEARIZABLE), lambda answer, _: answers.append(answer))
    await until(lambda: bool(answers))
    assert isinstance(answers[0], NotReady)
    assert state_of(shell.core, leaving=True) == "leaving"
    assert isinstance(trouble_of(shell.core, leaving=False), NotReady)
    shell.close(5.0)


async def test_a_damaged_folder_is_set_aside(opener: Opener) -> None:
    """D6, V0: what cannot be trusted as a whole is moved, never deleted."""
    shell = opener.open()
    await until(shell.core.in_quorum)
    shell.close(5.0)
    (opener.folder / "data.mdb").write_bytes(b"garbage" * 10_000)
    again = opener.open()
    aside = opener.folder.with_name("data.damaged-1")
    assert (aside / "data.mdb").read_bytes().startswith(b"garbage")
    assert again.core.stable.storage != shell.core.stable.storage
    again.close(5.0)


@pytest.mark.parametrize("known", [True, False])
async def test_a_member_whose_folder_was_set_aside_is_lost_and_not_new(opener: Opener, known: bool) -> None:
    """D6: alone it waits for an operator, over restarts, and begins no cluster."""
    shell = opener.open()
    await until(shell.core.in_quorum)
    cluster = shell.cluster()
    shell.asides.look(cluster if known else 0)
    shell.close(5.0)
    (opener.folder / "data.mdb").write_bytes(b"garbage" * 10_000)
    for _ in range(2):
        shell = opener.open()
        await until(lambda shell=shell: shell.core.started)  # type: ignore[misc]
        await asyncio.sleep(0.05)  # a genesis of one takes a millisecond
        assert shell.cluster() == (cluster if known else 0)
        why = str(shell.unready())
        assert str(opener.folder.with_name("data.damaged-1")) in why
        assert ("recover --accept-loss" if known else "set-aside.json") in why
        assert shell.core.view is None
        shell.close(5.0)
    if known:
        shell = opener.open()
        await until(lambda: shell.core.started)
        shell.feed_event(RecoverAsked())
        await until(shell.core.in_quorum)
        assert shell.core.status().possible_loss
        shell.asides.look(shell.cluster())
        assert not any(one.pending for one in shell.asides.found)
    else:
        memory_of(opener.folder).unlink()
        shell = opener.open()
        await until(shell.core.in_quorum)
    shell.close(5.0)


async def test_the_state_of_another_release_is_refused_by_name(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not damage: after a way back to an older release the whole cluster would begin anew."""
    shell = opener.open()
    await until(shell.core.in_quorum)
    shell.close(5.0)
    monkeypatch.setattr("replicas.bus.record_codec.STATE_VERSION", 1)
    with pytest.raises(WrongFolder, match="stable state of version"):
        opener.open()
    monkeypatch.undo()
    shell = opener.open()
    await until(shell.core.in_quorum)
    shell.close(5.0)
