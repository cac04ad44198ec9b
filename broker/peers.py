"""Transport between the members: PUB/SUB for what goes to all, DEALER -> ROUTER for what goes to one.

Each member binds a PUB and a ROUTER and connects a SUB to every peer's PUB and one DEALER to each peer's ROUTER; peers
come and go while it runs (V12). A SUB for each peer: with keys, what it brings is that peer's word.
DEALERs only send and the ROUTER only receives, so each direction of a pair has a connection and a bounded queue of its
own. The frames are opaque here: a codec turns them into events, and what it refuses is dropped and counted
(docs/faults.md 38-41).

Nothing is queued for a peer that is not connected (ZMQ_IMMEDIATE): the protocol resends, and frames that waited for
minutes would only be refused by their view. A queue at its high-water mark cuts that peer: the connection is closed
with what it holds, counted, and made again (A9: no frame is dropped in silence).

With keys (`security`) every socket speaks CURVE, and a frame whose sender is not the member whose key brought it is
dropped and counted (docs/faults.md 45, 46).

V1: the socket monitor of each DEALER tells a broken connection within milliseconds of a kill -9: the kernel of the dead
process's machine closes its sockets. `on_peer_lost` follows when the connection broke *and* the immediate reconnect
failed, so that a connection that is only cut and made again suspects nobody. A stopped process (SIGSTOP) keeps its
connections: it is silence, and the core's business.

A peer that is named is connected to by number (ringcast/names.py). Its name is looked up again and again, more often
while it is not reached: it may come back with another address (docs/faults.md 53).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from operator import attrgetter, contains
from struct import Struct
from typing import Generic, Protocol, TypeVar

import zmq

from broker.guard import Guard, open_port
from broker.peer import Link, Peer, PeerEndpoints
from broker.security import Security
from broker.sockets import (
    SUBSCRIPTION_BYTES_MAX,
    DrainedSocket,
    Message,
    Sent,
    SocketLimits,
    ZmqContext,
    bind,
    open_socket,
)
from ringcast.errors import BadFrame, RingcastError, UnsupportedVersion, WrongCluster
from ringcast.names import all_numeric, is_numeric

Event_co = TypeVar("Event_co", covariant=True)
Event = TypeVar("Event")
_sender_of = attrgetter("sender")
#: What a SUB sends to receive all.
_EVERYTHING = b"\x01"

RECONNECT_MS = 10
RECONNECT_MS_MAX = 200
#: TCP waits twice as long after each loss, up to minutes: a link that was cut in silence would be used again long after
#: it is whole. So a connection without an answer is replaced, and an attempt without one is begun again.
CUT_AFTER_MS = 1_000
CONNECT_TIMEOUT_MS = 500
#: Between two looks at the name of a peer that is not reached. Of one that is, each tenth turn: another member may have
#: been given its old address, and have answered there before we missed it.
LOOK_UP_S, LOOK_UP_TURNS_UP = 0.5, 10
#: After a refused handshake; a peer that rotates its key is found again so much later.
REFUSED_PAUSE_S = 0.2
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_MONITORED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | _HANDSHAKE_FAILED
_MONITOR_FRAME = Struct("=HI")  # event, value; the second part is the endpoint


class FrameDecoder(Protocol[Event_co]):
    """Frames -> event; None: nothing to tell (our own frame). Raises RingcastError only.

    With keys an event says whose it is: `sender`, a member's id.
    """

    def decode(self, frames: Sequence[bytes]) -> Event_co | None:
        """Decode one multipart message."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Bounds of the transport. Queues are in messages: what the protocol has outstanding is bounded in bytes (A9).

    What goes to all does not wait for a member that lags: its queues are short, for their messages are large under load
    and small ones fit the kernel's buffers. What is dropped for it is asked for again (A8), or fetched (C1).
    """

    frame_bytes_max: int = 64 << 20
    peer_queue_max: int = 4_000
    pub_queue_max: int = 256
    receive_queue_max: int = 256


class PeerTransport(Generic[Event]):
    """The sockets of one member. `on_events` gets all events of one drain, oldest first; it must not block.

    `counters`: dropped frames by reason, cut peers, sends without a connection. Must be made on the running loop.
    """

    def __init__(
        self,
        context: ZmqContext,
        *,
        bind_peer: str,
        bind_pub: str | None,
        peers: Mapping[int, PeerEndpoints],
        codec: FrameDecoder[Event],
        on_events: Callable[[list[Event]], None],
        on_peer_lost: Callable[[int], None],
        on_peer_found: Callable[[int], None],
        limits: PeerLimits | None = None,
        security: Security | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`bind_pub` None: nothing goes to all, so there is neither PUB nor SUB."""
        self._context = context
        self._security = security
        self._codec = codec
        self._on_events = on_events
        self._on_peer_lost = on_peer_lost
        self._on_peer_found = on_peer_found
        self._limits = limits or PeerLimits()
        self.counters: Counter[str] = Counter()
        self._closed = False
        router = self._open_bound(zmq.ROUTER)
        # Both are bound before the loop knows either: an address that is refused leaves no reader behind.
        self.peer_endpoint = bind(router, bind_peer)
        self.pub_endpoint = ""
        self._pub: DrainedSocket | None = None
        self._ports = [open_port("peer", router, guard, clients=False)]
        if bind_pub is not None:
            # XPUB is PUB that tells of its subscribers, and so of the keys behind its connections.
            pub = self._open_bound(zmq.XPUB if security else zmq.PUB, self._limits.pub_queue_max)
            if security is not None:
                pub.setsockopt(zmq.XPUB_MANUAL, 1)
            self.pub_endpoint = bind(pub, bind_pub)
            self._ports.append(open_port("pub", pub, guard, clients=False, reads=False))
            if security is None:
                self._pub = DrainedSocket(pub)
            else:
                door = security.door(self._ports[1], security.peers_domain).of_subscription
                self._pub = DrainedSocket(pub, self._on_subscriptions, turn_messages_max=1, identify=door, asks=False)
        port = self._ports[0]
        identify = security.door(port, security.peers_domain).of_route if security else None
        self._router = DrainedSocket(router, self._routed, identify=identify, meter=port.meter)
        if security is not None:
            security.on_change.append(self._keys_changed)
        self._peers: dict[int, Peer] = {}
        for member, endpoints in peers.items():
            self.add(member, endpoints)

    def _open(self, kind: int, send_queue_max: int = 1_000) -> "zmq.Socket[bytes]":
        takes = SUBSCRIPTION_BYTES_MAX if kind in {zmq.PUB, zmq.XPUB} else self._limits.frame_bytes_max
        limits = SocketLimits(
            frame_bytes_max=takes,
            send_queue_max=send_queue_max,
            receive_queue_max=self._limits.receive_queue_max,
            cut_after_ms=CUT_AFTER_MS,
        )
        socket = open_socket(self._context, kind, limits)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
        return socket

    def _open_bound(self, kind: int, send_queue_max: int = 1_000) -> "zmq.Socket[bytes]":
        socket = self._open(kind, send_queue_max)
        if self._security is not None:
            self._security.listen(socket, self._security.peers_domain)
        return socket

    # -------------------------------------------------------------- who

    def add(self, member: int, endpoints: PeerEndpoints) -> None:
        """Connect to a peer, or to its new addresses; nothing happens if it is connected to these.

        With security, nothing happens either as long as the keyring has no key of it.
        """
        known = self._peers.get(member)
        if known is not None and known.endpoints == endpoints:
            return
        self.remove(member)
        keys = self._security.keys_of(member) if self._security is not None else ()
        if self._security is not None and not keys:
            self.counters["peer_without_key"] += 1
            return
        peer = self._peers[member] = Peer(endpoints, keys)
        if all(map(is_numeric, endpoints)):
            self._reach(member, peer, endpoints)
        else:
            peer.naming = asyncio.get_running_loop().create_task(self._follow_names(member, peer))

    def _reach(self, member: int, peer: Peer, numbers: PeerEndpoints) -> None:
        peer.reached = numbers
        self._subscribe(member)
        self._connect(member)

    async def _follow_names(self, member: int, peer: Peer) -> None:
        """Until the peer is removed."""
        for turn in count():
            if peer.link is not Link.UP or turn % LOOK_UP_TURNS_UP == 0:
                await self._look_up(member, peer)
            await asyncio.sleep(LOOK_UP_S)

    async def _look_up(self, member: int, peer: Peer) -> None:
        try:
            found = [await all_numeric(endpoint) for endpoint in peer.endpoints]
        except OSError:
            self.counters["name_not_found"] += 1
            if peer.reached is None:
                self._link_changed(member, peer, zmq.EVENT_CLOSED)  # a first connect that fails
            return
        if peer.reached is None or not all(map(contains, found, peer.reached)):
            self._reach(member, peer, PeerEndpoints(*(numbers[0] for numbers in found)))

    def _keys_changed(self) -> None:
        """Peers with other keys than before are connected to again, those without are not."""
        assert self._security is not None
        for member, peer in list(self._peers.items()):
            if set(peer.keys) != set(self._security.keys_of(member)):
                self.remove(member)
                self.add(member, peer.endpoints)

    def remove(self, member: int) -> None:
        """Drop the connections to a peer, and what is queued for it; `on_peer_lost` does not follow."""
        peer = self._peers.pop(member, None)
        if peer is not None:
            peer.close()

    @property
    def peers(self) -> tuple[int, ...]:
        """Those that are connected to, whether the connection stands or not."""
        return tuple(self._peers)

    # -------------------------------------------------------------- out

    def broadcast(self, frames: Sequence[bytes]) -> None:
        """To all; a PUB socket drops for a subscriber at its high-water mark, and NACK repairs that (A8)."""
        assert self._pub is not None, "made without a PUB socket"
        self._pub.send(frames)

    def send(self, member: int, frames: Sequence[bytes]) -> bool:
        """To one; False if it did not leave (no connection, or the peer was cut): the protocol resends."""
        peer = self._peers.get(member)
        if peer is None:
            self.counters["send_unknown_member"] += 1
            return False
        outcome = Sent.GONE if peer.dealer is None else peer.dealer.send(frames)
        if outcome is Sent.DONE:
            return True
        if outcome is Sent.FULL and peer.link is Link.UP:
            # Full, or broken a moment ago and not told yet: the new connection has to show which (V1).
            self.counters["peer_cut"] += 1
            self._connect(member)
        else:
            self.counters["send_not_connected"] += 1
        return False

    def link(self, member: int) -> Link:
        """What is known of the way to a peer."""
        return self._peers[member].link

    @property
    def connected(self) -> tuple[int, ...]:
        """The peers whose handshake stands."""
        return tuple(member for member, peer in self._peers.items() if peer.link is Link.UP)

    # -------------------------------------------------------------- in

    def _on_subscriptions(self, messages: list[Message]) -> None:
        """One at a time (XPUB_MANUAL): a key may have been revoked since the handshake."""
        assert self._security is not None
        assert self._pub is not None
        for parts, key in zip(messages, self._pub.keys, strict=False):
            if parts == [_EVERYTHING] and self._security.sender(key):
                self._pub.socket.setsockopt(zmq.SUBSCRIBE, b"")
            elif key:
                self.counters["subscriptions_refused"] += 1

    def _routed(self, messages: list[Message]) -> None:
        for frames in messages:
            del frames[0]  # the ROUTER's name of the connection; who sent it stands in the envelope
        security = self._security
        self._decoded(messages, repeat(None) if security is None else map(security.sender, self._router.keys))

    def _decoded(self, messages: list[Message], senders: Iterable[int | None]) -> None:
        """`senders`: whose key brought each message; None: nobody's."""
        decode = self._codec.decode
        events = []
        for frames, sender in zip(messages, senders, strict=False):
            try:
                event = decode(frames)
            except RingcastError as error:
                self._dropped(error)
                continue
            if event is None:
                continue
            if sender is not None and _sender_of(event) != sender:
                self.counters["dropped_foreign_sender"] += 1
                continue
            events.append(event)
        if events and not self._closed:
            self._on_events(events)

    def _dropped(self, error: RingcastError) -> None:
        reason = "other"
        for kind in (UnsupportedVersion, WrongCluster, BadFrame):
            if isinstance(error, kind):
                reason = kind.code
                break
        self.counters[f"dropped_{reason}"] += 1

    # -------------------------------------------------------------- connections

    def _connect(self, member: int) -> None:
        """A new DEALER to a peer; the old one goes with everything it had queued."""
        peer = self._peers[member]
        assert peer.reached is not None
        if peer.link is Link.UP:
            peer.link = Link.BROKEN  # the new connection has to show that it is there
        peer.hang_up()
        socket = self._open(zmq.DEALER, self._limits.peer_queue_max)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        if self._security is not None:
            self._security.dial(socket, peer.keys[0])
        monitor = socket.get_monitor_socket(_MONITORED)
        peer.dealer = DrainedSocket(socket)
        peer.monitor = DrainedSocket(monitor, lambda messages: self._monitored(member, peer, messages))
        socket.connect(peer.reached.peer)

    def _subscribe(self, member: int) -> None:
        """A new SUB to a peer: who sends here is known by its connection, and by the key behind it."""
        if self._pub is None:
            return
        peer = self._peers[member]
        assert peer.reached is not None
        if peer.sub is not None:
            peer.sub.close()
        socket = self._open(zmq.SUB)
        senders: Iterable[int | None] = repeat(None)
        if self._security is not None:
            self._security.dial(socket, peer.keys[0])
            senders = repeat(member)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        peer.sub = DrainedSocket(socket, lambda messages: self._decoded(messages, senders))
        socket.connect(peer.reached.pub)

    def _monitored(self, member: int, peer: Peer, messages: list[Message]) -> None:
        for frames in messages:
            event, _ = _MONITOR_FRAME.unpack(frames[0])
            if not self._closed and self._peers.get(member) is peer:  # else a callback of ours removed it
                self._link_changed(member, peer, event)
                if event & _HANDSHAKE_FAILED and peer.keys:
                    self._refused(member, peer, event)

    def _refused(self, member: int, peer: Peer, event: int) -> None:
        """It does not allow our key (yet), or has another one than we thought: while it rotates it has its other one.

        libzmq does not try again by itself what was refused.
        """
        self.counters["handshake_refused" if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH else "handshake_broken_off"] += 1
        if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            peer.keys = (*peer.keys[1:], peer.keys[0])
        dealer = peer.dealer

        def again() -> None:
            if not self._closed and self._peers.get(member) is peer and peer.dealer is dealer:
                self._subscribe(member)
                self._connect(member)

        asyncio.get_running_loop().call_later(REFUSED_PAUSE_S, again)

    def _link_changed(self, member: int, peer: Peer, event: int) -> None:
        """V1, as a table: handshake = found; broken, then a failed connect = lost; a first connect that fails too."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if peer.link is not Link.UP:
                found = peer.link is not Link.BROKEN  # cut and made again at once: nobody noticed
                peer.link = Link.UP
                if found:
                    self._on_peer_found(member)
        elif event == zmq.EVENT_DISCONNECTED:
            if peer.link is Link.UP:
                peer.link = Link.BROKEN
        elif peer.link in {Link.BROKEN, Link.UNKNOWN}:  # the connect was refused, or the handshake failed
            peer.link = Link.DOWN
            self._on_peer_lost(member)

    def close(self) -> None:
        """Close all sockets; no callback comes after it."""
        if self._closed:
            return
        self._closed = True
        for peer in self._peers.values():
            peer.close()
        for port in self._ports:
            port.close()
        for socket in (self._router, self._pub):
            if socket is not None:
                socket.close()
