"""The purchase across two databases: whoever dies, or comes late, an order is made once or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from replicas.customers import commands as c
from replicas.customers.accounts import IDLE_US
from replicas.market.functions import hash_of
from replicas.market.orders import HOLD_S, order_of
from ringcast import errors
from ringcast.market import errors as market_errors
from ringcast.market import functions as f
from ringcast.market.functions import CHANGES
from ringcast.market.types import Party
from ringcast.market.wire import Call
from ringcast.product_store.types import Stock
from tests.market.links import Died, Faults, Interface, Ring
from tests.products.group import Group, group

SESSION = b"s" * 32
CLIENT = b"c" * 16
BUY = f.MakePurchase(SESSION)
HOLD_US = round(HOLD_S * 1_000_000)

STEPS = [
    Faults(before="reserve"),
    Faults(after="reserve"),
    Faults(before="Record"),
    Faults(after="Record"),
    Faults(before="confirm"),
    Faults(after="confirm"),
]


def named(faults: Faults) -> str:
    return f"before {faults.before}" if faults.before else f"after {faults.after}"


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Group]:
    with group(tmp_path / "products", 3) as made:
        yield made


@pytest.fixture
async def market(three: Group) -> AsyncIterator["Market"]:
    made = Market(three)
    await made.begin()
    yield made
    await made.end()


class Market:
    """A buyer with two units of a lamp in the cart, of which there are five."""

    def __init__(self, products: Group) -> None:
        self.group = products
        self.ring = Ring()
        self._open: list[Interface] = []

    async def interface(self, faults: Faults | None = None, party: Party = Party.BUYER) -> Interface:
        made = Interface(party, self.ring, self.group, faults)
        self._open.append(made)
        return await made.__aenter__()

    async def begin(self) -> None:
        self.buyers = await self.interface()
        link = self.buyers.customers
        await link.command(c.CreateAccount(Party.BUYER, "ann", bytes(16), bytes(32)))
        await link.command(c.Login(Party.BUYER, "ann", bytes(32), hash_of(SESSION)))
        await self.buyers.products.put("Lamp", seller="s9", category="home", price=7, quantity=5, id="lamp")
        await self.add("lamp", 2)

    async def add(self, item: str, quantity: int, sequence: int = 100) -> None:
        await self.buyers.call(f.AddToCart(SESSION, item, quantity), b"a" * 16, sequence)

    async def end(self) -> None:
        for one in self._open:
            await one.__aexit__()

    async def stock(self, item: str = "lamp") -> Stock:
        found = await self.buyers.products.stock(item)
        assert found is not None
        return found

    async def history(self) -> tuple[Any, ...]:
        _, (purchases, _) = (await self.buyers.customers.ask(c.HistoryOf(hash_of(SESSION), "", 10)))[1:]
        return tuple(purchases)

    async def cart(self) -> dict[str, int]:
        lines = (await self.buyers.customers.ask(c.CartOf(hash_of(SESSION))))[2]
        return {line[0]: line[1] for line in lines}

    def wait(self, us: int) -> None:
        self.ring.time_us += us
        self.group.store.now_us += us


async def died(interface: Interface, function: f.Change = BUY, sequence: int = 1) -> None:
    """The interface dies in the middle of the call."""
    with suppress(Died):
        await interface.call(function, CLIENT, sequence)
    await asyncio.sleep(0)


@pytest.mark.parametrize("faults", STEPS, ids=named)
async def test_another_interface_repeats_the_call_with_the_same_outcome(market: Market, faults: Faults) -> None:
    """docs/faults.md 57."""
    await died(await market.interface(faults))
    other = await market.interface()
    order, time_us, lines = await other.call(BUY, CLIENT, 1)
    assert lines == (("lamp", 2, "Lamp", "s9", 7, ""),)
    assert await (await market.interface()).call(BUY, CLIENT, 1) == (order, time_us, lines)
    assert await market.stock() == Stock(3, 0, 2)
    assert [one[0] for one in await market.history()] == [order]
    assert await market.cart() == {}


@pytest.mark.parametrize("faults", STEPS, ids=named)
async def test_nobody_repeats_the_call_and_a_sweeper_ends_the_order(market: Market, faults: Faults) -> None:
    await died(await market.interface(faults))
    market.wait(HOLD_US + 1)
    await (await market.interface()).sweep()
    recorded = faults.after in {"Record", "confirm"} or faults.before == "confirm"
    assert await market.stock() == (Stock(3, 0, 2) if recorded else Stock(5, 0, 0))
    assert len(await market.history()) == recorded
    assert await market.cart() == ({} if recorded else {"lamp": 2})


async def test_who_comes_late_to_an_order_that_was_given_up_buys_nothing(market: Market) -> None:
    await died(await market.interface(Faults(before="Record")))
    market.wait(HOLD_US + 1)
    await (await market.interface()).sweep()
    with pytest.raises(market_errors.OrderAbandoned):
        await (await market.interface()).call(BUY, CLIENT, 1)
    assert (await market.stock(), await market.history()) == (Stock(5, 0, 0), ())
    order, *_ = await (await market.interface()).call(BUY, CLIENT, 2)
    assert [one[0] for one in await market.history()] == [order]


async def test_who_comes_late_to_a_call_that_was_refused_buys_nothing(market: Market) -> None:
    """The buyer was told OutOfStock: an attempt that was slower must not buy after all."""
    await market.add("lamp", 4, 101)
    with pytest.raises(errors.OutOfStock):
        await market.buyers.call(BUY, CLIENT, 1)
    await market.buyers.products.change_quantity("lamp", "s9", 10)
    with pytest.raises(errors.OutOfStock):
        await (await market.interface()).call(BUY, CLIENT, 1)
    assert (await market.stock(), await market.history()) == (Stock(15, 0, 0), ())
    assert await market.cart() == {"lamp": 6}


async def test_a_cart_that_changed_between_two_attempts_is_not_bought_by_halves(market: Market) -> None:
    await died(await market.interface(Faults(after="reserve")))
    await market.add("lamp", 1, 101)
    with pytest.raises(market_errors.CartChanged):
        await (await market.interface()).call(BUY, CLIENT, 1)
    assert (await market.stock(), await market.history()) == (Stock(5, 0, 0), ())
    await (await market.interface()).call(BUY, CLIENT, 2)
    assert await market.stock() == Stock(2, 0, 3)


async def test_the_leader_changes_in_the_middle_of_a_checkout(market: Market) -> None:
    """docs/faults.md 58: what was applied and not told is not applied again."""
    for node in market.group.nodes:
        node.forgets = 1

    async def change() -> None:
        for leader in (2, 3, 1):
            await asyncio.sleep(0.02)
            market.group.leader = leader

    changes = asyncio.create_task(change())
    await market.buyers.call(BUY, CLIENT, 1)
    await changes
    assert (await market.stock(), len(await market.history())) == (Stock(3, 0, 2), 1)


async def test_two_buyers_take_the_last_unit(market: Market) -> None:
    """docs/faults.md 59."""
    await market.add("lamp", 3, 101)
    other = b"o" * 32
    link = market.buyers.customers
    await link.command(c.CreateAccount(Party.BUYER, "ben", bytes(16), bytes(32)))
    await link.command(c.Login(Party.BUYER, "ben", bytes(32), hash_of(other)))
    await market.buyers.call(f.AddToCart(other, "lamp", 1), b"o" * 16, 1)
    both = await asyncio.gather(
        (await market.interface()).call(BUY, CLIENT, 1),
        (await market.interface()).call(f.MakePurchase(other), b"o" * 16, 2),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, errors.OutOfStock) for one in both) == [False, True]
    stock = await market.stock()
    assert stock.reserved == 0
    assert stock.sold in {1, 5}


async def test_an_item_that_was_removed_is_named_and_nothing_is_bought(market: Market) -> None:
    await market.buyers.products.put("Desk", seller="s9", category="home", price=9, quantity=5, id="desk")
    await market.add("desk", 1, 101)
    await market.buyers.products.remove("desk", "s9")
    with pytest.raises(errors.UnknownItem, match="'desk'"):
        await market.buyers.call(BUY, CLIENT, 1)
    assert await market.cart() == {"lamp": 2, "desk": 1}
    assert await market.stock() == Stock(5, 0, 0)
    with pytest.raises(errors.UnknownItem):
        await market.buyers.call(f.AddToCart(SESSION, "desk", 1), CLIENT, 2)


@pytest.mark.parametrize("when", ["before", "between"])
async def test_a_session_that_ends_in_the_middle_of_a_purchase(market: Market, when: str) -> None:
    """docs/faults.md 60."""
    if when == "before":
        market.wait(IDLE_US + 1)
        interface = market.buyers
    else:
        interface = await market.interface(Faults(before="Record"))
        await died(interface)
        await market.buyers.call(f.Logout(SESSION), b"l" * 16, 1)
    with pytest.raises(market_errors.SessionEnded):
        await market.buyers.call(BUY, CLIENT, 1)
    assert await market.stock() == Stock(5, 0, 0)


async def test_an_empty_cart_is_no_purchase(market: Market) -> None:
    await market.buyers.call(f.ClearCart(SESSION), CLIENT, 1)
    with pytest.raises(market_errors.EmptyCart):
        await market.buyers.call(BUY, CLIENT, 2)
    call = Call(CLIENT, 2, 0, (0, 0), CHANGES.encode(BUY))
    assert await market.buyers.products.reservation(order_of(call)) is None


# ---- sellers


async def seller(market: Market) -> Interface:
    made = await market.interface(party=Party.SELLER)
    await made.customers.command(c.CreateAccount(Party.SELLER, "sue", bytes(16), bytes(32)))
    await made.customers.command(c.Login(Party.SELLER, "sue", bytes(32), hash_of(b"S" * 32)))
    return made


async def test_what_a_seller_does_is_done_once_and_to_own_items_alone(market: Market) -> None:
    sue, session = await seller(market), b"S" * 32
    put = f.PutItemForSale(session, "Bowl", "home", ("gift",), "new", 5, 10)
    item = await sue.call(put, CLIENT, 1)
    assert await (await market.interface(party=Party.SELLER)).call(put, CLIENT, 1) == item
    for _ in range(2):
        assert await sue.call(f.RemoveUnits(session, item, 3), CLIENT, 2) == 7
    with pytest.raises(errors.OutOfStock):
        await sue.call(f.RemoveUnits(session, item, 8), CLIENT, 3)
    for wrong in (f.ChangePrice(session, "lamp", 1), f.RemoveUnits(session, "lamp", 1)):
        with pytest.raises(errors.NotTheSeller):
            await sue.call(wrong, b"w" * 16, 1 if isinstance(wrong, f.ChangePrice) else 2)
    page = await sue.functions.answer(f.DisplayItems(session, "", 10))
    assert [(one.id, one.quantity, one.seller) for one in page.entries] == [(item, 7, "s2")]


async def test_a_change_that_came_through_before_its_session_ended_is_not_called_refused(market: Market) -> None:
    sue, session = await seller(market), b"S" * 32
    await sue.call(f.PutItemForSale(session, "Bowl", "home", (), "new", 5, 10), CLIENT, 1)
    await sue.call(f.Logout(session), b"l" * 16, 1)
    with pytest.raises(errors.OutcomeUnknown):
        await sue.call(f.PutItemForSale(session, "Bowl", "home", (), "new", 5, 10), CLIENT, 1)
    with pytest.raises(market_errors.SessionEnded):
        await sue.call(f.PutItemForSale(session, "Bowl", "home", (), "new", 5, 10), CLIENT, 2)


async def test_while_the_store_is_away_the_end_of_a_session_is_no_final_answer(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late earlier attempt could be applied after it: the number has to be taken first."""
    sue, session = await seller(market), b"S" * 32
    put = f.PutItemForSale(session, "Bowl", "home", (), "new", 5, 10)
    await sue.call(f.Logout(session), b"l" * 16, 1)

    async def away(*_: object) -> None:
        raise errors.NotInQuorum(replica="p1", connected=1, quorum=2)

    with monkeypatch.context() as patch:
        patch.setattr(sue.products, "relay", away)
        with pytest.raises(errors.NotInQuorum):
            await sue.call(put, CLIENT, 1)
    with pytest.raises(market_errors.SessionEnded):
        await sue.call(put, CLIENT, 1)
    late = put._replace(session=b"N" * 32)
    await sue.customers.command(c.Login(Party.SELLER, "sue", bytes(32), hash_of(late.session)))
    with pytest.raises(errors.IdReused):  # the number is taken
        await sue.call(late, CLIENT, 1)


# ---- passwords


async def test_while_an_account_waits_no_password_costs_anything(market: Market, monkeypatch: Any) -> None:
    """docs/faults.md 61."""
    buyers = market.buyers
    assert await buyers.call(f.CreateAccount("Zoë", "correct horse"), CLIENT, 1) == "b2"
    hashed: list[str] = []

    async def count(password: str, salt: bytes) -> bytes:
        hashed.append(password)
        return b"wrong".ljust(32)

    monkeypatch.setattr(buyers.hasher, "key", count)
    for sequence in range(2, 5):
        with pytest.raises(market_errors.WrongPassword):
            await buyers.call(f.Login("Zoë", "guess guess", b"g" * 32), CLIENT, sequence)
    with pytest.raises(market_errors.TooManyAttempts, match="1 s"):
        await buyers.call(f.Login("Zoë", "correct horse", b"g" * 32), CLIENT, 5)
    assert len(hashed) == 3
    market.wait(1_000_000)
    monkeypatch.undo()
    # The same text in another form is the same password; an account's name is taken as it is written.
    assert await buyers.call(f.CreateAccount("Ana", "na\u00efve pass"), CLIENT, 6) == "b3"
    assert await buyers.call(f.Login("Ana", "nai\u0308ve pass", b"n" * 32), CLIENT, 7) == "b3"
    assert await buyers.call(f.Login("Zoë", "correct horse", b"z" * 32), CLIENT, 8) == "b2"
    with pytest.raises(market_errors.WrongPassword):
        await buyers.call(f.Login("nobody", "correct horse", b"x" * 32), CLIENT, 9)
