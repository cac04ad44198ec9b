"""What a subscription hands out: messages, and the batches they were published in."""

# ruff: noqa: ASYNC109 - as in ringcast/bus/client.py

from collections.abc import Iterator
from dataclasses import dataclass, field

from ringcast.bus.batch import unpack
from ringcast.bus.commits import CursorCommits
from ringcast.errors import Refused
from ringcast.types import Record
from ringcast.wire import BatchInfo


@dataclass(slots=True)
class Message(Record):
    """A record as a subscription hands it out; equal to another one if the record is."""

    cursor: CursorCommits | None = field(default=None, repr=False, compare=False)

    async def done(self, timeout: float | None = None) -> None:
        """Everything up to and including this message is processed: move the cursor behind it, durably.

        Returns when the new position is a record in the order. Calls that overlap share one record. `timeout` in
        seconds, None = the bus's. Raises Refused for a subscription without cursor, Timeout, NotInQuorum.
        """
        await _required(self.cursor).commit(self.offset + 1, timeout)


@dataclass(slots=True)
class Batch:
    """Messages that were published together, offsets `first_offset .. first_offset + count - 1`, not yet unpacked.

    `skip`: so many messages at the beginning of `packed` are not part of it (they were below the position).
    """

    topic: str
    first_offset: int
    count: int
    time_us: int
    client: bytes
    slot: int
    packed: bytes = field(repr=False)
    skip: int = field(default=0, repr=False)
    cursor: CursorCommits | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Message]:
        """The messages. Raises BadFrame if the batch is not what its header says."""
        pairs = unpack(self.packed, self.skip + self.count)[self.skip :]
        for offset, (payload, headers) in enumerate(pairs, self.first_offset):
            yield Message(self.topic, payload, offset, self.time_us, self.client, headers, self.cursor)

    def payloads(self) -> list[bytes]:
        """The payloads alone, cheaper than messages. Raises BadFrame."""
        return [payload for payload, _ in unpack(self.packed, self.skip + self.count)[self.skip :]]

    async def done(self, timeout: float | None = None) -> None:
        """As `Message.done()`, for the whole batch."""
        await _required(self.cursor).commit(self.first_offset + self.count, timeout)


def batch_of(info: BatchInfo, packed: bytes, position: int, cursor: CursorCommits | None = None) -> Batch:
    """The part of an applied batch at or above `position`."""
    skip = max(0, position - info.first_offset)
    return Batch(
        topic=info.topic,
        first_offset=info.first_offset + skip,
        count=info.messages - skip,
        time_us=info.time_us,
        client=info.client,
        slot=info.slot,
        packed=packed,
        skip=skip,
        cursor=cursor,
    )


def _required(cursor: CursorCommits | None) -> CursorCommits:
    if cursor is None:
        raise Refused(reason="done() moves a cursor and there is none here: subscribe with cursor='name'")
    return cursor
