"""`explain`: all that is known of one message - who sent it, who ordered it, where it is stored and was delivered.

The log knows sender, slot, view and time for as long as it keeps the message. Which holder ordered it, and when each
replica stored and delivered it, replicas remember for minutes only (replicas/bus/traces.py).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ringcast
from replicas.bus.overview import MEMBER_TIMEOUT_S, no_answer
from ringcast.endpoints import Cluster

_HOLDER_FORGOTTEN = -1


@dataclass(slots=True)
class Copy:
    """What one replica says. `same`: its record has the chain of the one that was asked first. Times: its own clock."""

    replica: int
    stored: bool = False
    delivered: bool = False
    same: bool = False
    stored_us: int = 0
    delivered_us: int = 0
    error: str = ""


@dataclass(slots=True)
class Explanation:
    """`record`: the query of this name (docs/wire.md). `holder`: 0 = nobody remembers."""

    record: Mapping[str, Any]
    holder: int = 0
    copies: list[Copy] = field(default_factory=list)


async def explain(cluster: Cluster, offset: int, timeout_s: float) -> Explanation:
    """Ask one replica for the record, then each what it has of it. Raises what `query` raises."""
    async with ringcast.connect(cluster, timeout=timeout_s) as bus:
        record = await bus.query("record", {"offset": offset}, timeout=timeout_s)
        members = (await bus.status()).members
    found = Explanation(record)
    answers = await asyncio.gather(*(_ask(cluster, member, record) for member in members))
    for copy, holder in answers:
        found.copies.append(copy)
        if holder != _HOLDER_FORGOTTEN:
            found.holder = holder or copy.replica
    if len(members) == 1:
        found.holder = members[0]  # it says so to nobody
    return found


async def _ask(cluster: Cluster, member: int, record: Mapping[str, Any]) -> tuple[Copy, int]:
    copy, holder, slot = Copy(member), _HOLDER_FORGOTTEN, int(record["slot"])
    try:
        async with ringcast.connect(cluster, replica=member, timeout=MEMBER_TIMEOUT_S) as bus:
            status: Mapping[str, Any] = await bus.query("status", local=True)
            copy.stored, copy.delivered = status["stored"] > slot, status["applied"] > slot
            if copy.delivered:
                own = await bus.query("record", {"offset": record["offset"]}, local=True)
                copy.same = own["chain"] == record["chain"]
            trace: Mapping[str, Any] = await bus.query("trace", {"slot": slot}, local=True)
            copy.stored_us, copy.delivered_us = trace.get("stored_us", 0), trace.get("delivered_us", 0)
            holder = trace.get("holder", _HOLDER_FORGOTTEN)
    except ringcast.RingcastError as error:
        silent = isinstance(error, ringcast.Unreachable | ringcast.Timeout)
        copy.error = no_answer(MEMBER_TIMEOUT_S) if silent else str(error)
    return copy, holder
