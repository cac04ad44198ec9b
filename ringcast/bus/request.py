"""The head of a request (frames[0] of REQUEST, A1): one header for each client batch that it carries, in order.

The gateway makes it from PUBLISH frames, the state machine reads it at delivery; clients never see it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ringcast.bus.batch import COUNT_MAX, DIGEST_BYTES
from ringcast.bus.topics import TOPIC_BYTES_MAX
from ringcast.strict import array, binary, dumps, integer, loads, many, text
from ringcast.types import CLIENT_ID_BYTES
from ringcast.wire import HEADER_BYTES_MAX


class BatchHeader(NamedTuple):
    """The header of one client batch inside a request (frames[0] of REQUEST); never seen by clients.

    `durability`: 0 (majority) is the only one accepted so far. `digest`: batch.digest of the packed batch (K1, A10).
    """

    topic: str
    client: bytes
    sequence: int
    messages: int
    opened: int
    durability: int
    digest: bytes


_BATCH_HEADER = array(
    text(TOPIC_BYTES_MAX),
    binary(CLIENT_ID_BYTES),
    integer(1),
    integer(1, COUNT_MAX),
    integer(),
    integer(0, 0),
    binary(DIGEST_BYTES),
)
_BATCH_HEADERS = many(_BATCH_HEADER, COUNT_MAX)


def encode_batch_headers(headers: Sequence[BatchHeader]) -> bytes:
    """frames[0] of a request: a msgpack array of batch headers."""
    return dumps(list(headers))


def decode_batch_headers(data: bytes | memoryview) -> tuple[BatchHeader, ...]:
    """The batch headers of a request. Raises BadFrame only."""
    headers = loads(data, HEADER_BYTES_MAX)
    _BATCH_HEADERS("the batch headers", headers)
    return tuple(map(BatchHeader._make, headers))
