"""D7: the time that slots get, who sequences with a wrong clock, and resets."""

from sequencer.chain import digest
from sequencer.messages import Broadcast, Clock, Retransmit
from sequencer.output import Send
from sequencer.types import ClockReset, Request
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import MS, ack, incarnation, published, record, request, token
from tests.sequencer.harness import WALL_US, Host, matching

DAY_US = 86_400_000_000
SECOND_US = 1_000_000


def times(sends: list[Send]) -> list[int]:
    """The times of all slots that these frames sequence."""
    return [sequence.time_us for sent in matching(sends, Broadcast) for sequence in sent.sequences]


def ordered_by(member: Host) -> list[int]:
    """It is given the token and one request: the times of what it sequences in that step."""
    member.submit(b"mine")
    return times(member.hear(1, token(member.number, 1, member.running.window.end)).sends)


def with_log(member: Host, time_us: int) -> None:
    """One slot of this time is in the log."""
    below = record(0, bytes(16), [request(1, 1)], member.number, time_us)
    member.hear(1, published(member.number, [below]))
    member.settle()


def reset_request(seen_us: int) -> Request:
    """Member 3 asks for a reset."""
    change = ClockReset(seen_us)
    return Request(3, incarnation(3), 1, (), digest((), change), change)


@rule("D7 the own clock", "D7 the latest clock")
def test_a_slot_gets_the_quorum_time(trial: Trial) -> None:
    """D7: The holder gives a slot the quorum time, and never less than the time of the slot before."""
    member = trial.running(2, slot_fill_bytes=1)
    member.clock(1, -SECOND_US)
    member.clock(3, DAY_US)
    member.wall_offset_us = SECOND_US
    with trial.decides():
        assert ordered_by(member) == [member.wall_us]
        member.clock(3, -2 * SECOND_US)
        member.hear(1, token(member.number, 4, 1))
        assert times(member.submit(b"again").sends) == [member.wall_us]  # the slot before is not below it
    other = trial.running(2)
    other.clock(1)
    other.clock(3)
    other.wall_offset_us = 4 * SECOND_US
    with trial.decides():
        assert ordered_by(other) == [WALL_US + other.world.now_us]


@rule("D7 the quorum of those that are known")
def test_a_quorum_is_of_all_members_and_not_of_those_that_are_known(trial: Trial) -> None:
    """D7: *Quorum time* is the latest time that the clocks of Q members of the view have reached, the own clock
    included."""
    member = trial.running(2, members=5)
    with_log(member, member.wall_us)
    member.clock(3, DAY_US)
    member.wall_offset_us = DAY_US
    member.world.now_us += 2_000
    with trial.decides():
        assert ordered_by(member) == [WALL_US + member.world.now_us]


@rule("D7 back without a reset")
def test_no_slot_is_below_the_slot_before(trial: Trial) -> None:
    """D7: never less than the time of the slot before."""
    member = trial.running(2)
    with_log(member, member.wall_us + DAY_US)
    member.clock(1)
    member.clock(3)
    with trial.decides():
        assert ordered_by(member) == [member.wall_us + DAY_US]


@rule("D7 stands still")
def test_the_time_is_carried_on_while_too_few_clocks_have_reached_it(trial: Trial) -> None:
    """D7: While the quorum time is below that, or too few clocks are known, the holder carries the last slot's time
    on by its monotonic clock"""
    member = trial.running(2)
    with_log(member, member.wall_us)
    member.clock(1)
    member.wall_offset_us = -DAY_US  # and member 3 is down
    member.world.now_us += 100 * MS
    with trial.decides():
        assert ordered_by(member) == [WALL_US + member.world.now_us]


@rule("D7 carries on without a clock")
def test_the_time_is_carried_no_further_than_the_latest_clock(trial: Trial) -> None:
    """D7: the holder carries the last slot's time on by its monotonic clock, no further than the latest clock that it
    knows."""
    member = trial.running(2)
    ahead_us = member.wall_us + 50 * MS
    with_log(member, ahead_us)
    member.clock(1)
    member.clock(3)
    member.world.now_us += 10 * MS
    with trial.decides():
        assert ordered_by(member) == [ahead_us]


@rule("D7 carries on beside the clocks")
def test_a_fast_monotonic_clock_does_not_add_up(trial: Trial) -> None:
    """D7: While the quorum time is below that, or too few clocks are known, the holder carries the last slot's time"""
    member = trial.running(2)
    with_log(member, member.wall_us)
    member.clock(1, DAY_US)
    member.world.now_us += 100 * MS
    member.wall_offset_us = -1 * MS  # its monotonic clock runs a hundredth too fast
    member.clock(3, -1 * MS)
    with trial.decides():
        assert ordered_by(member) == [member.wall_us]


@rule("D7 the newest lead")
def test_a_late_frame_makes_no_clock_late(trial: Trial) -> None:
    """D7: A receiver keeps a clock as its lead over the receiver's own monotonic clock: the largest lead that it heard
    within `clock_window`"""
    member = trial.running(2)
    member.clock(3)
    sent_us = member.world.now_us
    member.world.now_us += 200 * MS
    member.hear(3, Clock(WALL_US + sent_us, sent_us))
    member.wall_offset_us = -SECOND_US
    member.clock(1, DAY_US)
    with trial.decides():
        assert ordered_by(member) == [WALL_US + member.world.now_us]


@rule("D7 sees no step")
def test_a_clock_that_jumped_back_is_believed_at_once(trial: Trial) -> None:
    """D7: A step of a wall clock against the monotonic clock beside it, and a new incarnation, void what was told
    before"""
    member = trial.running(2)
    member.clock(1, SECOND_US)
    member.clock(3, DAY_US)
    member.world.now_us += 1 * MS
    member.clock(3)
    with trial.decides():
        assert ordered_by(member) == [WALL_US + member.world.now_us]


@rule("D7 believes the process before")
def test_a_new_process_has_a_clock_of_its_own(trial: Trial) -> None:
    """D7: A step of a wall clock against the monotonic clock beside it, and a new incarnation, void what was told
    before"""
    member = trial.running(2)
    member.clock(3)
    member.hear(3, ack(member.number, runs=False), of_counter=2)
    with trial.decides():
        assert member.running.clock_status().offsets_us == {}


@rule("D7 knows silent clocks")
def test_a_silent_clock_is_not_known(trial: Trial) -> None:
    """D7: a clock that was not heard for `clock_window` is not known."""
    member = trial.running(2, clock_window_ms=1_000)
    member.clock(1)
    member.clock(3)
    member.world.now_us += 1_000 * MS
    member.step()
    with trial.decides():
        assert member.running.clock_status().quorum_us is None


@rule("D7 tells no clock")
def test_each_member_tells_its_clocks(trial: Trial) -> None:
    """D7: Each member tells its wall clock, and its monotonic clock beside it, with a heartbeat each
    `clock_interval`."""
    member = trial.running(2)
    with trial.decides():
        told = matching(member.wait(600), Clock, None)
        assert len(told) >= 2
        assert {clock.wall_us - clock.now_us for clock in told} == {WALL_US}


@rule("D7 orders before it knows the clocks", "D7 waits for clocks that never come")
def test_a_holder_waits_for_the_clocks_but_not_without_end(trial: Trial) -> None:
    """D7: A holder that knows too few clocks orders nothing before `clock_wait` has passed since its start"""
    member = trial.running(2, clock_wait_ms=100)
    member.submit(b"mine")
    with trial.decides():
        assert times(member.hear(1, token(member.number, 1, 0)).sends) == []
        member.world.now_us += 99 * MS
        assert times(member.step().sends) == []
        member.world.now_us += 1 * MS
        assert times(member.step().sends) == [member.wall_us]
    soon = trial.running(2, clock_wait_ms=100)
    soon.submit(b"mine")
    soon.hear(1, token(soon.number, 1, 0))
    with trial.decides():
        assert times(soon.clock(3).sends) == [soon.wall_us]


@rule("D7 any clock is right", "D7 keeps the token")
def test_a_member_beyond_the_bound_leaves_the_slot(trial: Trial) -> None:
    """D7: As holder it leaves the slot to a ring member that it hears and whose clock is within the bound, and hands
    the token on at once"""
    member = trial.running(2)
    member.clock(1)
    member.clock(3)
    member.wall_offset_us = DAY_US
    member.submit(b"mine")
    with trial.decides():
        out = member.hear(1, token(member.number, 1, 0))
        assert times(out.sends) == []
        assert [held.hop for held in matching(out.sends, type(token(member.number, 1, 0)), 3)] == [2]


@rule("D7 leaves slots without end")
def test_what_waits_is_ordered_whatever_the_clocks_show(trial: Trial) -> None:
    """D7: but it orders what has waited for half of `token_timeout`, so that the ring goes on whatever clocks show."""
    member = trial.running(2, token_timeout_ms=300)
    member.wall_offset_us = DAY_US
    hop = 1
    with trial.decides():
        member.submit(b"mine")
        for _ in range(40):  # all others hand it on too
            member.clock(1)
            member.clock(3)
            member.hear(1, ack(member.number), token(member.number, hop, 0))
            member.hear(3, ack(member.number))
            hop += 3
            member.world.now_us += 5 * MS
        found = times(member.sends)
        assert len(found) == 1
        assert found[0] <= WALL_US + member.world.now_us


@rule("D7 leaves slots to nobody")
def test_a_slot_is_left_to_a_member_that_is_heard(trial: Trial) -> None:
    """D7: As holder it leaves the slot to a ring member that it hears and whose clock is within the bound"""
    member = trial.running(2, ring=(1, 2))
    member.clock(1, -DAY_US)
    member.clock(3)
    member.wall_offset_us = DAY_US
    with trial.decides():
        assert ordered_by(member) == [WALL_US + member.world.now_us]


@rule("D7 never resets")
def test_a_reset_takes_the_time_back(trial: Trial) -> None:
    """D7: The slot that orders it gets the quorum time, also a lower one, if the slot before has the time that the
    operator saw or a later one."""
    member = trial.running(2)
    with_log(member, member.wall_us + DAY_US)
    member.clock(1)
    member.clock(3)
    member.hear(3, Retransmit(member.number, (reset_request(member.wall_us + DAY_US),), ()))
    with trial.decides():
        assert times(member.hear(1, token(member.number, 1, 1)).sends) == [member.wall_us]


@rule("D7 resets again")
def test_a_reset_that_comes_late_does_nothing(trial: Trial) -> None:
    """D7: if the slot before has the time that the operator saw or a later one."""
    member = trial.running(2)
    with_log(member, member.wall_us + SECOND_US)
    member.clock(1)
    member.clock(3)
    member.hear(3, Retransmit(member.number, (reset_request(member.wall_us + DAY_US),), ()))
    with trial.decides():
        assert times(member.hear(1, token(member.number, 1, 1)).sends) == [member.wall_us + SECOND_US]


@rule("D7 orders a reset without clocks")
def test_a_reset_waits_for_the_clocks(trial: Trial) -> None:
    """D7: The holder leaves a reset out while too few clocks are known."""
    member = trial.running(2)
    with_log(member, member.wall_us + DAY_US)
    member.hear(3, Retransmit(member.number, (reset_request(member.wall_us + DAY_US),), ()))
    with trial.decides():
        assert times(member.hear(1, token(member.number, 1, 1)).sends) == []
        assert times(member.clock(1).sends) == [member.wall_us]
