"""Who hears whom, as a few members say: sets that all hear each other (V2, V6). Pure; at most seven members or so."""

from collections.abc import Mapping


def connected_sets(heard: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Every set of these members that all hear each other, in id order; `heard`: member -> bits of whom it hears."""
    members = sorted(heard)
    found: list[tuple[int, ...]] = []

    def extend(chosen: tuple[int, ...], rest: list[int]) -> None:
        for place, member in enumerate(rest):
            grown = (*chosen, member)
            found.append(grown)
            extend(grown, [other for other in rest[place + 1 :] if hear_each_other(heard, member, other)])

    extend((), members)
    return found


def hear_each_other(heard: Mapping[int, int], one: int, other: int) -> bool:
    """Both directions work."""
    return bool(heard[one] >> other & 1 and heard[other] >> one & 1)
