"""The client on real gateways over loopback: every call, failover, exactly once, time limits, back-pressure."""

import asyncio
import math
from pathlib import Path

import pytest

import ringcast
from broker.connection import Connection
from replicas.products.front import ProductLimits
from ringcast import wire
from ringcast.product_store.client import ProductStore
from ringcast.product_store.wire import ITEM_BYTES, Operate
from store.products.entries import encode_entry
from store.products.sessions import IDLE_US, USE_US
from tests.client.waiting import until
from tests.products.group import UNREADY, Group, group


async def lamp(store: ProductStore, item: str = "lamp", quantity: int = 5) -> str:
    return await store.put(
        "Desk lamp",
        seller="ann",
        category="home",
        keywords=["desk", "light"],
        price=1_999,
        quantity=quantity,
        id=item,
        timeout=10,
    )


async def test_every_call(client: ProductStore) -> None:
    assert await lamp(client) == "lamp"
    other = await client.put("Chair", seller="ann", category="home", price=0, quantity=1, condition="used")
    assert len(other) == 32
    assert await client.get("lamp") == ringcast.Item(
        "lamp", "ann", "Desk lamp", "home", ("desk", "light"), "new", 1_999, 5
    )
    assert await client.get("nothing") is None
    await client.change_price("lamp", "ann", 100)
    assert await client.change_quantity("lamp", "ann", -1) == 4
    page = await client.by_seller("ann", limit=1)
    rest = await client.by_seller("ann", page.next)
    assert {item.id for item in (*page.entries, *rest.entries)} == {"lamp", other}
    found = await client.search("home", ["light", "soft"])
    assert [(match.item.id, match.matched) for match in found.entries] == [("lamp", 1)]
    assert {match.item.id for match in (await client.search("home")).entries} == {"lamp", other}
    held = await client.reserve("o1", [("lamp", 3)], hold_s=60)
    assert (held.state, held.lines, held.total) == ("held", (ringcast.SoldLine("lamp", 3, 100),), 300)
    assert await client.stock("lamp") == ringcast.Stock(1, 3, 0)
    assert (await client.confirm("o1")).state == ringcast.OrderState.CONFIRMED
    await client.reserve("o2", [("lamp", 1)])
    assert (await client.release("o2")).state == ringcast.OrderState.RELEASED
    assert await client.stock("nothing") is None
    assert (await client.reservation("o2")) is not None
    assert await client.reservation("o3") is None
    assert await client.remove("lamp", "ann") == 1
    assert (await client.status())["items"] == 1


async def test_due_orders(one: Group, client: ProductStore) -> None:
    await lamp(client)
    await client.reserve("o1", [("lamp", 1)], hold_s=1)
    await client.reserve("o2", [("lamp", 1)], hold_s=2)
    assert await client.due() == ()
    one.store.now_us += 1_000_000
    assert [order.order for order in await client.due()] == ["o1"]
    assert await client.sweep() == ("o1",)
    assert await client.sweep() == ()


async def test_local_reads_ask_nobody(one: Group, client: ProductStore) -> None:
    await lamp(client)
    (node,) = one.nodes
    for consistency, rounds in (("local", 0), ("linearizable", 1)):
        before = node.read_indexes
        assert await client.get("lamp", consistency=consistency) is not None  # type: ignore[arg-type]
        assert node.read_indexes == before + rounds
    with pytest.raises(ringcast.IllegalValue, match="consistency is 'eventual'"):
        await client.get("lamp", consistency="eventual")  # type: ignore[arg-type]


async def test_a_linearizable_read_waits_for_the_read_index(one: Group, client: ProductStore) -> None:
    (node,) = one.nodes
    await lamp(client)
    node.hold_reads = True
    read, search = asyncio.create_task(client.get("lamp")), asyncio.create_task(client.search("home"))
    await until(lambda: node.gateway.counters["ask"] == 2)
    await client.change_price("lamp", "ann", 7)
    assert not read.done()
    assert not search.done()
    node.answer_reads()
    item = await read
    assert item is not None
    assert item.price == (await search).entries[0].item.price == 7


async def test_refusals_are_typed_on_both_sides(client: ProductStore) -> None:
    await lamp(client)
    with pytest.raises(ringcast.IllegalValue, match="price is -1, expected a whole number from 0"):
        await client.change_price("lamp", "ann", -1)
    with pytest.raises(ringcast.NotTheSeller):
        await client.change_price("lamp", "bob", 1)
    with pytest.raises(ringcast.OutOfStock, match="6 units of item 'lamp' were asked for and 5 are left"):
        await client.reserve("o1", [("lamp", 6)])
    with pytest.raises(ringcast.ItemExists):
        await lamp(client)
    with pytest.raises(ringcast.IllegalValue, match="the cursor"):
        await client.search("home", ["light"], "5:lamp")


async def test_what_tasks_do_at_once_shares_entries(one: Group, client: ProductStore) -> None:
    await lamp(client)
    (node,) = one.nodes
    node.entries.clear()
    left = await asyncio.gather(*(client.change_quantity("lamp", "ann", 1) for _ in range(500)))
    assert sorted(left) == list(range(6, 506))
    assert node.operations == 500
    assert len(node.entries) <= 10
    reads = node.read_indexes
    found = await asyncio.gather(*(client.get("lamp") for _ in range(500)))
    assert {item.quantity for item in found if item is not None} == {505}
    assert node.read_indexes - reads <= 10


async def test_the_leader_is_found_by_hint(three: Group) -> None:
    three.leader = 3
    async with ringcast.products(three.endpoints[:1]) as store:
        await lamp(store)
        assert store.replica == 3
        assert store.failovers == 1
        three.leader = 2
        await store.change_price("lamp", "ann", 1)
        assert store.replica == 2
        assert await store.change_quantity("lamp", "ann", 1) == 6


async def test_the_leader_is_found_without_hints(three: Group) -> None:
    three.leader, three.hints = None, False
    async with ringcast.products(three.endpoints) as store:
        work = asyncio.create_task(lamp(store))
        await until(lambda: store.failovers > 5)
        assert not work.done()
        three.leader = 2
        await work
        assert store.replica == 2


@pytest.mark.parametrize("connected", [True, False])
async def test_a_client_outlives_every_replica_that_it_was_given(three: Group, connected: bool) -> None:
    three.hints = False
    if not connected:
        three.tell_members()
    async with ringcast.products(three.endpoints[:1]) as store:
        await lamp(store)
        if connected:
            three.tell_members()
            await until(lambda: len(store._live.addresses) == 3)
        three.kill(1)
        three.leader = 3
        await store.change_price("lamp", "ann", 1)
        assert store.replica == 3


@pytest.mark.parametrize("applied", [True, False])
async def test_a_leader_that_dies_with_changes_under_way(three: Group, applied: bool) -> None:
    async with ringcast.products(three.endpoints) as store:
        await lamp(store)
        leader = three.nodes[0]
        leader.hold = True
        changes = [asyncio.create_task(store.change_quantity("lamp", "ann", 1)) for _ in range(20)]
        read = asyncio.create_task(store.get("lamp"))
        await until(lambda: leader.gateway.bytes > 0)
        if applied:
            leader.go_on()
        three.kill(1)
        three.leader = 2
        assert sorted(await asyncio.gather(*changes)) == list(range(6, 26))
        assert (await read) is not None
        assert (await store.stock("lamp")) == ringcast.Stock(25, 0, 0)


async def test_an_answer_that_was_lost_is_given_again(three: Group) -> None:
    async with ringcast.products(three.endpoints) as store:
        await lamp(store)
        three.nodes[0].forgets = 1
        three.leader = 2
        three.nodes[0].group.leader = 1
        work = asyncio.create_task(store.change_quantity("lamp", "ann", 1))
        await until(lambda: three.nodes[0].forgets == 0)
        assert await work == 6
        assert await store.stock("lamp") == ringcast.Stock(6, 0, 0)
        sent = [request for node in three.nodes for entry in node.entries for request in entry.requests]
        assert len(sent) == len({(one.client, one.sequence) for one in sent}) + 1


async def test_answers_that_come_twice_do_no_harm(
    one: Group, client: ProductStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = one.nodes[0].gateway
    send = gateway._send

    def twice(connection: Connection, message: wire.Message) -> None:
        send(connection, message)
        send(connection, message)

    monkeypatch.setattr(gateway, "_send", twice)
    await lamp(client)
    assert await client.change_quantity("lamp", "ann", 1) == 6
    assert await client.change_quantity("lamp", "ann", 1) == 7
    assert await client.stock("lamp") == ringcast.Stock(7, 0, 0)


async def test_uncommitted_changes_of_a_deposed_leader_are_done_by_the_next(three: Group) -> None:
    async with ringcast.products(three.endpoints) as store:
        await lamp(store)
        old = three.nodes[0]
        old.hold = True
        work = asyncio.create_task(store.change_quantity("lamp", "ann", 1))
        await until(lambda: old.gateway.bytes > 0)
        three.leader = 2
        old.step_down()
        assert await work == 6
        assert three.nodes[1].operations == 1


async def test_a_replica_that_is_not_ready_is_left(three: Group) -> None:
    three.leader = 2
    three.nodes[0].fails = UNREADY
    async with ringcast.products(three.endpoints) as store:
        await lamp(store)
        assert store.replica == 2


async def test_a_replica_that_leaves_sends_its_clients_on(three: Group) -> None:
    async with ringcast.products(three.endpoints) as store:
        await lamp(store)
        three.leader = 3
        three.nodes[0].gateway.leave("stopping")
        await until(lambda: store.replica != 1)
        await store.change_price("lamp", "ann", 1)


async def test_a_time_limit_says_why_and_that_the_change_may_come(one: Group, client: ProductStore) -> None:
    await lamp(client)
    (node,) = one.nodes
    node.hold = node.hold_reads = True
    with pytest.raises(ringcast.Timeout, match=r"ChangePrice of lamp had no answer within 0.05 s.*once at most"):
        await client.change_price("lamp", "ann", 1, timeout=0.05)
    with pytest.raises(ringcast.Timeout, match="Get had no answer within"):
        await client.get("lamp", timeout=0.05)
    node.answer_reads()
    node.go_on()
    item = await client.get("lamp")
    assert item is not None
    assert item.price == 1


async def test_a_time_limit_tells_the_trouble(one: Group) -> None:
    one.leader = None
    async with ringcast.products(one.endpoints) as store:
        with pytest.raises(ringcast.Timeout, match="replica 1 does not lead"):
            await lamp_within(store, 0.2)
        one.nodes[0].fails = ringcast.NotInQuorum(replica=1, connected=1, quorum=2)
        with pytest.raises(ringcast.NotInQuorum, match="is connected to 1 members and needs 2"):
            await lamp_within(store, 0.2)
        one.nodes[0].fails, one.leader = None, 1
        assert await store.get("lamp", timeout=math.inf) is None


async def lamp_within(store: ProductStore, seconds: float) -> None:
    await store.put("x", seller="ann", category="home", price=1, quantity=1, id="lamp", timeout=seconds)


async def test_what_was_given_up_before_it_was_sent_is_never_sent(one: Group) -> None:
    one.leader = None
    async with ringcast.products(one.endpoints) as store:
        gone = asyncio.create_task(lamp(store))
        kept = asyncio.create_task(lamp(store, "other"))
        await asyncio.sleep(0)
        gone.cancel()
        one.leader = 1
        await kept
        assert await store.get("lamp") is None
        assert one.nodes[0].operations == 1


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ringcast.Unreachable):
        async with ringcast.products("tcp://127.0.0.1:1", timeout=0.3):
            pass
    with pytest.raises(ringcast.Refused, match="cannot read"):
        ringcast.products(tmp_path / "missing")


async def test_a_file_names_the_replicas_of_this_role(one: Group, tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    bus = '{"id": 1, "role": "bus", "client": "tcp://127.0.0.1:1"}'
    ours = f'{{"id": 1, "role": "products", "client": "{one.endpoints[0]}"}}'
    path.write_text(f'{{"cluster": {0xCAFE}, "replicas": [{bus}, {ours}]}}')
    async with ringcast.products(path) as store:
        assert await store.get("lamp") is None
    path.write_text(f'{{"cluster": 5, "replicas": [{ours}]}}')
    with pytest.raises(ringcast.WrongCluster):
        async with ringcast.products(tmp_path):
            pass
    path.write_text(f'{{"cluster": 5, "replicas": [{bus}]}}')
    with pytest.raises(ringcast.Refused, match="no products replica"):
        ringcast.products(path)


async def test_an_idle_clients_session_begins_anew_by_itself(one: Group, client: ProductStore) -> None:
    await lamp(client)
    async with ringcast.products(one.endpoints) as lively:
        for _ in range(3):
            one.store.now_us += IDLE_US // 2 + USE_US
            await lively.change_price("lamp", "ann", 1)
    left = await asyncio.gather(*(client.change_quantity("lamp", "ann", 1) for _ in range(50)))
    assert sorted(left) == list(range(6, 56))
    clients = {request.client for entry in one.nodes[0].entries for request in entry.requests}
    assert len(clients) == 3


async def test_a_change_whose_session_ended_unanswered_is_unknown(one: Group, client: ProductStore) -> None:
    await lamp(client)
    (node,) = one.nodes
    node.forgets, node.fails_then = 1, UNREADY
    change = asyncio.create_task(client.change_quantity("lamp", "ann", 1))
    await until(lambda: node.fails is UNREADY)
    one.store.entry(encode_entry(one.store.now_us + IDLE_US + 1, []))
    node.fails = None
    with pytest.raises(ringcast.OutcomeUnknown, match=r"a request of 1 changes .* applied once or not at all"):
        await change
    assert await client.change_quantity("lamp", "ann", 1) == 7


async def test_closing_with_changes_under_way(one: Group) -> None:
    (node,) = one.nodes
    async with ringcast.products(one.endpoints) as store:
        await lamp(store)
        node.hold = node.hold_reads = True
        change = asyncio.create_task(store.change_price("lamp", "ann", 1))
        read = asyncio.create_task(store.get("lamp"))
        await until(lambda: node.gateway.bytes > 4 * ITEM_BYTES)
    with pytest.raises(ringcast.OutcomeUnknown):
        await change
    with pytest.raises(ringcast.Closed):
        await read
    with pytest.raises(ringcast.Closed):
        await store.get("lamp")


async def test_an_overloaded_replica_is_asked_again(tmp_path: Path) -> None:
    limits = ProductLimits(client_bytes_max=8_000)
    with group(tmp_path / "small", limits=limits) as made:
        async with ringcast.products(made.endpoints) as store:
            await lamp(store)
            left = await asyncio.gather(*(_later(store, number) for number in range(300)))
            assert sorted(left) == list(range(6, 306))
        node = made.nodes[0]
        node.hold = True
        async with ringcast.products(made.endpoints) as store:
            work = []
            for _ in range(8):
                work.append(asyncio.create_task(_many(store, 20)))
                await asyncio.sleep(0.01)
            await until(lambda: node.gateway.counters["overloaded"] > 0)
            assert node.gateway.bytes <= 8_000
            node.go_on()
            await asyncio.gather(*work)
            assert await store.stock("lamp") == ringcast.Stock(305 + 160, 0, 0)


async def _later(store: ProductStore, number: int) -> int:
    for _ in range(number % 7):
        await asyncio.sleep(0)
    return await store.change_quantity("lamp", "ann", 1)


async def _many(store: ProductStore, count: int) -> None:
    await asyncio.gather(*(store.change_quantity("lamp", "ann", 1) for _ in range(count)))


def test_without_asyncio(served: Group) -> None:
    with ringcast.sync.products(served.endpoints, timeout=10) as store:
        item = store.put("Lamp", seller="ann", category="home", price=1, quantity=2)
        assert store.change_quantity(item, "ann", 1) == 3
        found = store.get(item, consistency="local")
        assert found is not None
        assert (found.quantity, store.replica) == (3, 1)
        with pytest.raises(ringcast.UnknownItem):
            store.remove("nothing", "ann")
    with pytest.raises(ringcast.Closed):
        store.get(item)


def test_frames_of_the_bus_and_of_the_store_share_an_envelope() -> None:
    request = Operate(b"c" * 16, 1, 0, 5, (b"x",))
    assert wire.decode(wire.encode(7, 0, request)) == wire.Frame(7, 0, request)
