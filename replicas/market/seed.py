"""`ringcast market seed`: accounts, items, purchases and feedback that look like a marketplace's."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar

from replicas.products.samples import sample_products
from ringcast.endpoints import Cluster
from ringcast.errors import OutOfStock
from ringcast.market import Buyer, NameTaken, Seller

PASSWORD: Final = "correct horse"  # noqa: S105 - made-up accounts, for trying out
_AT_ONCE: Final = 8

C = TypeVar("C", Seller, Buyer)


@dataclass(slots=True)
class Seeded:
    """What was made. `units`: put on sale, by item."""

    sellers: list[str] = field(default_factory=list)
    buyers: list[str] = field(default_factory=list)
    units: dict[str, int] = field(default_factory=dict)
    purchases: int = 0
    feedback: int = 0


async def seed(
    cluster: Cluster,
    *,
    sellers: int,
    items: int,
    buyers: int,
    password: str = PASSWORD,
    number: int = 1,
    told: Callable[[str], None] = lambda _: None,
) -> Seeded:
    """Make `sellers` with `items` on sale in all, and `buyers` who buy a little and say what they think of it.

    Names are seller-001, buyer-001 ...; accounts that are there already are used. `number`: the same one gives the same
    items. Raises WrongPassword if an account is there with another password.
    """
    found, random = Seeded(), Random(number)
    products = list(sample_products(items, number, sellers))
    told(f"{sellers} sellers put {items} items on sale")
    gate = asyncio.Semaphore(_AT_ONCE)

    async def sell(place: int) -> None:
        async with gate, Seller(cluster) as seller:
            found.sellers.append(await _enter(seller, f"seller-{place:03}", password))
            for one in products[place::sellers]:
                item = await seller.put_item_for_sale(
                    one.name,
                    category=one.category,
                    price=one.price,
                    quantity=one.quantity,
                    keywords=one.keywords,
                    condition=one.condition,
                )
                found.units[item] = one.quantity

    async def buy(place: int, wishes: Random) -> None:
        async with gate, Buyer(cluster) as buyer:
            found.buyers.append(await _enter(buyer, f"buyer-{place:03}", password))
            matches = (await buyer.search_items(wishes.choice(products).category, limit=20)).entries
            if not matches:
                return
            for match in wishes.sample(matches, min(len(matches), wishes.randint(1, 3))):
                await buyer.add_to_cart(match.item.id)
            try:
                purchase = await buyer.make_purchase()
            except OutOfStock:
                await buyer.clear_cart()  # somebody was faster
                return
            found.purchases += 1
            for line in purchase.lines:
                if wishes.random() < 0.7:
                    await buyer.give_feedback(purchase.order, line.item, up=wishes.random() < 0.8)
                    found.feedback += 1

    await asyncio.gather(*map(sell, range(sellers)))
    told(f"{buyers} buyers search and buy")
    await asyncio.gather(*(buy(place, Random(random.getrandbits(64))) for place in range(buyers)))
    return found


async def _enter(client: C, name: str, password: str) -> str:
    """Log in, with a new account if there is none; the account's id."""
    with suppress(NameTaken):  # of an earlier seed
        await client.create_account(name, password)
    return await client.login(name, password)
