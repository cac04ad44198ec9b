"""What a member knows, and the few verbs that all layers of the core share: send, persist, tell, set a timer."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sequencer.config import MS, GroupConfig
from sequencer.errors import require
from sequencer.messages import Broadcast, Clock, Join, Known, Message, Status, Vector
from sequencer.output import Fact, Output, Persist, SaveStable, Send
from sequencer.quorum import bits, majority
from sequencer.requests import OwnRequests, RequestBuffer
from sequencer.rules import Rules
from sequencer.types import (
    NO_VIEW,
    Identity,
    Incarnation,
    Recovered,
    Request,
    Sequence,
    StableState,
    View,
    ViewNumber,
)
from sequencer.window import LogWindow

if TYPE_CHECKING:
    from random import Random

NEVER = -(1 << 62)


class _Waiting(NamedTuple):
    """A ticket at the writer: the log's end once it is durable, and what waits for it."""

    ticket: int
    end: int
    effects: tuple[Callable[[], None], ...]


class Peer:
    """What is known of another member. Times in monotonic microseconds; NEVER before the first."""

    __slots__ = (
        "connection_lost",
        "heard_in_view_us",
        "heard_us",
        "incarnation",
        "join",
        "join_cluster",
        "join_us",
        "nacks_left",
        "nacks_since_us",
        "status",
    )

    def __init__(self, incarnation: Incarnation | None) -> None:
        self.incarnation = incarnation  # the newest that a frame came from, or that is known
        self.join_cluster = 0
        self.heard_us = NEVER
        self.heard_in_view_us = NEVER
        self.connection_lost = False
        self.status: Status | None = None
        self.join: Join | None = None
        self.join_us = NEVER
        self.nacks_left = 0
        self.nacks_since_us = NEVER


class Member:
    """Base layer of the core: state and shared verbs; no rule is decided here."""

    def __init__(
        self,
        config: GroupConfig,
        member: int,
        recovered: Recovered,
        random: "Random",
        now_us: int,
        storage_id: int,
        rules: Rules | None = None,
    ) -> None:
        self.config = config
        self.rules = rules or Rules()
        self.random = random
        self.now_us = now_us
        self.wall_us = 0
        self.out = Output()
        self.reached: set[str] = set()

        lost = recovered.lost
        self.stable = recovered.stable or StableState(
            member, storage_id, Incarnation(0, random.getrandbits(64)), cluster=lost or 0, wiped=lost is not None
        )
        self.window = LogWindow(
            recovered.first,
            recovered.applied,
            recovered.chain,
            recovered.time_us,
            recovered.senders,
            recovered.configuration,
        )
        self.me = self.stable.member
        self.delivered = recovered.applied  # every slot below is handed to the state machines
        self.commit = max(recovered.commit, recovered.applied)  # delivered <= commit <= stored <= window.end
        self.stored = recovered.end  # every slot below is durable here
        self.damage = recovered.damage
        self.peers: dict[int, Peer] = {}
        self.buffer = RequestBuffer(config.sender_requests_max, config.own_bytes_max + config.request_bytes_max)
        self.own = OwnRequests()

        # The installed view; `running` only if installed in this incarnation and nothing higher is promised (V1).
        self.view: View | None = self.stable.view
        self.installed_now = False  # installed in this incarnation (A6)
        self.started = False  # this incarnation is durable (D3)
        self.sent_in = self.stable.incarnation  # incarnation and cluster of the frame that is being handled
        self.sent_cluster = self.stable.cluster
        self.installing: View | None = None
        self.removal: View | None = None  # the newest view that was announced without this member (V12)
        self.without_us: dict[int, ViewNumber] = {}  # who runs a view without this member, as it said itself (V12)
        self.opening = False  # a received snapshot is being opened: the A2 table is not known yet (C1)
        self.leaving = False
        self.left = False
        self.disk_full = False

        self._ticket = 0  # newest ticket handed out
        self._durable_ticket = 0
        self._waiting: deque[_Waiting] = deque()  # in ticket order
        self._effects: list[Callable[[], None]] = []  # of this step
        self._outgoing_requests: list[Request] = []
        self._outgoing_sequences: list[Sequence] = []
        self.status_due = False  # a Status must leave with this step
        self.ack_due = False  # who waits for this member's ACK must get it with this step
        self.clock_told_us = NEVER
        self.known_unsaved = False  # `known` was raised since the stable state was last written
        self.review_due = True  # something changed that health depends on
        self.reviewed_us = NEVER
        self.timers: dict[str, int] = {}

    # ------------------------------------------------------------------ who and what

    @property
    def members(self) -> tuple[int, ...]:
        """V12: the configuration that promises and ACKs count against: that of the installed view."""
        return self.view.members if self.view is not None else self.config.members

    @property
    def founders(self) -> tuple[int, ...]:
        """The members of the genesis, as every view says (V12)."""
        known = self.view or self.installing or self.stable.announced
        return known.founders if known is not None else self.config.members

    @property
    def next_members(self) -> tuple[int, ...]:
        """The configuration at the end of the log, which a view that is made from it has (V12)."""
        return self.window.configuration.members or self.founders

    @property
    def everyone(self) -> tuple[int, ...]:
        """Whom this member speaks with: the members of its view, of its log and of the view it installs (V12)."""
        members, installing = self.members, self.installing
        if installing is None and self.next_members == members:
            return members
        announced = installing.members if installing is not None else ()
        return tuple(sorted({*members, *self.next_members, *announced}))

    @property
    def others(self) -> list[int]:
        """Everyone but this one."""
        return [member for member in self.everyone if member != self.me]

    @property
    def newest_view(self) -> View | None:
        """The newest that it installed, or that was announced without it (V12)."""
        views = [view for view in (self.view, self.removal) if view is not None]
        return max(views, key=lambda view: view.number, default=None)

    @property
    def removed(self) -> bool:
        """V12: it was a member, and the newest view that it knows of does not hold it."""
        newest = self.newest_view
        return self.view is not None and newest is not None and self.me not in newest.members

    @property
    def dismissed(self) -> bool:
        """V12: removed by a view that a quorum of its members runs: no view without the change can come any more."""
        newest = self.newest_view
        if not self.removed or newest is None:
            return False
        running = [member for member in newest.members if self.without_us.get(member, NO_VIEW) >= newest.number]
        return len(running) >= majority(newest.members)

    @property
    def outside(self) -> bool:
        """V12: never a member on this disk, and the newest view that it heard of does not hold it: it waits."""
        return self.view is None and self.removal is not None

    @property
    def blank(self) -> bool:
        """Never installed anything and bound to no cluster (V0)."""
        return self.stable.cluster == 0

    @property
    def lost(self) -> bool:
        """D6: blank, and its disk held something before that could not be trusted, of a cluster that nothing names."""
        return self.blank and self.stable.wiped

    @property
    def takes_part(self) -> bool:
        """May promise, acknowledge, answer reads and take tokens (V0, D6)."""
        return self.rules.may_take_part(self.stable, damaged=bool(self.damage))

    @property
    def installed(self) -> View | None:
        """The installed view while nothing higher is promised: what SEQUENCE, ACK and NACK of it are handled in."""
        view = self.view
        if view is None or view.number != self.stable.promised or self.installing is not None:
            return None
        if self.opening or self.damage:
            return None
        return view

    @property
    def runs(self) -> bool:
        """V1: it installed the view in this incarnation and has promised nothing higher."""
        return self.installed_now and self.installed is not None

    def peer(self, member: int) -> Peer:
        """What is known of another member."""
        known = self.peers.get(member)
        if known is None:
            identity = self.stable.known.get(member)
            known = self.peers[member] = Peer(identity.incarnation if identity else None)
        return known

    def is_heard(self, member: int) -> bool:
        """Any frame within the suspect timeout, and no broken connection."""
        if member == self.me:
            return True
        peer = self.peer(member)
        return not peer.connection_lost and self.now_us - peer.heard_us < self.config.suspect_timeout_ms * MS

    def heard(self) -> list[int]:
        """Members heard within the suspect timeout, this one included, in id order."""
        return [member for member in self.everyone if self.is_heard(member)]

    def heard_bits(self) -> int:
        """Whom it hears, for its heartbeats and promises: also members that are new to its configuration (V12)."""
        return bits(member for member in {*self.everyone, *self.peers} if self.is_heard(member))

    def vector(self) -> Vector:
        """The newest incarnations and storage ids known, own included (V0)."""
        known = {**self.stable.known, self.me: Identity(self.stable.incarnation, self.stable.storage)}
        return tuple(Known(member, known[member]) for member in sorted(known))

    def learn_identity(self, member: int, identity: Identity, *, first_hand: bool = False) -> None:
        """Raise what is known of a member; durable with the next stable state. `first_hand`: its own JOIN says so."""
        known = self.stable.known.get(member)
        if member == self.me or identity == known:
            return
        if known is not None and known.incarnation.counter >= identity.incarnation.counter:
            # The same counter with other bits is a disk that went back, or, before the genesis, a new disk (V0).
            same_run = known.incarnation == identity.incarnation
            if not (first_hand and (same_run or self.blank)):
                return
            self.peer(member).incarnation = identity.incarnation
        self.stable = replace(self.stable, known={**self.stable.known, member: identity})
        self.known_unsaved = True

    def learn_incarnation(self, member: int, incarnation: Incarnation) -> None:
        """Any frame tells an incarnation; which disk it runs on only JOIN tells: the last known one until then."""
        known = self.stable.known.get(member)
        self.learn_identity(member, Identity(incarnation, known.storage if known else 0))

    # ------------------------------------------------------------------ verbs

    def rule(self, name: str) -> None:
        """Say once per run that a rule decided something: the simulator counts who reached it."""
        if name not in self.reached:
            self.reached.add(name)
            self.out.facts.append(Fact("rule", {"name": name}))

    def tell(self, name: str, **fields: object) -> None:
        """A fact for the log and the counters."""
        self.out.facts.append(Fact(name, fields))

    def send(self, to: int, message: Message) -> None:
        """To one peer, at once."""
        self.out.sends.append(Send(to, message, self.stable.cluster))

    def send_all(self, message: Message) -> None:
        """To each peer over DEALER, at once."""
        for member in self.others:
            self.send(member, message)

    def publish_requests(self, requests: list[Request]) -> None:
        """With this step's broadcast."""
        self._outgoing_requests.extend(requests)

    def publish_sequence(self, sequence: Sequence) -> None:
        """With this step's broadcast."""
        self._outgoing_sequences.append(sequence)

    def persist(self, operation: Persist) -> None:
        """Hand an operation to the FIFO writer under this step's ticket (D4)."""
        self.out.persists.append(operation)

    def save_stable(self, **changes: Any) -> None:
        """Change the stable state and write it whole (D3)."""
        before, self.stable = self.stable, replace(self.stable, **changes)
        kept = self.stable.promised >= before.promised or not before.cluster  # a genesis that did not become a cluster
        require(kept, "a promise is never taken back (V3)", self.stable, before)
        self.known_unsaved = False
        self.persist(SaveStable(self.stable, self.commit))

    def when_durable(self, effect: Callable[[], None]) -> None:
        """Run `effect` in the step that learns that everything persisted so far is durable (D4)."""
        self._effects.append(effect)

    def close_ticket(self) -> bool:
        """End of a step: number its operations, remember which end they make durable and what waits for them.

        Returns whether there were any: then the commit point may have moved.
        """
        persists, waited = self.out.persists, bool(self._effects)
        while self._effects and not self.out.persists and self._durable_ticket == self._ticket:
            self.run_effects(*self._drop_effects())
        if persists:
            self._ticket += 1
            self.out.ticket = self._ticket
        if persists or self._effects:
            self._waiting.append(_Waiting(self._ticket, self.window.end, self._drop_effects()))
        return waited or bool(persists)

    def _drop_effects(self) -> tuple[Callable[[], None], ...]:
        effects, self._effects = self._effects, []
        return tuple(effects)

    def run_effects(self, *effects: Callable[[], None]) -> None:
        """What waited for the disk."""
        for effect in effects:
            effect()
            self.review_due = True

    def take_persisted(self, ticket: int) -> None:
        """Everything up to `ticket` is durable: `stored` moves (also back, after a cut), effects run in order."""
        self._durable_ticket = ticket
        while self._waiting and self._waiting[0].ticket <= ticket:
            waiting = self._waiting.popleft()
            if self.stored != waiting.end:
                self.stored = waiting.end
                self.ack_due = True
            self.run_effects(*waiting.effects)

    def set_timer(self, name: str, delay_ms: float) -> None:
        """(Re-)arm a timer; its handler is `on_<name>_timer`."""
        self.timers[name] = self.now_us + max(1, int(delay_ms * MS))

    def arm_timer(self, name: str, delay_ms: float) -> None:
        """Arm a timer unless it runs."""
        if name not in self.timers:
            self.set_timer(name, delay_ms)

    def hasten_timer(self, name: str, delay_ms: float) -> None:
        """Arm a timer, or bring it forward."""
        due = self.now_us + max(1, int(delay_ms * MS))
        self.timers[name] = min(due, self.timers.get(name, due))

    def stop_timer(self, name: str) -> None:
        """Disarm."""
        self.timers.pop(name, None)

    # ------------------------------------------------------------------ the broadcast of a step

    @property
    def counted_end(self) -> int:
        """The end that counts here: what is synced; with durability=memory what is appended (D2)."""
        return self.window.end if self.config.durability == "memory" else self.stored

    def acknowledged(self) -> int:
        """The end that this member acknowledges in its installed view (D2, V3); 0 if it may not acknowledge."""
        view = self.view
        if view is None or not self.takes_part:
            return 0
        if view.number != self.stable.promised and not self.rules.acknowledges_after_promise():
            return 0
        return self.rules.acknowledged_end(self.counted_end, self.window.end)

    def own_status(self, accepted_hop: int) -> Status:
        """ACK and HEARTBEAT."""
        return Status(
            view=self.view.number if self.view else ViewNumber(0, 0),
            runs=self.runs,
            promised=self.stable.promised,
            stored=self.acknowledged(),
            commit=self.commit,
            accepted_hop=accepted_hop,
            newest_lsn=self.own.newest_lsn,
            heard=self.heard_bits(),
            wiped=not self.takes_part,
            leaving=self.leaving or self.disk_full,
        )

    def flush_broadcast(self, accepted_hop: int) -> None:
        """One PUB frame for all that this step publishes; the status rides on it (A7).

        An ACK alone goes to those whose requests it commits, and to all with the next frame, within `ack_delay`: with n
        members, n receive it at once instead of n * (n - 1).
        """
        if not (self._outgoing_requests or self._outgoing_sequences or self.status_due):
            if self.ack_due:
                self.acknowledge(accepted_hop)
            return
        if self.others and not self.blank:
            message = Broadcast(
                self.own_status(accepted_hop), tuple(self._outgoing_requests), tuple(self._outgoing_sequences)
            )
            self.out.sends.append(Send(None, message, self.stable.cluster))
            if self.now_us - self.clock_told_us >= self.config.clock_interval_ms * MS:
                self.clock_told_us = self.now_us
                self.out.sends.append(Send(None, Clock(self.wall_us, self.now_us), self.stable.cluster))
            self.set_timer("heartbeat", self.config.heartbeat_interval_ms)
        self._outgoing_requests.clear()
        self._outgoing_sequences.clear()
        self.status_due = self.ack_due = False
        self.stop_timer("status")

    def acknowledge(self, accepted_hop: int) -> None:
        """A5: the ACK to every member whose request waits for it; the others learn it a little later."""
        self.ack_due = False
        message = Broadcast(self.own_status(accepted_hop))
        for member in self.waiting_for_commit():
            self.send(member, message)
        self.arm_timer("status", self.config.ack_delay_ms)

    def waiting_for_commit(self) -> set[int]:
        """Whose requests stand in slots that are not known to be committed."""
        records = self.window.records(self.commit, self.window.end)
        return {entry.sender for record in records for entry in record.sequence.entries} - {self.me}

    def on_status_timer(self) -> None:
        """The frame that the status was to ride on has not come."""
        self.status_due = True
