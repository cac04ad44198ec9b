"""Real clients on real sockets, before interfaces whose databases are in this process: what a user meets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import ringcast
from broker.sockets import SocketLimits, bind, open_socket
from replicas.market.gateway import CLIENT_MAX, MarketGateway
from replicas.products.front import Standing
from ringcast.errors import NotReady, RingcastError
from ringcast.market import Buyer, Seller
from ringcast.market import errors as market_errors
from ringcast.market.functions import FUNCTIONS
from ringcast.market.types import Party
from tests.market.links import Interface, Ring
from tests.products.group import CLUSTER, Group, group

PASSWORD = "correct horse"


class Served:
    """One interface with its socket. `trouble`: why it serves nothing."""

    def __init__(self, party: Party, number: int, ring: Ring, products: Group) -> None:
        self.interface = Interface(party, ring, products)
        self.trouble: RingcastError | None = None
        self._context = products.context
        router = open_socket(products.context, zmq.ROUTER, SocketLimits())
        self.endpoint = bind(router, "tcp://127.0.0.1:*")
        self.gateway = MarketGateway(
            router,
            self.interface.functions,
            replica=number,
            standing=lambda: Standing(CLUSTER, products.store.applied, 0, ring.offset),
            trouble=lambda: self.trouble,
            status=lambda: {"replica": number},
        )

    async def close(self) -> None:
        self.gateway.close()
        await self.interface.__aexit__()


class Market:
    def __init__(self, products: Group) -> None:
        ring = Ring()
        self.products = products
        self.sellers = [Served(Party.SELLER, number, ring, products) for number in (1, 2)]
        self.buyers = [Served(Party.BUYER, number, ring, products) for number in (1, 2)]

    def seller(self) -> Seller:
        return Seller([one.endpoint for one in self.sellers], timeout=10)

    def buyer(self) -> Buyer:
        return Buyer([one.endpoint for one in self.buyers], timeout=10)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    with group(tmp_path / "products", 1) as products:
        made = Market(products)
        everyone = [*made.sellers, *made.buyers]
        for one in everyone:
            await one.interface.__aenter__()
        yield made
        for one in everyone:
            await one.close()


async def entered(client: Any, name: str = "Zoë") -> Any:
    await client.create_account(name, PASSWORD)
    await client.login(name, PASSWORD)
    return client


async def test_all_twenty_functions(market: Market) -> None:
    async with market.seller() as seller, market.buyer() as buyer:
        await entered(seller)
        await entered(buyer)
        item = await seller.put_item_for_sale("Lamp", category="home", price=9, quantity=5, keywords=["light"])
        await seller.change_price(item, 11)
        assert await seller.remove_units(item, 1) == 4
        assert [(one.id, one.price) for one in (await seller.display_items()).entries] == [(item, 11)]
        assert [one.item.id for one in (await buyer.search_items("home", ["light"])).entries] == [item]
        assert await buyer.add_to_cart(item, 3) == 3
        assert await buyer.remove_from_cart(item) == 2
        assert (await buyer.display_cart()).total == 22
        purchase = await buyer.make_purchase()
        assert (purchase.total, purchase.lines[0].name) == (22, "Lamp")
        await buyer.give_feedback(purchase.order, item, up=True)
        assert await buyer.get_seller_rating(purchase.lines[0].seller) == await seller.get_rating() == (1, 0)
        history = await buyer.get_purchase_history()
        assert [(one.order, one.lines[0].feedback) for one in history.entries] == [(purchase.order, "up")]
        await buyer.clear_cart()
        await buyer.logout()
        await seller.logout()
        assert buyer.session is None
        with pytest.raises(market_errors.SessionEnded):
            await buyer.display_cart()
    assert sum(map(len, FUNCTIONS.values())) == 20


async def test_an_interface_that_goes_takes_no_call_with_it(market: Market) -> None:
    async with market.buyer() as buyer:
        await entered(buyer)
        await market.buyers[0].interface.products.put(
            "Lamp", seller="s9", category="home", price=9, quantity=50, id="lamp"
        )
        for number in range(1, 5):
            assert await buyer.add_to_cart("lamp") == number
            one = market.buyers[buyer.replica - 1]
            one.trouble = NotReady(replica=1, state="without a database")
            assert (await buyer.display_cart()).lines[0].quantity == number
            one.trouble = None
        assert buyer.failovers >= 4


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s, _: s.put_item_for_sale("Lamp", category="home", price=-1, quantity=1), "price is -1"),
        (lambda s, _: s.put_item_for_sale("Lamp", category="home", price=1, quantity=0), "quantity is 0"),
        (lambda s, _: s.put_item_for_sale("Lamp", category="home", price=1, quantity=1 << 63), "quantity is 922"),
        (
            lambda s, _: s.put_item_for_sale("Lamp", category="home", price=1, quantity=1, keywords=["ninechars"]),
            "keyword",
        ),
        (lambda s, _: s.put_item_for_sale("Zoe\u0308", category="home", price=1, quantity=1), "normal form C"),
        (lambda s, _: s.put_item_for_sale("La\tmp", category="home", price=1, quantity=1), "control"),
        (lambda s, _: s.create_account("Zoe\u0308", PASSWORD), "normal form C"),
        (lambda s, _: s.create_account(" ann", PASSWORD), "space"),
        (lambda s, _: s.create_account("ann", "short"), "5 characters long"),
        (lambda s, _: s.create_account("ann", "\ud800" * 9), "Unicode text"),
        (lambda _, b: b.add_to_cart("lamp", 0), "quantity is 0"),
        (lambda _, b: b.add_to_cart("no/such"), "item is 'no/such'"),
        (lambda _, b: b.search_items("home", ["a", "a"]), "each keyword once"),
        (lambda _, b: b.get_purchase_history("x"), "cursor"),
        (lambda _, b: b.get_purchase_history(limit=101), "limit is 101"),
        (lambda _, b: b.give_feedback("o", "i", up="yes"), "thumbs"),
    ],
)
async def test_what_no_marketplace_takes_is_refused_before_it_is_sent(market: Market, call: Any, error: str) -> None:
    """docs/faults.md 60."""
    async with market.seller() as seller, market.buyer() as buyer:
        seller.session = buyer.session = b"s" * 32
        with pytest.raises(ringcast.IllegalValue, match=error) as found:
            await call(seller, buyer)
        assert PASSWORD not in str(found.value)
    calls = [one.gateway.counters["CreateAccount"] for one in market.sellers]
    assert calls == [0, 0]


async def test_a_client_of_the_other_party_is_told_so(market: Market) -> None:
    async with Buyer([market.sellers[0].endpoint], timeout=5) as lost:
        lost.session = b"s" * 32
        with pytest.raises(ringcast.Refused, match="the other interface"):
            await lost.display_cart()
        with pytest.raises(ringcast.Refused, match="the other interface"):
            await lost.clear_cart()
    async with market.seller() as seller, market.buyer() as buyer:
        await entered(seller)
        buyer.session = seller.session
        with pytest.raises(market_errors.SessionEnded):
            await buyer.display_cart()


async def test_many_calls_at_once_of_one_client_are_all_answered(market: Market) -> None:
    async with market.buyer() as buyer:
        await entered(buyer)
        await market.buyers[0].interface.products.put(
            "Lamp", seller="s9", category="home", price=9, quantity=50, id="lamp"
        )
        found = await asyncio.gather(*(buyer.add_to_cart("lamp") for _ in range(2 * CLIENT_MAX)))
        assert sorted(found) == list(range(1, 2 * CLIENT_MAX + 1))


async def test_what_an_interface_cannot_do_is_no_end_of_it(market: Market, monkeypatch: Any) -> None:
    """A mistake of ours is said in the log; the client goes elsewhere."""
    async with market.buyer() as buyer:
        await entered(buyer)
        one = market.buyers[buyer.replica - 1]

        async def broken(_: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(one.interface.customers, "ask", broken)
        assert (await buyer.display_cart()).lines == ()
        assert buyer.failovers == 1
