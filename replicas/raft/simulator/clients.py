"""Clients of a faulty cluster: one operation after the other, repeated with its session number until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from replicas.raft.errors import NotLeader, RaftError
from replicas.raft.futures import fail
from replicas.raft.node import RaftNode
from replicas.raft.simulator.linearizable import Operation
from ringcast.strict import dumps, loads

if TYPE_CHECKING:
    from replicas.raft.simulator.cluster import Cluster, Process

KEYS = ("a", "b", "c")
ANSWER_SECONDS = 0.4
ANSWER_BYTES_MAX = 1_000


class Client:
    """`commands` and `acknowledged` by (client, sequence)."""

    def __init__(self, cluster: Cluster, number: int, random: Random) -> None:
        self._cluster = cluster
        self._number = number
        self._random = random
        self._sequence = 0
        self._value = 0
        self._leader: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._open: tuple[str, str, tuple[int, ...], float] | None = None
        self.commands: dict[tuple[int, int], bytes] = {}
        self.acknowledged: set[tuple[int, int]] = set()
        self.answered_since_heal = 0

    def start(self) -> None:
        """Until `stop`."""
        self._task = self._cluster.loop.create_task(self._run())

    def stop(self) -> None:
        """What is open stays unanswered in the history."""
        if self._task is not None:
            self._task.cancel()
        if self._open is not None:
            what, key, values, invoked = self._open
            self._record(what, key, values, None, invoked, inf)

    async def _run(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._random.random() * 2 * self._cluster.options.think_seconds)
                await self._operate()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has found something
            self._cluster.broken(error)

    async def _operate(self) -> None:
        key = self._random.choice(KEYS)
        what = self._random.choice(("read", "read", "write", "cas", "log read"))
        values: tuple[int, ...] = ()
        if what in {"write", "cas"}:
            self._value += 1
            new = self._number * 1_000_000 + self._value
            values = (new,) if what == "write" else (self._guess(), new)
        invoked = self._cluster.loop.time()
        named = "read" if what == "log read" else what
        self._open = (named, key, values, invoked)
        result = await (self._read(key) if what == "read" else self._propose(named, key, values))
        self._open = None
        self.answered_since_heal += 1
        self._record(named, key, values, result, invoked, self._cluster.loop.time())

    def _record(
        self, what: str, key: str, values: tuple[int, ...], result: object, invoked: float, returned: float
    ) -> None:
        self._cluster.history.append(Operation(key, what, values, result, invoked, returned))

    def _guess(self) -> int:
        """A value that is likely to be there: the last one that somebody wrote."""
        written = [one.values[-1] for one in self._cluster.history[-6:] if one.values]
        return self._random.choice(written) if written else 0

    async def _propose(self, what: str, key: str, values: tuple[int, ...]) -> Any:
        self._sequence += 1
        command = dumps((self._number, self._sequence, what, key, *values))
        self.commands[self._number, self._sequence] = command
        answer = await self._until_answered(lambda process: process.node.propose(command))
        self.acknowledged.add((self._number, self._sequence))
        return loads(answer, ANSWER_BYTES_MAX)

    async def _read(self, key: str) -> Any:
        return await self._until_answered(lambda process: _read_state(process, key))

    async def _until_answered(self, ask: Callable[[Process], asyncio.Future[Any]]) -> Any:
        """Follow the leader; ask anybody when it is not known or does not answer."""
        while True:
            running = sorted(self._cluster.processes)
            member = self._leader
            if member not in running:
                member = self._random.choice(running) if running else None
            if member is not None:
                try:
                    return await asyncio.wait_for(self._call(member, ask), ANSWER_SECONDS)
                except NotLeader as refused:
                    self._leader = refused.leader
                except (RaftError, TimeoutError):
                    self._leader = None
            await asyncio.sleep(0.005 + self._random.random() * 0.03)

    def _call(self, member: int, ask: Callable[[Process], asyncio.Future[Any]]) -> asyncio.Future[Any]:
        """Over a connection of its own: the request waits where the process is paused, and so does the answer."""
        loop = self._cluster.loop
        outer: asyncio.Future[Any] = loop.create_future()

        def answered(inner: asyncio.Future[Any]) -> None:
            error = inner.exception()
            if error is None and not outer.done():
                outer.set_result(inner.result())
            elif error is not None:
                fail(outer, error)

        def arrived() -> None:
            process = self._cluster.processes.get(member)
            if process is not None:
                process.loop.call_soon(lambda: ask(process).add_done_callback(back))

        def back(inner: asyncio.Future[Any]) -> None:
            loop.call_later(0.0001 + self._random.random() * 0.0005, answered, inner)

        loop.call_later(0.0001 + self._random.random() * 0.0005, arrived)
        return outer


def _read_state(process: Process, key: str) -> asyncio.Future[Any]:
    """What a gateway does: wait for the read index, then look at the state that can be read."""
    node: RaftNode = process.node
    value: asyncio.Future[Any] = process.loop.create_future()

    def look(index: asyncio.Future[int]) -> None:
        error = index.exception()
        if error is not None:
            fail(value, error)
        else:
            value.set_result(process.store.disk.machine.values.get(key, 0))

    node.read().add_done_callback(lambda index: process.loop.call_soon(look, index))
    return value
