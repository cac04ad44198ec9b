"""Checkers that watch a simulated cluster from outside (docs/protocol.md, "Verification" and "Model and promises").

They see what members deliver, store, send and answer, and know nothing of how the core decides. Each raises Violation,
which ends the run of that seed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sequencer.chain import digest as request_digest
from sequencer.clients import Applied, ClientBounds, IdReused, Repeated, Verdict
from sequencer.messages import Broadcast, Installed, Join, Message, Prepare, Promise, ReadOk, Token
from sequencer.quorum import majority
from sequencer.simulator.machine import Answer, StateMachine, unpack_headers
from sequencer.types import (
    GENESIS_CHAIN,
    NO_VIEW,
    ClockReset,
    Configuration,
    Incarnation,
    Sequence,
    SlotRecord,
    StableState,
    View,
    ViewNumber,
)


class Violation(Exception):
    """A promise is broken: which one, and how."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


class Issued:
    """What clients have given out: nothing else may be delivered (integrity)."""

    def __init__(self) -> None:
        self.batches: dict[tuple[bytes, int], tuple[int, bytes, bytes]] = {}  # (client, sequence): count, digest, body

    def add(self, client: bytes, sequence: int, count: int, digest: bytes, body: bytes) -> None:
        """A client numbers a batch."""
        self.batches[client, sequence] = (count, digest, body)


class OrderChecker:
    """Total order, agreement, one content per committed slot, FIFO, integrity, exactly-once, equal states.

    The first member that delivers a slot fixes it; every other has to match: record chain, state digest and answers.
    """

    def __init__(self, bounds: ClientBounds, issued: Issued) -> None:
        self.issued = issued
        self.chains: list[bytes] = []  # of the slot
        self.digests: list[int] = []  # of a right state machine after the slot
        self.reference = StateMachine(bounds)
        self.changes: list[Configuration] = []  # those that took effect (V12)
        self.time_us = 0  # of the last slot
        self.reset_at = -1  # the last slot that set the ring's time back (D7)
        self.senders: dict[int, tuple[Incarnation, int]] = {}
        self.offsets: dict[tuple[bytes, int], tuple[int, int]] = {}  # applied batches: first offset and count

    @property
    def end(self) -> int:
        """Number of slots that anyone has delivered."""
        return len(self.chains)

    def chain(self, end: int) -> bytes:
        """chain(end - 1) of the committed order."""
        return self.chains[end - 1] if end else GENESIS_CHAIN

    def delivered(self, member: int, record: SlotRecord, digest: int) -> bool:
        """A member delivered a slot and its state machine says `digest`; True if it was the first to do so."""
        slot = record.sequence.slot
        if slot > self.end:
            raise Violation("total order", f"member {member} delivered slot {slot}, but nobody slot {self.end}")
        first = slot == self.end
        if first:
            self._fix(record)
        if record.sequence.chain != self.chains[slot]:
            raise Violation("total order", f"member {member} delivered another content in slot {slot}")
        if digest != self.digests[slot]:
            raise Violation("equal states", f"member {member} has another state after slot {slot}")
        return first

    def _fix(self, record: SlotRecord) -> None:
        slot = record.sequence.slot
        self._timely(record)
        requests = iter(record.requests)
        for entry in record.sequence.entries:
            self._fifo(slot, entry.sender, entry.incarnation, entry.first_lsn, entry.last_lsn)
            for lsn, digest in zip(range(entry.first_lsn, entry.last_lsn + 1), entry.digests, strict=True):
                request = next(requests)
                if (request.sender, request.incarnation, request.lsn) != (entry.sender, entry.incarnation, lsn):
                    raise Violation("integrity", f"slot {slot} holds another request than its entry names")
                if request.digest != digest or request_digest(request.frames, request.change) != digest:
                    raise Violation("integrity", f"slot {slot} holds a request with another digest")
                if request.change is None:
                    self._genuine(slot, request.frames)
        if next(requests, None) is not None:
            raise Violation("integrity", f"slot {slot} holds a request that no entry names")
        for client, sequence, verdict in self.reference.apply(record):
            self._once(slot, client, sequence, verdict)
        if self.reference.configuration.slot == slot:
            self.changes.append(self.reference.configuration)
        self.chains.append(record.sequence.chain)
        self.digests.append(self.reference.digest)

    def _timely(self, record: SlotRecord) -> None:
        slot, time_us = record.sequence.slot, record.sequence.time_us
        if time_us < self.time_us:
            if not any(isinstance(request.change, ClockReset) for request in record.requests):
                raise Violation("slot times", f"slot {slot} is {self.time_us - time_us} us before the slot below it")
            self.reset_at = slot
        self.time_us = time_us

    def _fifo(self, slot: int, sender: int, incarnation: Incarnation, first: int, last: int) -> None:
        known, newest = self.senders.get(sender, (incarnation, 0))
        if known < incarnation:
            newest = 0
        if incarnation < known or first != newest + 1 or last < first:
            raise Violation(
                "FIFO per sender",
                f"slot {slot} orders {first}..{last} of {sender} {incarnation} after {newest} {known}",
            )
        self.senders[sender] = (incarnation, last)

    def _genuine(self, slot: int, frames: tuple[bytes, ...]) -> None:
        headers = unpack_headers(frames[0])
        if len(headers) != len(frames) - 1:
            raise Violation("integrity", f"slot {slot} holds {len(headers)} headers for {len(frames) - 1} batches")
        for header, body in zip(headers, frames[1:], strict=True):
            if self.issued.batches.get((header.client, header.sequence)) != (header.messages, header.digest, body):
                raise Violation("integrity", f"slot {slot} holds a batch that no client issued")

    def _once(self, slot: int, client: bytes, sequence: int, verdict: Verdict) -> None:
        batch = (client, sequence)
        match verdict:
            case Applied(first, count):
                if batch in self.offsets:
                    raise Violation("exactly-once", f"slot {slot} applies batch {sequence} of a client again")
                if sequence > 1 and (client, sequence - 1) not in self.offsets:
                    raise Violation("FIFO per client", f"slot {slot} applies batch {sequence} before the one before it")
                self.offsets[batch] = (first, count)
            case Repeated(first, count):
                if self.offsets.get(batch) != (first, count):
                    raise Violation("exactly-once", f"slot {slot} repeats batch {sequence} at other offsets")
            case IdReused():
                raise Violation("exactly-once", f"slot {slot} takes batch {sequence} for another client's")
            case _:
                pass

    def answered(self, member: int, answer: Answer) -> None:
        """A client got an answer: an acknowledged batch is in the order, at its offset (durability, exactly-once)."""
        if isinstance(answer.verdict, Applied | Repeated):
            place = (answer.verdict.first_offset, answer.verdict.count)
            if self.offsets.get((answer.client, answer.sequence)) != place:
                raise Violation(
                    "durability", f"member {member} acknowledged batch {answer.sequence} at {place[0]}, where it is not"
                )

    def read(self, member: int, slot: int, asked: int) -> None:
        """K3: a read sees every slot that was committed when it was asked."""
        if slot < asked:
            raise Violation("linearizable read", f"member {member} reads at {slot}; {asked} was committed before")

    def members_at(self, end: int, founders: tuple[int, ...]) -> tuple[int, ...]:
        """The configuration behind the slots below `end` (V12)."""
        return next((change.members for change in reversed(self.changes) if change.slot < end), founders)

    def snapshot_used(self, member: int, slot: int, chain: bytes, digest: int) -> None:
        """A snapshot is of a committed slot and says what replaying the log would say (C1)."""
        if slot > self.end or chain != self.chain(slot) or digest != (self.digests[slot - 1] if slot else 0):
            raise Violation("snapshot", f"member {member} uses a snapshot of slot {slot} that is not the state there")


class StorageChecker:
    """Committed implies stored on a quorum of disks; what is committed is not cut."""

    def __init__(self, order: OrderChecker) -> None:
        self.order = order
        self.holders: dict[int, dict[bytes, set[int]]] = defaultdict(dict)  # slot -> chain -> members that stored it
        self.trimmed_to = 0  # retention has removed what is below somewhere (C2)

    def stored(self, member: int, record: SlotRecord) -> None:
        """A record is durable at a member."""
        sequence = record.sequence
        self.holders[sequence.slot].setdefault(sequence.chain, set()).add(member)

    def retained(self, logs: Mapping[int, Mapping[int, SlotRecord]]) -> None:
        """C3: every slot that retention has not removed is on a quorum of disks, with what was committed there."""
        for member, log in logs.items():
            if any(record.sequence.chain != self.order.chains[slot] for slot, record in log.items()):
                raise Violation("retained log", f"member {member} holds another content than was committed")
        for slot in range(self.trimmed_to, self.order.end):
            holders = [member for member, log in logs.items() if slot in log]
            if len(holders) < majority(tuple(logs)):
                raise Violation("retained log", f"slot {slot} is retained, and on the disks of {holders} only")

    def cut(self, member: int, slot: int, chain: bytes) -> None:
        """A member's disk loses a slot at a cut (V7)."""
        if slot < self.order.end and self.order.chains[slot] == chain:
            raise Violation("durability", f"member {member} cut slot {slot}, which is committed")
        self.holders[slot].get(chain, set()).discard(member)

    def committed(self, member: int, slot: int, chain: bytes, view: View | None) -> None:
        """The first delivery of a slot, anywhere (A5). A disk that was wiped since it stored the slot still counts."""
        holders = self.holders[slot].get(chain, set())
        if view is None or len(holders.intersection(view.members)) < majority(view.members):
            raise Violation("quorum", f"member {member} committed slot {slot}, stored by {sorted(holders)} only")
        del self.holders[slot]  # whatever is stored from now on is checked against the order


class ClaimChecker:
    """D3, D4, A6, V3, V5: what leaves a member says no more than its disk holds, and nothing twice differently."""

    def __init__(self) -> None:
        self.sequencers: dict[tuple[ViewNumber, int], tuple[int, bytes]] = {}
        self.promised: dict[int, ViewNumber] = defaultdict(lambda: NO_VIEW)  # the highest number a PROMISE left with
        # The highest (view, end) an ACK left with
        self.acknowledged: dict[int, tuple[ViewNumber, int]] = defaultdict(lambda: (NO_VIEW, 0))
        self.commits: dict[int, tuple[Incarnation, int]] = {}
        self.wiped: set[int] = set()
        self.tokens: dict[tuple[ViewNumber, int], tuple[int, int]] = {}

    def saved(self, member: int, state: StableState) -> None:
        """V0: a wipe ends only with a view that names the member's present storage id as a learner's."""
        if state.wiped:
            self.wiped.add(member)
        elif member in self.wiped:
            self.wiped.discard(member)
            named = (
                [learner.identity for learner in state.view.learners if learner.member == member] if state.view else []
            )
            if not any(identity and identity.storage == state.storage for identity in named):
                raise Violation("V0", f"member {member} was readmitted by a view that does not name its storage id")

    def forget(self, member: int) -> None:
        """The disk is gone: what it promised is gone too (V0)."""
        self.wiped.discard(member)
        self.promised[member] = NO_VIEW
        self.acknowledged[member] = (NO_VIEW, 0)

    def cut(self, member: int, end: int) -> None:
        """An install cut the log: slots of a view that a quorum has left behind (V7)."""
        view, stored = self.acknowledged[member]
        self.acknowledged[member] = (view, min(stored, end))

    def sent(
        self, member: int, incarnation: Incarnation, message: Message, stable: StableState | None, end: int
    ) -> None:
        """A message leaves; `stable` and `end` are what the sender's disk holds at this time."""
        if stable is None or stable.incarnation != incarnation:
            raise Violation("D3", f"member {member} sent {type(message).__name__} before its incarnation was durable")
        match message:
            case Broadcast(status):
                if status.stored > 0:
                    self._acknowledged(member, status.view, status.stored, stable, end)
                for sequence in message.sequences:
                    self.sequenced(member, sequence)
                self._commit(member, incarnation, status.commit)
            case Token():
                self._passed(member, message)
            case Promise(number):
                if stable.wiped:
                    raise Violation("V0", f"member {member} is wiped and promised {number}")
                if stable.promised < number:
                    raise Violation("V3", f"member {member} sent a promise of {number} that is not durable")
                if message.log_view != stable.log_view or message.end > end:
                    raise Violation("V3", f"member {member} promised with an end or a log view that its disk has not")
                view, stored = self.acknowledged[member]
                if view == message.log_view and stored > message.end:
                    raise Violation(
                        "V3", f"member {member} promised with end {message.end} after it acknowledged {stored}"
                    )
                self.promised[member] = max(self.promised[member], number)
            case Prepare(number):
                if stable.promised < number:
                    raise Violation("V2", f"member {member} proposed {number} before its own promise was durable")
            case Installed(number):
                if stable.log_view < number:
                    raise Violation("D4", f"member {member} says it installed {number}, its disk {stable.log_view}")
            case Join():
                if message.storage != stable.storage:
                    raise Violation("D4", f"member {member} joined with a storage id that is not durable")
            case ReadOk():
                if message.stored > end or stable.wiped:
                    raise Violation(
                        "K3", f"member {member} answered a read with {message.stored}, its disk ends at {end}"
                    )
            case _:
                pass

    def _acknowledged(self, member: int, view: ViewNumber, stored: int, stable: StableState, end: int) -> None:
        if stored > end or stable.log_view != view:
            raise Violation(
                "D2", f"member {member} acknowledged {stored} in {view}, its disk holds {end} in {stable.log_view}"
            )
        if self.promised[member] > view:
            raise Violation("V3", f"member {member} acknowledged in {view} after it promised {self.promised[member]}")
        if stable.wiped:
            raise Violation("V0", f"member {member} is wiped and acknowledged {stored}")
        self.acknowledged[member] = max(self.acknowledged[member], (view, stored))

    def _commit(self, member: int, incarnation: Incarnation, commit: int) -> None:
        known, last = self.commits.get(member, (incarnation, 0))
        if known == incarnation and commit < last:
            raise Violation("monotonic commit", f"member {member} said commit {commit} after {last}")
        self.commits[member] = (incarnation, commit)

    def sequenced(self, member: int, sequence: Sequence) -> None:
        """One sequencer, and one content, per (view, slot)."""
        before = self.sequencers.setdefault((sequence.view, sequence.slot), (member, sequence.chain))
        if before != (member, sequence.chain):
            raise Violation(
                "one sequencer", f"slot {sequence.slot} of {sequence.view} by member {before[0]} and by member {member}"
            )

    def _passed(self, member: int, token: Token) -> None:
        before = self.tokens.setdefault((token.view, token.hop), (member, token.slot))
        if before != (member, token.slot):
            raise Violation("A6", f"hop {token.hop} of {token.view} by member {before[0]} and by member {member}")


def check_end(
    order: OrderChecker,
    ends: Iterable[tuple[int, int, bytes, int]],
    views: Iterable[View],
    founders: tuple[int, ...],
) -> None:
    """After the liveness phase: every member (id, applied, chain, digest) stands at the one committed end.

    And every view that a majority installed had the members that the order says at its base (V12).
    """
    for view in views:
        if view.members != order.members_at(view.base, founders):
            raise Violation(
                "configuration", f"{view.number} has {view.members}, the order says otherwise at {view.base}"
            )
    for member, applied, chain, digest in ends:
        if applied != order.end or chain != order.chain(applied) or digest != order.reference.digest:
            raise Violation("agreement", f"member {member} ends at {applied}, the order at {order.end}")
