"""The product store in real processes: killed, stopped, wiped and ended in order (docs/faults.md 1-7, 16, 18, 54)."""

import asyncio
import shutil
import signal
import sys
import urllib.request
from asyncio.subprocess import DEVNULL
from contextlib import closing
from pathlib import Path

import pytest
import zmq

import ringcast
from replicas.local.cluster import LocalCluster
from replicas.products.samples import sample_products
from ringcast import wire
from ringcast.product_store.operations import Get, decode_outcome, decode_outcomes, encode_operation
from ringcast.product_store.rows import Format, Imported, RowWriter, import_rows, read_rows
from ringcast.product_store.types import Item
from ringcast.product_store.wire import Ask, Found
from store.engine import open_engine
from store.folder import DATA_NAME
from tests.processes.agreement import until
from tests.processes.conftest import Start
from tests.processes.products_load import ProductsLoad, all_hold_the_same, leader_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

QUESTIONS = 20


async def _back(cluster: LocalCluster, member: int) -> None:
    await asyncio.to_thread(cluster.restart, member)
    await asyncio.to_thread(cluster.wait_ready, [member])


def _answers(dealer: "zmq.Socket[bytes]") -> bool:
    return bool(dealer.poll(5_000))


async def test_what_is_put_through_any_replica_is_read_through_each(start_products: Start) -> None:
    cluster = start_products(3)
    clients = [replica.client for replica in cluster.replicas.values()]
    async with ringcast.products(clients[0], timeout=10) as store:
        item = await store.put("Lamp", seller="ann", category="home", keywords=["light"], price=100, quantity=3)
        await store.change_price(item, "ann", 90)
    for client in clients:
        async with ringcast.products(client, timeout=10) as store:
            found = await store.get(item)
            assert found is not None
            assert (found.price, found.quantity) == (90, 3)


@pytest.mark.parametrize("victim", ["leader", "follower"])
async def test_a_killed_member_loses_nothing_that_was_acknowledged(start_products: Start, victim: str) -> None:
    cluster = start_products(3)
    load = ProductsLoad(cluster)
    await load.start()
    await load.more(20)
    leader = await leader_of(cluster)
    member = leader if victim == "leader" else leader % 3 + 1
    await asyncio.to_thread(cluster.kill, member)
    await load.more(50)
    await _back(cluster, member)
    await load.more(20)
    await load.stop()
    await all_hold_the_same(cluster, "item-0")


async def test_a_leader_that_was_stopped_answers_no_stale_read(start_products: Start) -> None:
    """R14: it wakes up with questions in its queues, while another one leads and has sold since.

    They are asked over a connection of our own, for a client would have left it: answered at all, they see the change.
    """
    cluster = start_products(3)
    leader = await leader_of(cluster)
    answers: list[wire.Message] = []
    with zmq.Context() as context, closing(context.socket(zmq.DEALER)) as dealer:
        dealer.connect(cluster.replicas[leader].client)
        dealer.send(wire.encode(wire.ANY_CLUSTER, 0, wire.Hello(bytes(range(16)))))
        assert await asyncio.to_thread(_answers, dealer)
        assert isinstance(wire.decode(dealer.recv()).message, wire.Welcome)
        async with ringcast.products(cluster.path, timeout=20) as store:
            item = await store.put("Lamp", seller="ann", category="home", price=0, quantity=1)
        cluster.signal(leader, signal.SIGSTOP)
        successor = await leader_of(cluster, but=leader)
        async with ringcast.products(cluster.replicas[successor].client, timeout=20) as writer:
            await writer.change_price(item, "ann", 1)
        for number in range(1, QUESTIONS + 1):
            ask = Ask(number, wire.LINEARIZABLE, (encode_operation(Get(item)),))
            dealer.send(wire.encode(wire.ANY_CLUSTER, 0, ask))
        cluster.signal(leader, signal.SIGCONT)
        while len(answers) < QUESTIONS and await asyncio.to_thread(_answers, dealer):
            message = wire.decode(dealer.recv()).message
            if isinstance(message, Found | wire.Failed):
                answers.append(message)
    assert len(answers) == QUESTIONS
    for answer in answers:
        if isinstance(answer, Found):
            (outcome,) = decode_outcomes(answer.outcomes, 1)
            assert Item._make(decode_outcome(outcome)).price == 1
        else:
            assert isinstance(answer, wire.Failed)
            assert isinstance(wire.error_of(answer), ringcast.Unavailable)


async def test_a_leader_is_stopped_and_goes_on_while_everybody_reads(start_products: Start) -> None:
    """R14, R18: for a second it is none and does not know it; what it answers when it wakes is as of then."""
    cluster = start_products(3)
    leader = await leader_of(cluster)
    load = ProductsLoad(cluster, at=(leader, leader % 3 + 1))
    await load.start()
    await load.more(20)
    for _ in range(3):
        cluster.signal(leader, signal.SIGSTOP)
        successor = await leader_of(cluster, but=leader)
        await load.more(20)
        cluster.signal(leader, signal.SIGCONT)
        leader = successor
        await load.more(20)
    await load.stop()


async def test_all_are_killed_and_everything_acknowledged_comes_back(start_products: Start) -> None:
    cluster = start_products(3)
    load = ProductsLoad(cluster)
    await load.start()
    await load.more(30)
    for member in cluster.replicas:
        cluster.signal(member, signal.SIGKILL)
    await asyncio.to_thread(cluster.wait_gone, list(cluster.replicas), 10.0)
    await asyncio.to_thread(cluster.start)
    await load.more(30)
    await load.stop()


async def test_a_wiped_member_comes_back_with_everything(start_products: Start) -> None:
    """V0: as a new disk, by a snapshot, since the log that it lacks is trimmed."""
    cluster = start_products(3, raft={"log_entries_kept": 10})
    load = ProductsLoad(cluster)
    await load.start()
    member = await leader_of(cluster) % 3 + 1
    await asyncio.to_thread(cluster.kill, member)
    shutil.rmtree(cluster.replicas[member].data)
    await load.more(50)
    await _back(cluster, member)
    await load.more(20)
    await load.stop()
    await all_hold_the_same(cluster, "item-0")
    async with ringcast.products(cluster.replicas[member].client, timeout=5) as store:
        log_first = (await store.status())["log_first"]
        assert isinstance(log_first, int)
        assert log_first > 10


async def test_a_file_is_imported_while_the_leader_is_killed_and_then_again(
    start_products: Start, tmp_path: Path
) -> None:
    cluster = start_products(3)
    items = list(sample_products(3_000, 7))
    path = tmp_path / "items.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        RowWriter(file, Format.CSV).write(items)
    leader = await leader_of(cluster)
    half = asyncio.Event()

    async with ringcast.products(cluster.path, timeout=20) as store:

        def progress(done: Imported) -> None:
            if done.rows > len(items) // 3:
                half.set()

        async def load() -> int:
            with path.open(encoding="utf-8", newline="") as file:
                rows = read_rows(file, Format.CSV)
                show = lambda done: half.set() if done.rows > len(items) // 3 else None  # noqa: E731
                return (await import_rows(store, rows, on_progress=show)).put

        first = asyncio.create_task(load())
        await half.wait()
        await asyncio.to_thread(cluster.kill, leader)
        assert (await first, await load()) == (len(items), 0)
        assert (await store.status())["items"] == len(items)
        for put_item in items[:: len(items) // 20]:
            found = await store.get(put_item.item)
            assert found is not None
            assert (found.name, found.price, found.quantity) == (put_item.name, put_item.price, put_item.quantity)


async def test_each_member_is_ended_in_order_and_no_change_fails(start_products: Start) -> None:
    """SIGTERM of the leader hands over; a client's call never fails, nor waits for an election."""
    cluster = start_products(3)
    load = ProductsLoad(cluster)
    await load.start()
    for _ in range(3):
        leader = await leader_of(cluster)
        assert await asyncio.to_thread(cluster.stop, [leader]) == [leader]
        await load.more(20)
        await _back(cluster, leader)
    await load.stop()


@pytest.mark.parametrize("met_by", ["scrub", "read", "change"])
async def test_a_flipped_bit_in_a_row_is_never_served_and_filled_again(start_products: Start, met_by: str) -> None:
    """Fault 28, R24: without a peer's help the first change to the row would end the member, at each start again."""
    pace = 0 if met_by != "scrub" else 1 << 30
    cluster = start_products(3, scrub_bytes_per_second=pace, scrub_pause=1)
    async with ringcast.products(cluster.path, timeout=20) as store:
        item = await store.put("Unmistakable-lamp", seller="ann", category="home", price=100, quantity=3)
        for number in range(50):
            await store.put(f"Lamp {number}", seller="bob", category="home", price=number, quantity=1)
    victim = await leader_of(cluster) if met_by == "read" else (await leader_of(cluster)) % 3 + 1
    await asyncio.to_thread(cluster.stop, [victim])
    flip_row(Path(cluster.replicas[victim].data), item)
    await _back(cluster, victim)
    if met_by == "read":
        await lead(cluster, victim)
    async with ringcast.products(cluster.path, timeout=20) as store:
        found = await store.get(item)
        assert found is not None
        assert (found.name, found.price) == ("Unmistakable-lamp", 100)
        await store.change_price(item, "ann", 90)
        await until(lambda: count_of(cluster, victim, "state_refilled") == 1)
        await lead(cluster, victim)
        found = await store.get(item)
        assert found is not None
        assert (found.name, found.price) == ("Unmistakable-lamp", 90)
    await asyncio.to_thread(cluster.wait_ready)
    assert set(cluster.running()) == {1, 2, 3}
    await all_hold_the_same(cluster, item)


def flip_row(folder: Path, item: str) -> None:
    """One bit of an item's row, in each copy that LMDB has kept; the log's entry is another one."""
    with open_engine(folder, max_dbs=20, readonly=True, lock=False) as environment:
        items = environment.open_db(b"items", create=False)
        with environment.begin() as transaction:
            stored = bytes(transaction.get(item.encode(), db=items) or b"")
    path = folder / DATA_NAME
    content = bytearray(path.read_bytes())
    place = content.find(stored)
    assert stored
    assert place >= 0
    while place >= 0:
        content[place + 10] ^= 0x04
        place = content.find(stored, place + 1)
    path.write_bytes(content)


def count_of(cluster: LocalCluster, member: int, name: str) -> float:
    """A counter of Raft, as /metrics says it."""
    with urllib.request.urlopen(f"{cluster.replicas[member].http}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    raft = [line for line in lines if line.startswith("ringcast_events_total{") and 'part="raft"' in line]
    return sum(float(line.split()[-1]) for line in raft if f'name="{name}"' in line)


async def lead(cluster: LocalCluster, member: int) -> None:
    """Make a member lead."""
    async with asyncio.timeout(30):
        while await leader_of(cluster) != member:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "cli", "--cluster", str(cluster.path),
                "products", "transfer-leader", "--to", str(member), stdout=DEVNULL, stderr=DEVNULL,
            )  # fmt: skip
            await process.wait()
