"""What every asynchronous client is: a session that follows the replicas, from `async with` to its end."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

import zmq

from ringcast.endpoints import Endpoints
from ringcast.errors import Closed
from ringcast.failover import Failover
from ringcast.forks import Origin

#: For entering a client, and for each of its calls that names no other.
TIMEOUT_S = 30.0

S = TypeVar("S", bound=Failover)


class Following(ABC, Generic[S]):
    """A client of one role's replicas; enter it with `async with`, or leave it with `close`."""

    #: How errors call it once it is closed.
    _what: ClassVar[str]

    def __init__(self, endpoints: Endpoints, timeout_s: float) -> None:
        self._endpoints = endpoints
        self._timeout_s = timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._followed: S | None = None
        self._origin = Origin(self._what)

    @abstractmethod
    def _make_session(self, context: "zmq.Context[zmq.Socket[bytes]]") -> S:
        """The session, not started."""

    async def __aenter__(self) -> Self:
        self._origin = Origin(self._what)
        self._context = zmq.Context()
        self._followed = self._make_session(self._context)
        try:
            await self._followed.start(self._timeout_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything: unanswered changes raise that their outcome is unknown, what else waits raises Closed.

        Safe to call twice. Does nothing in a forked child: all of it is the parent's.
        """
        if not self._origin.here:
            return
        session, self._followed = self._followed, None
        if session is not None:
            await session.close()
        context, self._context = self._context, None
        if context is not None:
            # All sockets are closed, what is left is their linger; `destroy` would close one that was forgotten, where
            # `term` would wait for it for ever.
            context.destroy()

    @property
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last."""
        return self._live.replica

    @property
    def failovers(self) -> int:
        """How many connections were lost or left so far."""
        return self._live.failovers

    @property
    def _live(self) -> S:
        if self._followed is None:
            raise Closed(what=self._what)
        self._origin.check()
        return self._followed

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout_s if timeout is None else timeout
