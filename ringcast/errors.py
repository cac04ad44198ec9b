"""Everything Ringcast raises to its users, and the same errors as strings on the wire.

    RingcastError
    ├── Refused                    a replica said no; `code` says which rule
    │   ├── IllegalTopic           the name breaks the topic rules, or is reserved
    │   ├── TooLarge               a payload, batch, count or the outstanding bytes are beyond a limit
    │   ├── WindowExceeded         more is outstanding than the credit allows (A9); the client resends by itself
    │   ├── SequenceGap            the batch is not the next one of its client (K1); the client resends by itself
    │   ├── AlreadyApplied         applied long ago: the offset is no longer remembered (K1)
    │   ├── IdReused               the same (client, sequence) with another content (K1)
    │   ├── SessionExpired         the client id was forgotten by the cluster (K1)
    │   ├── Compacted              the offset was trimmed by retention (C2)
    │   ├── ChangeRefused          a member cannot be added or removed now (V12)
    │   ├── NotAllowed             the key has no such role, or its patterns do not cover the topic
    │   ├── KeysUnusable           a key file cannot be read, or is open to others
    │   ├── UnknownQuery           the replica knows no query, cursor or topic of this name
    │   ├── IllegalValue           a name, price, quantity or other value of the product store is beyond its limits
    │   ├── UnknownItem            no item of this id is on sale
    │   ├── ItemExists             an item of this id is on sale already
    │   ├── NotTheSeller           the item is another seller's
    │   ├── OutOfStock             fewer units are left than were asked for
    │   ├── UnknownOrder           no reservation of this order
    │   ├── OrderReused            the order was reserved with other lines
    │   ├── OrderReleased          the reservation was given back
    │   └── OrderConfirmed         the reservation is sold, it can't be given back
    ├── PublishUnknown             the id was closed while the batch was unanswered: it may be in the order, or not
    ├── OutcomeUnknown             the same for a change of the product store
    ├── Unavailable                nobody can answer now; the request may be tried again
    │   ├── NotReady               the replica is starting, catching up, read-only or leaving
    │   ├── NotInQuorum            the replica sees less than a quorum of the members (and never forks)
    │   ├── Unreachable            no endpoint answered
    │   ├── Disconnected           the connection to a replica ended; the client goes on with another one
    │   ├── Timeout                no answer within `timeout=` (also a TimeoutError)
    │   ├── NotLeader              another replica of the product store leads; the client follows by itself
    │   └── Overloaded             the replica holds all the requests it may; the client tries again by itself
    ├── Closed                     the bus, publisher or subscription was closed
    ├── Forked                     the client was opened before a fork and used in the child
    └── ProtocolError              the other side does not speak our language
        ├── BadFrame               bytes that are no frame of ours: dropped and counted, never raised into a loop
        │   └── UnsupportedVersion a frame of another protocol version
        ├── WrongCluster           a frame of another cluster or ring
        └── HandshakeRefused       the keys of the two sides do not fit: ours is not allowed, or theirs not expected

Each class has a wire code and a sentence with named details: what happened, to which value, the limit, the next step.
Only the code and the details travel; both sides make the same sentence of them. The marketplace's own refusals are in
market/errors.py.
"""

from collections.abc import Mapping
from typing import ClassVar, TypeAlias

Detail: TypeAlias = str | int | float | bool | None
Details: TypeAlias = Mapping[str, Detail]


#: Wire code -> class; each class has a code of its own (a test holds it).
ERRORS: "dict[str, type[RingcastError]]" = {}


class _Sentence(dict[str, Detail]):
    """Details for a sentence; one that is missing reads as '?', so that a short frame still makes a readable error."""

    def __missing__(self, key: str) -> Detail:
        return "?"


class RingcastError(Exception):
    """Root of the tree. `code` is the wire code, `details` the named values of the sentence.

    `details` may hold a `reason`: free text that is appended to the sentence.
    """

    code: ClassVar[str] = "error"
    sentence: ClassVar[str] = "the operation failed; see the reason"

    def __init_subclass__(cls) -> None:
        ERRORS[cls.code] = cls

    def __init__(self, **details: Detail) -> None:
        self.details: dict[str, Detail] = details
        text = self.sentence.format_map(_Sentence(details))
        reason = details.get("reason")
        super().__init__(f"{text} ({reason})" if reason else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.details)


ERRORS[RingcastError.code] = RingcastError


def _rebuild(kind: type[RingcastError], details: dict[str, Detail]) -> RingcastError:
    return kind(**details)


class Refused(RingcastError):
    """A replica, or the client itself before sending, said no. Nothing of the request was applied."""

    code = "refused"
    sentence = "the replica refused the request; see the reason, correct it and send it again"


class IllegalTopic(Refused):
    """Details: topic, limit (bytes)."""

    code = "illegal_topic"
    sentence = (
        "{topic!r} is not a topic: use words of A-Z a-z 0-9 _ - joined by dots, at most {limit} bytes, "
        "not beginning with '_' (reserved); patterns are 'a.b', 'a.b.>' and '>'"
    )


class TooLarge(Refused):
    """Details: what, size, limit, unit."""

    code = "too_large"
    sentence = "{what} is {size} {unit}, the limit is {limit}: split it, or raise the limit in the configuration"


class WindowExceeded(Refused):
    """Details: outstanding, credit. Retryable: the client resends within its credit (A9); users do not see it."""

    code = "window_exceeded"
    sentence = "{outstanding} bytes are outstanding, the credit is {credit}: wait for receipts, then resend"


class SequenceGap(Refused):
    """Details: sequence, last. Retryable: the client resends from last + 1 (K2); users do not see it."""

    code = "sequence_gap"
    sentence = "batch {sequence} is not the next of its client, the last applied is {last}: resend from the one after"


class AlreadyApplied(Refused):
    """Details: sequence, remembered. The batch is in the order exactly once; only its offset is not known any more."""

    code = "already_applied"
    sentence = (
        "batch {sequence} was applied before, but only the last {remembered} offsets of a client are remembered: "
        "do not send it again, read the topic if you need its offset"
    )


class IdReused(Refused):
    """Details: sequence, client. Two programs share a client id, or one changed a batch between two sends."""

    code = "id_reused"
    sentence = (
        "batch {sequence} of client {client} was applied with another content: give each client an id of its own "
        "and never change a batch that was sent"
    )


class SessionExpired(Refused):
    """Details: client, opened, horizon. The client opens a new id by itself; what was outstanding is PublishUnknown."""

    code = "session_expired"
    sentence = (
        "client {client} (opened at slot {opened}) was forgotten by the cluster, which remembers back to slot "
        "{horizon}: open a new client id; what was outstanding is unknown"
    )


class Compacted(Refused):
    """Details: offset, below. Retention removed everything below `below` (C2)."""

    code = "compacted"
    sentence = "offset {offset} was removed by retention, the oldest kept is {below}: start there, or with 'earliest'"


class ChangeRefused(Refused):
    """Details: change, why, next, passes (bool: it may pass by itself, ask again). Nothing was changed (V12)."""

    code = "change_refused"
    sentence = "{change} is refused and nothing was changed: {why}; {next}"


class NotAllowed(Refused):
    """Details: key (its name), role, what, granted (what it has of that role)."""

    code = "not_allowed"
    sentence = (
        "the key {key!r} may not {what}: it lacks the role {role!r} for that (it has: {granted}); "
        "`ringcast keys grant` changes what a key may do"
    )


class KeysUnusable(Refused):
    """Details: path, why, next."""

    code = "keys_unusable"
    sentence = "the keys in {path} cannot be used, {why}: {next}"


class UnknownQuery(Refused):
    """Details: what, name."""

    code = "unknown_query"
    sentence = "the replica knows no {what} named {name!r}: check the name, or upgrade the replica"


class IllegalValue(Refused):
    """Details: what, value, limit. Refused by the client before sending, and again where the change is applied."""

    code = "illegal_value"
    sentence = "{what} is {value}, expected {limit}: correct it and send it again"


class UnknownItem(Refused):
    """Details: item."""

    code = "unknown_item"
    sentence = "no item {item!r} is on sale: check its id, or search for it"


class ItemExists(Refused):
    """Details: item."""

    code = "item_exists"
    sentence = "item {item!r} is on sale already: change its price or quantity, or put this one under another id"


class NotTheSeller(Refused):
    """Details: item, seller. The owner's name is not told."""

    code = "not_the_seller"
    sentence = "item {item!r} is not {seller!r}'s: only the seller who put it on sale may change it"


class OutOfStock(Refused):
    """Details: item, wanted, left."""

    code = "out_of_stock"
    sentence = "{wanted} units of item {item!r} were asked for and {left} are left: ask for fewer; nothing was taken"


class UnknownOrder(Refused):
    """Details: order."""

    code = "unknown_order"
    sentence = "there is no reservation for order {order!r}: check its id, or reserve it (again)"


class OrderReused(Refused):
    """Details: order."""

    code = "order_reused"
    sentence = "order {order!r} was reserved with other lines: give each order an id of its own"


class OrderReleased(Refused):
    """Details: order."""

    code = "order_released"
    sentence = "the reservation of order {order!r} was released or expired: make a new order, under an id of its own"


class OrderConfirmed(Refused):
    """Details: order."""

    code = "order_confirmed"
    sentence = "the reservation of order {order!r} is confirmed, so its units are sold: they can't be released any more"


class PublishUnknown(RingcastError):
    """Details: topic, sequence, client. The id was closed or expired while the batch was unanswered (K2)."""

    code = "publish_unknown"
    sentence = (
        "batch {sequence} of client {client} on {topic!r} was unanswered when its id ended: it is in the order once or "
        "not at all; read the topic to find out before you publish it again"
    )


class OutcomeUnknown(RingcastError):
    """Details: what, sequence, client. The client's session ended while the change was unanswered."""

    code = "outcome_unknown"
    sentence = (
        "{what} (request {sequence} of client {client}) was unanswered when its session ended: it was applied once or "
        "not at all; read before you send it again"
    )


class Unavailable(RingcastError):
    """Nobody can answer now. A batch that was sent stays pending in the client and is resent until it is answered."""

    code = "unavailable"
    sentence = "no replica can answer now; try again later"


class NotReady(Unavailable):
    """Details: replica, state."""

    code = "not_ready"
    sentence = "replica {replica} does not serve now, it is {state}: use another replica, or wait until it is ready"


class NotInQuorum(Unavailable):
    """Details: replica, connected, quorum."""

    code = "not_in_quorum"
    sentence = (
        "replica {replica} is connected to {connected} members and needs {quorum}: the request waits until a quorum is "
        "back; start the missing members or heal the network"
    )


class Unreachable(Unavailable):
    """Details: endpoints, seconds."""

    code = "unreachable"
    sentence = "none of {endpoints} answered within {seconds} s: check that the cluster runs and addresses are right"


class Disconnected(Unavailable):
    """Details: endpoint, why. Seen by users as the reason inside Timeout or Unreachable only."""

    code = "disconnected"
    sentence = "the connection to {endpoint} ended, {why}: another replica is tried, then this one again"


class Timeout(Unavailable, TimeoutError):
    """Details: what, seconds. A publish that timed out stays pending: its receipt may still come (K2)."""

    code = "timeout"
    sentence = "{what} had no answer within {seconds} s: try again; a publish stays pending and is sent exactly once"


class NotLeader(Unavailable):
    """Details: replica, leader (-1 = not known), address ("" = not known). Users see it as a Timeout's reason only."""

    code = "not_leader"
    sentence = "replica {replica} does not lead, replica {leader} at {address!r} does: the request goes there"


class Overloaded(Unavailable):
    """Details: what, size, limit, unit. The client waits and tries again; users see it as a Timeout's reason only."""

    code = "overloaded"
    sentence = "{what} would be {size} {unit}, the limit is {limit}: try again later"


class Closed(RingcastError):
    """Details: what."""

    code = "closed"
    sentence = "the {what} is closed: open a new one with ringcast.connect()"


class Forked(RingcastError):
    """Details: what, opened, used (process ids). A child of a fork has neither the threads nor the connection."""

    code = "forked"
    sentence = (
        "the {what} was opened in process {opened} and does not work in its forked child {used}: "
        "connect in the child, after the fork"
    )


class ProtocolError(RingcastError):
    """The other side does not speak our language."""

    code = "protocol_error"
    sentence = "the other side broke the protocol: check what listens at this address"


class BadFrame(ProtocolError):
    """Details: what, value, limit. The only error that decoding raises."""

    code = "bad_frame"
    sentence = "not a Ringcast frame: {what} is {value}, expected {limit}; check what listens at this address"


class UnsupportedVersion(BadFrame):
    """Details: version, supported."""

    code = "unsupported_version"
    sentence = "the frame has protocol version {version}, this side speaks {supported}: upgrade the older side"


class WrongCluster(ProtocolError):
    """Details: cluster, expected, ring, expected_ring."""

    code = "wrong_cluster"
    sentence = (
        "the frame belongs to cluster {cluster} ring {ring}, this is cluster {expected} ring {expected_ring}: "
        "check the address, or take the cluster.json of the right cluster"
    )


class HandshakeRefused(ProtocolError):
    """Details: endpoint, why, next, certain (false: a replica that ends in this moment would look the same)."""

    code = "handshake_refused"
    sentence = "{endpoint} and this side do not believe each other's keys, {why}: {next}"


def again(error: RingcastError) -> RingcastError:
    """The same error to be raised once more: each has a traceback of its own."""
    return type(error)(**error.details)


def from_wire(code: str, details: Details) -> RingcastError:
    """The error that a REFUSED or FAILED frame carries. A code of a newer peer becomes Refused and keeps its name."""
    kind = ERRORS.get(code)
    if kind is None:
        kind = Refused
        details = {**details, "reason": f"{code}: {details.get('reason', 'a code of a newer protocol')}"}
    return kind(**details)
