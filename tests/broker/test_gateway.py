"""broker/gateway.py with real sockets: what a client says, what it gets, and what it can't do to others."""

import random
from collections.abc import AsyncIterator

import msgpack  # type: ignore[import-untyped]
import pytest
import zmq

from broker.gateway import GatewayLimits
from broker.intake import IntakeLimits
from broker.sockets import SocketLimits
from ringcast import wire
from ringcast.bus.batch import digest, pack
from ringcast.bus.request import BatchHeader, decode_batch_headers
from ringcast.errors import NotInQuorum, NotReady, SequenceGap
from tests.broker.clients import CLUSTER, RING, Front, RawClient, front, until


@pytest.fixture
async def served() -> AsyncIterator[Front]:
    """A gateway with its defaults."""
    with front() as made:
        yield made


@pytest.fixture
async def client(served: Front) -> RawClient:
    """A client that has said HELLO."""
    made = served.client()
    await made.hello()
    return made


async def refused(client: RawClient) -> wire.Refused:
    """The next message, a REFUSED."""
    message = await client.receive()
    assert isinstance(message, wire.Refused), message
    return message


async def failed(client: RawClient) -> wire.Failed:
    """The next message, a FAILED."""
    message = await client.receive()
    assert isinstance(message, wire.Failed), message
    return message


# ------------------------------------------------------------------ HELLO, PING, GOODBYE


async def test_hello_is_welcomed_with_what_a_client_needs(served: Front) -> None:
    welcome = await served.client().hello()
    assert (welcome.replica, welcome.incarnation, welcome.view, welcome.opened) == (2, (3, 99), (7, 1), 42)
    assert (welcome.credit, welcome.feed, welcome.limits.outstanding_max) == (4 << 20, "tcp://feed", 256)
    assert (await served.client().hello(wanted=100_000)).credit == 100_000
    assert served.gateway.connections == 2


async def test_clients_are_told_who_the_members_are_and_of_each_change(served: Front, client: RawClient) -> None:
    """V12: who was given the first three must find those that come after them."""
    members = (wire.Endpoint(2, "tcp://two"), wire.Endpoint(4, "tcp://four"))
    served.gateway.tell_members(members)
    served.gateway.tell_members(members)
    served.gateway.tell_members(members[1:])
    assert await client.receive() == wire.Members(members)
    assert await client.receive() == wire.Members(members[1:])
    assert (await served.client().hello()).members == members[1:]


async def test_ping_tells_whether_the_replica_serves(served: Front, client: RawClient) -> None:
    served.replica.next_offset = 17
    client.send(wire.Ping(5))
    assert await client.receive() == wire.Pong(5, True, 4 << 20, 17)
    served.replica.error = NotInQuorum(replica=2, connected=1, quorum=2)
    client.send(wire.Ping(6))
    assert await client.receive() == wire.Pong(6, False, 4 << 20, 17)


async def test_before_hello_and_after_goodbye_a_client_is_told_to_say_hello(served: Front, client: RawClient) -> None:
    stranger = served.client()
    stranger.publish(1)
    assert (await failed(stranger)).code == "not_ready"
    client.send(wire.Goodbye())
    client.send(wire.Ping(1))
    assert await failed(client) == wire.failure(0, NotReady(replica=2, state="waiting for HELLO on this connection"))
    assert served.gateway.connections == 0
    assert served.replica.requests == []


async def test_a_replica_without_a_cluster_and_one_that_leaves_take_no_clients(served: Front) -> None:
    served.replica.cluster_id = 0
    early = served.client()
    early.send(wire.Hello(early.client), cluster=0)
    message = await failed(early)
    assert (message.request, message.code, message.details["state"]) == (0, "not_ready", "starting")
    served.replica.cluster_id = CLUSTER
    await early.hello()
    early.publish(1)
    await until(lambda: len(served.replica.requests) == 1)
    served.gateway.leave("stopping")
    assert await early.receive() == wire.Goodbye("stopping")
    # V11: what is pending still gets its receipt; what is new goes elsewhere.
    served.replica.deliver(served.gateway)
    assert isinstance(await early.receive(), wire.Receipt)
    early.publish(2)
    assert (await refused(early)).code == "not_ready"
    late = served.client()
    late.send(wire.Hello(late.client), cluster=0)
    assert (await failed(late)).code == "not_ready"


async def test_wrong_cluster_ring_and_version_are_typed_errors(served: Front, client: RawClient) -> None:
    client.send(wire.Ping(1), cluster=5)
    assert (await failed(client)).code == "wrong_cluster"
    client.send(wire.Hello(client.client), cluster=0, ring=9)
    message = await failed(client)
    assert (message.code, message.details["ring"], message.details["expected_ring"]) == ("wrong_cluster", 9, RING)
    client.send_raw(msgpack.packb([2, CLUSTER, RING, 77, "a field of the future"]))
    message = await failed(client)
    assert (message.code, message.details["version"]) == ("unsupported_version", 2)
    client.send(wire.Ping(2))
    assert isinstance(await client.receive(), wire.Pong)


async def test_more_clients_than_the_limit_are_refused() -> None:
    with front(GatewayLimits(connections_max=1)) as served:
        await served.client().hello()
        second = served.client()
        second.send(wire.Hello(second.client), cluster=0)
        message = await failed(second)
        assert (message.code, message.request) == ("not_ready", 0)


# ------------------------------------------------------------------ PUBLISH


async def test_a_batch_becomes_a_request_and_its_receipt_comes_after_delivery(served: Front, client: RawClient) -> None:
    client.publish(1, [b"a", b"bc"])
    await until(lambda: len(served.replica.requests) == 1)
    header, packed = served.replica.requests[0]
    assert packed == pack([b"a", b"bc"])
    assert decode_batch_headers(header) == (BatchHeader("orders", client.client, 1, 2, 42, 0, digest(packed)),)
    assert await client.silent()
    served.replica.deliver(served.gateway)
    assert await client.receive() == wire.Receipt(client.client, 1, 0, 2, 5, 1_000, 4 << 20)
    assert (len(served.gateway.intake), served.gateway.intake.bytes) == (0, 0)


async def test_a1_batches_of_one_turn_share_a_request_in_their_order(served: Front) -> None:
    one, two = served.client(), served.client()
    await one.hello()
    await two.hello()
    for sequence in range(1, 101):
        one.publish(sequence)
        two.publish(sequence)
    await until(lambda: len(served.replica.headers()) == 200)
    assert len(served.replica.requests) < 100
    for client in (one, two):
        mine = [header.sequence for header in served.replica.headers() if header.client == client.client]
        assert mine == list(range(1, 101))
    served.replica.deliver(served.gateway)
    receipts = [await one.receive() for _ in range(100)]
    assert [r.sequence for r in receipts if isinstance(r, wire.Receipt)] == list(range(1, 101))


async def test_a_resend_of_a_pending_batch_is_not_submitted_twice_and_its_verdict_moves(
    served: Front, client: RawClient
) -> None:
    client.publish(1)
    await until(lambda: len(served.replica.requests) == 1)
    again = served.client()
    again.client = client.client
    await again.hello()
    again.publish(1)
    again.send(wire.Ping(1))
    assert isinstance(await again.receive(), wire.Pong)
    assert len(served.replica.requests) == 1
    served.replica.deliver(served.gateway)
    assert isinstance(await again.receive(), wire.Receipt)
    assert await client.silent()
    again.publish(2, [b"one"])
    again.publish(2, [b"another"])
    other = await refused(again)
    assert (other.code, other.last) == ("sequence_gap", -1), "which of the two has the number is the log's to say"


async def test_a_refusal_by_the_log_carries_its_code_and_last(served: Front, client: RawClient) -> None:
    client.publish(7)
    await until(lambda: len(served.replica.requests) == 1)
    served.gateway.delivered([], [(client.client, 7, SequenceGap(sequence=7, last=3), 3)])
    message = await refused(client)
    assert (message.sequence, message.code, message.last) == (7, "sequence_gap", 3)


@pytest.mark.parametrize("topic", ["", "a..b", "_system", ">", "a.>", "x" * 300, "a b", "ü"])
async def test_an_illegal_topic_is_refused(served: Front, client: RawClient, topic: str) -> None:
    client.publish(1, topic=topic)
    message = await refused(client)
    assert (message.code, message.sequence) == ("illegal_topic", 1)
    client.publish(1, topic="_cursors")
    await until(lambda: len(served.replica.requests) == 1)


async def test_limits_of_a_batch_are_named_in_the_refusal() -> None:
    with front(GatewayLimits(batch_bytes_max=1_000, batch_count_max=10)) as served:
        client = served.client()
        welcome = await client.hello()
        assert welcome.limits[:2] == (1_000, 10)
        client.publish(1, [b"x" * 2_000])
        message = await refused(client)
        assert (message.code, message.details["limit"], message.details["unit"]) == ("too_large", 1_000, "bytes")
        client.publish(1, [b"x"] * 11)
        message = await refused(client)
        assert (message.code, message.details["limit"], message.details["unit"]) == ("too_large", 10, "messages")


async def test_a_batch_that_is_not_what_it_says_and_a_foreign_client_id_are_refused(
    served: Front, client: RawClient
) -> None:
    client.send(wire.Publish("orders", client.client, 1, 2, 42), pack([b"only one"]))
    assert (await refused(client)).code == "bad_frame"
    client.send(wire.Publish("orders", client.client, 1, 1, 42), pack([b"x"]) + b"more")
    assert (await refused(client)).code == "bad_frame"
    client.publish(1, client=bytes(16))
    assert (await refused(client)).code == "refused"
    assert served.replica.requests == []


async def test_a9_a_client_beyond_its_credit_is_refused_and_one_batch_always_goes() -> None:
    limits = GatewayLimits(intake=IntakeLimits(credit_bytes_min=1_000, outstanding_max=3))
    with front(limits) as served:
        client = served.client()
        assert (await client.hello(wanted=1_000)).credit == 1_000
        client.publish(1, [b"x" * 5_000])
        client.publish(2, [b"y"])
        message = await refused(client)
        assert (message.code, message.sequence, message.details["credit"]) == ("window_exceeded", 2, 1_000)
        served.replica.deliver(served.gateway)
        assert isinstance(await client.receive(), wire.Receipt)
        for sequence in range(2, 6):
            client.publish(sequence)
        message = await refused(client)
        assert (message.code, message.sequence) == ("window_exceeded", 5)


async def test_batches_wait_here_while_the_core_has_no_room(served: Front, client: RawClient) -> None:
    served.replica.bytes_free = 0
    for sequence in range(1, 5):
        client.publish(sequence)
    await until(lambda: len(served.gateway.intake) == 4)
    assert served.replica.requests == []
    served.replica.bytes_free = 1 << 20
    served.gateway.delivered([], [])
    assert [header.sequence for header in served.replica.headers()] == [1, 2, 3, 4]


async def test_without_a_quorum_batches_are_refused_as_retryable(served: Front, client: RawClient) -> None:
    served.replica.error = NotInQuorum(replica=2, connected=1, quorum=2)
    client.publish(1)
    message = await refused(client)
    assert (message.code, message.details) == ("not_in_quorum", {"replica": 2, "connected": 1, "quorum": 2})


async def test_who_waits_is_told_when_the_quorum_is_lost(served: Front, client: RawClient) -> None:
    client.publish(1)
    await until(lambda: len(served.replica.requests) == 1)
    served.replica.error = NotInQuorum(replica=2, connected=1, quorum=2)
    assert (await refused(client)).code == "not_in_quorum"


async def test_who_waits_for_a_replica_that_leaves_gets_its_verdict(
    served: Front, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V11: what was taken in is ordered before the replica goes."""
    client.publish(1)
    await until(lambda: len(served.replica.requests) == 1)
    served.gateway.leave("stopping")
    served.replica.error = NotReady(replica=2, state="leaving")
    served.gateway._timer.cancel()
    served.gateway._tick()
    served.replica.deliver(served.gateway)
    assert [type(await client.receive()) for _ in range(2)] == [wire.Goodbye, wire.Receipt]


async def test_pending_batches_whose_verdicts_never_come_here_are_sent_elsewhere(
    served: Front, client: RawClient
) -> None:
    client.publish(1)
    await until(lambda: len(served.replica.requests) == 1)
    served.gateway.abandon(NotReady(replica=2, state="catching up"))
    assert (await refused(client)).code == "not_ready"
    assert served.gateway.intake.bytes == 0
    client.publish(1)
    await until(lambda: len(served.replica.requests) == 2)


# ------------------------------------------------------------------ FETCH and QUERY


async def test_questions_are_answered_later_and_only_once(served: Front, client: RawClient) -> None:
    client.send(wire.Fetch(1, "a.>", 3, wire.FORWARD, 10, 1_000, wire.LOCAL))
    client.send(wire.Query(2, "topics", {"pattern": ">"}))
    await until(lambda: len(served.replica.asked) == 2)
    (fetch, reply_fetch), (query, reply_query) = served.replica.asked
    assert isinstance(fetch, wire.Fetch)
    assert isinstance(query, wire.Query)
    reply_query(wire.Answer(0, {"topics": ()}, 9), ())
    assert await client.receive() == wire.Answer(2, {"topics": ()}, 9)
    info = wire.BatchInfo("a.b", 3, 1, -1, 1_000, client.client, 2)
    for _ in range(2):
        reply_fetch(wire.Fetched(0, (info,), 4, 4, 0), (pack([b"x"]),))
    assert await client.receive() == wire.Fetched(1, (info,), 4, 4, 0)
    assert client.payloads == [pack([b"x"])]
    assert await client.silent()


async def test_a_bad_question_and_too_many_questions_fail_with_their_number(served: Front, client: RawClient) -> None:
    client.send(wire.Fetch(1, "a..b", 3, wire.FORWARD, 10, 1_000, wire.LOCAL))
    message = await failed(client)
    assert (message.request, message.code) == (1, "illegal_topic")
    for number in range(1, 66):
        client.send(wire.Query(number, "topics", {}))
    message = await failed(client)
    assert (message.request, message.code, message.details["limit"]) == (65, "too_large", 64)


async def test_an_answer_for_a_client_that_left_is_dropped(served: Front, client: RawClient) -> None:
    client.send(wire.Query(1, "topics", {}))
    client.publish(1)
    client.send(wire.Goodbye())
    await until(lambda: bool(served.replica.asked) and served.gateway.connections == 0)
    served.replica.asked[0][1](wire.Answer(0, {}, 0), ())
    served.replica.deliver(served.gateway)
    assert await client.silent()


# ------------------------------------------------------------------ bad input and bad readers


async def test_garbage_of_every_kind_is_dropped_and_counted(served: Front, client: RawClient) -> None:
    """F38, F39, F41: random bytes, bombs, truncated and mutated frames; the others are served on."""
    chance = random.Random(11)
    good = wire.encode(CLUSTER, RING, wire.Publish("orders", client.client, 1, 1, 42))
    bombs = [
        b"",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc1",
        good[:-1],
        good + b"\x00",
    ]
    stranger = served.client()
    for bomb in bombs:
        stranger.send_raw(bomb)
        client.send_raw(bomb, b"payload", b"payload")
    for _ in range(900):  # with the bombs less than a socket queues (1,000): the stranger may not be connected yet
        mutated = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        client.send_raw(bytes(mutated), *(chance.randbytes(20) for _ in range(chance.choice((0, 1, 2)))))
        stranger.send_raw(chance.randbytes(chance.randrange(60)))
    whole = served.client()
    await whole.hello()
    whole.publish(1)
    await until(lambda: any(header.client == whole.client for header in served.replica.headers()))
    await until(lambda: served.gateway.counters["dropped"] > 500)
    served.replica.deliver(served.gateway)
    assert isinstance(await whole.receive(), wire.Receipt)


async def test_a_frame_that_only_replicas_send_is_dropped(served: Front, client: RawClient) -> None:
    """F45: a client can't play a replica."""
    client.send(wire.Receipt(client.client, 1, 0, 1, 0, 0, 0))
    client.send(wire.Goodbye())
    await until(lambda: served.gateway.connections == 0)
    assert served.gateway.counters["dropped"] == 1


async def test_raw_tcp_garbage_on_the_port_disturbs_nobody(served: Front, client: RawClient) -> None:
    import socket

    host, port = served.endpoint.removeprefix("tcp://").split(":")
    for content in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 100, bytes(64), b"\x01"):
        with socket.create_connection((host, int(port)), timeout=2) as raw:
            raw.sendall(content)
    client.send(wire.Ping(1))
    assert isinstance(await client.receive(), wire.Pong)


async def test_a_frame_beyond_the_socket_limit_cuts_its_sender_only() -> None:
    """F40."""
    with front(socket_limits=SocketLimits(frame_bytes_max=10_000)) as served:
        good, bad = served.client(), served.client()
        await good.hello()
        await bad.hello()
        bad.publish(1, [b"x" * 20_000])
        good.publish(1)
        await until(lambda: [header.client for header in served.replica.headers()] == [good.client])
        good.send(wire.Ping(1))
        assert isinstance(await good.receive(), wire.Pong)


async def test_a_client_that_does_not_read_is_cut_and_counted_and_others_are_served() -> None:
    """F36 on the reply side: answers pile up to a bound, then the client is forgotten (A9)."""
    with front(GatewayLimits(answer_bytes_max=4 << 20)) as served:
        slow, good = served.client(SocketLimits(receive_queue_max=1)), served.client()
        slow.socket.setsockopt(zmq.RCVBUF, 4_096)
        await slow.hello()
        await good.hello()
        info = wire.BatchInfo("a", 0, 1, -1, 0, slow.client, 0)
        number = 0

        def fed() -> bool:
            nonlocal number
            number += 1
            slow.send(wire.Query(number, "x", {}))
            for _, reply in served.replica.asked:
                reply(wire.Fetched(1, (info,), 1, 1, 0), (bytes(1 << 20),))
            served.replica.asked.clear()
            return served.gateway.counters["cut"] == 1

        await until(fed, 20)
        assert served.gateway.connections == 1
        good.publish(1)
        await until(lambda: bool(served.replica.requests))
        served.replica.deliver(served.gateway)
        assert isinstance(await good.receive(), wire.Receipt)


async def test_silent_connections_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.front.TICK_S", 0.01)
    monkeypatch.setattr("broker.front.SILENT_TICKS_MAX", 10)
    with front() as served:
        await served.client().hello()
        served.replica.bytes_free = 0
        served.clients[0].publish(1)
        await until(lambda: len(served.gateway.intake) == 1)
        await until(lambda: served.gateway.counters["expired"] == 1)
        assert (served.gateway.connections, len(served.gateway.intake)) == (0, 0)
