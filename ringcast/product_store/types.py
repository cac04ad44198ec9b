"""What the product store hands to its users: items, stock, reservations, pages of them."""

from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Condition(StrEnum):
    """Of an item."""

    NEW = "new"
    USED = "used"


class OrderState(StrEnum):
    """Of a reservation. held -> confirmed or released, both for ever (as long as the order is remembered)."""

    HELD = "held"
    CONFIRMED = "confirmed"
    RELEASED = "released"


class Item(NamedTuple):
    """An item on sale. `price` in minor units (cents); `quantity`: units that can be reserved now."""

    id: str
    seller: str
    name: str
    category: str
    keywords: tuple[str, ...]
    condition: str
    price: int
    quantity: int


class Stock(NamedTuple):
    """Units of one item: all that were ever put on sale and not taken off are left, reserved or sold."""

    left: int
    reserved: int
    sold: int


class Line(NamedTuple):
    """So many units of one item."""

    item: str
    quantity: int


class SoldLine(NamedTuple):
    """A line of a reservation; `price` of one unit when it was reserved."""

    item: str
    quantity: int
    price: int


class Reservation(NamedTuple):
    """The stock that an order holds or has taken. `due_us`: while held, when it may be released; then, when it is
    forgotten. Microseconds since 1970 of the store's own clock, which only commands move."""

    order: str
    state: str
    lines: tuple[SoldLine, ...]
    due_us: int

    @property
    def total(self) -> int:
        """The price of all lines, in minor units."""
        return sum(line.quantity * line.price for line in self.lines)


class Match(NamedTuple):
    """An item that a search found, and how many of the keywords it has."""

    item: Item
    matched: int


class Page(NamedTuple, Generic[T]):
    """A part of a list. `next` is what to ask the following part with, "" = there is none."""

    entries: tuple[T, ...]
    next: str
