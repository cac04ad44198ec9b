"""Topic names and patterns: words joined by dots; one subscribes to `a.b`, to `a.b.>` (all below a.b) or to `>`."""

import re

from ringcast.errors import IllegalTopic

TOPIC_BYTES_MAX = 255
#: Cursor positions are records on this topic (issue point 7: "the position is a record in the order").
CURSORS_TOPIC = "_cursors"
#: Commands to the marketplace's customers; answered by a state machine, never handed to subscribers.
CUSTOMERS_TOPIC = "_customers"
#: Digests of the replicas' states, which they compare (docs/faults.md 56).
DIGESTS_TOPIC = "_digests"
ALL = ">"

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)


def is_topic(name: str) -> bool:
    """True for a well-formed name, reserved ones included."""
    return len(name) <= TOPIC_BYTES_MAX and _TOPIC.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Names that begin with '_' belong to the bus itself."""
    return name.startswith("_")


def is_pattern(pattern: str) -> bool:
    """True for a topic, for a topic + '.>' and for '>' (every topic that is not reserved)."""
    return pattern == ALL or is_topic(pattern.removesuffix(".>"))


def check_topic(name: str, *, reserved: bool = False) -> str:
    """Return `name`, or raise IllegalTopic. `reserved=True` lets the bus's own names pass."""
    if not is_topic(name) or (is_reserved(name) and not reserved):
        raise IllegalTopic(topic=name, limit=TOPIC_BYTES_MAX)
    return name


def check_pattern(pattern: str) -> str:
    """Return `pattern`, or raise IllegalTopic."""
    if not is_pattern(pattern):
        raise IllegalTopic(topic=pattern, limit=TOPIC_BYTES_MAX)
    return pattern


def matches(pattern: str, topic: str) -> bool:
    """Does a (checked) pattern take in a topic? '>' leaves the reserved ones out; name them to read them.

    >>> matches("orders.>", "orders.eu"), matches("orders.>", "orders"), matches("orders", "orders2")
    (True, False, False)
    """
    if pattern == ALL:
        return not is_reserved(topic)
    if pattern.endswith(".>"):
        return topic.startswith(pattern[:-1])
    return topic == pattern
