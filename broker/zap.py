"""Who may connect: libzmq asks for each CURVE handshake (ZAP, RFC 27), and the loop answers.

A refusal is counted by its reason. Many of them from one address are told a little later, a bounded number at a time,
so that who tries again and again is slow, and are logged as one line with a count. Nothing is kept for longer.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import zmq
from zmq.utils import z85

from broker.sockets import DrainedSocket, Message, ZmqContext

ENDPOINT = "inproc://zeromq.zap.01"
#: Refusals of one address within a second that are told at once; others wait. Less than a client waits for WELCOME.
REFUSALS_A_SECOND = 5
DELAY_S = 0.5
HELD_MAX = 256
ADDRESSES_MAX = 1_024
LOG_INTERVAL_S = 10.0
_PARTS = 8

#: (domain, public key) -> why it is refused, "" = let in.
Admit = Callable[[str, str], str]


@dataclass(slots=True)
class _Address:
    """Refusals of one peer address. `recent`: since `since`; `untold`: since the last line of the log."""

    since: float
    recent: int = 0
    untold: int = 0
    logged_at: float = -LOG_INTERVAL_S


class Authenticator:
    """Answers for every secured socket of a context. `counters`: accepted, refused_REASON, held, malformed."""

    def __init__(self, context: ZmqContext, admit: Admit) -> None:
        self.counters: Counter[str] = Counter()
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger()
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._held: set[asyncio.TimerHandle] = set()
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(ENDPOINT)
        self._socket = DrainedSocket(socket, self._on_requests)

    @property
    def held(self) -> int:
        """Refusals that are told later; at most HELD_MAX."""
        return len(self._held)

    @property
    def addresses(self) -> int:
        """Addresses that are remembered; at most ADDRESSES_MAX."""
        return len(self._addresses)

    def close(self) -> None:
        """Answer no more: handshakes that come now fail."""
        for timer in self._held:
            timer.cancel()
        self._held.clear()
        self._socket.close()

    def _on_requests(self, messages: list[Message]) -> None:
        for parts in messages:
            if len(parts) < _PARTS or parts[2] != b"1.0":
                self.counters["malformed"] += 1
                continue
            route, _, _, number, domain, address, _, mechanism, *credentials = parts
            key = ""
            if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
                key = z85.encode(credentials[0]).decode()
            why = self._admit(domain.decode("ascii", "replace"), key) if key else "without_key"
            if not why:
                self.counters["accepted"] += 1
                self._answer(route, number, b"200", key)
                continue
            self.counters[f"refused_{why}"] += 1
            if self._refused(address.decode("ascii", "replace"), why, domain) and len(self._held) < HELD_MAX:
                self.counters["held"] += 1
                self._hold(route, number)
            else:
                self._answer(route, number, b"400")

    def _answer(self, route: bytes, number: bytes, status: bytes, user: str = "") -> None:
        self._socket.send((route, b"", b"1.0", number, status, b"", user.encode(), b""))

    def _hold(self, route: bytes, number: bytes) -> None:
        def answer() -> None:
            self._held.discard(timer)
            self._answer(route, number, b"400")

        timer = self._loop.call_later(DELAY_S, answer)
        self._held.add(timer)

    def _refused(self, address: str, why: str, domain: bytes) -> bool:
        """Count it for its address, and log it now and then; True: there are too many of them."""
        now = self._loop.time()
        found = self._addresses.get(address)
        if found is None:
            while len(self._addresses) >= ADDRESSES_MAX:
                self._addresses.popitem(last=False)
            found = self._addresses[address] = _Address(now)
        if now - found.since > 1.0:
            found.since, found.recent = now, 0
        found.recent += 1
        found.untold += 1
        if now - found.logged_at >= LOG_INTERVAL_S:
            self._log.warning("handshake_refused", address=address, why=why, port=domain.decode(), count=found.untold)
            found.logged_at, found.untold = now, 0
        return found.recent > REFUSALS_A_SECOND
