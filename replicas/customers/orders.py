"""Carts, purchases and feedback, as commands change them (docs/marketplace.md, "Purchase across two databases")."""

from typing import Final, NoReturn

from replicas.customers import commands as c
from replicas.customers.accounts import Accounts
from replicas.customers.tables import CustomerTables, Meta, OrderRow, split_time_key, time_key
from ringcast.errors import RingcastError, TooLarge, UnknownItem, from_wire
from ringcast.market.errors import CartChanged, EmptyCart, FeedbackGiven, NotBought, NotInCart, OrderAbandoned
from ringcast.market.limits import CART_LINES_MAX
from ringcast.market.types import CartLine, Feedback, Party, Purchase, PurchaseLine
from ringcast.product_store.limits import HOLD_MS_MAX, QUANTITY_MAX

#: What was refused is remembered for longer than any stock is held.
REFUSED_US: Final = 2 * HOLD_MS_MAX * 1_000
#: Refused orders that one look forgets at most.
FORGOTTEN_MAX: Final = 16


class Orders:
    """Carts and orders as one command meets them."""

    def __init__(self, tables: CustomerTables, meta: Meta, accounts: Accounts) -> None:
        self._tables = tables
        self._meta = meta
        self._accounts = accounts

    def _buyer(self, session: bytes) -> str:
        return self._accounts.session(session, Party.BUYER).account

    # ---- the cart

    def add(self, command: c.AddToCart) -> int:
        session, item, quantity, name, seller, price = command
        buyer = self._buyer(session)
        if not seller:
            raise UnknownItem(item=item)
        lines = {line.item: line for line in self._tables.cart(buyer)}
        held = lines[item].quantity if item in lines else 0
        if not held and len(lines) >= CART_LINES_MAX:
            raise TooLarge(what="the cart", size=len(lines) + 1, limit=CART_LINES_MAX, unit="lines")
        if held + quantity > QUANTITY_MAX:
            raise TooLarge(what=f"the cart's line of {item}", size=held + quantity, limit=QUANTITY_MAX, unit="units")
        lines[item] = CartLine(item, held + quantity, name, seller, price)
        self._put_cart(buyer, lines)
        return held + quantity

    def remove(self, command: c.RemoveFromCart) -> int:
        session, item, quantity = command
        buyer = self._buyer(session)
        lines = {line.item: line for line in self._tables.cart(buyer)}
        held = lines[item].quantity if item in lines else 0
        if quantity > held:
            raise NotInCart(item=item, wanted=quantity, held=held)
        if quantity == held:
            del lines[item]
        else:
            lines[item] = lines[item]._replace(quantity=held - quantity)
        self._put_cart(buyer, lines)
        return held - quantity

    def clear(self, command: c.ClearCart) -> None:
        self._tables.put_cart(self._buyer(command.session), ())

    def _put_cart(self, buyer: str, lines: dict[str, CartLine]) -> None:
        self._tables.put_cart(buyer, tuple(lines[item] for item in sorted(lines)))

    # ---- the purchase

    def record(self, command: c.Record) -> Purchase:
        """What is refused here is refused for ever: whoever comes later with this order hears OrderAbandoned."""
        tables, order = self._tables, command.order
        known = tables.order(order)
        if known is not None:
            purchase = tables.purchase(known.buyer, known.number) if known.number else None
            if purchase is None:
                raise OrderAbandoned(order=order)
            return purchase
        try:
            buyer = self._buyer(command.session)
            lines = self._bought(buyer, command)
        except RingcastError:
            self._refuse(order)
            raise
        self._meta.purchases += 1
        number = self._meta.purchases
        purchase = Purchase(order, self._meta.time_us, lines)
        tables.put_purchase(buyer, number, purchase)
        tables.put_order(order, OrderRow(number, buyer))
        tables.put_cart(buyer, ())
        return purchase

    def _bought(self, buyer: str, command: c.Record) -> tuple[PurchaseLine, ...]:
        cart = self._tables.cart(buyer)
        if not cart:
            raise EmptyCart
        prices = {item: price for item, _, price in command.lines}
        if {line.item: line.quantity for line in cart} != {item: quantity for item, quantity, _ in command.lines}:
            raise CartChanged(order=command.order)
        return tuple(
            PurchaseLine(line.item, line.quantity, line.name, line.seller, prices[line.item], Feedback.NONE)
            for line in cart
        )

    def refuse(self, command: c.Refuse) -> NoReturn:
        if command.order and self._tables.order(command.order) is None:
            self._refuse(command.order)
        raise from_wire(command.code, command.details)

    def abandon(self, command: c.Abandon) -> bool:
        known = self._tables.order(command.order)
        if known is None:
            self._refuse(command.order)
        return known is not None and known.number > 0

    def _refuse(self, order: str) -> None:
        self._tables.put_order(order, OrderRow(0, ""))
        self._tables.mark("refused", time_key(self._meta.time_us, order.encode()))

    def forget_refused(self) -> None:
        """Forget what was refused long ago, FORGOTTEN_MAX of them."""
        for key in self._tables.keys("refused", b"", limit=FORGOTTEN_MAX):
            time_us, order = split_time_key(key)
            if self._meta.time_us - time_us < REFUSED_US:
                return
            self._tables.delete("refused", key)
            self._tables.delete("orders", order)

    def set_back(self) -> None:
        """The ring's time was set back (D7): what was refused in the meantime was refused now."""
        for key in self._tables.keys("refused", b"", time_key(self._meta.time_us + 1, b"")):
            self._tables.delete("refused", key)
            self._tables.mark("refused", time_key(self._meta.time_us, split_time_key(key)[1]))

    # ---- feedback

    def feedback(self, command: c.GiveFeedback) -> None:
        session, order, item, up = command
        buyer, tables = self._buyer(session), self._tables
        known = tables.order(order)
        purchase = None
        if known is not None and known.buyer == buyer:
            purchase = tables.purchase(buyer, known.number)
        line = next((line for line in purchase.lines if line.item == item), None) if purchase else None
        if known is None or purchase is None or line is None:
            raise NotBought(order=order, item=item)
        if line.feedback:
            raise FeedbackGiven(order=order, item=item)
        given = line._replace(feedback=(Feedback.UP if up else Feedback.DOWN).value)
        lines = tuple(given if one is line else one for one in purchase.lines)
        tables.put_purchase(buyer, known.number, purchase._replace(lines=lines))
        ups, downs = tables.rating(line.seller) or (0, 0)
        tables.put_rating(line.seller, ups + up, downs + (not up))
