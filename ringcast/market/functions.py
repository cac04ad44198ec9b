"""The twenty client functions of the marketplace, each typed once: request, answer, refusals (docs/marketplace.md).

A function of *changes* is applied once for each (client, sequence), a *question* changes nothing. Both travel as
`[kind, ...fields]`, their outcomes are those of the product store (`["", value]` or `[error code, details]`). A session
stands in the first field of every function that needs one. Each also raises IllegalValue for a field beyond its limits,
before anything is sent, and SessionEnded if it needs a session.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ringcast.kinds import Kinds
from ringcast.market import limits as market
from ringcast.market.types import Party
from ringcast.product_store import limits
from ringcast.product_store.limits import Limit

FUNCTION_BYTES_MAX = 16 << 10

# ---- changes


class CreateAccount(NamedTuple):
    """-> the account's id. NameTaken."""

    name: str
    password: str


class Login(NamedTuple):
    """Open a session, of 32 random bytes that the client made. -> the account's id. WrongPassword, TooManyAttempts."""

    name: str
    password: str
    session: bytes


class Logout(NamedTuple):
    """End the session. -> None."""

    session: bytes


class PutItemForSale(NamedTuple):
    """-> the item's id."""

    session: bytes
    name: str
    category: str
    keywords: tuple[str, ...]
    condition: str
    price: int
    quantity: int


class ChangePrice(NamedTuple):
    """Change the sale price of an item, for purchases from now on. -> None. UnknownItem, NotTheSeller."""

    session: bytes
    item: str
    price: int


class RemoveUnits(NamedTuple):
    """Remove units of an item from sale. -> units left. UnknownItem, NotTheSeller, OutOfStock."""

    session: bytes
    item: str
    quantity: int


class AddToCart(NamedTuple):
    """-> units of the item in the cart. UnknownItem, TooLarge (lines of the cart, units of a line)."""

    session: bytes
    item: str
    quantity: int


class RemoveFromCart(NamedTuple):
    """-> units of the item left in the cart. NotInCart."""

    session: bytes
    item: str
    quantity: int


class ClearCart(NamedTuple):
    """-> None."""

    session: bytes


class MakePurchase(NamedTuple):
    """Buy what is in the cart, all of it or nothing, and clear it. -> Purchase.

    EmptyCart, OutOfStock, UnknownItem (of a line whose item was removed from sale), CartChanged, OrderAbandoned.
    """

    session: bytes


class GiveFeedback(NamedTuple):
    """Thumbs up or down on an item of a purchase, once. -> None. NotBought, FeedbackGiven."""

    session: bytes
    order: str
    item: str
    up: bool


# ---- questions


class DisplayItems(NamedTuple):
    """The seller's own items on sale, by id. -> Page of Item."""

    session: bytes
    cursor: str
    limit: int


class GetRating(NamedTuple):
    """The seller's own rating. -> Rating."""

    session: bytes


class SearchItems(NamedTuple):
    """Items of a category that have one of the keywords (any item, if none is given), best match first.

    -> Page of Match.
    """

    session: bytes
    category: str
    keywords: tuple[str, ...]
    cursor: str
    limit: int


class DisplayCart(NamedTuple):
    """-> Cart."""

    session: bytes


class GetSellerRating(NamedTuple):
    """-> Rating. UnknownSeller."""

    session: bytes
    seller: str


class GetPurchaseHistory(NamedTuple):
    """The buyer's purchases, newest first. -> Page of Purchase."""

    session: bytes
    cursor: str
    limit: int


class StatusOf(NamedTuple):
    """What the interface replica says of itself; no client function, and needs no session. -> a map."""


Change: TypeAlias = (
    CreateAccount
    | Login
    | Logout
    | PutItemForSale
    | ChangePrice
    | RemoveUnits
    | AddToCart
    | RemoveFromCart
    | ClearCart
    | MakePurchase
    | GiveFeedback
)
Question: TypeAlias = (
    DisplayItems | GetRating | SearchItems | DisplayCart | GetSellerRating | GetPurchaseHistory | StatusOf
)
Function: TypeAlias = Change | Question

_ID, _SESSION = limits.identifier, market.session
_CHANGES: dict[int, tuple[type[Any], tuple[Limit, ...]]] = {
    1: (CreateAccount, (market.name, market.password)),
    2: (Login, (market.name, market.password, _SESSION)),
    3: (Logout, (_SESSION,)),
    4: (
        PutItemForSale,
        (
            _SESSION,
            limits.name,
            limits.category,
            limits.keywords,
            limits.condition,
            limits.price,
            limits.quantity,
        ),
    ),
    5: (ChangePrice, (_SESSION, _ID, limits.price)),
    6: (RemoveUnits, (_SESSION, _ID, limits.quantity)),
    7: (AddToCart, (_SESSION, _ID, limits.quantity)),
    8: (RemoveFromCart, (_SESSION, _ID, limits.quantity)),
    9: (ClearCart, (_SESSION,)),
    10: (MakePurchase, (_SESSION,)),
    11: (GiveFeedback, (_SESSION, _ID, _ID, market.thumb)),
}
_QUESTIONS: dict[int, tuple[type[Any], tuple[Limit, ...]]] = {
    32: (DisplayItems, (_SESSION, limits.cursor, limits.page)),
    33: (GetRating, (_SESSION,)),
    34: (SearchItems, (_SESSION, limits.category, limits.keywords, limits.search_cursor, limits.page)),
    35: (DisplayCart, (_SESSION,)),
    36: (GetSellerRating, (_SESSION, _ID)),
    37: (GetPurchaseHistory, (_SESSION, market.history_cursor, market.history_page)),
    38: (StatusOf, ()),
}
CHANGES = Kinds(_CHANGES, FUNCTION_BYTES_MAX)
QUESTIONS = Kinds(_QUESTIONS, FUNCTION_BYTES_MAX)

_BOTH: tuple[type[Any], ...] = (CreateAccount, Login, Logout)
#: The client functions that each kind of interface serves, in the order of docs/marketplace.md.
FUNCTIONS: Mapping[Party, tuple[type[Any], ...]] = {
    Party.SELLER: (*_BOTH, PutItemForSale, ChangePrice, RemoveUnits, DisplayItems, GetRating),
    Party.BUYER: (
        *_BOTH,
        SearchItems,
        AddToCart,
        RemoveFromCart,
        ClearCart,
        DisplayCart,
        MakePurchase,
        GiveFeedback,
        GetSellerRating,
        GetPurchaseHistory,
    ),
}
