"""What every replica of the product store says of itself, side by side."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ringcast
from replicas.bus.overview import MEMBER_TIMEOUT_S, no_answer
from replicas.products.config import MemberAddress
from ringcast.endpoints import Cluster, find


async def look(cluster: Cluster, timeout_s: float) -> list[dict[str, Any]]:
    """One row for each member, by id: its status (products_member.py), or `replica`, `address` and `error`.

    Those of `cluster` are asked, and then the members that these name: whoever was given three of them finds all.
    Raises Refused if `cluster` cannot be read, Unreachable if nobody answers.
    """
    seconds = min(timeout_s, MEMBER_TIMEOUT_S)
    found = find(cluster, "products")
    given, keys = found.addresses, found.credentials.path
    asked = dict(zip(given, await _ask_all(given, seconds, keys), strict=True))
    newest = max((one for one in asked.values() if "term" in one), key=lambda one: one["commit"], default=None)
    if newest is None:
        raise ringcast.Unreachable(endpoints=", ".join(given), seconds=seconds)
    told = {int(one["member"]): _client(one["address"]) for one in newest["members"]}
    members = {member: found.client_of(member, address) for member, address in told.items()}
    missing = [address for address in members.values() if address not in asked]
    asked |= dict(zip(missing, await _ask_all(missing, seconds, keys), strict=True))
    answers = {one["replica"]: one for one in asked.values() if "replica" in one}
    rows = {
        member: answers.get(member) or {"replica": member, "address": address, "error": _why(asked.get(address))}
        for member, address in members.items()
    }
    return [rows[member] for member in sorted(rows)]


async def _ask_all(addresses: Iterable[str], seconds: float, keys: Path | None) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(_ask(address, seconds, keys) for address in addresses)))


async def _ask(address: str, seconds: float, keys: Path | None) -> dict[str, Any]:
    try:
        async with ringcast.products(address, timeout=seconds, keys=keys) as store:
            return dict(await store.status())
    except ringcast.RingcastError as error:
        silent = isinstance(error, ringcast.Unreachable | ringcast.Timeout)
        return {"error": no_answer(seconds) if silent else str(error)}


def _why(answer: Mapping[str, Any] | None) -> str:
    return str((answer or {}).get("error") or "another replica answers at its address")


def _client(address: str) -> str:
    try:
        return MemberAddress.parse(address).client_endpoint
    except ValueError:
        return address
