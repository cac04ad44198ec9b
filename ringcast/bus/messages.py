"""What a subscription hands out: messages, and the batches they were published in."""

# ruff: noqa: ASYNC109 - as in ringcast/bus/client.py

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ringcast.bus.batch import Pair, unpack
from ringcast.bus.commits import CursorCommits
from ringcast.errors import Refused
from ringcast.types import Record
from ringcast.wire import BatchInfo

NO_CURSOR = "done() moves a cursor and there is none here: subscribe with cursor='name'"


class _Handed(Record):
    """`cursor` is a handle and no value: it is not compared, copied deeply or sent to another process."""

    __slots__ = ("cursor",)
    cursor: CursorCommits | None


@dataclass(init=False)
class Message(_Handed):
    """A record as a subscription hands it out; equal to another one if the record is.

    It can be pickled, deep-copied and given to `dataclasses.asdict`; such a copy has no cursor to move.
    """

    __slots__ = ()

    def __init__(
        self,
        topic: str,
        payload: bytes,
        offset: int,
        time_us: int,
        client: bytes,
        packed_headers: bytes = b"",
        cursor: CursorCommits | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.offset = offset
        self.time_us = time_us
        self.client = client
        self.packed_headers = packed_headers
        self.cursor = cursor

    def __reduce__(self) -> tuple[object, ...]:
        return Message, (self.topic, self.payload, self.offset, self.time_us, self.client, self.packed_headers)

    def __copy__(self) -> "Message":
        return Message(
            self.topic, self.payload, self.offset, self.time_us, self.client, self.packed_headers, self.cursor
        )

    async def done(self, timeout: float | None = None) -> None:
        """Everything up to and including this message is processed: move the cursor behind it, durably.

        Returns when the new position is a record in the order. Calls that overlap share one record. `timeout` in
        seconds, None = the bus's. Raises Refused for a subscription without cursor, Timeout, NotInQuorum.
        """
        await _required(self.cursor).commit(self.offset + 1, timeout)


class _Shared:
    """What a batch has besides its values. `pairs`: payloads and headers, unpacked once for all that have the batch."""

    __slots__ = ("cursor", "pairs")
    cursor: CursorCommits | None
    pairs: Sequence[Pair] | None


@dataclass(slots=True, init=False)
class Batch(_Shared):
    """Messages that were published together, offsets `first_offset .. first_offset + count - 1`.

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

    def __init__(
        self,
        topic: str,
        first_offset: int,
        count: int,
        time_us: int,
        client: bytes,
        slot: int,
        packed: bytes,
        skip: int = 0,
        cursor: CursorCommits | None = None,
        pairs: Sequence[Pair] | None = None,
    ) -> None:
        self.topic = topic
        self.first_offset = first_offset
        self.count = count
        self.time_us = time_us
        self.client = client
        self.slot = slot
        self.packed = packed
        self.skip = skip
        self.cursor = cursor  # type: ignore[misc]  # mypy does not see the base's slots beside slots=True
        self.pairs = pairs  # type: ignore[misc]

    def __reduce__(self) -> tuple[object, ...]:
        values = (self.topic, self.first_offset, self.count, self.time_us, self.client, self.slot, self.packed)
        return Batch, (*values, self.skip)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Message]:
        """The messages. Raises BadFrame if the batch is not what its header says."""
        topic, time_us, client, cursor = self.topic, self.time_us, self.client, self.cursor
        for offset, (payload, headers) in enumerate(self._pairs(), self.first_offset):
            yield Message(topic, payload, offset, time_us, client, headers, cursor)

    def payloads(self) -> list[bytes]:
        """The payloads alone, cheaper than messages. Raises BadFrame."""
        return [payload for payload, _ in self._pairs()]

    def _pairs(self) -> Sequence[Pair]:
        pairs = self.pairs if self.pairs is not None else unpack(self.packed, self.skip + self.count)
        return pairs[self.skip :] if self.skip else pairs

    async def done(self, timeout: float | None = None) -> None:
        """As `Message.done()`, for the whole batch."""
        await _required(self.cursor).commit(self.first_offset + self.count, timeout)


def batch_of(
    info: BatchInfo,
    packed: bytes,
    position: int,
    cursor: CursorCommits | None = None,
    pairs: Sequence[Pair] | None = None,
) -> Batch:
    """The part of an applied batch at or above `position`."""
    topic, first, messages, _, time_us, client, slot = info
    skip = position - first if position > first else 0
    return Batch(topic, first + skip, messages - skip, time_us, client, slot, packed, skip, cursor, pairs)


def _required(cursor: CursorCommits | None) -> CursorCommits:
    if cursor is None:
        raise Refused(reason=NO_CURSOR)
    return cursor
