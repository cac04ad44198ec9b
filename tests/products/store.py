"""A product machine on an LMDB environment of its own, and short ways to drive it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ringcast.product_store.operations import Operation, decode_outcome, decode_outcomes, encode_operation
from ringcast.product_store.wire import Operate
from store.engine import open_engine
from store.products.entries import decode_result, encode_entry
from store.products.machine import ProductMachine
from store.products.sessions import SESSIONS_MAX
from store.products.tables import TABLES
from store.products.view import ProductView

CLIENT = bytes(range(16))
START_US = 1_700_000_000_000_000


class Store:
    """Entries in, outcomes out; each `apply` is one transaction."""

    def __init__(self, folder: Path, sessions_max: int = SESSIONS_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = open_engine(folder, map_size=1 << 30, max_dbs=len(TABLES), sync=False)
        databases = {name: self.environment.open_db(name.encode()) for name in TABLES}
        self.machine = ProductMachine(databases, folder, sessions_max=sessions_max)
        self.databases = databases
        self.now_us = START_US
        self.sequences: dict[bytes, int] = {}

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[bytes]:
        with self.environment.begin(write=True, buffers=True) as transaction:
            return self.machine.apply(transaction, entries)

    def entry(self, data: bytes) -> bytes:
        """Apply one entry behind the last one; its result."""
        return self.apply([(self.applied + 1, data)])[0]

    def request(self, request: Operate) -> list[bytes]:
        """The outcomes of one request's operations. Raises what it was refused with."""
        (outcomes,) = decode_result(self.entry(encode_entry(self.now_us, [request])), 1)
        return decode_outcomes(outcomes, len(request.operations))

    def raw(self, data: bytes, client: bytes = CLIENT) -> Any:
        """One operation, as the next request of a client whose session never ends; its value, or what it raises."""
        sequence = self.sequences[client] = self.sequences.get(client, 0) + 1
        request = Operate(client, sequence, sequence - 1, self.applied, (data,))
        return decode_outcome(self.request(request)[0])

    def do(self, operation: Operation) -> Any:
        return self.raw(encode_operation(operation))

    @contextmanager
    def view(self) -> Iterator[ProductView]:
        with self.environment.begin(buffers=True) as transaction:
            yield self.machine.view(transaction)

    @property
    def applied(self) -> int:
        with self.environment.begin(buffers=True) as transaction:
            return self.machine.applied(transaction)

    @property
    def digest(self) -> bytes:
        with self.environment.begin(buffers=True) as transaction:
            return self.machine.digest(transaction)

    def close(self) -> None:
        self.environment.close()


@contextmanager
def opened(folder: Path, sessions_max: int = SESSIONS_MAX) -> Iterator[Store]:
    store = Store(folder, sessions_max)
    try:
        yield store
    finally:
        store.close()


def new_client() -> bytes:
    return os.urandom(16)
