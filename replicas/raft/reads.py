"""Linearizable reads: the read index of thesis 6.4, one round for all that wait (R14). No lease: clocks stand still."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from replicas.raft.futures import fail

if TYPE_CHECKING:
    from replicas.raft.leader import Leader


class Reads:
    """asked -> in a round -> confirmed, and waiting for the state to be readable up to the index."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._asked: list[Future[int]] = []
        self._round: tuple[int, int, list[Future[int]]] | None = None  # request_id, read index, who waits
        self._confirmed: deque[tuple[int, list[Future[int]]]] = deque()

    def add(self, future: Future[int]) -> None:
        """The future has the index up to which the state was readable at some time after now."""
        self._asked.append(future)
        if len(self._asked) == 1 and self._round is None:
            self._leader.state.loop.call_soon(self.ask)  # those of one turn share a round

    def ask(self) -> None:
        """Begin a round, unless one is under way or the term is not open (then its no-op's commit begins it)."""
        leader = self._leader
        if self._asked and self._round is None and leader.term_opened and leader.state.state is leader:
            self._round = (leader.request_id + 1, leader.log.commit, self._asked)
            self._asked = []
            leader.begin_round()

    def confirmed(self, request_id: int) -> None:
        """A quorum followed this leader after the round was sent."""
        if self._round is not None and self._round[0] <= request_id:
            _, index, futures = self._round
            self._round = None
            self._confirmed.append((index, futures))
            self.visible()
            self.ask()

    def visible(self) -> None:
        """More of the state can be read."""
        state = self._leader.state
        while self._confirmed and self._confirmed[0][0] <= state.visible:
            index, futures = self._confirmed.popleft()
            for future in futures:
                if not future.done():
                    future.set_result(index)

    def fail(self, error: Exception) -> None:
        """Nothing was read."""
        waiting = [self._asked, *(futures for _, futures in self._confirmed)]
        if self._round is not None:
            waiting.append(self._round[2])
        for future in chain.from_iterable(waiting):
            fail(future, error)
        self._asked, self._round = [], None
        self._confirmed.clear()
