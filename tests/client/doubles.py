"""A cluster that is none: one order in memory, K1 and cursors, served by any number of in-process replicas.

The replicas speak the real frames over real sockets on the loopback interface; faults are plain attributes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import zmq

from ringcast import wire
from ringcast.bus import feed
from ringcast.bus.batch import check, digest, unpack
from ringcast.bus.cursors import COMMIT, DELETE, CursorOperation, decode_operation
from ringcast.bus.topics import CURSORS_TOPIC, matches
from ringcast.errors import (
    AlreadyApplied,
    BadFrame,
    Compacted,
    IdReused,
    RingcastError,
    SequenceGap,
    SessionExpired,
    UnknownQuery,
)
from ringcast.sockets import DrainedSocket
from ringcast.strict import Plain

CLUSTER = 0xC0FFEE
TIME_US = 1_700_000_000_000_000
LIMITS = wire.Limits(batch_bytes_max=1 << 16, batch_count_max=4_096, topic_bytes_max=255, outstanding_max=64)


@dataclass
class Applied:
    """What K1 remembers of one batch."""

    first: int
    messages: int
    slot: int
    digest: bytes


@dataclass
class Order:
    """The one order that all replicas of a test share; each applied batch is a slot."""

    batches: list[tuple[wire.BatchInfo, bytes]] = field(default_factory=list)
    clients: dict[bytes, dict[int, Applied]] = field(default_factory=dict)
    cursors: dict[str, tuple[str, int]] = field(default_factory=dict)
    next_offset: int = 0
    compacted_below: int = 0
    horizon: int = -1
    #: Called for each batch before it is judged; may return an error to refuse it with.
    judge: Callable[[wire.Publish], RingcastError | None] = lambda publish: None
    replicas: list["Replica"] = field(default_factory=list)

    @property
    def slot(self) -> int:
        return len(self.batches)

    def forget_clients(self) -> None:
        """What a full K1 table does: drop all entries and raise the horizon."""
        self.clients.clear()
        self.horizon = self.slot

    def apply(self, publish: wire.Publish, packed: bytes) -> wire.Receipt | wire.Refused:
        """The verdict of K1."""
        refusal = self.judge(publish)
        if refusal is not None:
            return wire.refusal(publish.client, publish.sequence, refusal)
        known = self.clients.get(publish.client)
        if known is None:
            if publish.opened <= self.horizon:
                expired = SessionExpired(client=publish.client.hex(), opened=publish.opened, horizon=self.horizon)
                return wire.refusal(publish.client, publish.sequence, expired)
            known = {}
        last = max(known, default=0)
        if publish.sequence > last + 1:
            return wire.refusal(
                publish.client, publish.sequence, SequenceGap(sequence=publish.sequence, last=last), last
            )
        if publish.sequence <= last:
            return self._repeated(known, publish, packed)
        self.clients[publish.client] = known
        info = self._place(publish, packed)
        known[publish.sequence] = Applied(info.first_offset, info.messages, info.slot, digest(packed))
        return wire.Receipt(
            publish.client, publish.sequence, info.first_offset, info.messages, info.slot, info.time_us, 0
        )

    @staticmethod
    def _repeated(known: dict[int, Applied], publish: wire.Publish, packed: bytes) -> wire.Receipt | wire.Refused:
        entry = known[publish.sequence]
        if entry.digest != digest(packed):
            return wire.refusal(publish.client, publish.sequence, IdReused(sequence=publish.sequence))
        if entry.first < 0:
            return wire.refusal(publish.client, publish.sequence, AlreadyApplied(sequence=publish.sequence))
        return wire.Receipt(
            publish.client,
            publish.sequence,
            entry.first,
            entry.messages,
            entry.slot,
            TIME_US + entry.slot,
            0,
        )

    def _place(self, publish: wire.Publish, packed: bytes) -> wire.BatchInfo:
        info = wire.BatchInfo(
            publish.topic,
            self.next_offset,
            publish.messages,
            self.last_offset(publish.topic),
            TIME_US + self.slot,
            publish.client,
            self.slot,
        )
        self.next_offset += publish.messages
        self.batches.append((info, packed))
        if publish.topic == CURSORS_TOPIC:
            for payload, _ in unpack(packed, publish.messages):
                self._move_cursor(payload)
        for replica in self.replicas:
            replica.feed_batch(info, packed)
        return info

    def _move_cursor(self, payload: bytes) -> None:
        try:
            operation: CursorOperation = decode_operation(payload)
        except BadFrame:
            return
        if operation.operation == DELETE:
            self.cursors.pop(operation.name, None)
            return
        offset = operation.offset
        if operation.operation == COMMIT:
            offset = max(offset, self.cursors.get(operation.name, ("", 0))[1])
        self.cursors[operation.name] = (operation.pattern, offset)

    def last_offset(self, topic: str) -> int:
        return max((i.first_offset + i.messages - 1 for i, _ in self.batches if i.topic == topic), default=-1)

    def payloads(self, pattern: str = ">") -> list[bytes]:
        """Every message that matches, in order: what a correct subscriber sees."""
        return [
            payload
            for info, packed in self.batches
            if matches(pattern, info.topic)
            for payload, _ in unpack(packed, info.messages)
        ]


class Replica:
    """One in-process replica: a ROUTER and a PUB. Use as a context manager, or `start` and `kill` it."""

    def __init__(self, order: Order, replica: int = 1, *, cluster: int = CLUSTER) -> None:
        self.order = order
        self.replica = replica
        self.cluster = cluster
        self.credit = 1 << 20
        self.serving = True
        #: Ignores every frame, as a stopped process does.
        self.stopped = False
        #: Applies batches but says nothing: the receipts are lost.
        self.mute = False
        #: Takes batches and does nothing with them until `release`.
        self.holding = False
        #: Says True for a feed message that is to be lost.
        self.drop_feed: Callable[[wire.BatchInfo], bool] = lambda info: False
        self.control_enabled = True
        #: Where it says that its feed is.
        self.feed_host = "127.0.0.1"
        self.refuse_hello: RingcastError | None = None
        self.seen: list[wire.Message] = []
        self.held: list[tuple[bytes, wire.Publish, bytes]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._since = order.next_offset
        self._changed: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        """Bind on free ports and serve."""
        self.start_at(0)

    def start_at(self, port: int) -> None:
        """Bind the ROUTER on `port` (0 = a free one) and the PUB on a free one."""
        router, publisher = self._context.socket(zmq.ROUTER), self._context.socket(zmq.PUB)
        for one in (router, publisher):
            one.setsockopt(zmq.LINGER, 0)
        try:
            router.bind(f"tcp://127.0.0.1:{port or '*'}")
        except zmq.ZMQError:
            router.close()
            publisher.close()
            raise
        self.port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self.feed_port = publisher.bind_to_random_port("tcp://127.0.0.1")
        self._publisher = publisher
        self._router = DrainedSocket(router, self._on_frames)
        self.order.replicas.append(self)
        self._timer = asyncio.get_running_loop().call_later(feed.CONTROL_INTERVAL_MS / 1000, self._on_timer)

    def kill(self) -> None:
        """As kill -9: the sockets are gone at once."""
        if self in self.order.replicas:
            self.order.replicas.remove(self)
            self._timer.cancel()
            self._router.close()
            self._publisher.close(linger=0)

    async def restart(self) -> None:
        """Serve again on the same client port; ZeroMQ frees a port a moment after the socket was closed."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return self.start_at(self.port)
                except zmq.ZMQError:
                    await asyncio.sleep(0.002)

    def close(self) -> None:
        self.kill()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def published(self) -> list[int]:
        """The sequences of all PUBLISH frames seen, in order of arrival."""
        return [message.sequence for message in self.seen if isinstance(message, wire.Publish)]

    # ---- feed ----

    def feed_batch(self, info: wire.BatchInfo, packed: bytes) -> None:
        self._changed[info.topic] = info.first_offset + info.messages - 1
        if not self.stopped and not self.drop_feed(info):
            self._publisher.send_multipart(feed.encode_batch(self.cluster, 0, info, packed), zmq.DONTWAIT)

    def send_feed(self, frames: list[bytes]) -> None:
        """Any bytes, to all subscribers."""
        self._publisher.send_multipart(frames, zmq.DONTWAIT)

    def restart_feed(self) -> None:
        """The feed alone breaks and comes back on another port."""
        self._publisher.close(linger=0)
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.setsockopt(zmq.LINGER, 0)
        self.feed_port = self._publisher.bind_to_random_port("tcp://127.0.0.1")

    def feed_control(self) -> None:
        next_offset = self.order.next_offset
        frames = feed.encode_control(self.cluster, 0, next_offset, self._since, self._changed)
        self._since, self._changed = next_offset, {}
        if self.control_enabled and not self.stopped:
            self._publisher.send_multipart(frames, zmq.DONTWAIT)

    def _on_timer(self) -> None:
        self.feed_control()
        self._timer = asyncio.get_running_loop().call_later(feed.CONTROL_INTERVAL_MS / 1000, self._on_timer)

    # ---- clients ----

    def _on_frames(self, frames: list[bytes]) -> None:
        identity, header, *payloads = frames
        try:
            message = wire.decode(header, len(payloads)).message
        except BadFrame:
            return
        self.seen.append(message)
        if self.stopped:
            return
        match message:
            case wire.Hello():
                self._send(identity, self._welcome())
            case wire.Publish():
                check(payloads[0], message.messages)
                self._on_publish(identity, message, payloads[0])
            case wire.Fetch():
                self._on_fetch(identity, message)
            case wire.Query():
                self._send(identity, self._answer(message))
            case wire.Ping():
                self._send(identity, wire.Pong(message.nonce, self.serving, self.credit, self.order.next_offset))

    def _welcome(self) -> wire.Message:
        if self.refuse_hello is not None:
            return wire.failure(0, self.refuse_hello)
        feed_address = f"tcp://{self.feed_host}:{self.feed_port}"
        next_offset = self.order.next_offset
        return wire.Welcome(
            self.replica, (1, 7), (3, 1), self.order.slot, self.credit, LIMITS, feed_address, next_offset, self.members
        )

    def _on_publish(self, identity: bytes, publish: wire.Publish, packed: bytes) -> None:
        if self.holding:
            self.held.append((identity, publish, packed))
            return
        verdict = self.order.apply(publish, packed)
        if isinstance(verdict, wire.Receipt):
            verdict = verdict._replace(credit=self.credit)
        if not self.mute:
            self._send(identity, verdict)

    def release(self) -> None:
        """Work off what was held."""
        self.holding = False
        held, self.held = self.held, []
        for one in held:
            self._on_publish(*one)

    def tell_members(self, *replicas: "Replica") -> None:
        """Say to every client that these are the members now (V12)."""
        self.members = tuple(wire.Endpoint(one.replica, one.endpoint) for one in replicas)
        for identity in self._identities:
            self._send(identity, wire.Members(self.members))

    def say_goodbye(self) -> None:
        """Ask every client that ever said HELLO to move on (V11)."""
        for identity in self._identities:
            self._send(identity, wire.Goodbye("leaving"))

    members: tuple[wire.Endpoint, ...] = ()
    _identities: frozenset[bytes] = frozenset()

    def _send(self, identity: bytes, message: wire.Message, payloads: tuple[bytes, ...] = ()) -> None:
        self._identities |= {identity}
        self._router.send([identity, wire.encode(self.cluster, 0, message), *payloads])

    def send_raw(self, frames: list[bytes]) -> None:
        """The same bytes to every client."""
        for identity in self._identities:
            self._router.send([identity, *frames])

    lags_after: int | None = None  # so many FETCHes later one is answered as by a replica that has applied nothing

    def _on_fetch(self, identity: bytes, message: wire.Fetch) -> None:
        order = self.order
        if self.lags_after is not None:
            self.lags_after -= 1
            if self.lags_after < 0:
                self.lags_after = None
                assert message.consistency == wire.LOCAL
                self._send(
                    identity, wire.Fetched(message.request, (), 0 if message.direction == wire.FORWARD else -1, 0, 0)
                )
                return
        forward = message.direction == wire.FORWARD
        if forward and message.offset < order.compacted_below:
            error = Compacted(offset=message.offset, below=order.compacted_below)
            self._send(identity, wire.failure(message.request, error))
            return
        found: list[tuple[wire.BatchInfo, bytes]] = []
        messages = size = 0
        next_offset = order.next_offset if forward else -1
        for info, packed in order.batches if forward else reversed(order.batches):
            end = info.first_offset + info.messages
            outside = end <= message.offset if forward else info.first_offset > message.offset
            if outside or not matches(message.pattern, info.topic) or info.first_offset < order.compacted_below:
                continue
            if found and (messages + info.messages > message.messages_max or size + len(packed) > message.bytes_max):
                next_offset = info.first_offset if forward else end - 1
                break
            found.append((info, packed))
            messages, size = messages + info.messages, size + len(packed)
        infos = tuple(info for info, _ in found)
        answer = wire.Fetched(message.request, infos, next_offset, order.next_offset, order.compacted_below)
        self._send(identity, answer, tuple(packed for _, packed in found))

    def _answer(self, message: wire.Query) -> wire.Message:
        order, result = self.order, dict[str, Plain]()
        match message.name:
            case "status":
                result = {
                    "replica": self.replica, "state": "serving", "view": (3, 1), "members": (1, 2, 3), "ring": (1, 2),
                    "token_holder": None, "end": order.slot, "committed": order.slot, "next_offset": order.next_offset,
                    "compacted_below": order.compacted_below, "flavour": "fake",
                }  # fmt: skip
            case "topics":
                names = {
                    info.topic for info, _ in order.batches if matches(str(message.arguments["pattern"]), info.topic)
                }
                result["topics"] = tuple(
                    (name, sum(i.messages for i, _ in order.batches if i.topic == name), order.last_offset(name))
                    for name in names
                )
            case "cursors":
                result["cursors"] = tuple((name, *entry) for name, entry in order.cursors.items())
            case "cursor":
                entry = order.cursors.get(str(message.arguments["name"]))
                if entry is not None:
                    result = {"pattern": entry[0], "offset": entry[1]}
            case "offset_at":
                at = message.arguments["time_us"]
                assert isinstance(at, int)
                after = (info.first_offset for info, _ in order.batches if info.time_us >= at)
                result["offset"] = next(after, order.next_offset)
            case _:
                return wire.failure(message.request, UnknownQuery(what="query", name=message.name))
        return wire.Answer(message.request, result, order.next_offset)
