"""What a client can ask of the product store, and what it answers: as values, and as msgpack bytes.

An *operation* changes the store and travels through the replicated log; a *question* reads, and an operator's
*instruction* (product_store/admin.py) is asked like one. All are arrays `[kind, ...fields]`. An answer is an *outcome*:
`["", value]`, or `[error code, details]`. Requests, log entries and their results hold them as byte strings, so that
nobody on the way has to look inside.
"""

from typing import Any, NamedTuple, TypeAlias

from ringcast.errors import BadFrame, RingcastError, from_wire
from ringcast.kinds import Kinds, Table
from ringcast.product_store import limits
from ringcast.product_store.admin import INSTRUCTIONS, Instruction
from ringcast.strict import Plain, bad, dumps, loads, mapping, scalar, text

OPERATION_BYTES_MAX = 16 << 10
OUTCOME_BYTES_MAX = 4 << 20


class Put(NamedTuple):
    """Put an item on sale. -> None. ItemExists."""

    item: str
    seller: str
    name: str
    category: str
    keywords: tuple[str, ...]
    condition: str
    price: int
    quantity: int


class ChangePrice(NamedTuple):
    """-> None. UnknownItem, NotTheSeller."""

    item: str
    seller: str
    price: int


class ChangeQuantity(NamedTuple):
    """Put more units on sale, or (change < 0) take some off. -> units left. UnknownItem, NotTheSeller, OutOfStock."""

    item: str
    seller: str
    change: int


class Remove(NamedTuple):
    """Take an item off sale; what orders hold of it stays theirs. -> units left. UnknownItem, NotTheSeller."""

    item: str
    seller: str


class Reserve(NamedTuple):
    """Take stock for an order, all lines or none, for `hold_ms` at least. -> Reservation.

    The same order with the same lines again: the same answer. UnknownItem, OutOfStock, OrderReused, OrderReleased.
    """

    order: str
    lines: tuple[tuple[str, int], ...]
    hold_ms: int


class Confirm(NamedTuple):
    """The order's units are sold. Works after `hold_ms` too, until they are released. -> Reservation. UnknownOrder,
    OrderReleased."""

    order: str


class Release(NamedTuple):
    """Give the order's units back. -> Reservation. UnknownOrder, OrderConfirmed."""

    order: str


class Sweep(NamedTuple):
    """Release up to `limit` held orders that are due, oldest first. -> their ids."""

    limit: int


class Get(NamedTuple):
    """-> Item or None."""

    item: str


class StockOf(NamedTuple):
    """-> Stock or None."""

    item: str


class BySeller(NamedTuple):
    """A seller's items by id. -> Page of Item."""

    seller: str
    cursor: str
    limit: int


class Search(NamedTuple):
    """The items of a category that have one of the keywords at least (any, if there are none), best match first.

    -> Page of Match: by the number of keywords that an item has, then by id.
    """

    category: str
    keywords: tuple[str, ...]
    cursor: str
    limit: int


class ReservationOf(NamedTuple):
    """-> Reservation or None."""

    order: str


class Due(NamedTuple):
    """Up to `limit` held orders that are due, oldest first. -> Reservations."""

    limit: int


class Items(NamedTuple):
    """All items on sale, by id. -> Page of Item."""

    cursor: str
    limit: int


class StatusOf(NamedTuple):
    """What the replica says about itself and its group. -> a map."""


Operation: TypeAlias = Put | ChangePrice | ChangeQuantity | Remove | Reserve | Confirm | Release | Sweep
Question: TypeAlias = Get | StockOf | BySeller | Search | ReservationOf | Due | Items | StatusOf

_ID = limits.identifier
_PUT = (
    _ID,
    limits.seller,
    limits.name,
    limits.category,
    limits.keywords,
    limits.condition,
    limits.price,
    limits.quantity,
)
#: Number on the wire -> (class, the limit of each field), of what changes the store and of what is asked.
_CHANGES: Table = {
    1: (Put, _PUT),
    2: (ChangePrice, (_ID, limits.seller, limits.price)),
    3: (ChangeQuantity, (_ID, limits.seller, limits.change)),
    4: (Remove, (_ID, limits.seller)),
    5: (Reserve, (_ID, limits.lines, limits.hold_ms)),
    6: (Confirm, (_ID,)),
    7: (Release, (_ID,)),
    8: (Sweep, (limits.sweep,)),
}
_ASKED: Table = {
    32: (Get, (_ID,)),
    33: (StockOf, (_ID,)),
    34: (BySeller, (_ID, limits.cursor, limits.page)),
    35: (Search, (limits.category, limits.keywords, limits.search_cursor, limits.page)),
    36: (ReservationOf, (_ID,)),
    37: (Due, (limits.page,)),
    38: (StatusOf, ()),
    39: (Items, (limits.cursor, limits.page)),
    **INSTRUCTIONS,
}
_OPERATIONS = Kinds(_CHANGES, OPERATION_BYTES_MAX)
_QUESTIONS = Kinds(_ASKED, OPERATION_BYTES_MAX)
_ALL = Kinds(_CHANGES | _ASKED, OPERATION_BYTES_MAX)


def encode_operation(operation: Operation | Question | Instruction) -> bytes:
    """Checked and packed. Raises IllegalValue: this is where the client validates."""
    return _ALL.encode(operation)


def decode_operation(data: bytes | memoryview) -> Operation:
    """Raises BadFrame for bytes that are no operation (of this version), IllegalValue for a value beyond its limits."""
    found: Operation = _OPERATIONS.decode(data, "operation")
    return found


def decode_question(data: bytes | memoryview) -> Question | Instruction:
    """As `decode_operation`."""
    found: Question | Instruction = _QUESTIONS.decode(data, "question")
    return found


# ---- outcomes

DONE = ""
_CODE = text(64)
_DETAILS = mapping(scalar, 32)


def encode_outcome(value: Plain) -> bytes:
    """The outcome of what was done."""
    return dumps((DONE, value))


def encode_error(error: RingcastError) -> bytes:
    """The outcome of what was refused."""
    return dumps((error.code, dict(error.details)))


def decode_outcome(data: bytes | memoryview, size_max: int = OUTCOME_BYTES_MAX) -> Any:
    """The value. Raises the error that it holds; BadFrame if it is none."""
    fields = loads(data, size_max)
    if type(fields) is not tuple or len(fields) != 2:
        bad("an outcome", type(fields).__name__, "[code, value]")
    code, value = fields
    _CODE("the code of an outcome", code)
    if code == DONE:
        return value
    _DETAILS("the details of an outcome", value)
    raise from_wire(code, value)


def decode_outcomes(data: bytes | memoryview, count: int, size_max: int = OUTCOME_BYTES_MAX) -> list[bytes]:
    """The outcomes of a request of `count` parts. Raises what the whole was refused with, BadFrame."""
    found = decode_outcome(data, size_max)
    if type(found) is not tuple or len(found) != count or not all(type(one) is bytes for one in found):
        raise BadFrame(what="the outcomes", value=type(found).__name__, limit=f"{count} byte strings")
    return list(found)
