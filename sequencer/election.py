"""Pure choices of a view change: the source and the ring (V5, V6). No state, no time."""

from collections.abc import Collection, Mapping

from sequencer.connectivity import connected_sets
from sequencer.messages import Promise
from sequencer.rules import Rules


def choose_source(promises: Mapping[int, Promise], rules: Rules) -> int:
    """V5: the promiser with the highest (log view, end), in that order of weight.

    Of several one that stays a member (V12), the lowest id of these.
    """
    return max(
        promises,
        key=lambda member: (rules.source_order(promises[member]), member in promises[member].members, -member),
    )


def choose_ring(
    promises: Mapping[int, Promise],
    source: int,
    *,
    heard: Mapping[int, int],
    sizes: tuple[int, ...],
    limit_slots: int,
    leaving: Collection[int],
    backed_off: Collection[int],
    present: Collection[int],
) -> tuple[int, ...]:
    """V6: promisers and members of the new view (V12) that all hear each other, in id order; () if they are too few.

    `heard`: the newest word of each promiser. `sizes`: how many there must be, and with how many it has to do else.
    Of those within the limit: the set with the fewest leavers (V11), then with the fewest in back-off, then the
    largest, then the nearest to the `present` ring. With too few within the limit: as many as must be, by their logs.
    """
    chosen = promises[source]
    members = {member: promise for member, promise in promises.items() if member in chosen.members}
    near = {
        member
        for member, promise in members.items()
        if promise.end >= chosen.first and abs(chosen.end - promise.end) <= limit_slots
    }
    sets = connected_sets({member: heard[member] for member in members})
    for size in sizes:
        if within := [ring for ring in sets if len(ring) >= size and near.issuperset(ring)]:
            return min(
                within,
                key=lambda ring: (
                    len(set(leaving).intersection(ring)),
                    len(set(backed_off).intersection(ring)),
                    -len(ring),
                    -len(set(present).intersection(ring)),
                    ring,
                ),
            )
        if lagging := [ring for ring in sets if len(ring) == size]:
            logs = {member: (promise.log_view, promise.end, -member) for member, promise in members.items()}
            return max(lagging, key=lambda ring: sorted((logs[member] for member in ring), reverse=True))
    return ()
