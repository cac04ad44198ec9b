"""The protocol core: `step` takes events, returns one batch. No I/O, no clock, no randomness of its own.

Layers, each a file, each knowing only those below it: `state` (what a member knows), `ring_time` (D7), `ordering`
(A rules), `retransmission` (A8), `installation` (V7, C1), `suspicion` (V1), `patience` (V2, V9), `view_change`
(V2-V6), `damage` (D6), `retained` (C3), `membership` (V0, V9, V11), `members_change` (V12), `reads` (K3).
The safety decisions themselves stand in `rules`. Sources: docs/protocol.md names the papers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sequencer import messages as m
from sequencer import output as o
from sequencer.clocks import ClockStatus
from sequencer.config import GroupConfig
from sequencer.errors import require
from sequencer.quorum import majority, quorum_end
from sequencer.reads import Reads
from sequencer.ring_time import NOT_SERVING
from sequencer.rules import Rules
from sequencer.types import NO_VIEW, ClockReset, Identity, Recovered, View

if TYPE_CHECKING:
    from random import Random

FOREVER_US = 1 << 62
#: Health is looked at so often, and at once when anything changed that it depends on: it changes slower than the log.
REVIEW_INTERVAL_US = 5_000
ANY_CLUSTER = (m.Join, m.Prepare, m.Promise, m.Refused)  # frames with cluster id 0: blank members only (V0)
ORDERING_EVENTS = (o.Received, o.Submitted, o.Persisted)  # say themselves when there is something to review
ORDERING_MESSAGES = (m.Broadcast, m.Token, m.Clock)  # the others change more than the log
MEMBERS_ONLY = (
    m.Broadcast,
    m.Clock,
    m.Token,
    m.Nack,
    m.Retransmit,
    m.Read,
    m.ReadOk,
    m.Leave,
)  # not from outsiders (V12)


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """What a human wants to see of a member."""

    member: int
    cluster: int
    view: View | None
    members: tuple[int, ...]
    next_members: tuple[int, ...]  # differ from `members` while a change is under way (V12)
    removed: bool
    runs: bool
    in_ring: bool
    holds_token: bool
    first: int
    end: int
    stored: int
    commit: int
    delivered: int
    acked: dict[int, int]
    suspects: tuple[int, ...]
    unheard: tuple[int, ...]  # other members that it does not hear
    unheard_by: tuple[int, ...]  # other members that it hears, and that say they do not hear it
    wiped: bool
    damaged: bool
    leaving: bool
    left: bool
    disk_full: bool
    in_quorum: bool
    possible_loss: bool
    clocks: ClockStatus
    whole: bool  # a copy of all that retention promises (C3)
    missing_from: int | None  # where what it still has to fetch begins, as far as is known
    holes: tuple[tuple[int, int], ...]  # damaged slots, first and last, that are being repaired
    not_whole: tuple[int, ...]  # others that said they are not


class Core(Reads):
    """One member of one group."""

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
        """Make the core from what the disk said; step it at once (the first output raises the incarnation)."""
        super().__init__(config, member, recovered, random, now_us, storage_id, rules)
        require(self.me in config.members, "a member is one of the configured members", self.me, config.members)
        for record in recovered.tail:
            self.window.append(record)
        self.init_ring_time()
        self.reset_ordering()
        self.init_view_change()
        self.init_retained(recovered.first_chain)
        self.init_membership(lost_memory=recovered.lost_memory, new_disk=recovered.stable is None)
        self.init_reads()
        if self.damage:
            self.commit = min(self.commit, self.window.end)
        self._on_message: dict[type, Callable[[int, Any], None]] = {
            m.Broadcast: self.on_broadcast,
            m.Clock: self.on_clock,
            m.Token: self.on_token,
            m.Nack: self.on_nack,
            m.Retransmit: self.on_retransmit,
            m.Prepare: self.on_prepare,
            m.Promise: self.on_promise,
            m.Refused: self.on_refused,
            m.Healthy: self.on_healthy,
            m.Installed: self.on_installed,
            m.Fetch: self.on_fetch,
            m.Records: self.on_records,
            m.Chains: self.on_chains,
            m.SnapshotChunk: self.on_snapshot_chunk,
            m.Read: self.on_read,
            m.ReadOk: self.on_read_ok,
            m.Leave: self.on_leave,
            m.Holdings: self.on_holdings,
            m.Backfill: self.on_backfill,
            m.Backfilled: self.on_backfilled,
        }
        self._on_event: dict[type, Callable[[Any], None]] = {
            o.Received: self.receive,
            o.Submitted: lambda event: self.submit(event.frames),
            o.Persisted: lambda event: self.take_persisted(event.ticket),
            o.PeerLost: lambda event: self.lose_peer(event.member, lost=True),
            o.PeerFound: lambda event: self.lose_peer(event.member, lost=False),
            o.ReadAsked: lambda event: self.on_read_asked(event.nonce),
            o.SnapshotMade: self.on_snapshot_made,
            o.TrimAsked: self.on_trim_asked,
            o.DamageFound: self.on_damage_found,
            o.SnapshotOpened: self.on_snapshot_opened,
            o.ChangeMembersAsked: self.on_change_asked,
            o.ClockResetAsked: lambda _: self.on_clock_reset_asked(),
            o.LeaveAsked: lambda _: self.on_leave_asked(),
            o.RecoverAsked: lambda _: self.on_recover_asked(),
            o.DiskFilled: lambda _: self.fill_disk(full=True),
            o.DiskFreed: lambda _: self.fill_disk(full=False),
        }
        self._on_timer: dict[str, Callable[[], None]] = {
            name: getattr(self, f"on_{name}_timer")
            for name in (
                "resend", "idle_hop", "token_resend", "nack", "heartbeat", "fetch", "propose", "promise", "announce",
                "join", "genesis", "leave", "repair", "backfill", "read", "status",
            )
        }  # fmt: skip

    # ------------------------------------------------------------------ the one verb

    def step(self, now_us: int, wall_us: int, events: Iterable[o.Event]) -> o.Output:
        """Take everything that happened, then the timers that are due (V1), and return one batch.

        `now_us`: monotonic microseconds, never going back. `wall_us`: wall clock, for the ring's time (D7).
        """
        self.now_us = max(self.now_us, now_us)
        self.wall_us = wall_us
        for event in events:
            kind = type(event)
            self._on_event[kind](event)
            if kind not in ORDERING_EVENTS:
                self.review_due = True
        self.run_timers()
        self.judge_clocks()
        if self.started and not self.disk_full:
            self.advance_commit()
            self.use_token()
            self.look_for_gaps()
            if self.review_due or self.now_us - self.reviewed_us >= REVIEW_INTERVAL_US:
                self.review_due, self.reviewed_us = False, self.now_us
                self.review()
                self.plan_relays()
                self.consider_joiners()
                self.consider_change()
                self.consider_left()
            self.start_reads()
        if self.close_ticket() or self.disk_full:  # a full disk keeps nobody from counting what others have stored
            self.advance_commit()
        if self.started:
            self.flush_broadcast(self.accepted_hop)
        else:  # D3: nothing leaves under an incarnation that is not durable, also not what earlier tickets made due
            self.out.sends.clear()
        out, self.out = self.out, o.Output()
        return out

    def deadline(self) -> int:
        """Monotonic microseconds at which `step` must be called with no events."""
        return min(self.timers.values(), default=FOREVER_US)

    def run_timers(self) -> None:
        """Each timer that is due, in the order of their deadlines."""
        while self.timers and min(self.timers.values()) <= self.now_us:
            name = min(self.timers, key=self.timers.__getitem__)
            del self.timers[name]
            if self.disk_full and name not in ("heartbeat", "leave"):
                self.set_timer(name, self.config.heartbeat_interval_ms)  # D5: put off until there is space
            elif self.started:
                self._on_timer[name]()

    # ------------------------------------------------------------------ frames

    def receive(self, event: o.Received) -> None:
        """Check the envelope, note who was heard, hand the message to its rule."""
        if event.sender == self.me:
            if self.rules.is_rolled_back(Identity(event.incarnation, 0), self.stable):
                self.become_wiped(event.incarnation)
            return
        message = event.message
        if not self.started or not self.accepts(event):
            return
        peer = self.peer(event.sender)
        if self.is_older(event.sender, event.cluster, event.incarnation):
            if isinstance(message, m.Join):  # it must learn that it is not what it was
                self.on_join(event.sender, message, event.cluster, event.incarnation)
            return
        if event.incarnation != peer.incarnation:
            self.review_due = True
            peer.status = None  # of another run; one that lost its disk is heard as a blank one before it says more
            if event.cluster:
                peer.incarnation, peer.join = event.incarnation, None
                self.clocks.forget(event.sender)
                self.learn_incarnation(event.sender, event.incarnation)
        if not self.is_heard(event.sender):
            self.review_due = True
        peer.heard_us = self.now_us
        self.sent_in, self.sent_cluster = event.incarnation, event.cluster
        if self.disk_full and not isinstance(message, m.Broadcast | m.Joined | m.NewView):
            return
        if self.blank and event.cluster in self.stable.marks:
            self.meet_marked(event.cluster)
            if not isinstance(message, m.NewView):
                return
        if self.is_outsider(event):
            return
        if isinstance(message, ORDERING_MESSAGES) and not self.blank:
            self._on_message[type(message)](event.sender, message)
            return
        self.review_due = True
        if isinstance(message, m.Join):
            self.on_join(event.sender, message, event.cluster, event.incarnation)
        elif isinstance(message, m.Joined):
            self.on_joined(event.sender, message, event.cluster)
        elif isinstance(message, m.NewView):
            self.on_new_view(event.sender, message)
        elif not self.blank or isinstance(message, ANY_CLUSTER):
            self._on_message[type(message)](event.sender, message)

    def accepts(self, event: o.Received) -> bool:
        """V0: frames of our cluster; of blank members JOIN and genesis only; a blank member reads any id."""
        if event.cluster == self.stable.cluster or self.blank:
            return True
        if event.cluster == 0:
            return isinstance(event.message, ANY_CLUSTER)
        self.tell("frame_refused", peer=event.sender, cluster=event.cluster, rule="V0")
        return False

    def is_outsider(self, event: o.Received) -> bool:
        """V12: what orders is taken from members only; what tells of views, from everyone, since members change.

        A genesis is of those that one file names.
        """
        if event.sender in self.members or event.sender in self.everyone:  # the first is the usual case, and cheap
            return False
        return event.cluster == 0 if self.blank else isinstance(event.message, MEMBERS_ONLY)

    def lose_peer(self, member: int, *, lost: bool) -> None:
        """V1: a killed process is noticed in milliseconds by its connection."""
        if member != self.me:
            self.peer(member).connection_lost = lost

    def fill_disk(self, *, full: bool) -> None:
        """D5: read-only, asks for a view without itself, drops what it can't store, resumes when there is space."""
        self.rule("D5")
        self.disk_full = full
        self.status_due = True
        if full:
            view = self.installed
            if view is not None and self.token is not None and len(view.ring) > 1:
                self.pass_token(view)
        elif not self.in_ring:
            self.set_timer("join", 1)

    def on_clock_reset_asked(self) -> None:
        """D7: order a reset of the ring's time, or say why not."""
        why = self.refuses_reset() if self.in_quorum() and not self.leaving else NOT_SERVING
        if why:
            self.tell("clock_reset_refused", why=why)
            return
        self.rule("D7")
        self.tell("clock_reset_asked", seen_us=self.window.time_us)
        self.submit((), ClockReset(self.window.time_us))

    # ------------------------------------------------------------------ looking in

    def status(self) -> CoreStatus:
        """For humans and metrics."""
        return CoreStatus(
            member=self.me,
            cluster=self.stable.cluster,
            view=self.view,
            members=self.members,
            next_members=self.next_members,
            removed=self.removed,
            runs=self.runs,
            in_ring=self.in_ring,
            holds_token=self.token is not None,
            first=self.window.first,
            end=self.window.end,
            stored=self.stored,
            commit=self.commit,
            delivered=self.delivered,
            acked=dict(self.acked),
            suspects=tuple(sorted(self.suspects(self.view))) if self.view and self.runs else (),
            unheard=tuple(member for member in self.members if not self.is_heard(member)),
            unheard_by=tuple(
                member for member in self.members if self.is_heard(member) and not self.is_heard_by(member)
            ),
            wiped=self.stable.wiped,
            damaged=bool(self.damage),
            leaving=self.leaving,
            left=self.left,
            disk_full=self.disk_full,
            in_quorum=self.in_quorum(),
            possible_loss=self.view is not None and self.view.accepted_loss != NO_VIEW,
            clocks=self.clock_status(),
            whole=self.whole,
            missing_from=None if self.filled else self.retained_from(),
            holes=tuple((run.first, run.last) for run in self.holes),
            not_whole=tuple(member for member in self.others if self.says_not_whole(member)),
        )

    def check_invariants(self) -> None:
        """What must hold after each step; on in all tests, a flag in production."""
        window = self.window
        require(
            window.first <= window.base <= window.end, "first <= base <= end", window.first, window.base, window.end
        )
        require(self.delivered <= self.commit, "delivered <= commit", self.delivered, self.commit)
        require(
            window.base <= self.delivered, "the window holds all that is not delivered", window.base, self.delivered
        )
        if not self.damage:
            require(self.commit <= window.end, "commit <= end (A5)", self.commit, window.end)
        require(self.stable.log_view <= self.stable.promised, "log view <= promised (V7)", self.stable)
        require(self.token is None or self.accepted_hop >= self.token.hop, "a held token was accepted (A6)")
        require(self.passed is None or self.token is None or len(self.members) > 1, "one token a member")
        view = self.view
        if view is not None:
            require(2 * len(view.ring) >= len(view.members), "a ring holds a quorum (V6), or half (V12)", view)
            require(set(view.ring) <= set(view.members), "a ring is of members (V12)", view)
            if self.installed is not None and self.takes_part:
                require(
                    window.end >= view.base or self.opening, "an installed prefix is complete (V7)", window.end, view
                )
                committed = quorum_end(self.acked, self.members, majority(self.members))
                require(
                    min(committed, self.counted_end) <= max(self.commit, 0), "what Q acknowledged is committed (A5)"
                )
