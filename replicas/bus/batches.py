"""What requests and batches hold, as a state machine meets them: nothing that stands in the log raises."""

from collections.abc import Iterator

from ringcast.bus.batch import unpack
from ringcast.bus.cursors import CursorOperation, decode_operation
from ringcast.bus.request import BatchHeader, decode_batch_headers
from ringcast.errors import BadFrame
from sequencer.types import Request


def batches_of(request: Request) -> Iterator[tuple[BatchHeader, bytes]]:
    """The batches that a request carries, in order; none at all if its frames are not those of a request."""
    frames = request.frames
    if not frames:
        return iter(())
    try:
        headers = decode_batch_headers(frames[0])
    except BadFrame:
        return iter(())
    if len(headers) != len(frames) - 1:
        return iter(())
    return zip(headers, frames[1:], strict=True)


def messages_of(packed: bytes, count: int) -> list[bytes]:
    """The payloads of a batch; none at all if it is no batch."""
    try:
        return [payload for payload, _ in unpack(packed, count)]
    except BadFrame:
        return []


def cursor_operations(packed: bytes, count: int) -> list[CursorOperation]:
    """The cursor operations of a batch on `_cursors`; what is none is left out."""
    operations = []
    for payload in messages_of(packed, count):
        try:
            operations.append(decode_operation(payload))
        except BadFrame:
            continue
    return operations
