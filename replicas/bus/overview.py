"""What every replica says of itself, side by side: one connection for each, kept open between looks."""

import asyncio
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self

import ringcast
from ringcast.endpoints import Cluster
from ringcast.strict import Plain
from sequencer.quorum import majority

#: A replica that runs answers in milliseconds; one that does not must not hold up what the others say.
MEMBER_TIMEOUT_S = 1.0


def no_answer(seconds: float) -> str:
    """What is said of a member that did not answer."""
    return f"no answer within {seconds:g} s: is its process running?"


def verdict(serving: int, members: Collection[int]) -> str:
    """Of so many that can acknowledge: healthy, degraded (a quorum can), down."""
    if serving >= len(members):
        return "healthy"
    return "degraded" if serving >= majority(members) else "down"


def lacks(row: Mapping[str, Any]) -> str | None:
    """What a replica that serves lacks of the retained log (C3), by its row of `status`; None: it is whole."""
    if row.get("whole", True) or row.get("state") != "serving":
        return None
    if row["holes"]:
        slots = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in row["holes"][:3])
        return f"is not whole: damaged slots {slots} are being fetched from other replicas"
    missing_from, first = row["missing_from"], row["first"]
    if missing_from is None or missing_from >= first:
        return "is not whole: it has yet to hear from the others what is retained"
    return f"is not whole: it fetches slots {missing_from} to {first - 1} of the retained log"


class MemberOverview:
    """What one member says of itself. `close()` it."""

    def __init__(self, cluster: Cluster, member: int, timeout_s: float = MEMBER_TIMEOUT_S) -> None:
        self._cluster = cluster
        self._member = member
        self._timeout_s = min(timeout_s, MEMBER_TIMEOUT_S)
        self._bus: ringcast.Bus | None = None

    async def ask(self) -> dict[str, Any]:
        """The fields of the query `status`, or `replica` and `error`."""
        try:
            if self._bus is None:
                bus = ringcast.connect(self._cluster, replica=self._member, timeout=self._timeout_s)
                await bus.__aenter__()
                self._bus = bus
            found: dict[str, Plain] = await self._bus.query("status", local=True, timeout=self._timeout_s)
        except ringcast.RingcastError as error:
            await self.close()
            silent = isinstance(error, ringcast.Unreachable | ringcast.Timeout)
            return {"replica": self._member, "error": no_answer(self._timeout_s) if silent else str(error)}
        return dict(found)

    async def close(self) -> None:
        """End the connection; the next question makes another one."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()


class Overview:
    """`async with Overview(cluster) as overview: replicas = await overview.look()`."""

    def __init__(self, cluster: Cluster, timeout_s: float = 5.0) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._members: tuple[int, ...] = ()
        self._asked: dict[int, MemberOverview] = {}

    async def __aenter__(self) -> Self:
        """Learn the members from any replica. Raises Unreachable, and what `connect` raises."""
        async with ringcast.connect(self._cluster, timeout=self._timeout_s) as bus:
            self._members = (await bus.status()).members
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._asked.values():
            await member.close()
        self._asked.clear()

    async def look(self) -> list[dict[str, Any]]:
        """One row for each member, by id: the fields of the query `status`, or `replica` and `error`."""
        found = await asyncio.gather(*map(self._ask, self._members))
        newest = max((one for one in found if "view" in one), key=lambda one: one["view"], default=None)
        if newest is None or newest["members"] == self._members:
            return list(found)
        # V12: whoever was asked first may be one that is removed, or not added yet
        self._members = tuple(newest["members"])
        return list(await asyncio.gather(*map(self._ask, self._members)))

    async def _ask(self, member: int) -> dict[str, Any]:
        if member not in self._asked:
            self._asked[member] = MemberOverview(self._cluster, member, self._timeout_s)
        return await self._asked[member].ask()
