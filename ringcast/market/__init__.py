"""The marketplace: `async with ringcast.market.Seller("cluster.json") as seller`, and `Buyer`.

Its functions are typed in market/functions.py; `ringcast.sync.Seller` and `ringcast.sync.Buyer` have them without
asyncio.
"""

from ringcast.market.client import Buyer, Seller
from ringcast.market.errors import (
    CartChanged,
    EmptyCart,
    FeedbackGiven,
    NameTaken,
    NotBought,
    NotInCart,
    OrderAbandoned,
    SessionEnded,
    TooManyAttempts,
    UnknownSeller,
    WrongPassword,
)
from ringcast.market.types import Cart, CartLine, Feedback, Party, Purchase, PurchaseLine, Rating

__all__ = [
    "Buyer",
    "Cart",
    "CartChanged",
    "CartLine",
    "EmptyCart",
    "Feedback",
    "FeedbackGiven",
    "NameTaken",
    "NotBought",
    "NotInCart",
    "OrderAbandoned",
    "Party",
    "Purchase",
    "PurchaseLine",
    "Rating",
    "Seller",
    "SessionEnded",
    "TooManyAttempts",
    "UnknownSeller",
    "WrongPassword",
]
