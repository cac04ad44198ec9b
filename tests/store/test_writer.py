"""The writer thread: FIFO, group commit, and what it does when the disk does not take any more (D1, D4, D5)."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from store.contract import Operation, SaveStable
from store.errors import DiskFailed, DiskFull, StoreMisuse, WriterStopped
from store.log import LmdbStore
from store.memory import MemoryStore
from store.writer import Writer
from tests.store.helpers import append, body, link

WAIT_SECONDS = 10


class Gate:
    """A store whose commits wait for leave, and then do what they are told."""

    def __init__(self) -> None:
        self.asked: queue.Queue[list[bytes]] = queue.Queue()
        self.answers: queue.Queue[Exception | None] = queue.Queue()

    def commit(self, operations: Sequence[Operation]) -> None:
        self.asked.put([operation.value for operation in operations if isinstance(operation, SaveStable)])
        answer = self.answers.get(timeout=WAIT_SECONDS)
        if answer is not None:
            raise answer

    def next(self) -> list[bytes]:
        """The batch that the writer is committing now."""
        return self.asked.get(timeout=WAIT_SECONDS)


class Heard:
    """Both callbacks."""

    def __init__(self) -> None:
        self.durable: queue.Queue[int] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()

    def next_durable(self) -> int:
        return self.durable.get(timeout=WAIT_SECONDS)

    def next_failure(self) -> Exception:
        return self.failures.get(timeout=WAIT_SECONDS)


Make = Callable[..., tuple[Writer, Gate, Heard]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Writer, Gate]] = []

    def build(**bounds: Any) -> tuple[Writer, Gate, Heard]:
        gate, heard = Gate(), Heard()
        writer = Writer(gate, heard.durable.put, heard.failures.put, **bounds)
        writer.start()
        made.append((writer, gate))
        return writer, gate, heard

    yield build
    for writer, gate in made:
        for _ in range(5):
            gate.answers.put(None)
        writer.stop(WAIT_SECONDS)


def save(ticket: int, size: int = 1) -> list[Operation]:
    return [SaveStable(b"%d" % ticket * size)]


def test_while_one_commit_syncs_the_next_one_gathers(make: Make) -> None:
    """D1: group commit; `on_durable` names the last ticket of the group, all below it are durable too."""
    writer, gate, heard = make()
    writer.submit(1, save(1))
    assert gate.next() == [b"1"]
    for ticket in (2, 3, 7):
        writer.submit(ticket, save(ticket))
    assert heard.durable.empty()
    gate.answers.put(None)
    assert heard.next_durable() == 1
    assert gate.next() == [b"2", b"3", b"7"]
    assert writer.backlog_bytes > 0
    gate.answers.put(None)
    assert heard.next_durable() == 7
    assert writer.backlog_bytes == 0
    assert writer.stop(WAIT_SECONDS)
    assert (writer.counts.commits, writer.counts.tickets) == (2, 4)
    assert heard.durable.empty()


def test_a_group_is_bounded_and_a_large_ticket_goes_alone(make: Make) -> None:
    writer, gate, heard = make(group_bytes_max=250)
    for ticket in range(1, 6):
        writer.submit(ticket, save(ticket, size=400 if ticket == 4 else 10))
    groups: list[list[bytes]] = []
    while not groups or groups[-1][-1] != b"5" * 10:
        groups.append(gate.next())
        gate.answers.put(None)
    flat = [value for group in groups for value in group]
    assert flat == [b"1" * 10, b"2" * 10, b"3" * 10, b"4" * 400, b"5" * 10]
    assert [b"4" * 400] in groups
    assert max(map(len, groups)) <= 3
    assert [heard.next_durable() for _ in groups][-1] == 5


def test_a_ticket_without_operations_waits_for_those_before_it(make: Make) -> None:
    writer, gate, heard = make()
    writer.submit(1, [])
    assert heard.next_durable() == 1
    assert gate.asked.empty()
    writer.submit(2, save(2))
    assert gate.next() == [b"2"]
    writer.submit(3, [])
    assert heard.durable.empty()
    gate.answers.put(None)
    assert [heard.next_durable(), heard.next_durable()] == [2, 3]
    assert writer.counts.commits == 1


def test_on_a_full_disk_the_queue_is_kept_until_resume(make: Make) -> None:
    """D5: nothing is lost, reordered or reported durable; the first try after `resume` begins where it failed."""
    writer, gate, heard = make(group_bytes_max=70)
    writer.submit(1, save(1))
    assert gate.next() == [b"1"]
    writer.submit(2, save(2))
    gate.answers.put(DiskFull(Path("data"), "no space left"))
    assert isinstance(heard.next_failure(), DiskFull)
    assert writer.full
    writer.submit(3, save(3))
    assert gate.asked.empty()
    assert heard.durable.empty()
    writer.resume()
    assert gate.next() == [b"1"]
    gate.answers.put(DiskFull(Path("data"), "still none"))
    assert isinstance(heard.next_failure(), DiskFull)
    writer.resume()
    for ticket in (1, 2, 3):
        assert gate.next() == [b"%d" % ticket]
        gate.answers.put(None)
        assert heard.next_durable() == ticket
    assert heard.failures.empty()


def test_on_a_full_disk_what_frees_space_goes_first(make: Make) -> None:
    """C2, D5: it has no ticket; then the queue's head is tried at once, and again at each `resume`."""
    writer, gate, heard = make()
    writer.submit(1, save(1))
    gate.next()
    gate.answers.put(DiskFull(Path("data"), "no space left"))
    heard.next_failure()
    writer.put_first(save(8))
    writer.put_first(save(9))
    assert gate.next() == [b"8"]
    gate.answers.put(DiskFull(Path("data"), "not even for this"))
    deadline = time.monotonic() + WAIT_SECONDS
    while not writer._first_waits:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert writer.full
    writer.resume()
    assert gate.next() == [b"8"]
    gate.answers.put(None)
    assert gate.next() == [b"9"]
    assert heard.durable.empty()
    gate.answers.put(None)
    assert gate.next() == [b"1"]
    gate.answers.put(None)
    assert heard.next_durable() == 1
    assert heard.failures.empty()


def test_a_failure_of_what_frees_space_is_final(make: Make) -> None:
    writer, gate, heard = make()
    writer.put_first(save(8))
    gate.next()
    error = DiskFailed(Path("data"), "EIO")
    gate.answers.put(error)
    assert heard.next_failure() is error
    with pytest.raises(WriterStopped, match="EIO"):
        writer.submit(1, save(1))


def test_a_full_writer_can_be_stopped(make: Make) -> None:
    writer, gate, heard = make()
    writer.submit(1, save(1))
    gate.answers.put(DiskFull(Path("data"), "no space left"))
    heard.next_failure()
    assert not writer.stop(WAIT_SECONDS)
    with pytest.raises(WriterStopped, match="stopping"):
        writer.submit(2, save(2))


@pytest.mark.parametrize("error", [DiskFailed(Path("data"), "EIO"), StoreMisuse("wrong slot"), ZeroDivisionError("?")])
def test_any_other_failure_is_final(make: Make, error: Exception) -> None:
    """D5: reported once, nothing after it is written or acknowledged, further tickets are refused with the reason."""
    writer, gate, heard = make()
    writer.submit(1, save(1))
    gate.next()
    writer.submit(2, save(2))
    gate.answers.put(error)
    assert heard.next_failure() is error
    with pytest.raises(WriterStopped, match="ticket 3"):
        writer.submit(3, save(3))
    writer.resume()
    assert not writer.stop(WAIT_SECONDS)
    assert gate.asked.empty()
    assert heard.durable.empty()
    assert heard.failures.empty()


def test_the_backlog_has_a_bound(make: Make) -> None:
    writer, gate, heard = make(backlog_bytes_max=1000)
    writer.submit(1, save(1))
    gate.next()
    writer.submit(2, save(2, 500))
    with pytest.raises(WriterStopped, match="1000 bytes"):
        writer.submit(3, save(3, 500))
    with pytest.raises(WriterStopped):
        writer.submit(4, save(4))
    gate.answers.put(None)
    assert heard.next_durable() == 1
    assert gate.next() == [b"2" * 500]


def test_tickets_rise(make: Make) -> None:
    writer, gate, _ = make()
    writer.submit(5, save(5))
    gate.next()
    with pytest.raises(WriterStopped, match="ticket 5 came before"):
        writer.submit(5, save(5))


def test_stop_writes_what_is_queued() -> None:
    store, heard = MemoryStore(), Heard()
    store.recover()
    writer = Writer(store, heard.durable.put, heard.failures.put)
    for ticket in range(1, 51):
        writer.submit(ticket, [append(ticket - 1)])
    writer.start()
    assert writer.stop(WAIT_SECONDS)
    assert store.bounds() == (0, 50)
    assert list(heard.durable.queue)[-1] == 50


def test_submit_never_waits_for_the_disk(lmdb_store: LmdbStore) -> None:
    """Under load on a real disk: everything becomes durable, in order, in far fewer commits than tickets."""
    heard = Heard()
    done = threading.Event()

    def on_durable(ticket: int) -> None:
        heard.durable.put(ticket)
        if ticket == 400:
            done.set()

    writer = Writer(lmdb_store, on_durable, heard.failures.put)
    writer.start()
    for ticket in range(1, 401):
        writer.submit(ticket, [append(ticket - 1)])
    assert done.wait(WAIT_SECONDS)
    assert writer.stop(WAIT_SECONDS)
    reported = list(heard.durable.queue)
    assert reported == sorted(reported)
    assert writer.counts.commits == len(reported) < 400
    assert writer.counts.tickets == 400
    assert writer.counts.commit_seconds > 0
    assert heard.failures.empty()
    assert lmdb_store.read(399) == (body(399), link(399))
