"""One connection at a time to some replica of many: the search for one that serves, back-off, and time limits.

Replicas are those that we were given and those that they tell of: a client outlives every one it was given (V12).

What travels on the connections is a child's: `Session` of the bus, `ProductSession` of the product store.
"""

import asyncio
import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import zmq

from ringcast import wire
from ringcast.endpoints import Endpoints
from ringcast.errors import NotInQuorum, ProtocolError, RingcastError, Timeout, Unreachable, again

HELLO_TIMEOUT_S = 1.0
BACKOFF_FIRST_S = 0.02
#: A handshake that was broken off so often in a row was not broken off by a replica that just ended.
BROKEN_HANDSHAKES_MAX = 4
#: A refusal is final for a running client when it has lasted so long at all addresses, or at most of them while the
#: others do not answer: a quorum of our cluster cannot be there any more.
REFUSED_BY_ALL_S, REFUSED_BY_MOST_S = 3.0, 10.0


class Failover(ABC):
    """Use: `await start()`, then anything, then `await stop()`. Time limits are the callers'; nothing here gives up."""

    #: Between two rounds over all replicas, once none of them served.
    backoff_max_s: ClassVar[float] = 1.0

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoints: Endpoints) -> None:
        self.cluster = endpoints.cluster
        self.failovers = 0
        self.credentials = endpoints.credentials
        self._context = context
        self.endpoints = endpoints
        self._given = endpoints.addresses
        self._told: tuple[str, ...] = ()  # where the members are that we were not given
        self._address = ""  # the one that was tried last
        #: Connections in a row that brought nothing; the child sets it to 0 when one does.
        self._failures = 0
        #: Why nobody answers now, None = somebody does.
        self._trouble: RingcastError | None = None
        #: Address -> what it refused us with, for reasons that do not pass.
        self._refused: dict[str, ProtocolError] = {}
        self._refused_at: float | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner: asyncio.Task[None] | None = None

    @property
    def context(self) -> "zmq.Context[zmq.Socket[bytes]]":
        return self._context

    @property
    @abstractmethod
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last."""

    @abstractmethod
    async def close(self) -> None:
        """End the search, the connection and what waits for answers."""

    @abstractmethod
    async def _serve(self, address: str) -> None:
        """One connection from HELLO to its end; the child calls `_attached` in between. Raises what ended it."""

    def _end(self, error: RingcastError) -> bool:
        """The replicas refuse us for good. True: the child has ended everything, and nothing is tried any more."""
        return False

    async def start(self, timeout_s: float) -> None:
        """Wait for the first connection. Raises what all replicas refuse us with, else Unreachable in time."""
        self._runner = asyncio.create_task(self._run(), name="ringcast session")
        await asyncio.wait({self._first, self._runner}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._runner.done():
            self._runner.result()
        if self._first.done():
            self._first.result()
            return
        reason = str(self._trouble) if self._trouble else None
        raise Unreachable(endpoints=", ".join(self.addresses), seconds=timeout_s, reason=reason)

    async def stop(self) -> None:
        """End the search and the connection."""
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner

    def _attached(self) -> None:
        """There is a connection."""
        if not self._first.done():
            self._first.set_result(None)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where replicas may be: those that we were given, then those that we were told of."""
        return self._given + self._told

    def _learn(self, members: tuple[wire.Endpoint, ...]) -> None:
        """V12: the members of now. Those that we were given stay: they may be reached where the told ones are not."""
        if members:
            told = [self.endpoints.client_of(one.replica, one.address) for one in members]
            self._told = tuple(address for address in told if address not in self._given)

    def _next_address(self) -> str:
        """The next one of the round; what we are told changes the round, not our place in it."""
        addresses = self.addresses
        place = addresses.index(self._address) + 1 if self._address in addresses else random.randrange(len(self._given))
        return addresses[place % len(addresses)]

    async def _run(self) -> None:
        refused = self._refused
        broken: Counter[str] = Counter()
        while True:
            address = self._address = self._next_address()
            self._failures += 1
            try:
                await self._serve(address)
                refused.clear()
            except ProtocolError as error:
                self._trouble = error
                broken[address] += 1
                if _is_certain(error) or broken[address] >= BROKEN_HANDSHAKES_MAX:
                    refused[address] = error
            except RingcastError as error:
                refused.pop(address, None)
                broken.pop(address, None)
                self._trouble = error
            if len(refused) == len(self.addresses) and not self._first.done():
                # Waiting helps no one: every replica is of another cluster or version.
                self._first.set_exception(next(iter(refused.values())))
            final = self._final_refusal()
            if final is not None and self._end(final):
                return
            if self._failures >= len(self.addresses):
                await asyncio.sleep(self._backoff_s() * random.uniform(0.5, 1.0))

    def _final_refusal(self) -> RingcastError | None:
        """What a running client is refused with for good, if it is certain."""
        certain = [error for error in self._refused.values() if _is_certain(error)]
        if not self._first.done() or 2 * len(certain) <= len(self.addresses):
            self._refused_at = None
            return None
        now = asyncio.get_running_loop().time()
        if self._refused_at is None:
            self._refused_at = now
        limit_s = REFUSED_BY_ALL_S if len(certain) == len(self.addresses) else REFUSED_BY_MOST_S
        return certain[0] if now - self._refused_at >= limit_s else None

    def _backoff_s(self) -> float:
        rounds = self._failures // len(self.addresses)
        return 0.0 if rounds == 0 else min(self.backoff_max_s, BACKOFF_FIRST_S * 2.0 ** min(rounds, 16))

    @asynccontextmanager
    async def within(self, what: str, seconds: float) -> AsyncIterator[None]:
        """A time limit. Raises NotInQuorum or a ProtocolError if that is why nobody answers, else Timeout."""
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds) as limit:
                yield
        except TimeoutError as error:
            if isinstance(error, RingcastError) or not limit.expired():
                raise
            raise self._late(what, seconds) from None

    def _late(self, what: str, seconds: float) -> RingcastError:
        """What a time limit that passed means."""
        trouble = self._trouble
        if len(self._refused) == len(self.addresses):
            trouble = next(iter(self._refused.values()))
        if isinstance(trouble, NotInQuorum) or (isinstance(trouble, ProtocolError) and _is_certain(trouble)):
            return again(trouble)
        return Timeout(what=what, seconds=seconds, reason=str(self._trouble) if self._trouble else None)


def _is_certain(error: ProtocolError) -> bool:
    """False: a replica that ends in this moment would look the same."""
    return bool(error.details.get("certain", True))
