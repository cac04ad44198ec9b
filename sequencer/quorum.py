"""Arithmetic of quorums: tiny, pure, tested on its own."""

from collections.abc import Collection, Iterable, Mapping


def majority(members: Collection[int]) -> int:
    """Q = floor(n/2) + 1 of the configured members, never of those that happen to be up or in the ring."""
    return len(members) // 2 + 1


def half(members: Collection[int]) -> int:
    """The least ring where a member was just added, who takes no turn yet (V6, V12)."""
    return (len(members) + 1) // 2


def quorum_end(stored: Mapping[int, int], members: Iterable[int], quorum: int) -> int:
    """The largest end that `quorum` of `members` have stored (A5); 0 if fewer have told.

    `stored` maps a member to the end it acknowledged; members that are not configured are not counted.
    """
    ends = sorted((stored.get(member, 0) for member in members), reverse=True)
    return ends[quorum - 1]


def bits(members: Iterable[int]) -> int:
    """A set of member ids as a bit set (bit i = member i)."""
    total = 0
    for member in members:
        total |= 1 << member
    return total
