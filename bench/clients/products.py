"""The product store's own client, used as an application uses it."""

import asyncio
import itertools
import os
from collections.abc import Awaitable
from typing import Self

import ringcast
from bench.clients import READ_KEYS, Where
from bench.loads import Load, in_tasks, keep_open
from ringcast.product_store.operations import Put
from ringcast.product_store.rows import Row, import_rows

CATEGORIES, WORDS, SELLERS = 20, 200, 100
_NAME_CHARACTERS = 40


def item(number: int, name: str, run: str = "i") -> Put:
    """An item with three keywords, about 100 bytes and seven rows of tables."""
    words = {f"w{number * step % WORDS}" for step in (1, 7, 31)}
    return Put(
        item=f"{run}-{number}",
        seller=f"s{number % SELLERS}",
        name=name,
        category=f"c{number % CATEGORIES}",
        keywords=tuple(sorted(words)),
        condition="new",
        price=number,
        quantity=5,
    )


class ProductsClient:
    """One connection; the client itself sees to failovers. A message is an item that is put on sale."""

    transient: tuple[type[BaseException], ...] = (ringcast.Unavailable,)

    def __init__(self, where: Where) -> None:
        self.store = ringcast.products(where.endpoints, timeout=60.0)
        self._numbers = itertools.count()
        self._run = os.urandom(4).hex()

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.store.close()

    def attached(self) -> str:
        """The id of the replica."""
        return str(self.store.replica)

    def _next(self, payload: bytes) -> Put:
        return item(next(self._numbers), payload[: _NAME_CHARACTERS // 2].hex(), self._run)

    async def publish(self, payload: bytes) -> object:
        """`put_item`."""
        await self.store.put_item(self._next(payload))
        return None

    async def pipelined(self, load: Load) -> int:
        """`put_item`, every one awaited."""

        async def send() -> Awaitable[object]:
            return asyncio.ensure_future(self.publish(load.payload))

        return await keep_open(load, send)

    async def batched(self, load: Load) -> int:
        """`import_rows`, as `ringcast products import` does after it has read the file."""
        puts = (Row(number, self._next(load.payload)) for number in range(load.count))
        rows = itertools.takewhile(lambda row: row.line % 64 or not load.over(), puts)
        return (await import_rows(self.store, rows, in_flight=load.window)).put

    async def tasks(self, load: Load) -> int:
        """Many concurrent puts."""
        return await in_tasks(load, self.publish)

    async def prepare(self) -> None:
        """The items that are read."""
        await import_rows(self.store, (Row(number, item(number, "read", "read")) for number in range(READ_KEYS)))

    async def read(self, *, local: bool) -> object:
        """`get`."""
        number = next(self._numbers) % READ_KEYS
        return await self.store.get(f"read-{number}", consistency="local" if local else "linearizable")


CLIENT = ProductsClient
