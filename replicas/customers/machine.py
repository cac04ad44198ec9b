"""The customers: accounts, sessions, carts, purchases, feedback, as a state machine on the atomic broadcast.

It listens to the topic `_customers`: each message is a command (customers_commands.py), and each has an answer, which
goes to the interface with the receipt of its batch. What it answers and what it keeps is a function of the log alone:
time is the slot's, ids are counted, and nothing that a message holds raises.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from replicas.customers import commands as c
from replicas.customers.accounts import SECOND_US, Accounts
from replicas.customers.commands import COMMANDS, Command, decode_command
from replicas.customers.orders import Orders
from replicas.customers.rows import CustomerRows, RowReader
from replicas.customers.tables import CustomerTables
from replicas.customers.view import CustomersView
from ringcast.errors import AlreadyApplied, BadFrame, RingcastError
from ringcast.product_store.operations import encode_error, encode_outcome
from ringcast.product_store.wire import WINDOW, Operate
from store.contract import PutRow
from store.products.sessions import SESSIONS_MAX, Repeated, Sessions

#: What is idle is looked for once in so much of the log's time, not with each command.
SWEEP_US: Final = SECOND_US


class Customers:
    """The state after some slot. `store`: the disk that has its rows; None for a log that begins anew."""

    def __init__(self, store: RowReader | None = None, *, sessions_max: int = SESSIONS_MAX) -> None:
        """`sessions_max` is part of the rules: the same on every replica."""
        self.rows = CustomerRows(store)
        self._tables = CustomerTables(self.rows)
        self._meta = self._tables.meta()
        self._accounts = Accounts(self._tables, self._meta)
        self._orders = Orders(self._tables, self._meta, self._accounts)
        self._sessions = Sessions(self._tables, self._meta, sessions_max)
        orders, accounts = self._orders, self._accounts
        self._handlers: dict[type[Any], Any] = {
            c.CreateAccount: accounts.create,
            c.Login: accounts.login,
            c.Logout: accounts.logout,
            c.Touch: accounts.touch,
            c.AddToCart: orders.add,
            c.RemoveFromCart: orders.remove,
            c.ClearCart: orders.clear,
            c.Record: orders.record,
            c.Refuse: orders.refuse,
            c.Abandon: orders.abandon,
            c.GiveFeedback: orders.feedback,
        }

    @property
    def view(self) -> CustomersView:
        """What can be read now."""
        return CustomersView(self._tables, self._meta)

    def apply(self, first_offset: int, time_us: int, messages: Sequence[bytes]) -> tuple[bytes, ...]:
        """Apply the messages of one batch, in their order; an answer for each."""
        meta = self._meta
        if time_us < meta.time_us:  # an operator set the ring's time back (D7)
            meta.time_us, meta.swept_us = time_us, min(meta.swept_us, time_us)
            self._sessions.set_back()
            self._accounts.set_back()
            self._orders.set_back()
        meta.time_us = time_us
        if meta.time_us - meta.swept_us >= SWEEP_US:
            meta.swept_us = meta.time_us
            self._sessions.end_idle()
            self._accounts.end_idle()
            self._orders.forget_refused()
        answers = tuple(self._apply(first_offset + place, message) for place, message in enumerate(messages))
        self._tables.put_meta(meta)
        return answers

    def _apply(self, offset: int, message: bytes) -> bytes:
        self._meta.applied = offset
        try:
            command = decode_command(message)
        except BadFrame:
            return _unreadable(message)
        if not command.sequence:
            return self._outcome(command.body)
        request = _request(command)
        verdict = self._sessions.judge(request, command.seal)
        if isinstance(verdict, Repeated):
            return verdict.outcomes
        if verdict is not None:
            return encode_error(verdict)
        outcome = self._outcome(command.body)
        self._sessions.remember(request, command.seal, outcome)
        return outcome

    def _outcome(self, body: bytes) -> bytes:
        try:
            command = COMMANDS.decode(body, "command")
            return encode_outcome(self._handlers[type(command)](command))
        except BadFrame:
            return _unreadable(body)
        except RingcastError as error:
            return encode_error(error)

    def recall(self, messages: Sequence[bytes]) -> tuple[bytes, ...]:
        """The answers of a batch that was applied before (K1); changes nothing.

        AlreadyApplied where none is remembered: nobody waits for it any more, or it may be sent again (sequence 0).
        """
        return tuple(map(self._recall, messages))

    def _recall(self, message: bytes) -> bytes:
        try:
            command = decode_command(message)
        except BadFrame:
            return _unreadable(message)
        outcome = self._sessions.recall(_request(command), command.seal) if command.sequence else None
        return outcome or encode_error(AlreadyApplied(sequence=command.sequence, remembered=WINDOW))

    # ---- rows

    def take_rows(self) -> list[PutRow]:
        """Rows that changed since the last call; the caller owes them to the store."""
        return self.rows.take()

    def state_digest(self) -> bytes:
        """16 bytes over every row, whether it is on the disk yet or not; walks everything."""
        whole = hashlib.blake2b(digest_size=16)
        for key, value in self.rows.scan(b"", None):
            whole.update(b"%d %d;%s%s" % (len(key), len(value), key, value))
        return whole.digest()


def _request(command: Command) -> Operate:
    client, sequence, acknowledged, opened, _, body = command
    return Operate(client, sequence, acknowledged, opened, (body,))


def _unreadable(message: bytes) -> bytes:
    """The decoder's own words may differ between its versions, and outcomes are part of the state."""
    limit = "one that every replica knows"
    return encode_error(BadFrame(what="the command", value=f"{len(message)} bytes", limit=limit))
