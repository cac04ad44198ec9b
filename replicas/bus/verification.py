"""`verify`: do all replicas hold the same order? Chains over slots are compared (A10): one value stands for all below.

Equal chains at the last common slot mean equal logs up to it; else the first slot that differs is found by halving.
The running digest of the state machines is compared where two replicas stand at the same checkpoint.
"""

import asyncio
from dataclasses import dataclass, field

import ringcast
from replicas.bus.overview import no_answer
from ringcast.endpoints import Cluster
from ringcast.strict import Plain

CHAIN_BYTES = 16
CHAINS_A_QUESTION = 4_096
#: A replica that runs answers in milliseconds; the comparison of the others does not wait for it longer than this.
CONNECT_TIMEOUT_S = 3.0


@dataclass(slots=True)
class Verification:
    """`first` .. `end`: the slots that all have. `differs_at`: the first slot whose chain is not the same everywhere.

    `chains`: member -> chain there (the last common slot if nothing differs), hex. `unreachable`: member -> why.
    `damaged`: member -> slots whose record it could not read; those that were asked to read their records at all.
    """

    first: int = 0
    end: int = 0
    differs_at: int | None = None
    state_differs_at: int | None = None
    chains: dict[int, str] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    unreachable: dict[int, str] = field(default_factory=dict)
    damaged: dict[int, list[int]] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Nothing differs, nothing that was read is damaged, and at least one replica was compared."""
        same = self.differs_at is None and self.state_differs_at is None
        return same and not any(self.damaged.values()) and bool(self.ends)


async def verify(cluster: Cluster, timeout_s: float = 10.0, *, read: bool = False) -> Verification:
    """Compare all members' logs; with `read` each reads every record of its own, too.

    Raises RingcastError if no replica answers at all.
    """
    async with ringcast.connect(cluster, timeout=timeout_s) as bus:
        members = (await bus.status()).members
    result = Verification()
    buses: dict[int, ringcast.Bus] = {}

    async def enter(member: int) -> None:
        bus = ringcast.connect(cluster, replica=member, timeout=min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            buses[member] = await bus.__aenter__()
        except ringcast.Unreachable:
            result.unreachable[member] = no_answer(min(timeout_s, CONNECT_TIMEOUT_S))
        except ringcast.RingcastError as error:
            result.unreachable[member] = str(error)

    try:
        await asyncio.gather(*map(enter, members))
        await _compare(dict(sorted(buses.items())), result)
        if read:
            slots = await asyncio.gather(*(_read(bus) for bus in buses.values()))
            result.damaged = dict(sorted(zip(buses, slots, strict=True)))
    finally:
        for bus in buses.values():
            await bus.close()
    return result


async def _compare(buses: dict[int, ringcast.Bus], result: Verification) -> None:
    bounds = await _all(buses, "chains", {"first": 0, "count": 1})
    result.ends = {member: _number(found, "end") for member, found in bounds.items()}
    result.first = max((_number(found, "log_first") for found in bounds.values()), default=0)
    result.end = min(result.ends.values(), default=0)
    if result.end <= result.first:
        return
    low, high = result.first, result.end - 1
    result.chains = await _chains(buses, high)
    if _same(result.chains):
        await _compare_states(buses, result)
        return
    while low < high:
        middle = (low + high) // 2
        if _same(await _chains(buses, middle)):
            low = middle + 1
        else:
            high = middle
    result.differs_at = low
    result.chains = await _chains(buses, low)


async def _read(bus: ringcast.Bus) -> list[int]:
    """Have a replica read its whole log as it is now, a little at a time; the slots that it could not read."""
    damaged: list[int] = []
    slot, end = 0, 1
    while slot < end:
        arguments: dict[str, Plain] = {"first": slot, "count": CHAINS_A_QUESTION, "read": True}
        answer = await bus.query("chains", arguments, local=True)
        end = end if slot else _number(answer, "end")
        found = answer.get("damaged")
        damaged += [one for one in found if isinstance(one, int)] if isinstance(found, tuple) else []
        slot = max(slot + 1, _number(answer, "next"))
    return damaged


async def _compare_states(buses: dict[int, ringcast.Bus], result: Verification) -> None:
    """Docs/faults.md 56: two state machines that applied the same slots must agree."""
    found = await _all(buses, "digests", {})
    seen: dict[int, Plain] = {}
    for answer in found.values():
        for at, digest in (("checkpoint", "running_at_checkpoint"), ("applied", "running")):
            slot = _number(answer, at)
            if answer.get(digest) is not None and seen.setdefault(slot, answer[digest]) != answer[digest]:
                result.state_differs_at = min(slot, result.state_differs_at or slot)


async def _chains(buses: dict[int, ringcast.Bus], slot: int) -> dict[int, str]:
    found = await _all(buses, "chains", {"first": slot, "count": 1})
    chains = {}
    for member, answer in found.items():
        chain = answer.get("chains")
        chains[member] = chain[:CHAIN_BYTES].hex() if isinstance(chain, bytes) else ""
    return chains


async def _all(buses: dict[int, ringcast.Bus], name: str, arguments: dict[str, Plain]) -> dict[int, dict[str, Plain]]:
    answers = await asyncio.gather(*(bus.query(name, arguments, local=True) for bus in buses.values()))
    return dict(zip(buses, answers, strict=True))


def _number(answer: dict[str, Plain], name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0


def _same(chains: dict[int, str]) -> bool:
    return len(set(chains.values())) <= 1
