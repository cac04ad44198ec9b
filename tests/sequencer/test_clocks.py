"""D7: what one member knows of the wall clocks of all."""

from sequencer.clocks import STEP_US, Clocks, ClockStatus, reached_by

WINDOW = 2_000_000
ALL = (1, 2, 3)


def test_a_clock_goes_on_by_the_own_monotonic_clock() -> None:
    clocks = Clocks(WINDOW)
    clocks.hear(2, 1_000_000_000, 70, now_us=500)
    assert clocks.showing(ALL, 500) == {2: 1_000_000_000}
    assert clocks.showing(ALL, 1_500) == {2: 1_000_001_000}
    assert clocks.showing((1, 3), 500) == {}


def test_delay_makes_a_clock_look_late_so_the_largest_lead_counts() -> None:
    clocks = Clocks(WINDOW)
    for sent, delay in ((0, 40_000), (250_000, 100), (500_000, 90_000)):
        clocks.hear(2, 10**9 + sent, sent, now_us=sent + delay)
    assert clocks.showing(ALL, 600_000) == {2: 10**9 + 600_000 - 100}


def test_the_largest_lead_is_forgotten_after_two_windows() -> None:
    """A clock that is slewed, or a faster monotonic one: what was true then is not true permanently."""
    clocks = Clocks(WINDOW)
    clocks.hear(2, 10**9, 0, now_us=0)
    seen = []
    for sent in range(1_000_000, 6_000_000, 1_000_000):
        clocks.hear(2, 10**9 + sent - 30_000, sent, now_us=sent)
        seen.append(clocks.showing(ALL, sent)[2] - 10**9 - sent)
    assert seen == [0, 0, 0, -30_000, -30_000]


def test_a_step_of_the_wall_clock_voids_what_was_told_before() -> None:
    clocks = Clocks(WINDOW)
    clocks.hear(2, 10**9 + STEP_US, 0, now_us=0)
    clocks.hear(2, 10**9 + 250_000, 250_000, now_us=250_100)
    assert clocks.showing(ALL, 250_100) == {2: 10**9 + 250_000}


def test_a_frame_that_was_overtaken_tells_nothing() -> None:
    clocks = Clocks(WINDOW)
    clocks.hear(2, 10**9 + 250_000, 250_000, now_us=250_000)
    clocks.hear(2, 10**12, 0, now_us=250_001)
    assert clocks.showing(ALL, 250_001) == {2: 10**9 + 250_001}


def test_a_clock_that_is_not_heard_is_not_known() -> None:
    clocks = Clocks(WINDOW)
    clocks.hear(2, 10**9, 0, now_us=0)
    assert clocks.showing(ALL, WINDOW - 1)
    assert not clocks.showing(ALL, WINDOW)
    clocks.hear(3, 10**9, 0, now_us=0)
    clocks.forget(3)
    clocks.forget(3)
    assert not clocks.showing((3,), 1)


def test_the_latest_time_that_so_many_have_reached() -> None:
    assert reached_by([5, 9, 7], 2) == 7
    assert reached_by([5, 9], 2) == 5
    assert reached_by([9], 2) is None


def test_how_far_the_log_is_ahead() -> None:
    assert ClockStatus(ring_us=9, quorum_us=4, last_us=9).ahead_us == 5
    assert ClockStatus(ring_us=9, quorum_us=9, last_us=4).ahead_us == 0
    assert ClockStatus(ring_us=9, last_us=9).ahead_us == 0
