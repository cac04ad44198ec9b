"""replicas/products/gateway.py with real sockets and raw frames: what a client can't do to others, and every limit."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from broker.grants import Grant
from broker.sockets import SocketLimits
from replicas.products.front import ProductLimits
from ringcast import errors, wire
from ringcast.product_store.admin import AddMember, Instruction, MakeSnapshot, RemoveMember
from ringcast.product_store.limits import PAGE_MAX
from ringcast.product_store.operations import (
    ChangeQuantity,
    Get,
    Operation,
    Put,
    Question,
    Search,
    decode_operation,
    decode_outcome,
    decode_outcomes,
    encode_operation,
)
from ringcast.product_store.wire import REQUEST_BYTES_MAX, WINDOW, Ask, Found, Operate, Outcomes
from ringcast.strict import dumps
from store.errors import DiskFailed
from store.products.entries import encode_entry
from tests.broker.clients import RawClient, until
from tests.products.group import CLUSTER, UNREADY, Group, group

LAMP = Put("lamp", "ann", "Desk lamp", "home", ("light",), "new", 1_999, 5)


class Client(RawClient):
    """A RawClient of the product store."""

    def send(self, message: wire.Message, *payloads: bytes, cluster: int = CLUSTER, ring: int = 0) -> None:
        self.send_raw(wire.encode(cluster, ring, message), *payloads)

    async def receive(self, seconds: float = 5) -> wire.Message:
        await until(lambda: bool(self.socket.poll(0)))
        return wire.decode(self.socket.recv(zmq.NOBLOCK)).message

    def operate(self, sequence: int, *operations: Operation | bytes, client: bytes | None = None) -> None:
        packed = tuple(one if isinstance(one, bytes) else encode_operation(one) for one in operations)
        self.send(Operate(client or self.client, sequence, 0, 0, packed))

    def ask(
        self, number: int, *questions: Question | Instruction | bytes, consistency: int = wire.LINEARIZABLE
    ) -> None:
        packed = tuple(one if isinstance(one, bytes) else encode_operation(one) for one in questions)
        self.send(Ask(number, consistency, packed))

    async def outcomes(self, sequence: int, count: int = 1) -> list[bytes]:
        message = await self.receive()
        assert isinstance(message, Outcomes), message
        assert (message.client, message.sequence) == (self.client, sequence)
        return decode_outcomes(message.outcomes, count)

    async def found(self, number: int, count: int = 1) -> list[Any]:
        message = await self.receive()
        assert isinstance(message, Found), message
        assert message.request == number
        return list(map(decode_outcome, decode_outcomes(message.outcomes, count)))

    async def refused(self, sequence: int) -> errors.RingcastError:
        message = await self.receive()
        assert isinstance(message, wire.Refused), message
        assert (message.client, message.sequence) == (self.client, sequence)
        return wire.error_of(message)

    async def failed(self, number: int) -> errors.RingcastError:
        message = await self.receive()
        assert isinstance(message, wire.Failed), message
        assert message.request == number
        return wire.error_of(message)


@contextmanager
def client_of(made: Group, limits: SocketLimits | None = None) -> Iterator[Client]:
    client = Client(made.context, made.nodes[0].endpoint, limits)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
async def client(two: Group) -> AsyncIterator[Client]:
    with client_of(two) as made:
        await made.hello(cluster=CLUSTER)
        yield made


async def test_hello_and_ping(two: Group, client: Client) -> None:
    two.store.entry(b"")
    with client_of(two) as other:
        welcome = await other.hello()
    assert (welcome.replica, welcome.view, welcome.opened, welcome.next_offset) == (1, (3, 1), 1, 1)
    assert (welcome.limits.batch_bytes_max, welcome.limits.outstanding_max) == (REQUEST_BYTES_MAX, WINDOW)
    client.send(wire.Ping(8))
    assert await client.receive() == wire.Pong(8, True, welcome.credit, 1)
    two.leader = None
    client.send(wire.Ping(9))
    assert await client.receive() == wire.Pong(9, False, welcome.credit, 1)


async def test_a_request_sent_twice_is_applied_once(two: Group, client: Client) -> None:
    client.operate(1, LAMP)
    client.operate(2, ChangeQuantity("lamp", "ann", 1), ChangeQuantity("lamp", "ann", 9), ChangeQuantity("x", "ann", 1))
    client.operate(2, ChangeQuantity("lamp", "ann", 1), ChangeQuantity("lamp", "ann", 9), ChangeQuantity("x", "ann", 1))
    await client.outcomes(1)
    first, second = await client.outcomes(2, 3), await client.outcomes(2, 3)
    assert first == second
    assert [decode_outcome(outcome) for outcome in first[:2]] == [6, 15]
    with pytest.raises(errors.UnknownItem):
        decode_outcome(first[2])
    client.operate(2, LAMP)
    with pytest.raises(errors.IdReused):
        await client.outcomes(2)


async def test_one_wake_is_one_entry_and_one_read_index(two: Group, client: Client) -> None:
    node = two.nodes[0]
    with client_of(two) as other:
        await other.hello()
        for sequence in range(1, 11):
            client.operate(sequence, LAMP._replace(item=f"i{sequence}"))
            client.ask(sequence, Get("i1"))
        other.operate(1, LAMP)
        await other.outcomes(1)
        answers = [await client.receive() for _ in range(20)]
    assert sum(isinstance(one, Outcomes) for one in answers) == sum(isinstance(one, Found) for one in answers) == 10
    assert node.operations == 11
    assert len(node.entries) < 11
    assert node.read_indexes < 10


async def test_no_entry_is_larger_than_it_may_be(tmp_path: Path) -> None:
    limits = ProductLimits(entry_bytes_max=5_000)
    with group(tmp_path / "small", limits=limits) as made, client_of(made) as client:
        await client.hello()
        for sequence, size in enumerate((1, 1_000, 1_000, 9_000, 0, 2_500, 2_500, 1), 1):
            client.operate(sequence, b"x" * size)
        for _ in range(8):
            assert isinstance(await client.receive(), Outcomes)
        entries = made.nodes[0].entries
        assert [one.sequence for entry in entries for one in entry.requests] == list(range(1, 9))
        sizes = [len(encode_entry(entry.time_us, entry.requests)) for entry in entries]
        assert all(size < 5_000 or len(entry.requests) == 1 for size, entry in zip(sizes, entries, strict=True))
        assert max(sizes) > 9_000


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        dumps((1, CLUSTER, 0, 32)),
        dumps((1, CLUSTER, 0, 32, b"short", 1, 0, 0, ())),
        dumps((1, CLUSTER, 0, 32, bytes(16), -1, 0, 0, ())),
        dumps((1, CLUSTER, 0, 32, bytes(16), 1, 0, 0, ("text",))),
        dumps((1, CLUSTER, 0, 32, bytes(16), 1, 0, 0, (b"x" * 20_000,))),
        dumps((1, CLUSTER, 0, 32, bytes(16), 1, 0, 0, (b"",) * 1_025)),
        dumps((1, CLUSTER, 0, 34, 1, 2, ())),
        dumps((1, CLUSTER, 0, 99)),
        wire.encode(CLUSTER, 0, Outcomes(bytes(16), 1, b"")),
        wire.encode(CLUSTER, 0, wire.Fetch(1, "a", 0, 0, 1, 1, 0)),
    ],
)
async def test_garbage_is_dropped_and_counted(two: Group, client: Client, garbage: bytes) -> None:
    client.send_raw(garbage)
    client.ask(1, Get("lamp"))
    assert await client.found(1) == [None]
    assert two.nodes[0].gateway.counters["dropped"] == 1


async def test_another_version_or_cluster_is_told(two: Group, client: Client) -> None:
    client.send_raw(dumps((2, CLUSTER, 0, 1)))
    assert isinstance(await client.failed(0), errors.UnsupportedVersion)
    client.send(wire.Ping(1), cluster=5)
    assert isinstance(await client.failed(0), errors.WrongCluster)
    with client_of(two) as stranger:
        stranger.ask(1, Get("lamp"))
        assert isinstance(await stranger.failed(0), errors.NotReady)


async def test_bytes_that_are_no_operation_or_question_have_outcomes(client: Client) -> None:
    client.operate(1, LAMP, b"\xc1", dumps((9, "of a newer version")))
    outcomes = await client.outcomes(1, 3)
    assert decode_outcome(outcomes[0]) is None
    for outcome in outcomes[1:]:
        with pytest.raises(errors.BadFrame):
            decode_outcome(outcome)
    client.ask(1, Get("lamp"), b"\xc1", encode_operation(LAMP), dumps((32, "no id")))
    message = await client.receive()
    assert isinstance(message, Found)
    found, *bad = decode_outcomes(message.outcomes, 4)
    assert decode_outcome(found)[0] == "lamp"
    for outcome, kind in zip(bad, (errors.BadFrame, errors.BadFrame, errors.IllegalValue), strict=True):
        with pytest.raises(kind):
            decode_outcome(outcome)


async def test_limits_of_one_frame(client: Client) -> None:
    client.operate(1, *[b"x" * 16_000] * 17)
    assert isinstance(await client.refused(1), errors.TooLarge)
    client.ask(3, *[Search("home", (), "", PAGE_MAX)] * 2)
    assert isinstance(await client.failed(3), errors.TooLarge)


async def test_a_connection_carries_requests_of_other_clients_too(client: Client) -> None:
    """An interface of the marketplace relays; each client id is numbered by itself."""
    other = b"another's id is."[:16]
    client.operate(1, LAMP)
    client.operate(1, LAMP._replace(item="desk"), client=other)
    found = [await client.receive() for _ in range(2)]
    assert [(one.client == other, one.sequence) for one in found if isinstance(one, Outcomes)] == [
        (False, 1),
        (True, 1),
    ]


async def test_who_does_not_lead_says_who_does(two: Group, client: Client) -> None:
    two.leader = 2
    client.operate(1, LAMP)
    error = await client.refused(1)
    assert isinstance(error, errors.NotLeader)
    assert (error.details["leader"], error.details["address"]) == (2, two.nodes[1].endpoint)
    client.ask(2, Get("lamp"))
    assert isinstance(await client.failed(2), errors.NotLeader)
    client.ask(3, Get("lamp"), consistency=wire.LOCAL)
    assert await client.found(3) == [None]


async def test_what_is_unanswered_is_bounded_for_each_and_for_all(tmp_path: Path) -> None:
    limits = ProductLimits(client_bytes_max=2_000, total_bytes_max=3_000)
    big = b"x" * 1_500
    with group(tmp_path / "small", limits=limits) as made, client_of(made) as client, client_of(made) as other:
        node = made.nodes[0]
        node.hold = True
        await client.hello()
        await other.hello()
        client.operate(1, big)
        client.operate(2, big)
        error = await client.refused(2)
        assert isinstance(error, errors.Overloaded)
        assert "this client" in str(error)
        other.operate(1, big)
        error = await other.refused(1)
        assert "all clients" in str(error)
        assert 1_500 < node.gateway.bytes < 2_000
        node.go_on()
        await client.outcomes(1)
        assert node.gateway.bytes == 0
        other.operate(1, big)
        await other.outcomes(1)


async def test_answers_to_who_has_left_are_dropped(two: Group, client: Client) -> None:
    node = two.nodes[0]
    node.hold = node.hold_reads = True
    client.operate(1, LAMP)
    client.ask(1, Get("lamp"))
    await until(lambda: node.gateway.bytes > 0)
    client.send(wire.Goodbye())
    await until(lambda: node.gateway.connections == 0)
    node.go_on()
    node.answer_reads(UNREADY)
    await until(lambda: node.gateway.bytes == 0)
    assert two.store.applied == 1


async def test_who_does_not_read_long_answers_is_cut(tmp_path: Path) -> None:
    limits = ProductLimits(answer_bytes_max=1 << 20)
    with group(tmp_path / "cut", limits=limits) as made:
        for number in range(PAGE_MAX):
            made.store.do(LAMP._replace(item=f"i{number}", name="x" * 64))
        with client_of(made, SocketLimits(receive_queue_max=1)) as client:
            await client.hello()
            gateway = made.nodes[0].gateway
            for number in range(1, 200):
                client.ask(number, Search("home", (), "", PAGE_MAX), consistency=wire.LOCAL)
            await until(lambda: gateway.counters["cut"] == 1)
            assert gateway.connections == 0


async def test_the_disks_trouble_is_not_the_clients_fault(
    two: Group, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise DiskFailed(tmp_path, "input/output error")

    monkeypatch.setattr(two.store, "view", broken)
    questions: tuple[Question, ...] = (Get("lamp"), Search("home", (), "", 1))
    for number, question in enumerate(questions, 1):
        client.ask(number, question)
        error = await client.failed(number)
        assert isinstance(error, errors.NotReady)
        assert "input/output error" in str(error)


async def test_leaving_tells_everybody_and_finishes_what_is_pending(two: Group, client: Client) -> None:
    node = two.nodes[0]
    node.hold = True
    client.operate(1, LAMP)
    await until(lambda: node.gateway.bytes > 0)
    node.gateway.leave("stopping")
    assert await client.receive() == wire.Goodbye("stopping")
    client.operate(2, LAMP)
    assert isinstance(await client.refused(2), errors.NotReady)
    node.go_on()
    await client.outcomes(1)
    with client_of(two) as late:
        late.send(wire.Hello(late.client))
        assert "leaving" in str(await late.failed(0))


async def test_connections_are_bounded(tmp_path: Path) -> None:
    limits = ProductLimits(connections_max=1)
    with group(tmp_path / "few", limits=limits) as made, client_of(made) as client, client_of(made) as other:
        await client.hello()
        await client.hello()
        other.send(wire.Hello(other.client))
        assert "full" in str(await other.failed(0))


# ---------------------------------------------------------------------- instructions


async def test_an_instruction_reaches_the_node_and_its_answer_the_operator(two: Group, client: Client) -> None:
    node = two.nodes[0]
    node.answers = {"name": "made"}
    client.ask(1, MakeSnapshot())
    assert await client.found(1) == [{"name": "made"}]
    client.ask(2, AddMember(4, "10.0.0.4:7201"), consistency=wire.LOCAL)
    await client.found(2)
    assert node.instructions == [MakeSnapshot(), AddMember(4, "10.0.0.4:7201")]
    assert node.read_indexes == 1, "a local one asks nobody"


async def test_an_instruction_travels_alone_and_only_to_whom_leads(two: Group, client: Client) -> None:
    client.ask(1, Get("lamp"), RemoveMember(1))
    assert "travels alone" in str(await client.failed(1))
    two.leader = 2
    client.ask(2, RemoveMember(1))
    assert isinstance(await client.failed(2), errors.NotLeader)
    assert not two.nodes[0].instructions


async def test_an_instruction_needs_an_operators_key(two: Group, client: Client) -> None:
    for connection in two.nodes[0].gateway._connections.values():
        connection.grant = Grant("shop", publish=("_products",), subscribe=("_products",))
    client.ask(1, MakeSnapshot())
    refused = await client.failed(1)
    assert isinstance(refused, errors.NotAllowed)
    assert "instruct a replica" in str(refused)
    assert not two.nodes[0].instructions
    client.ask(2, Get("lamp"))
    assert await client.found(2) == [None]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((64, 0, 0), "leader is 0, expected a whole number from 1 to 63"),
        ((64, 1, 64), "target is 64"),
        ((64, 1), "Transfer is '1 fields'"),
        ((65, 4, ""), "address is ''"),
        ((65, 4, "x" * 257), "of at most 256 ASCII characters"),
        ((65, 4, "h\xf6st:1"), "address is"),
        ((65, True, "host:1"), "member is True"),
        ((66, 1, 2), "RemoveMember is '2 fields'"),
        ((67, 0), "MakeSnapshot is '1 fields'"),
        ((68, "../../secret", 0), "name is '../../secret'"),
        ((68, "0" * 20 + "-01234567", -1), "number is -1"),
        ((69,), "the kind of question is 69"),
    ],
    ids=str,
)
async def test_an_instruction_that_is_none_is_refused(
    two: Group, client: Client, fields: tuple[Any, ...], text: str
) -> None:
    client.ask(1, dumps(fields))
    with pytest.raises(errors.RingcastError, match=re.escape(text)):
        await client.found(1)
    client.ask(2, Get("lamp"))
    assert await client.found(2) == [None]
    assert not two.nodes[0].instructions
    with pytest.raises(errors.BadFrame):
        decode_operation(dumps(fields))
