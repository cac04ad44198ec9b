"""V2, V9: pauses of a proposer, and back-offs over several views."""

from sequencer.types import BackOff, View
from tests.sequencer.builders import view
from tests.sequencer.harness import Host, bench


def without(number: int, level: int) -> View:
    """Member 3 was put out, and waits at this level."""
    return view(number, ring=(1, 2))._replace(back_offs=(BackOff(3, level),))


def waits_ms(member: Host) -> int:
    """How long member 3 still waits."""
    count = 0
    while 3 in member.running.backed_off():
        member.wait(100)
        count += 1
    return count * 100


def test_each_level_waits_twice_as_long_up_to_a_limit() -> None:
    member = bench(1, installed=view(1), back_off_base_ms=1_000, back_off_max_ms=3_000)
    for number, level, expected in ((2, 0, 1_000), (3, 1, 2_000), (4, 2, 3_000), (5, 40, 3_000)):
        member.install(without(number, level))
        assert waits_ms(member) == expected


def test_a_view_for_another_reason_does_not_make_the_wait_begin_again() -> None:
    member = bench(1, installed=view(1))
    member.install(without(2, 0))
    member.wait(600)
    member.install(without(3, 0))
    assert waits_ms(member) == 400


def test_who_was_put_out_or_let_in_for_nothing_goes_up_a_level() -> None:
    member = bench(1, installed=view(1))
    member.install(without(2, 3))
    assert member.running.next_back_offs((1, 2), {3}) == (BackOff(3, 4),)
    assert member.running.next_back_offs((1, 2, 3), {3}) == (BackOff(3, 3),)
    assert member.running.next_back_offs((1,), {2}) == (BackOff(2, 0), BackOff(3, 3))


def test_after_a_while_in_the_ring_it_is_forgotten() -> None:
    member = bench(1, installed=view(1), back_off_reset_ms=2_000)
    member.install(without(2, 3))
    member.install(view(3)._replace(back_offs=(BackOff(3, 3),)))
    member.wait(1_000)
    member.install(view(4)._replace(back_offs=(BackOff(3, 3),)))
    assert member.running.next_back_offs((1, 2, 3), set()) == (BackOff(3, 3),)
    member.wait(1_500)
    member.install(view(5)._replace(back_offs=(BackOff(3, 3),)))
    assert member.running.next_back_offs((1, 2, 3), set()) == ()


def test_a_proposer_pauses_after_some_tries() -> None:
    member = bench(1, installed=view(1), propose_delay_ms=60, back_off_max_ms=1_000)
    pauses = []
    for tries in range(9):
        member.running.tries = tries
        pauses.append(member.running.pause_ms())
    assert pauses == [0, 0, 0, 0, 60, 180, 420, 900, 1_000]
    member.install(view(2))
    assert member.running.pause_ms() == 0
