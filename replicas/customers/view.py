"""What can be read of the customers (customers_commands.py, questions); changes nothing."""

from typing import Any

from replicas.customers import commands as c
from replicas.customers.accounts import IDLE_MINUTES, is_open
from replicas.customers.commands import QUESTIONS
from replicas.customers.tables import CustomerTables, LoginRow, Meta
from ringcast.errors import RingcastError
from ringcast.market.errors import SessionEnded, UnknownSeller
from ringcast.market.types import Party
from ringcast.product_store.operations import encode_error, encode_outcome
from ringcast.strict import Plain


class CustomersView:
    """Reads of one moment."""

    def __init__(self, tables: CustomerTables, meta: Meta) -> None:
        self._tables = tables
        self._meta = meta

    def answer(self, question: bytes) -> bytes:
        """The outcome of a packed question; never raises for what it holds."""
        try:
            return encode_outcome(self._value(QUESTIONS.decode(question, "question")))
        except RingcastError as error:
            return encode_error(error)

    def _value(self, question: Any) -> Plain:
        tables = self._tables
        match question:
            case c.SessionOf(party, session):
                return self._of(self._login(session, party), None)
            case c.SaltOf(party, name):
                account = tables.account_named(party, name)
                row = None if account is None else tables.account(account)
                return None if row is None else (row.salt, row.locked_us)
            case c.CartOf(session):
                login = self._login(session, Party.BUYER)
                return self._of(login, tables.cart(login.account))
            case c.RatingOf(party, session, seller):
                login = self._login(session, party)
                return self._of(login, self._rating(seller or login.account))
            case c.HistoryOf(session, cursor, limit):
                login = self._login(session, Party.BUYER)
                found = tables.purchases(login.account, int(cursor) if cursor else None, limit + 1)
                more = str(found[limit - 1][0]) if len(found) > limit else ""
                return self._of(login, (tuple(purchase for _, purchase in found[:limit]), more))
            case c.OrdersFrom(cursor, limit):
                return self._orders(cursor, limit)
        raise AssertionError(question)

    def _login(self, session: bytes, party: str) -> LoginRow:
        login = self._tables.login(session)
        if login is None or login.party != party or not is_open(login, self._meta.time_us):
            raise SessionEnded(minutes=IDLE_MINUTES)
        return login

    @staticmethod
    def _of(login: LoginRow, value: Plain) -> Plain:
        return (login.account, login.used_us, value)

    def _rating(self, seller: str) -> tuple[int, int]:
        rating = self._tables.rating(seller)
        if rating is not None:
            return rating
        account = self._tables.account(seller)
        if account is None or account.party != Party.SELLER:
            raise UnknownSeller(seller=seller)
        return (0, 0)

    def _orders(self, cursor: str, limit: int) -> Plain:
        start = cursor.encode() + b"\0" if cursor else b""
        names = self._tables.keys("orders", b"", start, limit + 1)
        entries: list[Plain] = []
        for name in names[:limit]:
            order = self._tables.order(name.decode())
            purchase = self._tables.purchase(order.buyer, order.number) if order is not None and order.number else None
            lines = tuple((line.item, line.quantity) for line in purchase.lines) if purchase else ()
            entries.append((name.decode(), purchase is not None, lines, purchase.time_us if purchase else 0))
        return (tuple(entries), names[limit - 1].decode() if len(names) > limit else "")
