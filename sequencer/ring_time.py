"""D7: the time that slots get. It is what the clocks of a quorum say, whichever member holds the token."""

from sequencer.clocks import STEP_US, Clocks, ClockStatus, ShownClocks
from sequencer.config import MS
from sequencer.messages import Clock
from sequencer.quorum import majority
from sequencer.state import NEVER, Member
from sequencer.types import ClockReset, View

#: Why a reset is refused (D7); what to do about it is the replica's to say.
NOT_SERVING = "not serving"
NOTHING_TO_RESET = "the ring's time is not ahead"
CLOCKS_UNKNOWN = "the clocks of a quorum are not known"
CLOCKS_DISAGREE = "the clocks of a quorum disagree"
UNTOLD = "a member tells no clock"


class RingTime(Member):
    """The clocks of the members, and what follows from them."""

    def init_ring_time(self) -> None:
        """Nothing is known of anybody's clock."""
        self.clocks = Clocks(self.config.clock_window_ms * MS)
        self.begun_us = self.now_us
        self.grown_us = self.now_us  # since when, at the latest, the log ends where it does
        self.clocks_known = False  # of a quorum, as of the last judgement, like `clock_beyond`
        self.clock_beyond = False
        self.time_ahead = False
        self.judged_us = NEVER
        self.judged_lead_us = 0
        self.left_end = -1  # the end of the log where this member last left a slot to another
        self.left_us = NEVER  # since when
        self.handed_us = NEVER  # when it last handed the token on for it

    # ------------------------------------------------------------------ the clocks of all

    def on_clock(self, sender: int, message: Clock) -> None:
        """A member says what its wall clock showed."""
        self.clocks.hear(sender, message.wall_us, message.now_us, self.now_us)
        self.judged_us = NEVER

    def shown_clocks(self) -> ShownClocks:
        """D7: what the wall clocks of the members show now, the own one included, and what a quorum's have reached."""
        clocks = self.clocks.showing(self.members, self.now_us)
        if self.me in self.members:
            clocks[self.me] = self.wall_us
        return ShownClocks(clocks, self.rules.quorum_time(clocks.values(), majority(self.members)))

    def quorum_time_us(self) -> int | None:
        """D7: what the clocks of a quorum have reached; None if too few are known."""
        return self.shown_clocks().quorum_us

    def is_right(self, offset_us: int) -> bool:
        """D7: a clock with this offset is within the bound of the settings."""
        return self.rules.clock_is_right(offset_us, self.config.clock_bound_ms * MS)

    def slot_time_us(self, reset: ClockReset | None = None) -> int:
        """D7: the time of the slot that is sequenced now; `reset`: one that it orders."""
        last_us = self.window.time_us
        clocks, quorum_us = self.shown_clocks()
        if quorum_us is None and not last_us:
            return self.wall_us  # a first slot, and members that tell no clock: there is nothing else to go by
        if reset is not None and quorum_us is not None and self.rules.resets_time(reset, last_us):
            self.tell("clock_reset", before_us=last_us, after_us=quorum_us, slot=self.window.end)
            return quorum_us
        carried_us = last_us + self.now_us - self.grown_us
        return self.rules.slot_time(last_us, quorum_us, carried_us, max(clocks.values(), default=0))

    def judge_clocks(self) -> None:
        """D7: is the own clock beyond the bound, is the log's time? Asked in each step, judged when it may differ."""
        lead_us = self.wall_us - self.now_us
        moved = abs(lead_us - self.judged_lead_us) >= STEP_US
        if not moved and self.now_us - self.judged_us < self.config.clock_interval_ms * MS:
            return
        self.judged_us, self.judged_lead_us = self.now_us, lead_us
        quorum_us, bound_us = self.quorum_time_us(), self.config.clock_bound_ms * MS
        self.clocks_known = quorum_us is not None
        offset_us = self.wall_us - quorum_us if quorum_us is not None else 0
        beyond = not self.is_right(offset_us)
        if beyond != self.clock_beyond:
            self.clock_beyond = beyond
            self.tell("clock_beyond_bound" if beyond else "clock_within_bound", offset_us=offset_us, bound_us=bound_us)
        ahead_us = self.window.time_us - quorum_us if quorum_us is not None else 0
        if (ahead_us > bound_us) != self.time_ahead:
            self.time_ahead = not self.time_ahead
            self.tell("ring_time_ahead" if self.time_ahead else "ring_time_right", ahead_us=ahead_us)

    def clock_status(self) -> ClockStatus:
        """For humans and metrics."""
        shown = self.shown_clocks()
        offsets_us = shown.offsets_us()
        beyond = tuple(member for member, offset_us in sorted(offsets_us.items()) if not self.is_right(offset_us))
        ring_us, bound_us = self.slot_time_us(), self.config.clock_bound_ms * MS
        return ClockStatus(ring_us, shown.quorum_us, self.window.time_us, bound_us, offsets_us, beyond)

    # ------------------------------------------------------------------ who sequences

    def leaves_slot(self, view: View, *, waiting: bool) -> bool:
        """D7: a holder whose clock is beyond the bound leaves the slot to one whose clock is right.

        `waiting`: there is something to order. It is not left for longer than half of `token_timeout`: members that
        hold each other for right must not stop the ring.
        """
        if not self.clocks_known:
            return self.now_us - self.begun_us < self.config.clock_wait_ms * MS
        if not self.clock_beyond or not self.is_right_elsewhere(view):
            return False
        self.rule("D7")
        if not waiting or self.left_end != self.window.end:
            self.left_end, self.left_us = self.window.end, self.now_us
        return 2 * (self.now_us - self.left_us) < self.config.token_timeout_ms * MS

    def hands_on(self) -> bool:
        """D7: the token that is not used goes on at once, but not round and round: each idle hop, or slot, once."""
        if not self.clock_beyond:
            return False  # it waits to hear the clocks
        grown = self.grown_us > self.handed_us
        if not grown and self.now_us - self.handed_us < self.config.idle_hop_interval_ms * MS:
            return False
        self.handed_us = self.now_us
        return True

    def is_right_elsewhere(self, view: View) -> bool:
        """Another member of the ring is heard, and its clock is within the bound."""
        offsets_us = self.shown_clocks().offsets_us()
        return any(
            self.is_right(offsets_us[member])
            for member in view.ring
            if member != self.me and member in offsets_us and self.is_heard(member)
        )

    # ------------------------------------------------------------------ an operator's reset

    def refuses_reset(self) -> str:
        """D7: one of the reasons above, empty if the reset may be ordered."""
        status = self.clock_status()
        if status.quorum_us is None:
            return CLOCKS_UNKNOWN
        if not set(self.heard()) & set(self.members) <= set(status.offsets_us):
            return UNTOLD
        if len(status.offsets_us) - len(status.beyond) < majority(self.members):
            return CLOCKS_DISAGREE
        return "" if status.ahead_us else NOTHING_TO_RESET
