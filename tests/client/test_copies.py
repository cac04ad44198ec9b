"""What a subscription hands out can be pickled, deep-copied and taken apart; the handle stays behind."""

import asyncio
import copy
import dataclasses
import pickle  # noqa: TID251 - as users do, to send a message to another process of theirs

import pytest

import ringcast
import ringcast.sync
from tests.client.doubles import Replica


async def test_messages_and_batches_of_a_cursor(replica: Replica) -> None:
    async with ringcast.connect(replica.endpoint) as bus, bus.subscribe("a", cursor="c") as subscription:
        await bus.publish("a", b"0", {"k": 1})
        await bus.publish("a", b"1")
        message, batch = await anext(subscription), await subscription.next_batch()
        for same in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
            assert (same, same.headers, same.time) == (message, {"k": 1}, message.time)
            assert "cursor" not in repr(same)
            with pytest.raises(ringcast.Refused, match="there is none here"):
                await same.done()
        assert dataclasses.asdict(message) == {
            "topic": "a", "payload": b"0", "offset": 0, "time_us": message.time_us, "client": bus.client,
            "packed_headers": message.packed_headers,
        }  # fmt: skip
        assert dataclasses.replace(message, payload=b"x").payload == b"x"
        for same_batch in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):
            assert (same_batch, same_batch.payloads()) == (batch, [b"1"])
        assert dataclasses.asdict(batch)["first_offset"] == 1
        shallow = copy.copy(message)
        await shallow.done()
        cursor = await bus.cursor("c")
        assert cursor is not None
        assert cursor.offset == 1


async def test_messages_of_the_synchronous_client(replica: Replica) -> None:
    def work() -> None:
        with ringcast.sync.connect(replica.endpoint, timeout=10) as bus:
            bus.publish("a", b"0", {"k": 1})
            with bus.subscribe("a", cursor="c") as subscription:
                message = next(iter(subscription))
            for same in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
                assert (same, same.headers) == (message, {"k": 1})
                with pytest.raises(ringcast.Refused, match="there is none here"):
                    same.done()
            assert set(dataclasses.asdict(message)) == {field.name for field in dataclasses.fields(ringcast.Record)}
            copy.copy(message).done()
            assert bus.cursor("c") == ringcast.CursorInfo("c", "a", 1)

    async with asyncio.timeout(20):
        await asyncio.to_thread(work)
