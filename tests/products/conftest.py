"""Fixtures of the product store's tests: a store, groups of replicas before one, and a client of theirs."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import ringcast
from ringcast.blocking import Loop
from ringcast.product_store.client import ProductStore
from tests.products.group import Group, group
from tests.products.store import Store, opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "store") as found:
        yield found


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    with group(tmp_path / "one") as made:
        yield made


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Group]:
    with group(tmp_path / "two", 2) as made:
        yield made


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Group]:
    with group(tmp_path / "three", 3) as made:
        yield made


@pytest.fixture
async def client(one: Group) -> AsyncIterator[ProductStore]:
    """Of `one`."""
    async with ringcast.products(one.endpoints) as made:
        yield made


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Group]:
    """A group whose loop runs in a thread of its own, as another process would."""
    loop = Loop()

    async def make() -> Group:
        return Group(tmp_path / "served", 1)

    async def close(made: Group) -> None:
        made.close()

    made = loop.run(make())
    try:
        yield made
    finally:
        loop.run(close(made))
        loop.close()
