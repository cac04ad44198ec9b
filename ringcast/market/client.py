"""The marketplace's asynchronous clients: `async with ringcast.Seller(cluster) as seller`, and `ringcast.Buyer`."""

# ruff: noqa: ASYNC109 - our `timeout` raises NotInQuorum where that is the reason, which asyncio.timeout can't know

import os
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import zmq

from ringcast import wire
from ringcast.endpoints import Cluster, Keys, find
from ringcast.following import TIMEOUT_S, Following
from ringcast.market import functions as f
from ringcast.market.errors import SessionEnded
from ringcast.market.limits import CART_LINES_MAX, HISTORY_PAGE_MAX
from ringcast.market.session import MarketSession
from ringcast.market.types import SESSION_BYTES, Cart, CartLine, Party, Purchase, PurchaseLine, Rating
from ringcast.product_store.client import checked, items_of, matches_of
from ringcast.product_store.types import Condition, Item, Match, Page
from ringcast.strict import Plain, array, integer, many, mapping, plain, text

PAGE: Final = 100
HISTORY_PAGE: Final = 20

_U63, _TEXT = integer(), text(256)
_RATING = array(_U63, _U63)
_CART = many(array(_TEXT, _U63, _TEXT, _TEXT, _U63), CART_LINES_MAX)
_PURCHASE = array(_TEXT, _U63, many(array(_TEXT, _U63, _TEXT, _TEXT, _U63, _TEXT), CART_LINES_MAX))
_HISTORY = array(many(_PURCHASE, HISTORY_PAGE_MAX), _TEXT)


class MarketClient(Following[MarketSession]):
    """What sellers and buyers share: the connection, the account, the session.

    It fails over between interface replicas by itself, and each call that changes something is applied once. Calls
    raise IllegalValue before anything is sent; Timeout (it may have been applied then, once at most) or NotInQuorum;
    OutcomeUnknown if the client's own standing ended meanwhile; SessionEnded where a login is needed.
    """

    _what = "marketplace client"
    party: ClassVar[Party]

    def __init__(
        self, cluster: Cluster, *, timeout: float = TIMEOUT_S, session: bytes | None = None, keys: Keys = None
    ) -> None:
        """`cluster`, `keys`: as `ringcast.connect` takes them, or endpoints of interfaces of this kind.

        timeout: seconds, for entering and for each call that names no other. session: of an earlier login
        (`session`), to go on with it. Raises Refused if `cluster` cannot be read, KeysUnusable.
        """
        super().__init__(find(cluster, f"{self.party}s", keys), timeout)
        #: The secret of the login, 32 bytes; None without one. Who has it is logged in.
        self.session = session

    def _make_session(self, context: "zmq.Context[zmq.Socket[bytes]]") -> MarketSession:
        return MarketSession(context, self._endpoints)

    @property
    def _secret(self) -> bytes:
        if self.session is None:
            raise SessionEnded(minutes=30)
        return self.session

    async def _change(self, function: f.Change, timeout: float | None) -> Any:
        packed = f.CHANGES.encode(function)
        return await self._live.call(type(function).__name__, packed, self._seconds(timeout))

    async def _ask(self, question: f.Question, timeout: float | None) -> Any:
        packed, seconds = f.QUESTIONS.encode(question), self._seconds(timeout)
        return await self._live.ask(type(question).__name__, packed, wire.LINEARIZABLE, seconds, alone=False)

    async def create_account(self, name: str, password: str, *, timeout: float | None = None) -> str:
        """A new account; returns its id. Raises NameTaken."""
        return str(checked(_TEXT, await self._change(f.CreateAccount(name, password), timeout)))

    async def login(self, name: str, password: str, *, timeout: float | None = None) -> str:
        """Log in, for this object's calls; returns the account's id. Raises WrongPassword, TooManyAttempts."""
        session = os.urandom(SESSION_BYTES)
        account = str(checked(_TEXT, await self._change(f.Login(name, password, session), timeout)))
        self.session = session
        return account

    async def logout(self, *, timeout: float | None = None) -> None:
        """End the login."""
        await self._change(f.Logout(self._secret), timeout)
        self.session = None

    async def status(self, *, timeout: float | None = None) -> dict[str, Plain]:
        """What the interface replica says of itself and of the databases behind it."""
        found: dict[str, Plain] = checked(mapping(plain, 64), await self._ask(f.StatusOf(), timeout))
        return found


class Seller(MarketClient):
    """A seller: puts items on sale and looks after them."""

    party = Party.SELLER

    async def put_item_for_sale(
        self,
        name: str,
        *,
        category: str,
        price: int,
        quantity: int,
        keywords: Iterable[str] = (),
        condition: str = Condition.NEW,
        timeout: float | None = None,
    ) -> str:
        """Put `quantity` units on sale at `price` each, in minor units; returns the item's id."""
        function = f.PutItemForSale(self._secret, name, category, tuple(keywords), str(condition), price, quantity)
        return str(checked(_TEXT, await self._change(function, timeout)))

    async def change_price(self, item: str, price: int, *, timeout: float | None = None) -> None:
        """A new sale price, for purchases from now on. Raises UnknownItem, NotTheSeller."""
        await self._change(f.ChangePrice(self._secret, item, price), timeout)

    async def remove_units(self, item: str, quantity: int, *, timeout: float | None = None) -> int:
        """Remove units from sale; returns how many are left. Raises UnknownItem, NotTheSeller, OutOfStock."""
        return int(checked(_U63, await self._change(f.RemoveUnits(self._secret, item, quantity), timeout)))

    async def display_items(self, cursor: str = "", *, limit: int = PAGE, timeout: float | None = None) -> Page[Item]:
        """A page of the own items on sale, by id; go on with `page.next` until it is ""."""
        return items_of(await self._ask(f.DisplayItems(self._secret, cursor, limit), timeout))

    async def get_rating(self, *, timeout: float | None = None) -> Rating:
        """The own rating: thumbs up, thumbs down."""
        return Rating._make(checked(_RATING, await self._ask(f.GetRating(self._secret), timeout)))


class Buyer(MarketClient):
    """A buyer: searches, fills a cart, buys."""

    party = Party.BUYER

    async def search_items(
        self,
        category: str,
        keywords: Iterable[str] = (),
        cursor: str = "",
        *,
        limit: int = PAGE,
        timeout: float | None = None,
    ) -> Page[Match]:
        """A page of a category's items with at least one of the keywords (all, if none is given), best match first."""
        return matches_of(
            await self._ask(f.SearchItems(self._secret, category, tuple(keywords), cursor, limit), timeout)
        )

    async def add_to_cart(self, item: str, quantity: int = 1, *, timeout: float | None = None) -> int:
        """Put units of an item in the cart; returns how many of it are there. Raises UnknownItem, TooLarge."""
        return int(checked(_U63, await self._change(f.AddToCart(self._secret, item, quantity), timeout)))

    async def remove_from_cart(self, item: str, quantity: int = 1, *, timeout: float | None = None) -> int:
        """Take units of an item out of the cart; returns how many of it are left. Raises NotInCart."""
        return int(checked(_U63, await self._change(f.RemoveFromCart(self._secret, item, quantity), timeout)))

    async def clear_cart(self, *, timeout: float | None = None) -> None:
        """Take everything out of the cart."""
        await self._change(f.ClearCart(self._secret), timeout)

    async def display_cart(self, *, timeout: float | None = None) -> Cart:
        """The cart, by item; prices as they were when the items were added."""
        found = checked(_CART, await self._ask(f.DisplayCart(self._secret), timeout))
        return Cart(tuple(map(CartLine._make, found)))

    async def make_purchase(self, *, timeout: float | None = None) -> Purchase:
        """Buy what is in the cart at the prices of now, all of it or nothing, and clear it.

        Raises EmptyCart, OutOfStock, UnknownItem (an item is not on sale any more), CartChanged, OrderAbandoned.
        """
        return _purchase(checked(_PURCHASE, await self._change(f.MakePurchase(self._secret), timeout)))

    async def give_feedback(self, order: str, item: str, *, up: bool, timeout: float | None = None) -> None:
        """Thumbs up or down on an item of a purchase, once. Raises NotBought, FeedbackGiven."""
        await self._change(f.GiveFeedback(self._secret, order, item, up), timeout)

    async def get_seller_rating(self, seller: str, *, timeout: float | None = None) -> Rating:
        """A seller's rating: thumbs up, thumbs down. Raises UnknownSeller."""
        return Rating._make(checked(_RATING, await self._ask(f.GetSellerRating(self._secret, seller), timeout)))

    async def get_purchase_history(
        self, cursor: str = "", *, limit: int = HISTORY_PAGE, timeout: float | None = None
    ) -> Page[Purchase]:
        """A page of the own purchases, newest first; go on with `page.next` until it is ""."""
        value = await self._ask(f.GetPurchaseHistory(self._secret, cursor, limit), timeout)
        entries, more = checked(_HISTORY, value)
        return Page(tuple(map(_purchase, entries)), more)


def _purchase(value: Any) -> Purchase:
    order, time_us, lines = value
    return Purchase(order, time_us, tuple(map(PurchaseLine._make, lines)))
