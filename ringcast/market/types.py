"""What the marketplace hands to its users: carts, purchases, ratings."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from ringcast.types import to_datetime

#: A session is this many random bytes, made by the client, so that a login that is sent again opens the same one.
SESSION_BYTES = 32


class Party(StrEnum):
    """Whose account it is. The two have names of their own: a seller and a buyer may both be called Ann."""

    SELLER = "seller"
    BUYER = "buyer"


class Feedback(StrEnum):
    """On one line of a purchase."""

    NONE = ""
    UP = "up"
    DOWN = "down"


class Rating(NamedTuple):
    """Thumbs that buyers gave to a seller's items."""

    up: int
    down: int


class CartLine(NamedTuple):
    """So many units of an item; its name, seller and price (of one unit, minor units) as they were when it was added.

    What is paid is the price of the moment of the purchase.
    """

    item: str
    quantity: int
    name: str
    seller: str
    price: int


class Cart(NamedTuple):
    """A buyer's cart, by item."""

    lines: tuple[CartLine, ...]

    @property
    def total(self) -> int:
        """The price of all lines, in minor units."""
        return sum(line.quantity * line.price for line in self.lines)


class PurchaseLine(NamedTuple):
    """What was bought of one item; `price` of one unit. `feedback`: "" until it is given."""

    item: str
    quantity: int
    name: str
    seller: str
    price: int
    feedback: str


class Purchase(NamedTuple):
    """A purchase. `time_us`: when it was recorded, by the ring's clock, microseconds since 1970."""

    order: str
    time_us: int
    lines: tuple[PurchaseLine, ...]

    @property
    def total(self) -> int:
        """The price of all lines, in minor units."""
        return sum(line.quantity * line.price for line in self.lines)

    @property
    def time(self) -> datetime:
        """`time_us` as an aware UTC datetime."""
        return to_datetime(self.time_us)
