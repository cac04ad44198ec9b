"""The twenty client functions, as an interface replica carries them out (ringcast/market/functions.py types them).

A function that changes something ends in exactly one change that has the call's (client, sequence), in customers or in
products, whatever was found out before it; so an attempt that is repeated elsewhere, or comes late, has the first one's
outcome. A clock is read only to decide whether a session's last use is due to be written: the slot's time judges.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from replicas.customers import commands as c
from replicas.customers.accounts import USE_US, WAIT_US_MAX
from replicas.market.links import CustomersLink, ProductsLink
from replicas.market.orders import Purchases
from replicas.market.passwords import Hasher, salt_of
from replicas.products.gateway import wall_clock_us
from ringcast.errors import IdReused, OutcomeUnknown, UnknownOrder
from ringcast.market import functions as f
from ringcast.market.errors import SessionEnded, TooManyAttempts
from ringcast.market.types import Party
from ringcast.market.wire import Call
from ringcast.product_store.operations import ChangePrice, ChangeQuantity, Confirm, Operation, Put

#: What a password is hashed with where there is no such account, so that it takes as long.
_NO_SALT = bytes(c.SALT_BYTES)
#: Sessions whose account is remembered.
ACCOUNTS_MAX: Final = 10_000

T = TypeVar("T")


def hash_of(session: bytes) -> bytes:
    """By which customers know a session: who reads the log or a disk can't use it."""
    return hashlib.sha256(session).digest()


class MarketFunctions:
    """Both kinds of interface; each serves those of its `party`."""

    def __init__(
        self,
        party: Party,
        customers: CustomersLink,
        products: ProductsLink,
        hasher: Hasher,
        clock_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self.purchases = Purchases(customers, products)
        self._party = party
        self._customers = customers
        self._products = products
        self._hasher = hasher
        self._clock_us = clock_us
        self._accounts: dict[bytes, str] = {}
        handlers: dict[type[Any], Callable[..., Coroutine[Any, Any, Any]]] = {
            f.CreateAccount: self._create_account,
            f.Login: self._login,
            f.Logout: self._logout,
            f.PutItemForSale: self._put_item_for_sale,
            f.ChangePrice: self._change_price,
            f.RemoveUnits: self._remove_units,
            f.AddToCart: self._add_to_cart,
            f.RemoveFromCart: self._remove_from_cart,
            f.ClearCart: self._clear_cart,
            f.MakePurchase: self._make_purchase,
            f.GiveFeedback: self._give_feedback,
            f.DisplayItems: self._display_items,
            f.GetRating: self._get_rating,
            f.SearchItems: self._search_items,
            f.DisplayCart: self._display_cart,
            f.GetSellerRating: self._get_seller_rating,
            f.GetPurchaseHistory: self._get_purchase_history,
        }
        self._handlers = {function: handlers[function] for function in f.FUNCTIONS[party]}

    def serves(self, function: f.Function) -> bool:
        """Is it one of this interface's?"""
        return type(function) in self._handlers

    async def change(self, function: f.Change, call: Call) -> Any:
        """Carry out a function of changes. Raises its refusal; Unavailable: the client is to send it again."""
        return await self._handlers[type(function)](function, call)

    async def answer(self, question: f.Question) -> Any:
        """Answer a question. Raises its refusal, Unavailable."""
        return await self._handlers[type(question)](question)

    # ---- sessions

    async def _asked(self, question: Any, session: bytes) -> tuple[str, Any]:
        """(account, value) of a question of a session, whose last use is written when it is due."""
        account, used_us, value = await self._customers.ask(question)
        if abs(self._clock_us() - used_us) >= USE_US:  # a clock that is behind must not let the session end
            await self._customers.command(c.Touch(hash_of(session)))
        return account, value

    async def _account(self, session: bytes) -> str:
        account, _ = await self._asked(c.SessionOf(self._party, hash_of(session)), session)
        if len(self._accounts) >= ACCOUNTS_MAX:
            self._accounts.clear()
        self._accounts[session] = account
        return account

    async def _beside(self, session: bytes, read: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """A read of products for the account of a session. Whose a session is never changes, so it is made at the same
        time as the question whether it is open, once the account is known here."""
        account = self._accounts.get(session)
        if account is None:
            return await read(await self._account(session))
        found: T
        _, found = await asyncio.gather(self._account(session), read(account))
        return found

    # ---- accounts

    async def _create_account(self, function: f.CreateAccount, call: Call) -> Any:
        salt = salt_of(call.client, call.sequence)
        key = await self._hasher.key(function.password, salt)
        return await self._customers.command(c.CreateAccount(self._party, function.name, salt, key), call)

    async def _login(self, function: f.Login, call: Call) -> Any:
        """While the account waits, no password costs anything (docs/faults.md 61)."""
        salt, locked_us = await self._customers.ask(c.SaltOf(self._party, function.name)) or (_NO_SALT, 0)
        wait_us = locked_us - self._clock_us()
        if 0 < wait_us <= WAIT_US_MAX:  # else this clock is wrong: the state machine judges by the ring's time
            error = TooManyAttempts(seconds=-(-wait_us // 1_000_000))
            return await self._customers.command(c.Refuse("", error.code, dict(error.details)), call)
        key = await self._hasher.key(function.password, salt)
        command = c.Login(self._party, function.name, key, hash_of(function.session))
        return await self._customers.command(command, call)

    async def _logout(self, function: f.Logout, call: Call) -> Any:
        return await self._customers.command(c.Logout(hash_of(function.session)), call)

    # ---- sellers

    async def _put_item_for_sale(self, function: f.PutItemForSale, call: Call) -> Any:
        name = call.client + call.sequence.to_bytes(8, "big")
        item = hashlib.blake2b(name, digest_size=16, person=b"ringcast-item").hexdigest()
        session, *fields = function
        await self._sell(session, call, lambda seller: Put._make((item, seller, *fields)))
        return item

    async def _change_price(self, function: f.ChangePrice, call: Call) -> Any:
        session, item, price = function
        return await self._sell(session, call, lambda seller: ChangePrice(item, seller, price))

    async def _remove_units(self, function: f.RemoveUnits, call: Call) -> Any:
        session, item, quantity = function
        return await self._sell(session, call, lambda seller: ChangeQuantity(item, seller, -quantity))

    async def _sell(self, session: bytes, call: Call, operation: Callable[[str], Operation]) -> Any:
        """Change products as the seller whose session it is."""
        try:
            seller = await self._account(session)
        except SessionEnded:
            # An earlier attempt may have come through before it ended. This takes the number (by an order that nobody
            # has), and tells us; if nobody can take it now, the call has no outcome yet.
            try:
                await self._products.relay(call, Confirm("session-ended"))
            except IdReused:
                what, client = "the function", call.client.hex()
                raise OutcomeUnknown(what=what, sequence=call.sequence, client=client) from None
            except UnknownOrder:
                pass
            raise
        return await self._products.relay(call, operation(seller))

    async def _display_items(self, function: f.DisplayItems) -> Any:
        session, cursor, limit = function
        return await self._beside(session, lambda seller: self._products.by_seller(seller, cursor, limit=limit))

    async def _get_rating(self, function: f.GetRating) -> Any:
        question = c.RatingOf(self._party, hash_of(function.session), "")
        _, rating = await self._asked(question, function.session)
        return rating

    # ---- buyers

    async def _search_items(self, function: f.SearchItems) -> Any:
        session, category, keywords, cursor, limit = function
        return await self._beside(session, lambda _: self._products.search(category, keywords, cursor, limit=limit))

    async def _add_to_cart(self, function: f.AddToCart, call: Call) -> Any:
        session, name, quantity = function
        item = await self._products.get(name)
        found = ("", "", 0) if item is None else (item.name, item.seller, item.price)
        return await self._customers.command(c.AddToCart(hash_of(session), name, quantity, *found), call)

    async def _remove_from_cart(self, function: f.RemoveFromCart, call: Call) -> Any:
        session, item, quantity = function
        return await self._customers.command(c.RemoveFromCart(hash_of(session), item, quantity), call)

    async def _clear_cart(self, function: f.ClearCart, call: Call) -> Any:
        return await self._customers.command(c.ClearCart(hash_of(function.session)), call)

    async def _display_cart(self, function: f.DisplayCart) -> Any:
        _, lines = await self._asked(c.CartOf(hash_of(function.session)), function.session)
        return lines

    async def _make_purchase(self, function: f.MakePurchase, call: Call) -> Any:
        return await self.purchases.make(call, hash_of(function.session), self._cart(function.session))

    async def _cart(self, session: bytes) -> list[tuple[str, int]]:
        _, lines = await self._asked(c.CartOf(hash_of(session)), session)
        return [(item, quantity) for item, quantity, *_ in lines]

    async def _give_feedback(self, function: f.GiveFeedback, call: Call) -> Any:
        session, order, item, up = function
        return await self._customers.command(c.GiveFeedback(hash_of(session), order, item, up), call)

    async def _get_seller_rating(self, function: f.GetSellerRating) -> Any:
        session, seller = function
        _, rating = await self._asked(c.RatingOf(self._party, hash_of(session), seller), session)
        return rating

    async def _get_purchase_history(self, function: f.GetPurchaseHistory) -> Any:
        session, cursor, limit = function
        _, page = await self._asked(c.HistoryOf(hash_of(session), cursor, limit), session)
        return page
