"""The live feed of a replica: a PUB socket with every applied batch and a control topic (docs/wire.md, "Live feed").

Nothing is kept for a subscriber and nothing waits for one: a slow one loses frames at its high-water mark, sees a hole
by `previous` or at the next control frame, and fetches (docs/faults.md 34, 36). A control frame leaves at least each
250 ms, and as soon as the feed pauses, so that a lost tail is found at once. `FEED_LIMITS` bounds what a slow
subscriber's queue can hold, and for how long: one whose queue has not moved for five seconds is cut.

With keys it is an XPUB that subscribes nobody by itself: each subscription is looked at (broker/grants.py), and each
set of patterns has a control topic of its own, so that nobody hears of topics that he may not read.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import zmq

from broker.doors import Holder
from broker.grants import Grant
from broker.guard import Guard, open_port
from broker.security import CLIENTS, Security
from broker.sockets import (
    SUBSCRIPTION_BYTES_MAX,
    DrainedSocket,
    Message,
    SocketLimits,
    ZmqContext,
    ZmqSocket,
    open_socket,
)
from ringcast.bus.feed import CONTROL_INTERVAL_MS, encode_batch, encode_control
from ringcast.wire import BatchInfo

CONTROL_INTERVAL_S = CONTROL_INTERVAL_MS / 1_000
#: No batch for so long after the last one is a pause.
PAUSE_S = 0.02
#: A larger batch is not sent: its subscribers fetch it.
BATCH_BYTES_MAX = 256 << 10
#: For the PUB socket; all subscribers share the memory of a queued frame.
FEED_LIMITS = SocketLimits(frame_bytes_max=SUBSCRIPTION_BYTES_MAX, send_queue_max=4_000, cut_after_ms=5_000)
#: With so many changed topics a control frame leaves at once, so that it stays small.
CHANGED_TOPICS_MAX = 4_096
UNKNOWN_CLUSTER = 0
#: Subscriptions of one connection; beyond it the connection is cut.
SUBSCRIPTIONS_MAX = 1_000
_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


def open_feed_socket(context: ZmqContext, security: Security | None) -> ZmqSocket:
    """The socket of a feed, to be bound."""
    if security is None:
        return open_socket(context, zmq.PUB, FEED_LIMITS)
    socket = open_socket(context, zmq.XPUB, FEED_LIMITS)
    socket.setsockopt(zmq.XPUB_MANUAL, 1)
    security.listen(socket, CLIENTS)
    return socket


class Feed:
    """Publishes on a bound socket of `open_feed_socket`. `counters`: batches, controls, too_large, subscriptions ...

    `publish` is called with each delivery, `jump` when a snapshot moved the state without delivering.
    """

    def __init__(
        self,
        socket: ZmqSocket,
        cluster: Callable[[], int],
        *,
        ring: int,
        next_offset: int,
        security: Security | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._security = security
        self._port = open_port("feed", socket, guard, reads=False)
        if security is None:
            self._socket = DrainedSocket(socket)
        else:
            # One at a time: libzmq applies what is decided to the connection of the message that was read last.
            self._door = security.door(self._port, CLIENTS)
            identify = self._door.of_subscription
            self._socket = DrainedSocket(
                socket, self._on_subscriptions, turn_messages_max=1, identify=identify, asks=False
            )
            security.on_change.append(self._keys_changed)
        self._subscribed: Counter[Holder] = Counter()
        self._controls: dict[bytes, Grant] = {}  # with keys: those that were subscribed to
        self._cluster = cluster
        self._ring = ring
        self._next_offset = next_offset
        self._since = next_offset
        self._changed: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self._published_at = self._loop.time()
        self._pausing = False  # a timer looks whether the feed has paused
        self._timer = self._loop.call_later(CONTROL_INTERVAL_S, self._on_interval)
        self._pause_timer: asyncio.TimerHandle | None = None

    def publish(self, batches: Iterable[tuple[BatchInfo, bytes]], next_offset: int) -> None:
        """Send applied batches, in order; `next_offset` follows the last of them."""
        cluster, ring, changed, send = self._cluster(), self._ring, self._changed, self._socket.send
        sent = skipped = 0
        for info, packed in batches:
            changed[info.topic] = info.first_offset + info.messages - 1
            if len(packed) > BATCH_BYTES_MAX:
                skipped += 1
                continue
            send(encode_batch(cluster, ring, info, packed))
            sent += 1
        self._next_offset = next_offset
        self.counters["batches"] += sent
        if skipped:
            self.counters["too_large"] += skipped
        if skipped or len(changed) >= CHANGED_TOPICS_MAX:
            self._control()
        elif sent:
            self._published_at = self._loop.time()
            if not self._pausing:
                self._pausing = True
                self._pause_timer = self._loop.call_later(PAUSE_S, self._look_for_pause)

    def jump(self, next_offset: int) -> None:
        """The state stands at `next_offset` without deliveries in between: every subscriber below it sees a hole."""
        self._next_offset = self._since = next_offset
        self._changed.clear()
        self._control()

    def close(self) -> None:
        """Stop; the socket is closed. Safe to call twice."""
        self._timer.cancel()
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self._port.close()
        self._socket.close()

    def _look_for_pause(self) -> None:
        quiet = self._loop.time() - self._published_at
        if quiet >= PAUSE_S:
            self._pausing = False
            if self._changed:
                self._control()
        else:
            self._pause_timer = self._loop.call_later(PAUSE_S - quiet, self._look_for_pause)

    def _on_interval(self) -> None:
        self._timer = self._loop.call_later(CONTROL_INTERVAL_S, self._on_interval)
        if len(self._subscribed) > 2 * len(self._holders()):
            self._subscribed = Counter({one: self._subscribed[one] for one in self._holders()})
        self._control()

    # ------------------------------------------------------------------ who may read what

    def _on_subscriptions(self, messages: list[Message]) -> None:
        assert self._security is not None
        for parts, key in zip(messages, self._socket.keys, strict=False):
            sign, wanted = parts[0][:1], parts[0][1:]
            grant, holder = self._security.grant(key), self._door.last
            if holder is not None:
                # Whatever it sends: libzmq has kept it before we are asked.
                self._subscribed[holder] += 1
                if self._subscribed[holder] > SUBSCRIPTIONS_MAX:
                    self.counters["cut"] += self._door.cut(holder.__eq__)
                    continue
            if grant is None or len(parts) != 1 or sign not in {_SUBSCRIBE, _UNSUBSCRIBE}:
                self.counters["subscriptions_refused" if key else "subscriptions_ended"] += 1
                continue
            prefixes = grant.feed_prefixes(wanted)
            self.counters["subscriptions" if prefixes else "subscriptions_refused"] += sign == _SUBSCRIBE
            for prefix in prefixes:
                self._socket.socket.setsockopt(zmq.SUBSCRIBE if sign == _SUBSCRIBE else zmq.UNSUBSCRIBE, prefix)
            if prefixes == (grant.control,):
                self._controls[grant.control] = grant

    def _holders(self) -> "set[Holder]":
        """Connections that may still be there."""
        return set(self._door.holders.values()) if self._security is not None else set()

    def _keys_changed(self) -> None:
        """Whose patterns changed was cut, and subscribes anew."""
        assert self._security is not None
        known = {grant.control for grant in self._security.keyring.grants.values()}
        self._controls = {name: grant for name, grant in self._controls.items() if name in known}

    def _control(self) -> None:
        cluster = self._cluster()
        if cluster == UNKNOWN_CLUSTER:
            return
        if self._security is None:
            self._socket.send(encode_control(cluster, self._ring, self._next_offset, self._since, self._changed))
        for name, grant in self._controls.items():
            changed = {topic: last for topic, last in self._changed.items() if grant.may_read(topic)}
            _, header = encode_control(cluster, self._ring, self._next_offset, self._since, changed)
            self._socket.send((name, header))
        self.counters["controls"] += 1
        self._since = self._next_offset
        self._changed.clear()
