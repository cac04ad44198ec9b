"""Customers without a bus: commands in, values or errors out, on a store that is a dict."""

from collections.abc import Iterator
from typing import Any

from replicas.customers.commands import COMMANDS, QUESTIONS, Command, encode_command
from replicas.customers.machine import Customers
from ringcast.bus.batch import digest
from ringcast.product_store.operations import decode_outcome

START_US = 1_700_000_000_000_000
CLIENT = b"c" * 16


class DictStore:
    """The part of a LogStore that customers read, and the writer's half of it."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def row(self, table: str, key: bytes) -> bytes | None:
        return self.kept.get(key)

    def rows(
        self, table: str, start: bytes = b"", end: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.kept, reverse=reverse):
            if key >= start and (end is None or key < end):
                yield key, self.kept[key]

    def write(self, customers: Customers) -> None:
        """Take the rows and make them durable."""
        for _, key, value in customers.take_rows():
            if value is None:
                self.kept.pop(key, None)
            else:
                self.kept[key] = value
        customers.rows.durable(customers.rows.takes)


class Clerk:
    """Sends commands to some replicas at once, and holds them to be alike."""

    def __init__(self, *replicas: Customers, time_us: int = START_US) -> None:
        self.replicas = list(replicas) or [Customers()]
        self.time_us = time_us
        self.offset = 0
        self.opened: dict[bytes, int] = {}
        self.sent: list[bytes] = []

    def do(self, body: Any, *, sequence: int = 1, client: bytes = b"", seal: bytes = b"") -> Any:
        """The value; raises the refusal. `client`: a new one for each command unless it is given."""
        client = client or self.offset.to_bytes(16, "big")
        packed = COMMANDS.encode(body)
        opened = self.opened.setdefault(client, self.offset)
        return self.publish(encode_command(Command(client, sequence, 0, opened, seal or digest(packed), packed)))

    def publish(self, message: bytes) -> Any:
        self.sent.append(message)
        answers = {one.apply(self.offset, self.time_us, [message]) for one in self.replicas}
        self.offset += 1
        self.time_us += 1
        assert len(answers) == 1, "replicas answer alike"
        return decode_outcome(answers.pop()[0])

    def ask(self, question: Any) -> Any:
        answers = {one.view.answer(QUESTIONS.encode(question)) for one in self.replicas}
        assert len(answers) == 1
        return decode_outcome(answers.pop())
