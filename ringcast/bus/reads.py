"""Questions to a replica, through failovers: FETCH and QUERY with their answers checked (K3)."""

from typing import Any

from ringcast import wire
from ringcast.bus.session import Session
from ringcast.errors import BadFrame
from ringcast.strict import Plain

#: What one FETCH asks for at most.
FETCH_BYTES = 1 << 20
FETCH_MESSAGES = 1 << 16

Fetched = tuple[wire.Fetched, list[bytes]]


async def fetch(
    session: Session,
    pattern: str,
    offset: int,
    direction: int = wire.FORWARD,
    messages_max: int = FETCH_MESSAGES,
    consistency: int = wire.LOCAL,
) -> Fetched:
    """One FETCH: the answer and its packed batches. Raises Compacted, IllegalTopic, BadFrame."""
    answer, payloads = await session.request(
        lambda number: wire.Fetch(number, pattern, offset, direction, messages_max, FETCH_BYTES, consistency)
    )
    if not isinstance(answer, wire.Fetched):
        raise BadFrame(what="the answer to FETCH", value=type(answer).__name__, limit="FETCHED")
    return answer, payloads


async def query(
    session: Session, name: str, arguments: dict[str, Plain], consistency: int = wire.LINEARIZABLE
) -> tuple[dict[str, Plain], int]:
    """One QUERY: its result and the offset it is as of. Raises UnknownQuery, BadFrame."""
    answer, _ = await session.request(lambda number: wire.Query(number, name, arguments, consistency))
    if not isinstance(answer, wire.Answer):
        raise BadFrame(what=f"the answer to {name}", value=type(answer).__name__, limit="ANSWER")
    return answer.result, answer.next_offset


def field(result: dict[str, Plain], name: str, check: Any) -> Any:
    """One field of a result, checked by a `strict` check. Raises BadFrame."""
    value = result.get(name)
    check(name, value)
    return value
