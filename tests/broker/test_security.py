"""CURVE on real sockets: who gets in, where, as whom, and for how long (docs/faults.md 42-47)."""

import asyncio
import json
import os
import socket as sockets
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from broker import zap
from broker.doors import Holder
from broker.feed import Feed, open_feed_socket
from broker.gateway import Gateway
from broker.guard import open_port
from broker.security import CLIENTS, Security
from broker.sockets import DrainedSocket, Message, bind
from ringcast import wire
from ringcast.bus.batch import pack
from ringcast.bus.feed import Control, FeedBatch, decode, prefix
from ringcast.errors import KeysUnusable
from ringcast.keys import Pair
from ringcast.wire import BatchInfo
from tests.broker.clients import CLUSTER, RING, PlayedReplica, until
from tests.broker.secured import BILLING, Secured, secured


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Secured]:
    with secured(tmp_path) as made:
        yield made


class Listener:
    """A bound ROUTER with a door: every message with its key."""

    def __init__(self, place: Secured, domain: str = CLIENTS) -> None:
        self.heard: list[tuple[str, bytes]] = []
        router, self.endpoint = place.bound(zmq.ROUTER, domain)
        self.port = open_port("test", router, None)
        self.door = place.security.door(self.port, domain)
        self.socket = DrainedSocket(router, self._on_frames, identify=self.door.of_route)

    def _on_frames(self, messages: list[Message]) -> None:
        for parts, key in zip(messages, self.socket.keys, strict=True):
            self.heard.append((key, parts[1]))


@pytest.fixture
async def listen(place: Secured) -> AsyncIterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def listener(domain: str = CLIENTS) -> Listener:
        made.append(Listener(place, domain))
        return made[-1]

    yield listener
    for one in made:
        one.port.close()
        one.socket.close()


async def nothing_after(listener: Listener, refused: Callable[[], int], count: int = 1) -> None:
    """So many refusals, and no message."""
    await until(lambda: refused() >= count)
    assert listener.heard == []


# ---------------------------------------------------------------- 42: who gets in


async def test_a_message_brings_the_key_of_who_sent_it(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    place.connected(zmq.DEALER, listener.endpoint).send(b"of billing")
    place.connected(zmq.DEALER, listener.endpoint, "admin").send(b"of admin")
    await until(lambda: len(listener.heard) == 2)
    names = {key: grant.key for key, grant in place.security.keyring.grants.items()}
    assert {(names[key], said) for key, said in listener.heard} == {("billing", b"of billing"), ("admin", b"of admin")}


async def test_an_unknown_key(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    place.dialled(zmq.DEALER, listener.endpoint, Pair.new(), place.security.secrets.server.public).send(b"x")
    await nothing_after(listener, lambda: place.security.all_counters()["refused_unknown"])


async def test_a_wrong_server_key(place: Secured, listen: Callable[..., Listener]) -> None:
    """The client does not believe this server: nothing can be read of what it says."""
    listener = listen()
    pair = place.pair("client-billing.key", "client")
    place.dialled(zmq.DEALER, listener.endpoint, pair, Pair.new().public).send(b"x")
    await nothing_after(listener, lambda: place.security.all_counters()["handshakes_failed"])


async def test_a_client_without_keys(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    place.dialled(zmq.DEALER, listener.endpoint).send(b"x")
    counters = place.security.all_counters  # whoever notices first hangs up
    await nothing_after(listener, lambda: counters()["handshakes_failed"] + counters()["handshakes_broken_off"])


@pytest.mark.parametrize(
    ("domain", "file", "kind", "lets_in"),
    [
        (CLIENTS, "bus-2.key", "member", False),
        ("peer-bus", "bus-2.key", "member", True),
        ("peer-bus", "products-1.key", "member", False),
        ("peer-bus", "client-admin.key", "client", False),
        (CLIENTS, "server.key", "server", False),
        ("peer-bus", "server.key", "server", False),
    ],
)
async def test_each_port_has_its_own_keys(
    place: Secured, listen: Callable[..., Listener], domain: str, file: str, kind: str, lets_in: bool
) -> None:
    """Fault 45, at the door: a client never speaks on a port of members, a member of another role neither."""
    listener, secrets = listen(domain), place.security.secrets
    assert secrets.member is not None
    server = secrets.server if domain == CLIENTS else secrets.member
    place.dialled(zmq.DEALER, listener.endpoint, place.pair(file, kind), server.public).send(b"x")
    if lets_in:
        await until(lambda: bool(listener.heard))
    else:
        counters = place.security.all_counters
        await nothing_after(listener, lambda: counters()["refused_wrong_port"] + counters()["refused_unknown"])


async def test_the_name_of_a_connection_proves_nothing(place: Secured, listen: Callable[..., Listener]) -> None:
    """Two connections of two keys that take the same routing id, one after the other: each message has its own key."""
    listener = listen()
    for name in ("admin", "billing"):
        keys = place.pair(f"client-{name}.key", "client")
        dealer = place.outside.socket(zmq.DEALER)
        dealer.setsockopt(zmq.ROUTING_ID, b"the same")
        for option, value in keys.dials(place.security.secrets.server.public).items():
            dealer.setsockopt(option, value)
        dealer.connect(listener.endpoint)
        dealer.send(name.encode())
        await until(lambda name=name: any(said == name.encode() for _, said in listener.heard))  # type: ignore[misc]
        dealer.close(linger=0)
        await asyncio.sleep(0.05)  # the ROUTER has to see it go, or the name is taken still
    names = {key: grant.key.encode() for key, grant in place.security.keyring.grants.items()}
    assert [names[key] for key, _ in listener.heard] == [said for _, said in listener.heard]


# ---------------------------------------------------------------- 43: a flood of refusals


async def test_a_flood_of_refused_handshakes_is_slowed_and_keeps_nothing(
    place: Secured, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zap, "HELD_MAX", 8)
    listener, server = listen(), place.security.secrets.server.public
    authenticator = place.security.authenticator
    for _ in range(120):
        place.dialled(zmq.DEALER, listener.endpoint, Pair.new(), server)
    held = 0

    def flooded() -> bool:
        nonlocal held
        held = max(held, authenticator.held)
        return authenticator.counters["refused_unknown"] >= 100

    await until(flooded, 20)
    assert 0 < held <= 8
    assert authenticator.addresses == 1
    place.connected(zmq.DEALER, listener.endpoint).send(b"meanwhile")
    await until(lambda: bool(listener.heard))


async def test_addresses_are_forgotten(place: Secured) -> None:
    authenticator = place.security.authenticator
    for number in range(5_000):
        authenticator._refused(f"10.0.{number >> 8}.{number & 255}", "unknown", b"client")
    assert authenticator.addresses == zap.ADDRESSES_MAX


async def test_what_is_no_request_of_zap_is_counted(place: Secured) -> None:
    stranger = place.context.socket(zmq.DEALER)
    stranger.connect(zap.ENDPOINT)
    stranger.send_multipart([b"", b"9.9", b"x"])
    await until(lambda: place.security.authenticator.counters["malformed"] == 1)
    stranger.close(linger=0)


# ---------------------------------------------------------------- 47: rotation and revocation


async def test_a_revoked_key_is_cut_and_does_not_come_back(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    ours, other = (place.connected(zmq.DEALER, listener.endpoint, name) for name in ("billing", "admin"))
    ours.send(b"before")
    other.send(b"other")
    await until(lambda: len(listener.heard) == 2)
    place.keys.revoke("billing")
    place.security.look()
    assert place.security.counters["cut"] == 1
    ours.send(b"after")  # libzmq connects again by itself
    await until(lambda: place.security.all_counters()["refused_revoked"] > 0)
    other.send(b"still here")
    await until(lambda: any(said == b"still here" for _, said in listener.heard))
    assert not any(said == b"after" for _, said in listener.heard)


async def test_two_keys_are_valid_while_one_is_rotated(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    old = place.connected(zmq.DEALER, listener.endpoint)
    old.send(b"1")
    place.keys.rotate("billing")
    place.security.look()
    new = place.connected(zmq.DEALER, listener.endpoint)
    old.send(b"2")
    new.send(b"3")
    await until(lambda: len(listener.heard) == 3)
    assert place.security.counters["cut"] == 0  # nobody notices a rotation
    assert len({key for key, _ in listener.heard}) == 2
    assert place.keys.retire("billing") == 1
    place.security.look()
    assert place.security.counters["cut"] == 1
    new.send(b"4")
    await until(lambda: len(listener.heard) == 4)


async def test_a_keyring_that_cannot_be_read_changes_nothing(place: Secured, listen: Callable[..., Listener]) -> None:
    listener = listen()
    (place.folder / "keyring.json").write_text("{")
    place.security.look()
    assert place.security.counters["keyring_refused"] == 1
    place.connected(zmq.DEALER, listener.endpoint).send(b"x")
    await until(lambda: bool(listener.heard))


async def test_the_keyring_is_watched(place: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.security.WATCH_INTERVAL_S", 0.01)
    watching = asyncio.create_task(place.security.watch())
    place.keys.add_client("late", BILLING)
    await until(lambda: any(grant.key == "late" for grant in place.security.keyring.grants.values()))
    watching.cancel()


async def test_a_cut_ends_no_connection_of_another(place: Secured) -> None:
    """A descriptor that was closed and used again is left alone."""
    router, _ = place.bound(zmq.ROUTER)
    with closing(sockets.create_server(("127.0.0.1", 0))) as server:
        ours = sockets.create_connection(server.getsockname())
        theirs, _ = server.accept()
        port = open_port("test", router, None)
        door = place.security.door(port, CLIENTS)
        door.holders[theirs.fileno()] = Holder("revoked", ("10.9.9.9", 1))
        door.holders[os.open(place.folder / "keyring.json", os.O_RDONLY)] = Holder("revoked", ("10.9.9.9", 1))
        assert door.cut(lambda holder: holder.key == "revoked") == 0
        theirs.sendall(b"alive")
        assert ours.recv(5) == b"alive"
        ours.close()
        theirs.close()
    port.close()
    router.close(linger=0)


# ---------------------------------------------------------------- secrets


async def test_a_secret_that_others_can_read_is_refused_with_the_fix(place: Secured) -> None:
    path = place.folder / "bus-1.key"
    path.chmod(0o644)
    with pytest.raises(KeysUnusable, match=rf"its mode is 0644, and it holds a secret: .*chmod 600 {path}"):
        Security(place.context, place.folder, "bus", 1)


async def test_a_keyring_that_others_can_write_is_refused(place: Secured) -> None:
    (place.folder / "keyring.json").chmod(0o666)
    with pytest.raises(KeysUnusable, match="anybody may let himself in: close it for writing"):
        Security(place.context, place.folder, "bus", 1)


async def test_a_secret_that_is_not_on_the_list(place: Secured) -> None:
    document = json.loads((place.folder / "bus-2.key").read_text())
    (place.folder / "bus-1.key").write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match=r"not among `members\.bus\.1` of keyring\.json"):
        Security(place.context, place.folder, "bus", 1)


# ---------------------------------------------------------------- roles at the gateway


class Served:
    """A gateway with keys."""

    def __init__(self, place: Secured) -> None:
        self.place = place
        self.replica = PlayedReplica()
        router, self.endpoint = place.bound(zmq.ROUTER)
        self.gateway = Gateway(router, self.replica, member=2, ring=RING, feed="", security=place.security)
        self.client = bytes(16)

    async def ask(self, dealer: "zmq.Socket[bytes]", message: wire.Message, *payloads: bytes) -> wire.Message:
        dealer.send_multipart([wire.encode(CLUSTER, RING, message), *payloads])
        await until(lambda: bool(dealer.poll(0)))
        frames = dealer.recv_multipart()
        return wire.decode(frames[0], len(frames) - 1).message


@pytest.fixture
async def served(place: Secured) -> AsyncIterator[Served]:
    made = Served(place)
    yield made
    made.gateway.close()


async def test_a_client_without_the_role_is_told_which_one_it_lacks(served: Served) -> None:
    dealer = served.place.connected(zmq.DEALER, served.endpoint)
    assert isinstance(await served.ask(dealer, wire.Hello(served.client, 0)), wire.Welcome)
    refused = await served.ask(dealer, wire.Publish("salaries", served.client, 1, 1, 0), pack([b"x"]))
    assert isinstance(refused, wire.Refused)
    assert (refused.code, refused.details["role"], refused.details["granted"]) == ("not_allowed", "publish", "orders.>")
    for request in (
        wire.Fetch(1, "salaries", 0, wire.FORWARD, 1, 1, wire.LOCAL),
        wire.Query(2, "change_members", {"remove": 2}, wire.LINEARIZABLE),
    ):
        failed = await served.ask(dealer, request)
        assert isinstance(failed, wire.Failed)
        assert failed.code == "not_allowed"
    assert not served.replica.asked
    assert not served.replica.requests


async def test_a_client_with_the_role_is_served(served: Served) -> None:
    dealer = served.place.connected(zmq.DEALER, served.endpoint)
    await served.ask(dealer, wire.Hello(served.client, 0))
    dealer.send_multipart([wire.encode(CLUSTER, RING, wire.Publish("orders.eu", served.client, 1, 1, 0)), pack([b"x"])])
    await until(lambda: len(served.replica.requests) == 1)


async def test_a_frame_that_only_members_send_is_dropped(served: Served) -> None:
    """Fault 45, past the door: the client port knows no such frame."""
    dealer = served.place.connected(zmq.DEALER, served.endpoint, "admin")
    await served.ask(dealer, wire.Hello(served.client, 0))
    dropped = served.gateway.counters["dropped"]
    dealer.send(b"\x97\x02\xce\x00\xc0\xff\xee\x00\x01\x92\x01\x02\x03\x90")  # as members speak among themselves
    dealer.send(wire.encode(CLUSTER, RING, wire.Receipt(served.client, 1, 0, 1, 1, 1, 1)))
    await until(lambda: served.gateway.counters["dropped"] == dropped + 2)
    assert served.replica.requests == []


async def test_rights_that_change_while_connected(served: Served) -> None:
    dealer = served.place.connected(zmq.DEALER, served.endpoint)
    await served.ask(dealer, wire.Hello(served.client, 0))
    served.place.keys.grant("billing", BILLING._replace(publish=("salaries",)))
    served.place.security.look()
    assert served.gateway.connections == 0
    again = served.place.connected(zmq.DEALER, served.endpoint)
    assert isinstance(await served.ask(again, wire.Hello(served.client, 0)), wire.Welcome)
    refused = await served.ask(again, wire.Publish("orders.eu", served.client, 1, 1, 0), pack([b"x"]))
    assert isinstance(refused, wire.Refused)
    assert refused.details["granted"] == "salaries"


# ---------------------------------------------------------------- patterns on the feed


async def test_the_feed_gives_each_key_what_it_may_read(place: Secured) -> None:
    socket = open_feed_socket(place.context, place.security)
    endpoint = bind(socket, "tcp://127.0.0.1:*")
    feed = Feed(socket, lambda: CLUSTER, ring=RING, next_offset=0, security=place.security)
    everything = place.connected(zmq.SUB, endpoint, "admin")
    billing = place.connected(zmq.SUB, endpoint)
    for subscriber in (everything, billing):
        for wanted in ("orders.>", "salaries", ">"):
            subscriber.setsockopt(zmq.SUBSCRIBE, prefix(wanted))
        subscriber.setsockopt(zmq.SUBSCRIBE, b"\x01control\x00")
    await until(lambda: feed.counters["subscriptions"] == 6 and feed.counters["subscriptions_refused"] == 2)
    batches = [
        (BatchInfo(topic, offset, 1, -1, 1_000, bytes(16), 3), pack([b"x"]))
        for offset, topic in enumerate(("orders.eu", "salaries", "_cursors"))
    ]
    feed.publish(batches, 3)

    def taken(subscriber: "zmq.Socket[bytes]", into: list[FeedBatch | Control]) -> bool:
        while subscriber.poll(0):
            into.append(decode(subscriber.recv_multipart()))
        return any(isinstance(one, Control) and one.next_offset == 3 for one in into)

    seen: list[FeedBatch | Control] = []
    allowed: list[FeedBatch | Control] = []
    await until(lambda: taken(everything, seen))
    await until(lambda: taken(billing, allowed))
    assert {one.info.topic for one in seen if isinstance(one, FeedBatch)} == {"orders.eu", "salaries", "_cursors"}
    assert {one.info.topic for one in allowed if isinstance(one, FeedBatch)} == {"orders.eu"}
    told = [one.changed for one in seen if isinstance(one, Control) and one.changed]
    assert told == [{"orders.eu": 0, "salaries": 1, "_cursors": 2}]
    assert [one.changed for one in allowed if isinstance(one, Control) and one.changed] == [{"orders.eu": 0}]
    place.keys.revoke("billing")
    place.security.look()
    assert place.security.counters["cut"] == 1
    feed.close()


async def test_who_subscribes_without_end_is_cut(place: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.feed.SUBSCRIPTIONS_MAX", 20)
    socket = open_feed_socket(place.context, place.security)
    endpoint = bind(socket, "tcp://127.0.0.1:*")
    feed = Feed(socket, lambda: CLUSTER, ring=RING, next_offset=0, security=place.security)
    greedy = place.connected(zmq.SUB, endpoint)
    for number in range(100):
        greedy.setsockopt(zmq.SUBSCRIBE, f"orders.{number}\0".encode())
    await until(lambda: feed.counters["cut"] >= 1)
    feed.close()
