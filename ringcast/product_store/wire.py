"""Frames of the product store. They share the envelope, HELLO, WELCOME, REFUSED, FAILED, PING, PONG and GOODBYE with
the bus (wire.py); in WELCOME `view` is (term, leader or 0), `opened` and `next_offset` are indexes of the Raft log.

    client                        replica
    HELLO     ->                  WELCOME, or FAILED (request 0)
    OPERATE   ->                  OUTCOMES after it is applied, or REFUSED (not_leader, overloaded ...): it was not, yet
    ASK       ->                  FOUND or FAILED

A request is a batch: its operations are applied in their order, each with an outcome of its own. (client, sequence)
names it for ever: sent again, with the same bytes, it gets the same outcomes.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from ringcast.product_store.operations import OPERATION_BYTES_MAX
from ringcast.strict import Check, bad, binary, integer, many
from ringcast.types import CLIENT_ID_BYTES

#: Of one request, and its size.
OPERATIONS_MAX = 1_024
REQUEST_BYTES_MAX = 256 << 10
#: What an operation or question counts for beside its own bytes, and a request beside those: about what a short outcome
#: takes, and more than what frames and entries add.
ITEM_BYTES = 128
#: Unanswered requests of one client that the store remembers outcomes for.
WINDOW = 256


class Operate(NamedTuple):
    """Client -> replica. Every request up to `acknowledged` has been answered: its outcomes may be forgotten.

    `opened`: that of the first WELCOME of this client id, for its whole life.
    """

    client: bytes
    sequence: int
    acknowledged: int
    opened: int
    operations: tuple[bytes, ...]


class Outcomes(NamedTuple):
    """Replica -> client. `outcomes`: an outcome, its value is the array of the operations' outcomes."""

    client: bytes
    sequence: int
    outcomes: bytes


class Ask(NamedTuple):
    """Client -> replica. Consistency as in QUERY: 0 linearizable, 1 local."""

    request: int
    consistency: int
    questions: tuple[bytes, ...]


class Found(NamedTuple):
    """Replica -> client. `applied`: the index that the state which was read stands at; `outcomes` as in OUTCOMES."""

    request: int
    applied: int
    outcomes: bytes


def size_of(items: Iterable[bytes]) -> int:
    """What a request counts for where bytes are bounded; no frame or entry takes more for it."""
    return ITEM_BYTES + sum(len(item) + ITEM_BYTES for item in items)


def _bytes(what: str, value: Any) -> None:
    if type(value) is not bytes:
        bad(what, type(value).__name__, "bytes")


def _item(what: str, value: Any) -> None:
    if type(value) is not bytes or len(value) > OPERATION_BYTES_MAX:
        bad(what, value, f"at most {OPERATION_BYTES_MAX} bytes")


_ITEMS = many(_item, OPERATIONS_MAX)
_CLIENT, _U63, _POSITIVE = binary(CLIENT_ID_BYTES), integer(), integer(1)
#: The fields of OPERATE; a log entry holds them too.
OPERATE: tuple[Check, ...] = (_CLIENT, _POSITIVE, _U63, _U63, _ITEMS)
#: Type on the wire -> (message, the check of each field), for wire.py.
SCHEMA: dict[int, tuple[Any, tuple[Check, ...]]] = {
    32: (Operate, OPERATE),
    33: (Outcomes, (_CLIENT, _POSITIVE, _bytes)),
    34: (Ask, (_POSITIVE, integer(0, 1), _ITEMS)),
    35: (Found, (_POSITIVE, _U63, _bytes)),
}
