"""V5, V6: source and ring, for any promises."""

from collections.abc import Mapping
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sequencer.election import choose_ring, choose_source
from sequencer.messages import Promise
from sequencer.quorum import bits
from sequencer.rules import Rules
from sequencer.types import GENESIS_CHAIN, ViewNumber

EVERYONE = bits(range(1, 8))


def says(
    end: int, counter: int = 1, *, first: int = 0, heard: int = EVERYONE, members: tuple[int, ...] = tuple(range(1, 8))
) -> Promise:
    """A promise of a log of view `counter` with slots [first, end)."""
    return Promise(
        ViewNumber(9, 1), ViewNumber(counter, 1), first, end, GENESIS_CHAIN, 0, (), heard, members, members, members
    )


def ring(
    promises: dict[int, Promise],
    *,
    quorum: int = 2,
    limit: int = 4,
    leaving: tuple[int, ...] = (),
    backed_off: tuple[int, ...] = (),
    least: int = 0,
    present: tuple[int, ...] = (),
    heard: Mapping[int, int] | None = None,
) -> tuple[int, ...]:
    """The ring that these promises make."""
    source = choose_source(promises, Rules())
    return choose_ring(
        promises,
        source,
        heard={member: promise.heard for member, promise in promises.items()} | dict(heard or {}),
        sizes=(quorum, least or quorum),
        limit_slots=limit,
        leaving=leaving,
        backed_off=backed_off,
        present=present,
    )


def test_the_source_is_the_highest_log_view_then_the_highest_end() -> None:
    assert choose_source({1: says(9, 1), 2: says(3, 2), 3: says(4, 2)}, Rules()) == 3
    assert choose_source({2: says(4), 1: says(4), 3: says(4)}, Rules()) == 1


def test_who_is_near_the_source_is_in_the_ring() -> None:
    assert ring({1: says(9), 2: says(5), 3: says(4)}) == (1, 2)
    assert ring({1: says(9), 2: says(5), 3: says(14, 0)}) == (1, 2)  # too long is as far away: it has to cut


def test_whose_end_the_source_has_trimmed_is_not() -> None:
    assert ring({1: says(9, first=8), 2: says(8), 3: says(7)}) == (1, 2)


def test_with_too_few_near_the_best_logs_make_a_quorum() -> None:
    assert ring({1: says(99), 2: says(5), 3: says(6)}) == (1, 3)
    assert ring({1: says(99, 2), 2: says(5, 1), 3: says(6, 0)}) == (1, 2)


def test_unwanted_members_go_one_by_one_while_more_than_a_quorum_remain() -> None:
    """V6, V11: leavers, then those in back-off, highest id first."""
    five = dict.fromkeys(range(1, 6), says(3))
    assert ring(five, quorum=3, backed_off=(1, 2, 3)) == (1, 4, 5)
    assert ring(five, quorum=3, leaving=(5,), backed_off=(1, 4)) == (1, 2, 3)
    assert ring(five, quorum=3, leaving=(1,), backed_off=(2,)) == (3, 4, 5)
    assert ring(five, quorum=3, leaving=(1, 2, 3, 4, 5)) == (1, 2, 3)


def test_a_ring_is_of_members_that_all_hear_each_other() -> None:
    """V6: the largest such set; with two as large, the one nearest to the present ring."""
    heard = {1: EVERYONE, 2: EVERYONE, 3: bits((1, 3))}
    promises = {member: says(3, heard=said) for member, said in heard.items()}
    assert ring(promises) == (1, 2)
    assert ring(promises, present=(1, 3)) == (1, 3)
    assert ring(promises, present=(1, 3), backed_off=(3,)) == (1, 2)
    assert ring(dict.fromkeys((1, 2, 3), says(3))) == (1, 2, 3)


def test_without_a_quorum_that_hears_each_other_there_is_no_ring() -> None:
    """V6: it would not turn; a newer word than the promise's counts."""
    deaf = dict.fromkeys((1, 2, 3), says(3, heard=0))
    assert ring(deaf) == ()
    assert ring(deaf, heard={1: EVERYONE, 3: EVERYONE}) == (1, 3)


def test_where_a_member_was_just_added_half_will_do() -> None:
    """V6, V12."""
    promises = {1: says(3), 2: says(3), 3: says(3, heard=bits((1, 3)))}
    assert ring(promises, quorum=3) == ()
    assert ring(promises, quorum=3, least=2) == (1, 2)


def test_far_members_must_hear_each_other_too() -> None:
    promises = {1: says(99), 2: says(5, heard=bits((1, 2))), 3: says(6), 4: says(4)}
    assert ring(promises, quorum=3) == (1, 3, 4)


PROMISES = st.dictionaries(
    st.integers(1, 5),
    st.builds(says, st.integers(2, 12), st.integers(1, 2), first=st.integers(0, 2), heard=st.integers(0, 63)),
    min_size=3,
    max_size=5,
)
SOME = st.sets(st.integers(1, 5)).map(tuple)


@given(PROMISES, SOME, SOME)
def test_a_ring_is_a_quorum_of_promisers(
    promises: dict[int, Promise], leaving: tuple[int, ...], backed_off: tuple[int, ...]
) -> None:
    """V6: in id order, at least Q, promisers that all hear each other; nobody far away while the near ones suffice."""
    chosen = ring(promises, quorum=3, leaving=leaving, backed_off=backed_off)
    source = promises[choose_source(promises, Rules())]
    near = {m for m, said in promises.items() if said.end >= source.first and abs(source.end - said.end) <= 4}
    able = [
        set(some)
        for size in (3, 4, 5)
        for some in combinations(sorted(promises), size)
        if all(promises[one].heard >> other & 1 for one in some for other in some if one != other)
    ]
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) in able if able else chosen == ()
    assert set(chosen) <= near or not any(some <= near for some in able)
