"""The time that a leader puts into entries: what the clocks of a quorum of voters say, not its own (D7 of the bus).

Each member tells all others its wall clock and its monotonic clock; sequencer/clocks.py says how they are kept. A
member of an older version tells none: while too few clocks are known the own clock counts, as it did before.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from replicas.raft.messages import Clock
from sequencer.clocks import Clocks, reached_by
from sequencer.quorum import majority
from store.raft_contract import Incarnation

if TYPE_CHECKING:
    from replicas.raft.state import State

TELL_S = 0.25
WINDOW_S = 2.0
#: A member that has just started waits so long for the clocks of the others before it takes changes.
WAIT_S = 1.0
#: A clock that is further off than this is wrong: it is told, and does not help to set the time back.
BOUND_US = 5_000_000
#: A time falls by more than this only if it was wrong: the clocks of a quorum were, and are right again.
SET_BACK_US = 60_000_000


class GroupTime:
    """Of one member. `wall_us`: its own wall clock; None: it tells none, and has no time (where nobody asks for it)."""

    def __init__(self, state: Callable[[], State], wall_us: Callable[[], int] | None) -> None:
        self._state = state
        self._wall_us = wall_us
        self._clocks = Clocks(int(WINDOW_S * 1e6))
        self._incarnations: dict[int, Incarnation] = {}
        self._timer: TimerHandle | None = None
        self._started_us = 0
        self._last: tuple[int, int] | None = None  # the newest time that was given, and when by the monotonic clock

    # -------------------------------------------------------------- the clocks of all

    def start(self) -> None:
        """Tell the clocks from now on."""
        if self._wall_us is not None:
            self._started_us = self._now_us()
            self._tell()

    def stop(self) -> None:
        """Silent from here on."""
        if self._timer is not None:
            self._timer.cancel()

    def _now_us(self) -> int:
        return int(self._state().loop.time() * 1e6)

    def _tell(self) -> None:
        state = self._state()
        assert self._wall_us is not None
        if state.cluster:
            clock = Clock(self._wall_us(), self._now_us())
            for member in state.peers:
                state.send(member, clock)
        self._timer = state.loop.call_later(TELL_S, self._tell)

    def hear(self, member: int, incarnation: Incarnation, clock: Clock) -> None:
        """What a member's clocks showed; another process of it has another monotonic clock."""
        if self._incarnations.get(member) != incarnation:
            self._incarnations[member] = incarnation
            self._clocks.forget(member)
        self._clocks.hear(member, clock.wall_us, clock.now_us, self._now_us())

    def showing(self) -> Mapping[int, int]:
        """The voters' wall clocks now, those that are known; the own one among them."""
        state = self._state()
        voters = state.log.members.voters
        shown = self._clocks.showing(voters, self._now_us())
        if self._wall_us is not None and state.id in voters:
            shown[state.id] = self._wall_us()
        return shown

    def quorum_us(self) -> int | None:
        """What the clocks of a quorum of voters have reached; None if too few are known."""
        return reached_by(self.showing().values(), majority(self._state().log.members.voters))

    def offset_us(self) -> int | None:
        """How far the own clock is off that."""
        quorum_us = self.quorum_us()
        return None if quorum_us is None or self._wall_us is None else self._wall_us() - quorum_us

    @property
    def settled(self) -> bool:
        """The clocks of a quorum are known, or are not told."""
        return self.quorum_us() is not None or self._now_us() - self._started_us >= WAIT_S * 1e6

    # -------------------------------------------------------------- the time of an entry

    def time_us(self) -> int:
        """Microseconds since 1970: the quorum's time, never below what was given before, but for a set-back."""
        assert self._wall_us is not None, "a member that tells no clock has no time"
        now_us, shown = self._now_us(), self.showing()
        voters = self._state().log.members.voters
        quorum_us = reached_by(shown.values(), majority(voters))
        if self._last is None:
            found = self._wall_us() if quorum_us is None else quorum_us
        else:
            last_us, since_us = self._last
            ahead = last_us - SET_BACK_US > (self.agreed_us() or last_us)
            if quorum_us is not None and (quorum_us >= last_us or ahead):
                found = quorum_us
            else:  # too few clocks: carried on, no further than the latest one
                found = max(last_us, min(last_us + now_us - since_us, max(shown.values(), default=0)))
        self._last = (found, now_us)
        return found

    def agreed_us(self) -> int | None:
        """The quorum's time, if all voters tell their clocks and those of a quorum agree: then a time that is far ahead
        was wrong. A voter of an older version tells none, and could not read an entry that sets the time back."""
        voters, shown = self._state().log.members.voters, self.showing()
        quorum_us = reached_by(shown.values(), majority(voters))
        if quorum_us is None or len(shown) < len(voters):
            return None
        agree = sum(abs(clock - quorum_us) <= BOUND_US for clock in shown.values())
        return quorum_us if agree >= majority(voters) else None
