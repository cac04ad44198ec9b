"""One DEALER to one replica: HELLO and WELCOME, liveness, and the frames in between.

Liveness has two sources: the socket monitor (a killed process closes its sockets, seen in milliseconds) and PING (a
stopped process or a dead network keeps them open). A connection is used once; after `lost` a new one is made.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

from ringcast.bus.batch import BATCH_BYTES_MAX
from ringcast.errors import BadFrame, Disconnected, HandshakeRefused, ProtocolError, RingcastError, Unreachable
from ringcast.keys import Credentials
from ringcast.names import numeric
from ringcast.sockets import Watched
from ringcast.wire import (
    ANY_CLUSTER,
    Failed,
    Frame,
    Goodbye,
    Hello,
    Message,
    Ping,
    Welcome,
    decode,
    encode,
    error_of,
    expect,
)

PING_INTERVAL_S = 0.25
#: Intervals in a row without any frame after which a replica counts as dead.
SILENT_INTERVALS_MAX = 4
GOODBYE_LINGER_MS = 20

#: Called with each decoded message and its payload frames.
Handler = Callable[[Message, list[bytes]], None]


class Connection:
    """Open with `open()`; afterwards `lost` is a future that gets the reason when the connection has ended.

    `handler` is called for each message of the replica, never after `close()`. Frames that are none, or of another
    cluster, are dropped and counted in `dropped`.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        cluster: int,
        ring: int,
        handler: Handler,
        credentials: Credentials,
    ) -> None:
        self.endpoint = endpoint
        self.cluster = cluster
        self.ring = ring
        self.dropped = 0
        self._context = context
        self._handler = handler
        self._credentials = credentials
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[RingcastError] = self._loop.create_future()
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._watched: Watched | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._heard = False
        self._silent_intervals = 0
        self._nonce = 0

    async def open(self, client: bytes, wanted: int, timeout_s: float) -> Welcome:
        """Connect and say HELLO, with each server key that the replica may have.

        Raises Unreachable, Disconnected, HandshakeRefused or what the replica refused us with, and closes.
        """
        for _ in range(self._credentials.attempts - 1):
            try:
                return await self._open(client, wanted, timeout_s)
            except HandshakeRefused as error:
                if error.details["certain"]:
                    raise
                self._credentials.try_next_server()
                self.lost, self._welcome = self._loop.create_future(), self._loop.create_future()
        return await self._open(client, wanted, timeout_s)

    async def _open(self, client: bytes, wanted: int, timeout_s: float) -> Welcome:
        until_s = self._loop.time() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                endpoint = await numeric(self.endpoint)
        except TimeoutError:
            reason = "no name server answered"
            raise Unreachable(endpoints=self.endpoint, seconds=timeout_s, reason=reason) from None
        except OSError as error:
            why = f"its name is not known here: {error.strerror}"
            raise Disconnected(endpoint=self.endpoint, why=why) from None
        try:
            self._watched = Watched(
                self._context,
                zmq.DEALER,
                endpoint,
                on_frames=self._on_frames,
                on_lost=lambda event: self._lose(why_lost(self.endpoint, event, self._credentials)),
                # Bounded by the credit window and by the requests of the session, not by dropping.
                options={
                    zmq.SNDHWM: 0,
                    zmq.RCVHWM: 0,
                    zmq.MAXMSGSIZE: BATCH_BYTES_MAX,
                    **self._credentials.options(),
                },
            )
            self.send(Hello(client, wanted))
            answers: list[asyncio.Future[Any]] = [self._welcome, self.lost]
            left_s = until_s - self._loop.time()
            await asyncio.wait(answers, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if self.lost.done():
                raise self.lost.result()
            if not self._welcome.done():
                raise Unreachable(endpoints=self.endpoint, seconds=timeout_s)
        except zmq.ZMQError as error:
            self.close()
            raise Disconnected(endpoint=self.endpoint, why=str(error)) from error
        except BaseException:
            self.close()
            raise
        self._tick = self._loop.call_later(PING_INTERVAL_S, self._on_tick)
        return self._welcome.result()

    def send(self, message: Message, payload: bytes | None = None) -> None:
        """Send a frame; nothing happens on a connection that is lost (what matters is resent on the next one)."""
        if self._watched is None or self.lost.done():
            return
        header = encode(self.cluster, self.ring, message)
        self._watched.socket.send([header] if payload is None else [header, payload])

    def close(self) -> None:
        """Say GOODBYE and close. Safe to call twice."""
        if self._watched is None:
            return
        self.send(Goodbye())
        if self._tick is not None:
            self._tick.cancel()
        watched, self._watched = self._watched, None
        watched.close(GOODBYE_LINGER_MS)

    def lose(self, reason: RingcastError) -> None:
        """Give this connection up: the session goes on with another one."""
        self._lose(reason)

    def _lose(self, reason: RingcastError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    def _on_tick(self) -> None:
        if self._watched is None or self.lost.done():
            return
        # Waiting input first: a process that was stopped itself must not take its replica for dead.
        self._watched.socket.drain()
        self._silent_intervals = 0 if self._heard else self._silent_intervals + 1
        if self._silent_intervals >= SILENT_INTERVALS_MAX:
            why = f"it said nothing for {SILENT_INTERVALS_MAX * PING_INTERVAL_S} s"
            self._lose(Disconnected(endpoint=self.endpoint, why=why))
            return
        self._heard = False
        self._nonce += 1
        self.send(Ping(self._nonce))
        self._tick = self._loop.call_later(PING_INTERVAL_S, self._on_tick)

    def _on_frames(self, frames: list[bytes]) -> None:
        if self._watched is None or self.lost.done():
            return
        try:
            frame = decode(frames[0], len(frames) - 1)
        except BadFrame as error:
            self.dropped += 1
            if not self._welcome.done():
                self._lose(error)
            return
        self._heard = True
        if self._welcome.done():
            self._receive(frame, frames[1:])
        else:
            self._receive_first(frame)

    def _receive_first(self, frame: Frame) -> None:
        message = frame.message
        if isinstance(message, Failed):
            self._lose(error_of(message))
        elif isinstance(message, Welcome):
            try:
                expect(frame, self.cluster, self.ring)
            except ProtocolError as error:
                self._lose(error)
                return
            if self.cluster == ANY_CLUSTER:
                self.cluster = frame.cluster
            self._welcome.set_result(message)

    def _receive(self, frame: Frame, payloads: list[bytes]) -> None:
        if frame.cluster != self.cluster or frame.ring != self.ring:
            self.dropped += 1
        elif isinstance(frame.message, Failed) and frame.message.request == 0:
            self._lose(error_of(frame.message))
        elif isinstance(frame.message, Goodbye):
            self._lose(Disconnected(endpoint=self.endpoint, why=f"the replica says goodbye: {frame.message.reason}"))
        else:
            self._handler(frame.message, payloads)


def why_lost(endpoint: str, event: int, credentials: Credentials) -> RingcastError:
    """What an event of the socket's monitor means. A refused handshake is told apart from a lost connection."""
    ours = f"the key of {credentials.name!r}" if credentials.name else "no key"
    why, certain = "", True
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        why, step = f"it does not allow {ours}", "ask for a key (`ringcast keys add`); one that was revoked stays so"
    elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and not credentials.name:
        why, step = "it asks for a key and there is none", "give the client's key file: keys=FILE or RINGCAST_KEYS"
    elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        why, step = f"it speaks without keys, and {ours} was given", "check the address, or leave the keys out"
    elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        why, certain = "it broke the handshake off", False
        if credentials.name:
            step = f"take a key file of this cluster: it has no keys, or none of the server keys in {credentials.path}"
        else:
            step = "it asks for a key (keys=FILE or RINGCAST_KEYS), or is no replica: check the address"
    if why:
        return HandshakeRefused(endpoint=endpoint, why=why, next=step, certain=certain)
    return Disconnected(endpoint=endpoint, why="refused or disconnected")
