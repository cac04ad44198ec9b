"""Whether a history of a register is linearizable: Wing & Gong 1993, with the memory of Lowe 2017.

Keys are independent, so each has a history of its own (Herlihy & Wing 1990: linearizability is local). The search goes
over sets of operations that took effect, depth first; a pair (set, value) that failed once is not tried again.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple


class Operation(NamedTuple):
    """`what`: "read", "write" (value) or "cas" (old, new).

    `returned` is infinite where no answer came: it took effect at some time after `invoked`, or never.
    """

    key: str
    what: str
    values: tuple[int, ...]
    result: object
    invoked: float
    returned: float = inf


def violations(history: Iterable[Operation], start: int = 0) -> list[str]:
    """The keys whose histories are not linearizable, each with its operations."""
    keys: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        keys[operation.key].append(operation)
    return [
        f"key {key}: {sorted(operations, key=lambda one: one.invoked)}"
        for key, operations in sorted(keys.items())
        if not linearizable(operations, start)
    ]


def linearizable(history: Sequence[Operation], start: int = 0) -> bool:
    """Whether the operations on one key, from this value on, could have happened one after the other."""
    # A read without an answer says nothing.
    operations = sorted(
        (one for one in history if one.what != "read" or one.returned != inf), key=lambda one: one.invoked
    )
    wanted = sum(1 << place for place, one in enumerate(operations) if one.returned != inf)
    tried: set[tuple[int, int]] = set()
    stack = [(0, start)]
    while stack:
        done, value = stack.pop()
        if done & wanted == wanted:
            return True
        if (done, value) in tried:
            continue
        tried.add((done, value))
        # One that was invoked after another had returned cannot come before it.
        limit = min(one.returned for place, one in enumerate(operations) if not done >> place & 1)
        for place, one in enumerate(operations):
            if one.invoked > limit:
                break
            if done >> place & 1:
                continue
            after = _effect(one, value)
            if after is not None:
                stack.append((done | 1 << place, after))
    return False


def _effect(one: Operation, value: int) -> int | None:
    """The value after it; None if its answer does not fit the value before it."""
    answered = one.returned != inf
    if one.what == "read":
        return value if one.result == value else None
    if one.what == "write":
        return one.values[0]
    old, new = one.values
    if answered and one.result != (value == old):
        return None
    return new if value == old else value
