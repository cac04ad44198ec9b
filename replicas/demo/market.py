"""The demo's second part: a small marketplace sells while an interface and the leader of the product store are killed.

What is claimed at the end is measured from outside: purchases by the buyers' own list, the rest by the audit.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from replicas.local.market import LocalMarket
from replicas.market.audit import Audit, audit
from ringcast.errors import OutOfStock
from ringcast.market import Buyer, Seller
from ringcast.product_store.types import Item

SELLERS, BUYERS = 2, 4
#: Purchases before the kills, and after them.
BEFORE, AFTER = 8, 12
PASSWORD = "correct horse"  # noqa: S105 - the demo's accounts live for half a minute
UNITS = 500
WARES = ("Kettle", "Atlas", "Kite", "Hammer")
CATEGORY = "demo"
CALL_S = 25.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class MarketResult:
    """The outcome; fields as the JSON keys. `purchases`: acknowledged; `recorded`: in the buyers' histories.

    `longest_wait_ms`: of one purchase, whatever was killed meanwhile.
    """

    purchases: int
    recorded: int
    units_sold: int
    killed: tuple[str, ...]
    longest_wait_ms: float
    audit_clean: bool
    violations: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Every purchase once, and the audit clean."""
        return self.audit_clean and self.purchases == self.recorded


class MarketDemo:
    """One run; `await run()` once."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._market = LocalMarket.create(folder)
        self._items: list[Item] = []
        self._units: dict[str, int] = {}
        self._orders: list[str] = []
        self._longest_s = 0.0
        self._ending = False

    async def run(self) -> MarketResult:
        """Everything from the first process to the last. Raises LocalClusterError, RingcastError."""
        market = self._market
        self._say("starting a marketplace: 3 bus, 3 product, 2 seller and 2 buyer replicas")
        try:
            await asyncio.to_thread(market.start)
            await asyncio.gather(*map(self._sell, range(SELLERS)))
            self._say(f"{SELLERS} sellers put {len(self._items)} items on sale, {BUYERS} buyers begin to buy")
            buying = [asyncio.create_task(self._buy(number)) for number in range(BUYERS)]
            await self._bought(BEFORE, buying)
            killed = await self._kill()
            await self._bought(len(self._orders) + AFTER, buying)
            self._ending = True
            await asyncio.gather(*buying)
            await asyncio.to_thread(market.start)
            found = await audit(market.path, put_on_sale=self._units)
        finally:
            await asyncio.to_thread(market.stop)
        return self._result(found, killed)

    def _result(self, found: Audit, killed: tuple[str, ...]) -> MarketResult:
        clean = "the audit is clean" if found.clean else f"{len(found.violations)} violations"
        self._say(f"{len(self._orders)} purchases, {found.sold} units sold; histories and stock compared: {clean}")
        return MarketResult(
            purchases=len(self._orders),
            recorded=found.recorded,
            units_sold=found.sold,
            killed=killed,
            longest_wait_ms=round(1_000 * self._longest_s, 1),
            audit_clean=found.clean,
            violations=tuple(found.violations),
        )

    async def _sell(self, number: int) -> None:
        async with Seller(self._market.path, timeout=CALL_S) as seller:
            await seller.create_account(f"seller-{number}", PASSWORD)
            await seller.login(f"seller-{number}", PASSWORD)
            for place, name in enumerate(WARES):
                price = 499 + 1_000 * place
                item = await seller.put_item_for_sale(name, category=CATEGORY, price=price, quantity=UNITS)
                self._units[item] = UNITS
            self._items += (await seller.display_items()).entries

    async def _buy(self, number: int) -> None:
        random, loop = Random(number), asyncio.get_running_loop()
        async with Buyer(self._market.path, timeout=CALL_S) as buyer:
            await buyer.create_account(f"buyer-{number}", PASSWORD)
            await buyer.login(f"buyer-{number}", PASSWORD)
            while not self._ending:
                found = (await buyer.search_items(CATEGORY)).entries
                for match in random.sample(found, 2):
                    await buyer.add_to_cart(match.item.id, random.randint(1, 3))
                began = loop.time()
                try:
                    purchase = await buyer.make_purchase()
                except OutOfStock:
                    await buyer.clear_cart()
                    continue
                self._longest_s = max(self._longest_s, loop.time() - began)
                self._orders.append(purchase.order)
                await buyer.give_feedback(purchase.order, purchase.lines[0].item, up=random.random() < 0.8)

    async def _bought(self, wanted: int, buying: list["asyncio.Task[None]"]) -> None:
        """Wait for so many purchases. Raises what stopped a buyer."""
        while len(self._orders) < wanted:
            for task in buying:
                if task.done():
                    task.result()
            await asyncio.sleep(_POLL_S)

    async def _kill(self) -> tuple[str, ...]:
        market = self._market
        leader = await market.leader()
        await asyncio.gather(asyncio.to_thread(market.buyers.kill, 1), asyncio.to_thread(market.products.kill, leader))
        self._say(
            f"kill -9 of buyers interface 1 and of product replica {leader}, which led, after "
            f"{len(self._orders)} purchases"
        )
        return ("buyers 1", f"products {leader}")


async def run_demo_market(say: Callable[[str], None]) -> MarketResult:
    """Run it in a temporary folder, which stays if the result is not good. Raises LocalClusterError, RingcastError."""
    folder = Path(tempfile.mkdtemp(prefix="ringcast-demo-market-"))
    try:
        result = await MarketDemo(folder, say).run()
    except asyncio.CancelledError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if result.good:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        say(f"the replicas' logs and data stay in {folder}")
    return result
