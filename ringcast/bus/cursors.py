"""Durable cursors: the position of a named consumer is a record in the order itself, on the reserved topic `_cursors`.

Each message of a batch on `_cursors` is one operation; the state machine applies it at delivery, so the position is the
same on every replica and survives whatever the order survives. A payload that is no operation is ignored by all alike.
"""

from typing import NamedTuple

from ringcast.bus.topics import TOPIC_BYTES_MAX, is_pattern, is_reserved, is_topic
from ringcast.errors import BadFrame, IllegalTopic
from ringcast.strict import array, dumps, integer, loads, text

#: Raises the position; a commit below it changes nothing, so late or repeated commits do no harm.
COMMIT = 1
#: Sets the position, backwards too.
RESET = 2
#: Forgets the cursor.
DELETE = 3

OPERATION_BYTES_MAX = 1_024
_OPERATION = array(integer(COMMIT, DELETE), text(TOPIC_BYTES_MAX), text(TOPIC_BYTES_MAX + 2), integer())


class CursorOperation(NamedTuple):
    """One change of a cursor. `offset`: the next offset to read, everything below it is done (0 for DELETE).

    `pattern` is what the cursor reads; a cursor is named by `name` alone, and keeps the pattern of its last change.
    """

    operation: int
    name: str
    pattern: str
    offset: int


def check_cursor_name(name: str) -> str:
    """Return `name`, or raise IllegalTopic: cursor names follow the rules of topic names."""
    if not is_topic(name) or is_reserved(name):
        raise IllegalTopic(topic=name, limit=TOPIC_BYTES_MAX, reason="as the name of a cursor")
    return name


def encode_operation(operation: CursorOperation) -> bytes:
    """The payload of one message on `_cursors`."""
    return dumps(tuple(operation))


def decode_operation(payload: bytes) -> CursorOperation:
    """The operation of one message on `_cursors`. Raises BadFrame only; the state machine then ignores the message."""
    fields = loads(payload, OPERATION_BYTES_MAX)
    _OPERATION("the cursor operation", fields)
    operation = CursorOperation._make(fields)
    if not is_topic(operation.name) or is_reserved(operation.name) or not is_pattern(operation.pattern):
        raise BadFrame(what="the cursor operation", value=repr(operation)[:60], limit="a cursor name and a pattern")
    return operation
