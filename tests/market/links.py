"""Interfaces without processes: real state machines and a real product gateway behind them, and deaths on demand."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, NamedTuple

from replicas.customers.commands import COMMANDS, QUESTIONS, Command, encode_command
from replicas.customers.machine import Customers
from replicas.market.functions import MarketFunctions
from replicas.market.links import CustomersLink, ProductsLink
from replicas.market.passwords import Hasher
from ringcast.bus.batch import digest
from ringcast.errors import RingcastError
from ringcast.market.functions import CHANGES, Change
from ringcast.market.types import Party
from ringcast.market.wire import Call
from ringcast.product_store.operations import decode_outcome
from tests.products.group import Group
from tests.products.store import START_US


class Died(Exception):
    """The interface's process ends here, whatever it was about to do."""


class Faults:
    """Steps by name ("reserve", "Record" ...) at which an interface dies: before the step, or after it."""

    def __init__(self, *, before: str = "", after: str = "") -> None:
        self.before = before
        self.after = after
        self.steps: Counter[str] = Counter()

    async def __call__(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        self.steps[name] += 1
        if name == self.before:
            work.close()
            raise Died(name)
        found = await work
        if name == self.after:
            raise Died(name)
        return found


class Ring:
    """What all interfaces share of the bus: one machine, its time and its offsets."""

    def __init__(self) -> None:
        self.machine = Customers()
        self.time_us = START_US
        self.offset = 0


class DirectCustomers(CustomersLink):
    """Commands are applied at once."""

    def __init__(self, ring: Ring, faults: Faults) -> None:
        self.offset = 0
        self._ring = ring
        self._faults = faults

    async def command(self, body: NamedTuple, call: Call | None = None) -> Any:
        return await self._faults(type(body).__name__, self._apply(body, call))

    async def _apply(self, body: NamedTuple, call: Call | None) -> Any:
        client, sequence = (call.client, call.sequence) if call else (bytes(16), 0)
        seal = digest(call.function) if call else bytes(8)
        opened = call.opened[0] if call else 0
        message = encode_command(Command(client, sequence, 0, opened, seal, COMMANDS.encode(body)))
        ring = self._ring
        (answer,) = ring.machine.apply(ring.offset, ring.time_us, [message])
        ring.offset += 1
        return decode_outcome(answer)

    async def ask(self, question: NamedTuple) -> Any:
        await asyncio.sleep(0)
        return decode_outcome(self._ring.machine.view.answer(QUESTIONS.encode(question)))


class FaultyProducts(ProductsLink):
    """A client of a real product store that dies where `faults` say."""

    faults: Faults

    async def reserve(self, *arguments: Any, **more: Any) -> Any:
        return await self.faults("reserve", super().reserve(*arguments, **more))

    async def confirm(self, *arguments: Any, **more: Any) -> Any:
        return await self.faults("confirm", super().confirm(*arguments, **more))

    async def release(self, *arguments: Any, **more: Any) -> Any:
        return await self.faults("release", super().release(*arguments, **more))


class Interface:
    """One interface of a party, on a ring and a group; `async with`."""

    def __init__(self, party: Party, ring: Ring, group: Group, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.products = FaultyProducts(group.endpoints, timeout=10)
        self.products.faults = self.faults
        self.customers = DirectCustomers(ring, self.faults)
        self.hasher = Hasher()
        self.functions = MarketFunctions(
            party, self.customers, self.products, self.hasher, clock_us=lambda: ring.time_us
        )

    async def __aenter__(self) -> "Interface":
        await self.products.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.products.close()
        self.hasher.close()

    async def call(self, function: Change, client: bytes, sequence: int) -> Any:
        """As a client's CALL; also what it leaves for later is done, unless the interface died in it."""
        call = Call(client, sequence, 0, (0, 0), CHANGES.encode(function))
        try:
            found = await self.functions.change(function, call)
        except RingcastError:
            await self.functions.purchases.drained()
            raise
        await self.functions.purchases.drained()
        return found

    async def sweep(self) -> None:
        """One round of the sweeper."""
        for one in await self.products.due(1_000):
            await self.functions.purchases.finish(one.order)
