"""The live feed of one session: one SUB socket with its monitor, whatever the number of subscriptions.

Frames are decoded once and handed to the listeners that they concern. A control message concerns those that read a
topic that it names; for all others it only moves `end` up. It is handed to a listener whatever it says until that one
is known to miss nothing, and to all when a control message was lost (docs/wire.md, "The feed").
"""

import asyncio
from collections import Counter
from contextlib import suppress

import zmq

from ringcast import wire
from ringcast.bus import feed, prefixes
from ringcast.bus.batch import BATCH_BYTES_MAX, check
from ringcast.bus.listener import Held, Listener
from ringcast.bus.reads import Fetched, fetch
from ringcast.bus.session import RING, Session
from ringcast.bus.tail import is_single, last_changed
from ringcast.bus.topics import matches
from ringcast.errors import BadFrame, Closed
from ringcast.names import is_numeric, numeric
from ringcast.sockets import Watched

#: Feed messages that may wait in the socket; beyond that they wait at the replica, and then they are lost.
QUEUE_MAX = 1_000
#: What all consumers together may let wait; then those with the most fetch theirs.
HELD_BYTES_MAX = 64 << 20
#: Four control intervals: a feed that is silent for so long is broken.
SILENCE_S = 4 * feed.CONTROL_INTERVAL_MS / 1_000
RETRY_S = 0.2


class LiveFeed:
    """Open as long as somebody listens. `dropped`: feed messages that were none of ours or broken."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.dropped = 0
        self.end = -1
        self.held_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._groups: dict[str, dict[Listener, None]] = {}
        self._wide: dict[str, dict[Listener, None]] = {}  # the groups that read a pattern
        self._fresh: dict[Listener, None] = {}  # those that look at every control message
        self._fetches: dict[tuple[str, int], asyncio.Task[Fetched]] = {}
        self._socket: Watched | None = None
        self._naming: asyncio.Task[None] | None = None  # the feed's name is being looked up
        self._timer: asyncio.TimerHandle | None = None  # the next look at a silent feed, or the next attempt
        self._connected_at = self._heard_at = 0.0
        self._wanted: Counter[bytes] = Counter()
        self._subscribed: set[bytes] = set()  # on this socket
        self._messages = self._bytes = 0  # that were sent on it
        session.on_attach.append(self._on_attach)
        session.on_end.append(self._on_end)

    # ---- listeners ----

    def listen(self, pattern: str, position: int) -> Listener:
        """A listener that is behind: it is to fetch from `position` first. Raises Closed."""
        self.check_open()
        listener = Listener(self, pattern, position)
        group = self._groups.setdefault(pattern, {})
        group[listener] = None
        if not is_single(pattern):
            self._wide[pattern] = group
        self._fresh[listener] = None
        prefix = feed.prefix(pattern)
        self._wanted[prefix] += 1
        if self._socket is not None:
            self._subscribe(prefix)
        elif self.session.attached and self._timer is None and self._naming is None:
            self._connect()
        return listener

    def leave(self, listener: Listener) -> None:
        """It listens no more; the last one closes the socket."""
        pattern = listener.pattern
        group = self._groups[pattern]
        del group[listener]
        if not group:
            del self._groups[pattern]
            self._wide.pop(pattern, None)
        self._fresh.pop(listener, None)
        prefix = feed.prefix(pattern)
        self._wanted[prefix] -= 1
        if not self._wanted[prefix]:
            del self._wanted[prefix]
            self._unsubscribe(prefix)
        if not self._groups:
            self._disconnect()

    def look_at(self, listener: Listener) -> None:
        self._fresh[listener] = None

    def knows(self, listener: Listener) -> None:
        self._fresh.pop(listener, None)

    def fetch(self, pattern: str, position: int) -> "asyncio.Task[Fetched]":
        """One FETCH for all that want the same."""
        key = (pattern, position)
        found = self._fetches.get(key)
        if found is None:
            found = self._fetches[key] = asyncio.create_task(fetch(self.session, *key), name="ringcast fetch")
            found.add_done_callback(lambda done: self._on_fetched(key, done))
        return found

    def _on_fetched(self, key: tuple[str, int], done: "asyncio.Task[Fetched]") -> None:
        del self._fetches[key]
        if not done.cancelled():
            done.exception()  # those who want it look at it; maybe all have left

    def check_open(self) -> None:
        """Raise what ended it, or the session."""
        self.session.check_open()
        if self._closed:
            raise Closed(what="bus")

    def close(self) -> None:
        """End all iterations; before the session is closed. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.session.on_attach.remove(self._on_attach)
        self.session.on_end.remove(self._on_end)
        for listener in self._listeners():
            listener.close()
        for task in self._fetches.values():
            task.cancel()

    def _listeners(self) -> list[Listener]:
        return [listener for group in self._groups.values() for listener in group]

    # ---- the socket ----

    def _on_attach(self, _welcome: wire.Welcome) -> None:
        """The session has a (new) replica: its feed is another one."""
        if self._groups:
            self._connect()

    def _on_end(self) -> None:
        """The replicas refuse us for good: `check_open` tells it to all that iterate."""
        self._disconnect()
        for listener in self._listeners():
            listener.wake()

    def _connect(self) -> None:
        """Listen to the feed of the session's replica, on a new socket; what came meanwhile is fetched."""
        for listener in self._listeners():
            listener.shed()
        self._disconnect()
        if not self.session.attached:
            return
        welcome = self.session.welcome
        address = self.session.endpoints.feed_of(welcome.replica, welcome.feed)
        self._connected_at = self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(SILENCE_S, self._on_silence)
        if is_numeric(address):
            self._open(address)
        else:
            self._naming = asyncio.create_task(self._open_by_name(address), name="ringcast feed")

    def _disconnect(self) -> None:
        if self._naming is not None:
            self._naming.cancel()
            self._naming = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._subscribed.clear()
        self.end = -1

    async def _open_by_name(self, address: str) -> None:
        with suppress(OSError):  # the next attempt is at the end of the silence
            self._open(await numeric(address))

    def _open(self, address: str) -> None:
        session = self.session
        options: dict[int, int | bytes] = {
            zmq.RCVHWM: QUEUE_MAX,
            # libzmq drops subscriptions beyond it in silence, also when it sends all of them on a new connection.
            zmq.SNDHWM: 0,
            zmq.MAXMSGSIZE: BATCH_BYTES_MAX,
            **session.credentials.options(),
        }
        with suppress(zmq.ZMQError):  # an address that is none, or no sockets are left: each silence makes it a poll
            self._socket = Watched(
                session.context, zmq.SUB, address, on_frames=self._on_frames, on_lost=self._on_lost, options=options
            )
        self._messages = self._bytes = 0
        for prefix in {feed.CONTROL} | prefixes.cover(self._wanted):
            self._send(prefix)

    def _on_lost(self, _event: int) -> None:
        """The feed broke alone, or before the session noticed."""
        never_heard = self._heard_at == self._connected_at
        self._disconnect()
        self._timer = self._loop.call_later(SILENCE_S if never_heard else RETRY_S, self._connect)

    def _on_silence(self) -> None:
        left_s = self._heard_at + SILENCE_S - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._on_silence)
        else:
            self._connect()

    def _subscribe(self, prefix: bytes) -> None:
        covered = any(wide in self._subscribed for wide in prefixes.parents(prefix)) and not prefix.startswith(b"_")
        if prefix in self._subscribed or covered:
            return
        if self._messages >= prefixes.MESSAGES_MAX or self._bytes >= prefixes.BYTES_MAX:
            self._connect()  # a replica takes no more of them on one connection
        else:
            self._send(prefix)

    def _unsubscribe(self, prefix: bytes) -> None:
        if self._socket is not None and prefix in self._subscribed and self._messages < prefixes.MESSAGES_MAX:
            self._subscribed.discard(prefix)
            self._count(prefix)
            self._socket.unsubscribe(prefix)

    def _send(self, prefix: bytes) -> None:
        if self._socket is not None:
            self._subscribed.add(prefix)
            self._count(prefix)
            self._socket.subscribe(prefix)

    def _count(self, prefix: bytes) -> None:
        self._messages += 1
        self._bytes += prefixes.bytes_of((prefix,))

    # ---- what it brings ----

    def _on_frames(self, frames: list[bytes]) -> None:
        self._heard_at = self._loop.time()
        try:
            item = feed.decode(frames)
            if item.cluster != self.session.cluster or item.ring != RING:
                limit = str(self.session.cluster)
                raise BadFrame(what="the cluster of a feed message", value=item.cluster, limit=limit)
            if isinstance(item, feed.FeedBatch):
                check(item.packed, item.info.messages)
        except BadFrame:
            self.dropped += 1
            return
        if isinstance(item, feed.FeedBatch):
            self._on_batch(item)
        else:
            self._on_control(item)

    def _on_batch(self, item: feed.FeedBatch) -> None:
        topic = item.info.topic
        held = Held(item, len(item.packed))
        for listener in self._groups.get(topic, ()):
            listener.hear(held)
        for pattern, group in self._wide.items():
            if matches(pattern, topic):
                for listener in group:
                    listener.hear(held)
            else:
                other = Held(item._replace(packed=b""), 0)
                for listener in group:
                    listener.hear_other(other)
        if self.held_bytes > HELD_BYTES_MAX:
            self._shed()

    def _shed(self) -> None:
        """Give half of the space back: who lets most wait is slow, and fetches."""
        for listener in sorted(self._listeners(), key=lambda one: one.waiting_bytes, reverse=True):
            if self.held_bytes <= HELD_BYTES_MAX // 2:
                return
            listener.shed()

    def _on_control(self, control: feed.Control) -> None:
        lasts: dict[str, int] = {}

        def last(pattern: str) -> int:
            if pattern not in lasts:
                lasts[pattern] = last_changed(pattern, control.changed)
            return lasts[pattern]

        if control.since > self.end:
            concerned = self._listeners()  # one was lost, or this is the first one
        else:
            named = [self._groups[topic] for topic in control.changed if topic in self._groups]
            named += [group for pattern, group in self._wide.items() if last(pattern) >= 0]
            concerned = list(self._fresh)
            concerned += [listener for group in named for listener in group if listener.synced]
        for listener in concerned:
            listener.hear_control(control, last(listener.pattern))
        self.end = max(self.end, control.next_offset)
