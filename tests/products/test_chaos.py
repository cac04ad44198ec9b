"""Many clients while leaders change, answers get lost and entries are dropped: each change is applied once."""

import asyncio
from random import Random

import pytest

import ringcast
from ringcast.product_store.client import ProductStore
from tests.products.group import Group

CHANGES = 150


async def faults(group: Group, random: Random) -> None:
    """What can happen to a group that shares its state, until cancelled."""
    while True:
        await asyncio.sleep(random.uniform(0, 0.02))
        leader = group.nodes[(group.leader or 1) - 1]
        match random.randrange(5):
            case 0:
                group.leader = random.choice([1, 2, 3])
            case 1:  # an election that takes a while
                group.leader = None
                await asyncio.sleep(random.uniform(0, 0.05))
                group.leader = random.choice([1, 2, 3])
            case 2:  # applied, and nobody is told
                leader.forgets = random.randrange(4)
            case 3:  # never replicated, or late
                leader.hold = True
                await asyncio.sleep(random.uniform(0, 0.02))
                group.leader = random.choice([1, 2, 3])
                if random.random() < 0.5:
                    leader.step_down()
                else:
                    leader.go_on()
            case _:
                group.hints = random.random() < 0.7


async def one_by_one(store: ProductStore, item: str) -> None:
    """A counter that only we move: each answer is one more than the one before, whatever happened in between."""
    await store.put(item, seller="ann", category="home", price=0, quantity=1, id=item)
    for number in range(CHANGES):
        assert await store.change_quantity(item, "ann", 1) == number + 2
        if number % 10 == 0:
            found = await store.stock(item)
            assert found is not None
            assert found.left == number + 2


async def at_once(store: ProductStore, item: str) -> None:
    """A counter that many of our tasks move."""
    await store.put(item, seller="ann", category="home", price=0, quantity=1, id=item)

    async def change() -> int:
        return await store.change_quantity(item, "ann", 1)

    assert sorted(await asyncio.gather(*(change() for _ in range(CHANGES)))) == list(range(2, CHANGES + 2))


async def orders(store: ProductStore, name: str) -> None:
    """Ten units, twelve orders of one: each is sold once, and the last two are told that there are none."""
    await store.put(name, seller="ann", category="home", price=5, quantity=10, id=name)
    for number in range(10):
        held = await store.reserve(f"{name}.{number}", [(name, 1)])
        assert held.state == "held"
        assert (await store.confirm(held.order)).state == "confirmed"
    for number in (10, 11):
        with pytest.raises(ringcast.OutOfStock):
            await store.reserve(f"{name}.{number}", [(name, 1)])


@pytest.mark.parametrize("seed", range(6))
async def test_each_change_is_applied_once(three: Group, seed: int) -> None:
    random = Random(seed)
    trouble = asyncio.create_task(faults(three, random))
    async with (
        asyncio.timeout(40),
        ringcast.products(three.endpoints, timeout=30) as first,
        ringcast.products(three.endpoints, timeout=30) as second,
    ):
        await asyncio.gather(
            *(one_by_one(store, f"mine-{number}") for number, store in enumerate((first, second))),
            *(at_once(store, f"ours-{number}") for number, store in enumerate((first, second))),
            *(orders(store, f"sold-{number}") for number, store in enumerate((first, second))),
        )
    trouble.cancel()
    with three.store.view() as view:
        for number in range(2):
            assert view.stock(f"sold-{number}") == ringcast.Stock(0, 0, 10)
            assert view.stock(f"mine-{number}") == view.stock(f"ours-{number}") == ringcast.Stock(CHANGES + 1, 0, 0)
