"""Names become numbers before libzmq gets them, and a name server that does not answer holds nobody up."""

import asyncio
from collections.abc import Iterator

import pytest

import ringcast
from ringcast.names import all_numeric, is_numeric, numeric
from tests.client.doubles import Order, Replica
from tests.client.names import NameServer, name_server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with name_server(monkeypatch) as server:
        yield server


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///tmp/x", "inproc://x", ""])
async def test_what_holds_no_name_is_not_looked_up(names: NameServer, endpoint: str) -> None:
    assert is_numeric(endpoint)
    assert await numeric(endpoint) == endpoint
    assert names.asked == []


async def test_a_name_is_looked_up_once_for_all_who_wait(names: NameServer) -> None:
    names.numbers["bus-1"] = "127.0.0.3"
    found = tuple(await asyncio.gather(numeric("tcp://bus-1:7101"), numeric("tcp://bus-1:7102")))
    assert found == ("tcp://127.0.0.3:7101", "tcp://127.0.0.3:7102")
    assert names.asked == ["bus-1"]
    names.numbers["bus-1"] = "127.0.0.4"
    assert await numeric("tcp://bus-1:7101") == "tcp://127.0.0.4:7101"


async def test_a_name_of_several(names: NameServer) -> None:
    names.numbers["all"] = "127.0.0.3 127.0.0.4"
    assert await all_numeric("tcp://all:1") == ("tcp://127.0.0.3:1", "tcp://127.0.0.4:1")
    assert await numeric("tcp://all:1") == "tcp://127.0.0.3:1"


async def test_an_unknown_name(names: NameServer) -> None:
    assert not is_numeric("tcp://nobody:1")
    with pytest.raises(OSError, match="Name or service not known"):
        await numeric("tcp://nobody:1")


async def test_a_word_that_is_no_name() -> None:
    with pytest.raises(OSError, match="label"):
        await numeric(f"tcp://{'x' * 64}.org:1")


async def test_who_stops_waiting_stops_nobody_else(names: NameServer) -> None:
    names.silent.add("slow")
    names.numbers["slow"] = "127.0.0.3"
    first, second = (asyncio.create_task(numeric("tcp://slow:1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert not second.done()
    names.end.set()
    assert await second == "tcp://127.0.0.3:1"
    assert names.asked == ["slow"]


async def test_a_replica_and_its_feed_by_name(names: NameServer, replica: Replica) -> None:
    names.numbers["bus-1"] = "127.0.0.1"
    replica.feed_host = "bus-1"
    endpoint = replica.endpoint.replace("127.0.0.1", "bus-1")
    async with ringcast.connect([endpoint], timeout=5) as bus, bus.subscribe("t", start="latest") as messages:
        receipt = await bus.publish("t", b"x")
        assert (await anext(messages)).offset == receipt.offset
    assert "bus-1" in names.asked


async def test_a_client_goes_on_to_a_replica_whose_name_is_answered(names: NameServer, order: Order) -> None:
    names.silent.add("gone")
    with Replica(order) as replica:
        async with ringcast.connect(["tcp://gone:1", "tcp://nobody:1", replica.endpoint], timeout=20) as bus:
            assert (await bus.publish("t", b"x")).offset == 0
