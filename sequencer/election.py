"""Pure choices of a view change: the source and the ring (V5, V6). No state, no time."""

from collections.abc import Collection, Mapping

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
    quorum: int,
    limit_slots: int,
    leaving: Collection[int],
    backed_off: Collection[int],
    suspected: Collection[int],
) -> tuple[int, ...]:
    """V6: the ring in id order, at least `quorum` members, all of them promisers and members of the new view (V12).

    Taken away one by one while more than `quorum` remain: leavers (V11), those in back-off, those still suspected,
    highest id first; then whoever does not hear, or is not heard by, most others.
    """
    chosen = promises[source]
    members = {member: promise for member, promise in promises.items() if member in chosen.members}
    near = {
        member
        for member, promise in members.items()
        if promise.end >= chosen.first and abs(chosen.end - promise.end) <= limit_slots
    }
    if len(near) < quorum:
        by_log = sorted(members, key=lambda m: (members[m].log_view, members[m].end, -m), reverse=True)
        return tuple(sorted(by_log[:quorum]))
    ring = set(near)
    for unwanted in (leaving, backed_off, suspected):
        for member in sorted(ring & set(unwanted), reverse=True):
            if len(ring) > quorum:
                ring.discard(member)
    while len(ring) > quorum:
        deaf = {member: _missing_links(member, ring, members) for member in ring}
        worst = max(ring, key=lambda member: (deaf[member], member))
        if not deaf[worst]:
            break
        ring.discard(worst)
    return tuple(sorted(ring))


def _missing_links(member: int, ring: Collection[int], promises: Mapping[int, Promise]) -> int:
    """How many links between `member` and the ring are deaf in one direction or the other."""
    missing = 0
    for other in ring:
        if other != member:
            missing += not promises[member].heard >> other & 1
            missing += not promises[other].heard >> member & 1
    return missing
