"""PySyncObj: a library, so the publishing process is one of the nodes, and for all but the gap it is the leader.

That is its best place: nothing has to be handed on. Callbacks come from `doTick`, which is driven here, in the loop's
own thread, so that no lock stands between them.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from pysyncobj import FAIL_REASON
from pysyncobj.utility import TcpUtility, UtilityException

from bench.clients import OPEN_TIMEOUT_S, RETRY_AFTER_S, Where
from bench.errors import NotMeasurable, ProcessFailed
from bench.loads import Load, in_tasks
from bench.systems import EAGER
from bench.systems.pysyncobj_node import SharedLog

ASK_AGAIN_S = 2.0
_TICK_S = 0.0005


class PySyncObjClient:
    """The first node of the cluster; the others are its servers. Its endpoint says how: ADDRESS=MODE=JOURNAL."""

    transient: tuple[type[BaseException], ...] = (ProcessFailed, TimeoutError)

    def __init__(self, where: Where) -> None:
        self._own, self._mode, self._journal = where.endpoints[0].split("=", 2)
        self._partners = list(where.endpoints[1:])
        self._leading = where.leading
        self._answered = 0
        self._failed: list[int] = []
        self._asked_s = 0.0

    async def __aenter__(self) -> Self:
        eager = self._mode == EAGER
        self._log = SharedLog(self._own, self._partners, journal=self._journal, eager=eager, autoTick=False)
        self._ticking = asyncio.ensure_future(self._tick_for_ever())
        await self._until("a leader", lambda: self._leader() is not None)
        await self._until("room for a command", lambda: self._log.getStatus()["has_quorum"])
        if self._leading:
            await asyncio.wait_for(self._first(), OPEN_TIMEOUT_S)
            await self._until("the lead", self._lead)
        return self

    async def _until(self, what: str, reached: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + OPEN_TIMEOUT_S
        while not reached():
            if time.monotonic() > deadline_s:
                raise ProcessFailed(f"PySyncObj had not {what} within {OPEN_TIMEOUT_S:g} s")
            await asyncio.sleep(0.05)

    def _leader(self) -> Any:
        return self._log.getStatus()["leader"]

    async def _first(self) -> None:
        """One command that went through: this node is up to date."""
        while True:
            try:
                await self.publish(b"")
            except self.transient:
                continue
            return

    def _lead(self) -> bool:
        """Do we lead? If not, ask the leader to hand it over; its answer does not matter, only what comes of it."""
        leader = self._leader()
        if str(leader) == self._own:
            return True
        if leader is not None and time.monotonic() > self._asked_s + ASK_AGAIN_S:
            self._asked_s = time.monotonic()
            self._asking = threading.Thread(target=_hand_over, args=(str(leader), self._own), daemon=True)
            self._asking.start()
        return False

    async def _tick_for_ever(self) -> None:
        while True:
            self._log.doTick(_TICK_S)
            await asyncio.sleep(0)

    async def __aexit__(self, *error: object) -> None:
        self._ticking.cancel()
        self._log.destroy()

    def attached(self) -> str:
        """Its own node."""
        return "1"

    async def publish(self, payload: bytes) -> object:
        """One command, until it is applied."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._log.add(payload, callback=partial(_settle, answer))
        return await asyncio.wait_for(answer, RETRY_AFTER_S)

    def _count(self, result: object, reason: int) -> None:
        self._answered += 1
        if reason != FAIL_REASON.SUCCESS:
            self._failed.append(reason)

    async def pipelined(self, load: Load) -> int:
        """Commands with a callback each."""
        sent, self._answered = 0, 0
        while self._answered < sent or (sent < load.count and not load.over()):
            while sent < load.count and sent - self._answered < load.window and not load.over():
                self._log.add(load.payload, callback=self._count)
                sent += 1
            self._log.doTick(_TICK_S)
            if self._failed:
                raise ProcessFailed(f"PySyncObj refused a command with reason {self._failed[0]}")
        return sent

    async def batched(self, load: Load) -> int:
        """There are none."""
        raise NotMeasurable("PySyncObj has no batches")

    async def tasks(self, load: Load) -> int:
        """Many concurrent commands."""
        return await in_tasks(load, self.publish)


def _hand_over(leader: str, to: str) -> None:
    """In a thread: the answer comes while the node here ticks."""
    with contextlib.suppress(UtilityException):
        TcpUtility(timeout=1.0).executeCommand(leader, ["transfer", to])


def _settle(answer: "asyncio.Future[int]", result: int | None, reason: int) -> None:
    if answer.done():
        return
    if reason == FAIL_REASON.SUCCESS and result is not None:
        answer.set_result(result)
    else:
        answer.set_exception(ProcessFailed(f"PySyncObj refused a command with reason {reason}"))


CLIENT = PySyncObjClient
