"""Fixtures: an order, one or three replicas that serve it, and how to wait for a condition."""

from collections.abc import AsyncIterator

import pytest

from tests.client.doubles import Order, Replica


@pytest.fixture
async def order() -> Order:
    return Order()


@pytest.fixture
async def replica(order: Order) -> AsyncIterator[Replica]:
    with Replica(order) as one:
        yield one


@pytest.fixture
async def replicas(order: Order) -> AsyncIterator[list[Replica]]:
    trio = [Replica(order, number) for number in (1, 2, 3)]
    yield trio
    for one in trio:
        one.close()
