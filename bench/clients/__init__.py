"""One client per system, each in a module of its own that imports that system's library and offers `CLIENT`.

A module is loaded in the publishing process only, and only when its system is measured.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, Self, cast

from bench.loads import Load

#: How long a call may take in a failover before it is tried again.
RETRY_AFTER_S = 1.0
OPEN_TIMEOUT_S = 30.0
#: So many different ones are read of a store.
READ_KEYS = 1_024


@dataclass(frozen=True, slots=True)
class Where:
    """What a client is told of its system. `replicas`: how many hold a stream (NATS).

    `leading`: where the client is a member itself (PySyncObj), may it be the leader?
    """

    endpoints: tuple[str, ...]
    replicas: int
    leading: bool = True


class Client(Protocol):
    """A connected publisher; use it with `async with`."""

    async def __aenter__(self) -> Self:
        """Connect, and make what is published to if it is not there. Raises ProcessFailed."""
        ...

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        ...

    async def publish(self, payload: bytes) -> object:
        """Publish one message; returns when it is acknowledged, and raises one of `transient` if it was not."""
        ...

    async def pipelined(self, load: Load) -> int:
        """Publish with a receipt for each message, `load.window` of them unanswered; returns those acknowledged."""
        ...

    async def batched(self, load: Load) -> int:
        """The same in the system's own batches, which are all or none. Raises NotMeasurable."""
        ...

    async def tasks(self, load: Load) -> int:
        """`load.window` tasks that each publish one message and wait."""
        ...

    def attached(self) -> str:
        """The endpoint or id of the server that it talks to, "" if that is not one."""
        ...

    @property
    def transient(self) -> tuple[type[BaseException], ...]:
        """What `publish` raises in a failover, when one tries again."""
        ...


class StoreClient(Client, Protocol):
    """A client of a store that can be read."""

    async def prepare(self) -> None:
        """Put in what is read."""
        ...

    async def read(self, *, local: bool) -> object:
        """Something that is there: linearizable, or as one server has it."""
        ...


Connect = Callable[[Where], Client]


def client_of(module: str) -> Connect:
    """The client of a system, by the name of its module here."""
    return cast("Connect", import_module(f"bench.clients.{module}").CLIENT)


async def retry_open(attempt: Callable[[], "asyncio.Future[None]"], errors: Sequence[type[BaseException]]) -> None:
    """Try until the servers are ready for it. Raises the last error after OPEN_TIMEOUT_S."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + OPEN_TIMEOUT_S
    while True:
        try:
            await attempt()
        except tuple(errors):
            if loop.time() > deadline_s:
                raise
            await asyncio.sleep(0.2)
        else:
            return
