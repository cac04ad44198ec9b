"""The product store in real processes: what is written through one of them is read through each."""

import pytest

import ringcast
from tests.processes.conftest import Start

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


async def test_what_is_put_through_any_replica_is_read_through_each(start_products: Start) -> None:
    cluster = start_products(3)
    clients = [replica.client for replica in cluster.replicas.values()]
    async with ringcast.products(clients[0], timeout=10) as store:
        item = await store.put("Lamp", seller="ann", category="home", keywords=["light"], price=100, quantity=3)
        await store.change_price(item, "ann", 90)
    for client in clients:
        async with ringcast.products(client, timeout=10) as store:
            found = await store.get(item)
            assert found is not None
            assert (found.price, found.quantity) == (90, 3)
