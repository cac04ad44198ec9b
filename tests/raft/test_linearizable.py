"""The checker of histories: what is linearizable passes, what is not does not."""

from itertools import permutations
from math import inf
from random import Random

import pytest

from replicas.raft.simulator.linearizable import Operation, linearizable, violations


def write(value: int, invoked: float, returned: float = inf) -> Operation:
    return Operation("k", "write", (value,), True, invoked, returned)


def read(result: int, invoked: float, returned: float) -> Operation:
    return Operation("k", "read", (), result, invoked, returned)


def cas(old: int, new: int, result: object, invoked: float, returned: float = inf) -> Operation:
    return Operation("k", "cas", (old, new), result, invoked, returned)


GOOD = {
    "empty": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read beside a write sees the old value": [write(1, 0, 10), read(0, 1, 2)],
    "a read beside a write sees the new value": [write(1, 0, 10), read(1, 1, 2)],
    "two writes at once, in either order": [write(1, 0, 10), write(2, 0, 10), read(2, 11, 12), read(2, 13, 14)],
    "an unanswered write took effect late": [write(1, 0), read(0, 1, 2), read(1, 3, 4)],
    "an unanswered write took no effect": [write(1, 0), read(0, 1, 2), read(0, 3, 4)],
    "a cas that failed": [write(1, 0, 1), cas(5, 6, False, 2, 3), read(1, 4, 5)],
    "an unanswered cas": [cas(0, 1, None, 0), read(0, 1, 2), read(1, 3, 4)],
    "an unanswered read says nothing": [Operation("k", "read", (), None, 0), write(1, 1, 2)],
}
BAD = {
    "a stale read": [write(1, 0, 1), read(0, 2, 3)],
    "a value that nobody wrote": [read(7, 0, 1)],
    "a value goes back": [write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)],
    "a read of the future": [read(1, 0, 1), write(1, 2, 3)],
    "two cas of one value succeed": [cas(0, 1, True, 0, 10), cas(0, 2, True, 0, 10)],
    "an acknowledged write is lost": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "readers disagree on the order": [
        write(1, 0, 10), write(2, 0, 10), read(1, 1, 2), read(2, 3, 4), read(1, 11, 12)
    ],
    "an unanswered write takes effect twice": [
        write(1, 0), write(2, 1, 2), read(1, 3, 4), write(2, 5, 6), read(1, 7, 8)
    ],
    "a cas that could not succeed": [write(1, 0, 1), cas(0, 2, True, 2, 3)],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_linearizable_history_passes(name: str) -> None:
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_is_not_is_found(name: str) -> None:
    assert not linearizable(BAD[name])
    assert len(violations(BAD[name])) == 1


def test_keys_have_histories_of_their_own() -> None:
    other = read(0, 2, 3)._replace(key="other")
    assert violations([write(1, 0, 1), other]) == []


def test_it_agrees_with_trying_every_order() -> None:
    """Small random histories against the definition."""
    random = Random(5)
    outcomes = set()
    for _ in range(400):
        history = [_draw(random) for _ in range(random.randint(2, 5))]
        expected = _by_definition(history)
        outcomes.add(expected)
        assert linearizable(history) == expected, history
    assert outcomes == {True, False}


def _draw(random: Random) -> Operation:
    invoked = random.random() * 4
    returned = inf if random.random() < 0.2 else invoked + random.random() * 3
    value = random.randint(0, 2)
    kind = random.choice(("read", "write", "cas"))
    if kind == "read":
        return read(value, invoked, invoked + random.random())
    if kind == "write":
        return write(value, invoked, returned)
    return cas(random.randint(0, 2), value, random.random() < 0.5, invoked, returned)


def _by_definition(history: list[Operation]) -> bool:
    must = [one for one in history if one.returned != inf]
    may = [one for one in history if one.returned == inf]
    for bits in range(1 << len(may)):
        chosen = must + [one for place, one in enumerate(may) if bits >> place & 1]
        if any(_replays(order) for order in permutations(chosen)):
            return True
    return False


def _replays(order: tuple[Operation, ...]) -> bool:
    value = 0
    for place, one in enumerate(order):
        if any(later.returned < one.invoked for later in order[place + 1 :]):
            return False
        if one.what == "read":
            if one.result != value:
                return False
        elif one.what == "write":
            value = one.values[0]
        else:
            fits = value == one.values[0]
            if one.returned != inf and one.result != fits:
                return False
            value = one.values[1] if fits else value
    return True
