"""The safety decisions of the protocol, one predicate each, named by its rule.

All branches that can lose data ask here, and nothing else is here: pure functions of their arguments. A mutation test
overrides one of them; the simulator must then find a violation.
"""

from collections.abc import Collection, Iterable, Mapping

from sequencer.clocks import reached_by
from sequencer.messages import Join, Promise, Status
from sequencer.quorum import majority
from sequencer.types import ClockReset, Identity, Incarnation, Ordered, Sequence, StableState, View, ViewNumber


class Rules:
    """Stateless; a core holds one instance."""

    # ------------------------------------------------------------------ ordering

    def follows_in_lsn_order(self, first_lsn: int, incarnation: Incarnation, ordered: Ordered | None) -> bool:
        """A2: (s, i, l) only when (s, i, l-1) is sequenced or l = 1; never an incarnation older than an ordered one."""
        if ordered is None or ordered.incarnation < incarnation:
            return first_lsn == 1
        return ordered.incarnation == incarnation and first_lsn == ordered.last_lsn + 1

    def may_sequence(self, token_slot: int, end: int) -> bool:
        """A3: the holder has every SEQUENCE below the token's slot and every request those order."""
        return end == token_slot

    def counts_ack(self, status: Status, installed: ViewNumber) -> bool:
        """A5: ACKs of the current view only."""
        return status.view == installed

    def commit_quorum(self, members: Collection[int], ring: Collection[int]) -> int:
        """A5 and Q: a majority of the configured members, never of the ring or of those that are up."""
        return majority(members)

    def believes_commit(self, sent_in: ViewNumber, installed: ViewNumber) -> bool:
        """'committed': said so by a peer in a frame of the view that this member has installed."""
        return sent_in == installed

    def takes_tokens(self, installed_now: bool) -> bool:
        """A6: a member that restarted since it installed the view takes no token of it."""
        return installed_now

    def token_is_newer(self, hop: int, accepted_hop: int) -> bool:
        """A6: the hop is newer than any that this member itself accepted in this view."""
        return hop > accepted_hop

    def may_store(self, sequence: Sequence, installed: View) -> bool:
        """A8: a slot at or above the base is stored only if it was sequenced in the installed view."""
        return sequence.slot >= installed.base and sequence.view == installed.number

    def acknowledged_end(self, stored: int, appended: int) -> int:
        """D2: only what is synced is acknowledged."""
        return stored

    def may_change_members(self, view: View, log_members: tuple[int, ...], confirmed: Collection[int]) -> bool:
        """V12: no second change before the first is committed in a view made with it.

        A quorum that has installed the view holds everything below its base, and is met by every later proposer.
        """
        installed = sum(member in confirmed for member in view.members)
        return log_members == view.members and installed >= majority(view.members)

    # ------------------------------------------------------------------ the ring's time

    def quorum_time(self, clocks: Iterable[int], quorum: int) -> int | None:
        """D7: the latest time that the clocks of Q members have reached: one of them at least is right."""
        return reached_by(clocks, quorum)

    def slot_time(self, last_us: int, quorum_us: int | None, carried_us: int, latest_us: int) -> int:
        """D7: what a quorum's clocks have reached, and never below the slot before.

        While that is behind the log, or not known, the last slot's time is carried on by the monotonic clock, no
        further than the latest clock: it can't run away, and does not stand still because one clock is slow.
        """
        if quorum_us is not None and quorum_us >= last_us:
            return quorum_us
        return max(last_us, min(carried_us, latest_us))

    def clock_is_right(self, offset_us: int, bound_us: int) -> bool:
        """D7: the clock is within the bound of what a quorum's clocks have reached."""
        return abs(offset_us) <= bound_us

    def resets_time(self, reset: ClockReset, last_us: int) -> bool:
        """D7: only a reset whose operator saw a time that was not reset since takes effect."""
        return last_us >= reset.seen_us

    # ------------------------------------------------------------------ view change

    def may_take_part(self, state: StableState, *, damaged: bool) -> bool:
        """V0, D6: a wiped or damaged member neither promises, acknowledges, answers reads nor takes a token."""
        return not state.wiped and not damaged and state.cluster != 0

    def counts_promise(self, incarnation: Incarnation, known: Identity | None) -> bool:
        """V0: a promise of an incarnation older than any collected vector says is not counted.

        Nor one with the same counter and other bits: one of the two ran on a disk that went back in time, and which
        of them the random bits put higher says nothing.
        """
        return known is None or incarnation == known.incarnation or incarnation.counter > known.incarnation.counter

    def readmits(self, view: View, me: int, state: StableState) -> bool:
        """V0: a wiped member installs only a view that names its present storage id as a learner's.

        Or one that an operator made from the promises of all n (`recover --accept-loss`).
        """
        if not state.wiped or view.accepted_loss == view.number:
            return True
        return any(
            learner.member == me and learner.identity is not None and learner.identity.storage == state.storage
            for learner in view.learners
        )

    def may_promise(self, number: ViewNumber, state: StableState) -> bool:
        """V3: it has promised nothing higher, and has no NEW_VIEW of this number."""
        if number == state.promised:
            return state.announced is None or state.announced.number != number
        return number > state.promised

    def promised_end(self, stored_when_durable: int, stored_when_asked: int) -> int:
        """V3: the answer's end is taken when the promise itself is durable."""
        return stored_when_durable

    def acknowledges_after_promise(self) -> bool:
        """V3: after a promise no acknowledgement of a lower view leaves."""
        return False

    def source_order(self, promise: Promise) -> tuple[ViewNumber, int]:
        """V5: the source is the promiser with the highest (log view, end), in that order of weight."""
        return (promise.log_view, promise.end)

    def promises_needed(self, source: Promise, own: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
        """V12: (members, how many of them must promise); by the source's configurations, never by the proposer's own.

        Of the new members a quorum less the one that is added, who may have nothing to promise with yet.
        """
        added = len(set(source.members) - set(source.log_members))
        return (
            (source.log_members, majority(source.log_members)),
            (source.members, max(1, majority(source.members) - added)),
        )

    def may_announce(self, announced: View | None) -> bool:
        """V5: at most one announcement per number."""
        return announced is None

    def same_announcement(self, held: View | None, view: View) -> bool:
        """V5: a NEW_VIEW whose ring, end or chain differs from the one held for that number is ignored."""
        return (
            held is None
            or held.number != view.number
            or (held.ring, held.base, held.chain) == (view.ring, view.base, view.chain)
        )

    def may_install(self, number: ViewNumber, state: StableState) -> bool:
        """V7: dropped if v <= log view or v < promised."""
        return number > state.log_view and number >= state.promised

    def cut_to(self, end: int, base: int) -> int:
        """V7: everything beyond the announced end is cut."""
        return min(end, base)

    def prefix_complete(self, end: int, chain: bytes | None, view: View) -> bool:
        """V7: the log view is raised only when the prefix is complete."""
        return end == view.base and chain == view.chain

    def may_cut(self, end: int, commit: int) -> bool:
        """V7: a cut below its own commit point is never made."""
        return end >= commit

    def creates_token(self, ring: tuple[int, ...], me: int, *, just_installed: bool) -> bool:
        """V8: the first ring member creates the token in the very step that completes its install, once."""
        return just_installed and ring[0] == me

    # ------------------------------------------------------------------ catch-up

    def may_take_records(self, sent_in: ViewNumber, installing: ViewNumber | None) -> bool:
        """C1: below the base, log records are taken only while installing that very view."""
        return sent_in == installing

    def fetched_commit(self, committed: int, end: int) -> int:
        """C1: what is committed at who serves is so here as far as its records link: one chain, one log (A10)."""
        return min(committed, end)

    def may_use_snapshot(self, asked_in: ViewNumber, state: StableState) -> bool:
        """C1: refused if the receiver has promised higher since it asked."""
        return state.promised <= asked_in

    def is_whole(self, state: StableState, first: int, *, holes: bool) -> bool:
        """C3: no copy of the retained log until all that was below the snapshot is here too, and nothing is damaged."""
        return (state.whole or first == 0) and not holes

    def whole_after_snapshot(self) -> bool:
        """C3: what a snapshot leaves out is missing until it is fetched."""
        return False

    def takes_backfill(self, linked: bytes | None, chain: bytes) -> bool:
        """C3: records are put below the log only if they link, hash by hash, to the chain that it begins with."""
        return linked == chain

    def copies_needed(self, members: Collection[int]) -> int:
        """C3: so many whole copies stay where a member is removed."""
        return majority(members)

    # ------------------------------------------------------------------ blank and wiped members

    def genesis_complete(self, promisers: Collection[int], members: Collection[int]) -> bool:
        """V0: the first view needs genesis promises of all n."""
        return set(promisers) >= set(members)

    def may_found(self, *, lost: bool) -> bool:
        """V0, D6: a lost member has no part in a genesis."""
        return not lost

    def is_rolled_back(self, told: Identity | None, state: StableState) -> bool:
        """V0: a peer knows an incarnation of us that is not below our present one and is not the same."""
        return (
            told is not None
            and told.incarnation.counter >= state.incarnation.counter
            and told.incarnation != state.incarnation
        )

    def must_readmit(self, join: Join, named: Mapping[int, Identity | None], joiner: int) -> bool:
        """V9 (a): the joiner is wiped and the ring's view does not name its storage id."""
        identity = named.get(joiner)
        return join.wiped and (identity is None or identity.storage != join.storage)
