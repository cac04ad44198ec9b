"""Frames of the marketplace's interfaces, beside those that they share with the product store (product_store/wire.py).

    client                        interface
    HELLO     ->                  WELCOME, or FAILED (request 0)
    CALL      ->                  OUTCOMES, or REFUSED (not_ready, overloaded ...): send it again
    ASK       ->                  FOUND or FAILED

A CALL holds one function of changes, an ASK holds questions; OUTCOMES and FOUND hold the outcomes of both. In WELCOME
`opened` is an offset of the bus that customers stand at, and `view` is (index of the products' log, 0).
"""

from typing import Any, NamedTuple

from ringcast.strict import U64_MAX, Check, array, bad, binary, integer
from ringcast.types import CLIENT_ID_BYTES

CALL_BYTES_MAX = 16 << 10


class Call(NamedTuple):
    """Client -> interface. (client, sequence) names it for ever: sent again, to whatever interface, with the same
    bytes, it has the same outcome. Every call up to `acknowledged` has been answered.

    `opened`: (offset, index) of the first WELCOME of this client id, for its whole life.
    """

    client: bytes
    sequence: int
    acknowledged: int
    opened: tuple[int, int]
    function: bytes


def _function(what: str, value: Any) -> None:
    if type(value) is not bytes or len(value) > CALL_BYTES_MAX:
        bad(what, value, f"at most {CALL_BYTES_MAX} bytes")


_CALL: tuple[Check, ...] = (
    binary(CLIENT_ID_BYTES),
    integer(1),
    integer(),
    array(integer(), integer(0, U64_MAX)),
    _function,
)
#: Type on the wire -> (message, the check of each field), for wire.py.
SCHEMA: dict[int, tuple[Any, tuple[Check, ...]]] = {36: (Call, _CALL)}
