"""What the owner of a client key may do: topics to publish to, patterns to read, cursors to move, administration.

A grant is looked up once per connection; what is asked again and again is remembered. Patterns are those of topics
(`a.b`, `a.b.>`, `>`), and `>` leaves out the names that begin with `_`: so `_customers` must be named, and `_products`,
`_sellers` and `_buyers`, which stand for the product store and the marketplace's interfaces (to publish = to change, to
subscribe = to read). `admin` may do everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_letters, digits

from ringcast.bus.batch import count_of, unpack
from ringcast.bus.cursors import decode_operation
from ringcast.bus.feed import CONTROL, SEPARATOR
from ringcast.bus.topics import ALL, CURSORS_TOPIC, CUSTOMERS_TOPIC, is_pattern, is_reserved, matches
from ringcast.errors import BadFrame, NotAllowed
from ringcast.strict import Plain
from ringcast.wire import Answer, Fetch, Query

#: The services beside the bus, as names in patterns: the product store, and the marketplace's interfaces.
PRODUCTS, SELLERS, BUYERS = "_products", "_sellers", "_buyers"
#: Queries of operators: they change the cluster, or cost a walk through all of its state.
ADMIN_QUERIES = frozenset({"change_members", "recover", "reset_clock", "digests", "chains"})
_REMEMBERED_MAX = 4_096
#: What the names that are not reserved begin with.
_ANY_TOPIC = tuple(letter.encode() for letter in f"{ascii_letters}{digits}-")


def covers(granted: str, wanted: str) -> bool:
    """Does one pattern take in all that another one does?"""
    if granted == wanted:
        return True
    if wanted == ALL or (granted == ALL and is_reserved(wanted)):
        return False
    if granted == ALL:
        return True
    if wanted.endswith(".>"):
        return granted.endswith(".>") and wanted[:-1].startswith(granted[:-1])
    return matches(granted, wanted)


@dataclass(frozen=True, slots=True)
class Grant:
    """`key`: the name of the key's owner. Without keys everybody has ANYTHING."""

    key: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    cursors: tuple[str, ...] = ()
    admin: bool = False
    _publishes: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def may_publish(self, topic: str) -> bool:
        """Batches to a topic; those to `_cursors` are looked into besides."""
        if self.admin or topic == CURSORS_TOPIC:
            return True
        known = self._publishes.get(topic)
        if known is None:
            if len(self._publishes) >= _REMEMBERED_MAX:
                self._publishes.clear()
            known = self._publishes[topic] = any(covers(granted, topic) for granted in self.publish)
        return known

    def may_read(self, pattern: str) -> bool:
        """Everything that matches a pattern."""
        return self.admin or any(covers(granted, pattern) for granted in self.subscribe)

    def may_move(self, cursor: str) -> bool:
        """Read and move a cursor of this name."""
        return self.admin or any(covers(granted, cursor) for granted in self.cursors)

    # ------------------------------------------------------------------ answers to what is not allowed

    def refuse_publish(self, topic: str, packed: bytes) -> NotAllowed | None:
        """None: the batch may go. The packed batch of `_cursors` has been checked."""
        if not self.may_publish(topic):
            return self._lacks("publish", f"publish to {topic!r}", self.publish)
        if topic == CURSORS_TOPIC and not self.admin:
            for payload, _ in unpack(packed, count_of(packed)):
                try:
                    operation = decode_operation(payload)
                except BadFrame:
                    continue  # the state machine ignores it; a client fills numbers with such (K1)
                if not self.may_move(operation.name):
                    return self._lacks("cursors", f"move the cursor {operation.name!r}", self.cursors)
        return None

    def refuse_request(self, request: Fetch | Query) -> NotAllowed | None:
        """None: it may be answered, with what `show` lets through."""
        if self.admin:
            return None
        if isinstance(request, Fetch):
            return None if self.may_read(request.pattern) else self._lacks_read(request.pattern)
        if request.name in ADMIN_QUERIES:
            return self._lacks("admin", f"ask for {request.name!r}", ())
        if request.name == "customers" and not self.may_read(CUSTOMERS_TOPIC):
            return self._lacks_read(CUSTOMERS_TOPIC)
        name = request.arguments.get("name")
        if request.name == "topic" and isinstance(name, str) and not self.may_read(name):
            return self._lacks_read(name)
        if request.name == "cursor" and isinstance(name, str) and not self.may_move(name):
            return self._lacks("cursors", f"read the cursor {name!r}", self.cursors)
        return None

    def show(self, query: str, answer: Answer) -> Answer | NotAllowed:
        """A query's answer without what the key may not see."""
        if self.admin:
            return answer
        result = answer.result
        if query == "record" and not self.may_read(str(result.get("topic"))):
            return self._lacks("subscribe", "read the message at this offset", self.subscribe)
        for name, seen in (("topics", self.may_read), ("cursors", self.may_move)):
            rows = result.get(name)
            if query == name and isinstance(rows, Sequence):
                shown: list[Plain] = [row for row in rows if isinstance(row, Sequence) and seen(str(row[0]))]
                answer = answer._replace(result={**result, name: shown})
        return answer

    def refuse_service(self, name: str, *, change: bool) -> NotAllowed | None:
        """None: a service beside the bus (`_products`, `_sellers`, `_buyers`) may be asked to change, or to read."""
        role, granted = ("publish", self.publish) if change else ("subscribe", self.subscribe)
        if self.admin or any(covers(one, name) for one in granted):
            return None
        return self._lacks(role, f"{'change' if change else 'read'} what is behind {name!r}", granted)

    def refuse_admin(self, what: str) -> NotAllowed | None:
        """None: an operator's key."""
        return None if self.admin else self._lacks("admin", what, ())

    def _lacks_read(self, pattern: str) -> NotAllowed:
        return self._lacks("subscribe", f"read {pattern!r}", self.subscribe)

    def _lacks(self, role: str, what: str, granted: Sequence[str]) -> NotAllowed:
        return NotAllowed(key=self.key, role=role, what=what, granted=", ".join(granted) or "nothing")

    # ------------------------------------------------------------------ the feed

    def feed_prefixes(self, wanted: bytes) -> tuple[bytes, ...]:
        """What to subscribe a SUB to that asked for this prefix; none: it may not have it.

        The control topic tells the topics that changed: each set of patterns has its own, with what it may read alone.
        The empty prefix becomes all that a topic may begin with, for the control topics of others match it too.
        """
        if wanted == CONTROL:
            return (self.control,)
        name = wanted.decode("ascii", "replace")
        if not name:
            return _ANY_TOPIC + ((b"_",) if self.admin else ()) if self.may_read(ALL) else ()
        pattern = f"{name}>" if name.endswith(".") else name.removesuffix("\0")
        allowed = pattern != name and is_pattern(pattern) and self.may_read(pattern)
        return (wanted,) if allowed else ()

    @property
    def control(self) -> bytes:
        """Frame 0 of this grant's control topic; no two of them begin alike."""
        return CONTROL + (b"" if self.admin else " ".join(sorted(self.subscribe)).encode()) + SEPARATOR


#: Whoever speaks to a replica without keys.
ANYTHING = Grant("everybody", admin=True)
