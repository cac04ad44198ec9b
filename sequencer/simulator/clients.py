"""Simulated clients (K1, K2): they number batches, keep some outstanding, time out, move on and resend."""

from random import Random
from typing import TYPE_CHECKING

from sequencer.clients import AlreadyApplied, Applied, Gap, IdReused, Repeated, SessionExpired
from sequencer.simulator.checkers import Violation
from sequencer.simulator.machine import Answer, Header

if TYPE_CHECKING:
    from sequencer.simulator.cluster import Cluster

MS = 1_000
BUSY_SLOTS = 280


class Client:
    """`outstanding`: sequence -> (header, body), in order, all without an answer, within a span of `window`."""

    def __init__(self, cluster: "Cluster", random: Random, window: int, think_us: int) -> None:
        self._cluster = cluster
        self._random = random
        self.window = window
        self.think_us = think_us
        self.timeout_us = random.randint(120, 400) * MS
        self.id = b""  # empty: no id is open
        self.opened = 0
        self.next = 1
        self.outstanding: dict[int, tuple[Header, bytes]] = {}
        self.member: int | None = None
        self.session = 0  # rises with each connection; answers of an older one are lost with it
        self.waits_since = 0
        self.gone = False  # killed: it never comes back
        self.stopped = False  # issues nothing new
        self.answers = 0

    @property
    def done(self) -> bool:
        """Nothing more to wait for."""
        return self.gone or (self.stopped and not self.outstanding)

    def tick(self) -> None:
        """The client's own clock: time-outs, connections, new batches."""
        if self.gone:
            return
        now = self._cluster.now
        if self.member is None:
            self._connect()
        elif self.outstanding and now - self.waits_since > self.timeout_us:
            self.disconnected()
        elif self.id and not self.stopped:
            self._issue()
        if not self.done:
            # A fast cluster is held back once it has ordered a good deal, so that no seed takes much longer
            think_us = self.think_us * (1 if self._cluster.order.end < BUSY_SLOTS else 6)
            self._cluster.after(1 + int(self._random.expovariate(1 / think_us)), self.tick)

    def disconnected(self) -> None:
        """The connection broke, or was given up: the next tick makes another."""
        self.member = None
        self.session += 1

    def _connect(self) -> None:
        cluster = self._cluster
        candidates = cluster.reachable()
        if not candidates:
            return
        self.member = self._random.choice(candidates)
        self.session += 1
        self.waits_since = cluster.now
        if not self.id:
            # K1: the committed slot the client is told when it opens its id
            self.opened = cluster.members[self.member].applied
            self.id = self._random.randbytes(16)
            self.next = 1
        elif self.outstanding:
            self._send(list(self.outstanding.values()))  # K2: all that are unacknowledged, in order

    def _issue(self) -> None:
        # K1: the table remembers the last W batches: the span from the oldest that waits is bounded, not their number
        free = self.window - (self.next - min(self.outstanding, default=self.next))
        if free <= 0:
            return
        if not self.outstanding:
            self.waits_since = self._cluster.now
        batches = []
        for _ in range(self._random.randint(1, free)):
            sequence = self.next
            self.next += 1
            body = self._random.randbytes(12)
            header = Header(self.id, sequence, self._random.randint(1, 5), self.opened, body[:8])
            self._cluster.issued.add(self.id, sequence, header.messages, header.digest, body)
            self.outstanding[sequence] = (header, body)
            batches.append((header, body))
        self._send(batches)

    def _send(self, batches: list[tuple[Header, bytes]]) -> None:
        if self.member is not None:
            delay = 50 + int(self._random.random() * 200)
            self._cluster.submit(delay, self.member, self, self.session, batches)

    def refused(self, session: int) -> None:
        """NotInQuorum, or no credit: try elsewhere, later."""
        if session == self.session and not self.gone:
            self.disconnected()

    def answered(self, session: int, member: int, answers: list[Answer]) -> None:
        """A member delivered batches of this client while it was connected there."""
        if session != self.session or self.gone:
            return
        gap = -1
        for answer in answers:
            if answer.client != self.id or answer.sequence not in self.outstanding:
                continue
            match answer.verdict:
                case Applied() | Repeated():
                    self._cluster.order.answered(member, answer)
                    del self.outstanding[answer.sequence]
                    self.waits_since = self._cluster.now
                    self.answers += 1
                    self._cluster.counts.acknowledged += 1
                case Gap(last):
                    gap = last
                case SessionExpired():
                    self._expired()
                case AlreadyApplied():
                    raise Violation(
                        "K1", f"the offset of batch {answer.sequence} was forgotten while it was outstanding"
                    )
                case IdReused():
                    raise Violation("K1", f"batch {answer.sequence} is said to be another's")
        if gap >= 0:  # K2: on a refusal it resends from the refused batch on
            self._send([batch for sequence, batch in self.outstanding.items() if sequence > gap])

    def _expired(self) -> None:
        """K1: what is outstanding is unknown; a new id is opened with the next connection."""
        self.answers += len(self.outstanding)
        self._cluster.counts.expired += 1
        self.outstanding.clear()
        self.id = b""
        self.disconnected()
