"""The marketplace in real processes: killed in the middle of purchases, and stopped in order (docs/faults.md 57-59)."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.local.market import LocalMarket
from replicas.market.audit import audit
from ringcast.market import Buyer, Seller
from tests.client.waiting import until
from tests.processes.market_load import PASSWORD, MarketLoad

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[LocalMarket]:
    """3 bus, 3 products, 2 sellers, 2 buyers."""
    made = LocalMarket.create(tmp_path / "market")
    try:
        made.start()
        yield made
    finally:
        made.kill_all()


@pytest.mark.slow
async def test_whatever_is_killed_carts_stock_and_accounts_are_right(market: LocalMarket) -> None:
    load = MarketLoad(market.path)
    await load.start()
    for kill in ("interfaces", "leader", "holder", "other"):
        if kill == "interfaces":
            market.buyers.kill(1)
            market.sellers.kill(1)
        elif kill == "leader":
            market.products.kill(await market.leader())
        elif kill == "holder":
            market.bus.kill(await market.token_holder())
        else:
            market.buyers.kill(2)
            leader = await market.leader()
            market.products.kill(next(one for one in market.products.running() if one != leader))
        await load.more(8)
        await asyncio.to_thread(market.start)
        await load.more(4)
    await load.stop()
    found = await audit(market.path, put_on_sale=load.units)
    assert found.clean, found.violations
    assert found.recorded == len(load.purchases) == len({one.order for one in load.purchases})


async def test_a_purchase_that_its_interface_left_is_finished_by_another(market: LocalMarket) -> None:
    """docs/faults.md 57: interfaces are killed with purchases in every stage; what was held is sold or given back."""
    async with Seller(market.path) as seller:
        await seller.create_account("sue", PASSWORD)
        await seller.login("sue", PASSWORD)
        item = await seller.put_item_for_sale("Lamp", category="home", price=1, quantity=1_000)
    recorded = 0
    only = market.buyers.replicas[1].client
    for number in range(4):
        # These clients know one interface alone, and go with it: nobody repeats their calls.
        buyers = [Buyer([only], timeout=20) for _ in range(4)]
        for place, buyer in enumerate(buyers):
            await buyer.__aenter__()
            await buyer.create_account(f"buyer-{number}-{place}", PASSWORD)
            await buyer.login(f"buyer-{number}-{place}", PASSWORD)
            await buyer.add_to_cart(item)
        calls = [asyncio.create_task(buyer.make_purchase()) for buyer in buyers]
        await asyncio.sleep(0.0025 * number)
        market.buyers.kill(1)
        for buyer in buyers:
            await buyer.close()
        done = await asyncio.gather(*calls, return_exceptions=True)
        recorded += sum(not isinstance(one, BaseException) for one in done)
        await asyncio.to_thread(market.start)
    found = await audit(market.path, put_on_sale={item: 1_000})
    assert found.clean, found.violations
    assert found.reserved == 0
    assert found.recorded == found.sold >= recorded


async def test_interfaces_that_are_stopped_in_order_fail_no_call(market: LocalMarket) -> None:
    """docs/faults.md 54."""
    load = MarketLoad(market.path, loners=2, sharers=1)
    await load.start()
    for member in (1, 2):
        await asyncio.to_thread(market.buyers.stop, [member])
        await asyncio.to_thread(market.sellers.stop, [member])
        await load.more(3)
        await asyncio.to_thread(market.start)
    await load.stop()
    found = await audit(market.path, put_on_sale=load.units)
    assert found.clean, found.violations


async def test_calls_that_meet_silent_databases_are_answered_when_they_are_back(market: LocalMarket) -> None:
    """Interfaces in trouble send clients on, under the cluster's id as ever: else nobody would hear them."""
    buyer = Buyer(market.path, timeout=40)
    async with buyer:
        await buyer.create_account("ann", PASSWORD)
        await buyer.login("ann", PASSWORD)
        for member in market.products.running():
            market.products.signal(member, signal.SIGSTOP)
        try:
            while any([await asyncio.to_thread(market.buyers.is_ready, member) for member in (1, 2)]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            call = asyncio.create_task(buyer.display_cart())
            await until(lambda: buyer.failovers > 0)
            assert not call.done()
        finally:
            for member in market.products.running():
                market.products.signal(member, signal.SIGCONT)
        assert (await call).lines == ()
