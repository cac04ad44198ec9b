"""What a log entry of the product store holds, and what applying it gives back.

An entry is `[version, time_us, requests]`; version 2 may set the tables' time back (D7). Each request is that of an
OPERATE frame, put there by the gateway unopened. Its result is an outcome (ringcast/product_store/operations.py) whose
value is the array of the requests' outcomes. Ids, times and random values come with the entry: applying it
needs nothing else.
An entry without bytes changes nothing (Raft's own no-op).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ringcast.errors import BadFrame, UnsupportedVersion
from ringcast.product_store.operations import decode_outcomes
from ringcast.product_store.wire import OPERATE, Operate
from ringcast.strict import Check, array, bad, dumps, integer, loads, many

VERSION, SETS_BACK = 1, 2
ENTRY_BYTES_MAX = 8 << 20
RESULT_BYTES_MAX = 64 << 20
REQUESTS_MAX = 4_096

_TIME = integer(0, 1 << 62)  # so that what is added to it is a time too
_REQUESTS: Check = many(array(*OPERATE), REQUESTS_MAX)


class Entry(NamedTuple):
    """Requests that are applied together; `time_us` by the clocks of a quorum (D7), microseconds since 1970.

    `sets_back`: the tables' time was ahead and may fall to it. Such an entry is proposed only where all voters tell
    their clocks, for members of an older version cannot read it.
    """

    time_us: int
    requests: tuple[Operate, ...]
    sets_back: bool = False


def encode_entry(time_us: int, requests: Sequence[Operate], *, sets_back: bool = False) -> bytes:
    """At most REQUESTS_MAX requests, and ENTRY_BYTES_MAX bytes."""
    return dumps((SETS_BACK if sets_back else VERSION, time_us, list(requests)))


def decode_entry(data: bytes | memoryview) -> Entry:
    """Raises BadFrame only; UnsupportedVersion for an entry of a newer version."""
    fields: Any = loads(data, ENTRY_BYTES_MAX)
    if type(fields) is not tuple or not fields or type(fields[0]) is not int:
        bad("the entry", type(fields).__name__, "an array [version, ...]")
    if fields[0] not in {VERSION, SETS_BACK}:
        raise UnsupportedVersion(version=fields[0], supported=SETS_BACK)
    if len(fields) != 3:
        bad("the entry", f"{len(fields)} fields", "3")
    _TIME("the time", fields[1])
    _REQUESTS("the requests", fields[2])
    return Entry(fields[1], tuple(map(Operate._make, fields[2])), fields[0] == SETS_BACK)


def decode_result(data: bytes, requests: int) -> list[bytes]:
    """The outcomes of an entry's requests. Raises what the whole entry was refused with, BadFrame."""
    if not data:
        raise BadFrame(what="the result", value="nothing", limit=f"outcomes of {requests} requests")
    return decode_outcomes(data, requests, RESULT_BYTES_MAX)
