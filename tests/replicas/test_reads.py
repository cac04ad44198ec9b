"""K3 in the shell: who shares a READ, whose state is read, and what becomes of a read that nobody can answer."""

import asyncio
from typing import Any

import pytest

from broker.gateway import Reply
from replicas.bus import reads as reading
from replicas.bus.reads import Reads
from ringcast.errors import Disconnected, NotReady, RingcastError
from ringcast.wire import FORWARD, LINEARIZABLE, LOCAL, Answer, Fetch, Fetched, Query
from sequencer.output import ReadAsked
from store.errors import RecordDamaged
from tests.rules.mutants_of_members import JoinsLate


class State:
    """A state machine that stands at an offset; a fetch takes as long as the test likes."""

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self.walked = asyncio.Event()
        self.walked.set()
        self.error: Exception | None = None

    def query(self, query: Query) -> Answer:
        if self.error is not None:
            raise self.error
        return Answer(query.request, {}, self.next_offset)

    async def fetch(self, fetch: Fetch) -> tuple[Fetched, list[bytes]]:
        await self.walked.wait()
        if self.error is not None:
            raise self.error
        return Fetched(fetch.request, (), self.next_offset, self.next_offset, 0), []


class Shell:
    """What a shell does with its Reads. `answers`: request -> what it was answered."""

    def __init__(self, reads_class: type[Reads] = Reads) -> None:
        self.state = State(0)
        self.steps = 0
        self.trouble: RingcastError | None = None
        self.answers: dict[int, Any] = {}
        self.reads = reads_class(1, lambda: self.state, self._plan, self._trouble)  # type: ignore[arg-type, return-value]

    def _plan(self) -> None:
        self.steps += 1

    def _trouble(self) -> RingcastError | None:
        return self.trouble

    def _reply(self, number: int) -> Reply:
        def reply(answer: Fetched | Answer | RingcastError, _: Any) -> None:
            assert number not in self.answers
            self.answers[number] = answer

        return reply

    def ask(self, number: int, consistency: int = LINEARIZABLE) -> None:
        self.reads.answer(Query(number, "status", {}, consistency), self._reply(number))

    def fetch(self, number: int, consistency: int = LINEARIZABLE) -> None:
        self.reads.answer(Fetch(number, ">", 0, FORWARD, 1, 1, consistency), self._reply(number))

    async def answered(self, *numbers: int) -> None:
        async with asyncio.timeout(5):
            while not self.answers.keys() >= set(numbers):  # noqa: ASYNC110 - replies come from tasks
                await asyncio.sleep(0.001)

    def ends(self) -> dict[int, int]:
        """request -> the offset at which it was answered."""
        return {number: answer.next_offset for number, answer in self.answers.items()}


async def test_a_reader_that_comes_after_the_step_gets_a_round_of_its_own() -> None:
    """Frames of clients are taken between a step and the end of the loop's turn, after the step's READ has left."""
    shell = Shell()
    shell.ask(1)
    shell.ask(2)
    assert shell.steps == 1
    assert shell.reads.take() == [ReadAsked(1)]
    shell.ask(3)
    assert shell.steps == 2
    shell.reads.ready(1, 4)
    shell.state.next_offset = 4
    shell.reads.applied(4)
    assert shell.ends() == {1: 4, 2: 4}
    assert shell.reads.take() == [ReadAsked(2)]
    shell.reads.ready(2, 5)
    shell.reads.applied(4)
    shell.state.next_offset = 5
    shell.reads.applied(5)
    assert shell.ends() == {1: 4, 2: 4, 3: 5}
    assert len(shell.reads) == 0


async def test_the_test_above_sees_readers_that_join_late() -> None:
    """The mutant of tests/rules, in the shell: the late reader is answered at 4, though 5 was acknowledged to it."""

    class LateReads(Reads):
        rounds_class = JoinsLate

    shell = Shell(LateReads)
    shell.ask(1)
    shell.reads.take()
    shell.ask(3)
    shell.reads.ready(1, 4)
    shell.reads.applied(4)
    assert 3 in shell.answers


async def test_local_reads_wait_for_nobody() -> None:
    shell = Shell()
    shell.ask(1, LOCAL)
    shell.fetch(2, LOCAL)
    await shell.answered(1, 2)
    assert shell.steps == 0
    assert shell.reads.take() == []


async def test_a_read_sees_the_state_that_a_snapshot_brought() -> None:
    """C1: the state machine is another one by the time the read may be made."""
    shell = Shell()
    shell.ask(1)
    shell.fetch(2)
    shell.reads.take()
    shell.reads.ready(1, 7)
    shell.state = State(9)
    shell.reads.applied(9)
    await shell.answered(1, 2)
    assert shell.ends() == {1: 9, 2: 9}


async def test_a_fetch_whose_log_is_replaced_under_it_is_refused() -> None:
    """C1: what it found may have holes; its client asks another replica."""
    shell = Shell()
    before = shell.state
    before.walked.clear()
    shell.fetch(1, LOCAL)
    await asyncio.sleep(0)
    shell.state = State(9)
    before.walked.set()
    await shell.answered(1)
    assert isinstance(shell.answers[1], NotReady)


@pytest.mark.parametrize("trouble", ["alone", ""])
async def test_a_read_that_nobody_answers_says_why(monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    monkeypatch.setattr(reading, "READ_TIMEOUT_S", 0.01)
    shell = Shell()
    shell.trouble = NotReady(replica=1, state=trouble) if trouble else None
    shell.ask(1)
    shell.reads.take()
    shell.ask(2)
    await shell.answered(1, 2)
    assert all((trouble or "asking the ring") in str(answer) for answer in shell.answers.values())
    shell.reads.ready(1, 0)
    shell.reads.applied(0)
    assert shell.reads.take() == []


async def test_reads_of_a_core_that_ended_are_sent_elsewhere() -> None:
    shell = Shell()
    shell.ask(1)
    shell.reads.take()
    shell.ask(2)
    shell.reads.abandon(Disconnected(endpoint="x", why="restarting"))
    assert shell.answers.keys() == {1, 2}
    assert all(isinstance(answer, Disconnected) for answer in shell.answers.values())
    assert shell.reads.take() == []


@pytest.mark.parametrize("error", [Disconnected(endpoint="x", why="y"), RecordDamaged(3)])
async def test_what_a_read_meets_is_its_answer(error: Exception) -> None:
    """A damaged record is the replica's trouble: another one is asked (D6)."""
    shell = Shell()
    shell.state.error = error
    shell.ask(1, LOCAL)
    shell.fetch(2, LOCAL)
    await shell.answered(1, 2)
    for answer in shell.answers.values():
        assert isinstance(answer, Disconnected if isinstance(error, Disconnected) else NotReady)
