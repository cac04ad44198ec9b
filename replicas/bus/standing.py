"""What a replica says of itself: one word of state, why it cannot order, and the rows of the query `status`."""

from collections.abc import Mapping, Sequence

from replicas import limits, supervisor
from replicas.bus.accepted_loss import advice
from replicas.bus.clock_reset import shown
from replicas.bus.config import BusConfig
from replicas.clocks import wall_us
from replicas.versions import VERSION
from ringcast.errors import NotInQuorum, NotReady, RingcastError
from ringcast.strict import Plain
from sequencer.core import Core
from sequencer.quorum import majority
from store.aside import Aside

WAITS_TO_BE_ADDED = "not a member: waiting to be added"
OUTSIDE = "outside the ring"


def state_of(core: Core, *, leaving: bool) -> str:
    """One of: leaving, read-only, damaged, not a member, wiped, starting, removed, no quorum, outside the ring,
    waiting, catching up, serving."""
    if leaving:
        return "leaving"
    if core.disk_full:
        return "read-only: disk full"
    if core.damage:
        return "damaged: repairing"
    if core.outside:
        return WAITS_TO_BE_ADDED
    if core.lost:
        return "damaged: its folder was set aside, waiting for the others"
    if core.stable.wiped:
        return "wiped: waiting to be readmitted"
    if core.blank:
        return "starting"
    if core.removed:
        return "removed"
    if connected(core) < majority(core.members):
        return "no quorum"
    if core.runs:
        return "serving" if core.in_ring or broken_links(core) is None else OUTSIDE
    return "catching up" if advice(core) is None else "waiting for a quorum that remembers"


def trouble_of(core: Core, asides: Sequence[Aside] = (), *, leaving: bool) -> RingcastError | None:
    """Why nothing can be ordered here now, else None."""
    if core.in_quorum() and not leaving:
        return None
    state, reason = state_of(core, leaving=leaving), advice(core, asides)
    if state == "no quorum":
        return NotInQuorum(replica=core.me, connected=connected(core), quorum=majority(core.members), reason=reason)
    return NotReady(replica=core.me, state=state, reason=reason)


def connected(core: Core) -> int:
    """Members of the present configuration that are heard, this one included (V12)."""
    return sum(core.is_heard(member) for member in core.members)


def broken_links(core: Core) -> str | None:
    """Whom it does not hear, and who does not hear it, in words (V9); None while all hear each other."""
    status = core.status()
    said = [f"replica {member} does not hear it" for member in status.unheard_by]
    if status.unheard:
        said.insert(0, f"does not hear replica {', '.join(map(str, status.unheard))}")
    return "; ".join(said) or None


def staying(core: Core) -> int:
    """Other members that are heard and do not leave: with a quorum of them a leaver is free to go (V11)."""
    peers = [core.peer(member) for member in core.members if member != core.me and core.is_heard(member)]
    return sum(peer.status is not None and not peer.status.leaving for peer in peers)


def can_spare(core: Core) -> bool:
    """A quorum without this member remembers, is heard and stays: it may come back as a wiped one (V0)."""
    peers = [core.peer(member).status for member in core.members if member != core.me and core.is_heard(member)]
    able = sum(status is not None and not status.leaving and not status.wiped for status in peers)
    return able >= majority(core.members)


def status_of(core: Core, config: BusConfig, asides: Sequence[Aside] = (), *, leaving: bool) -> Mapping[str, Plain]:
    """The core's part of the query `status` (docs/wire.md, "Queries")."""
    status = core.status()
    view = status.view
    return {
        "replica": config.id,
        "cluster": f"{status.cluster:016x}",
        "cluster_name": config.cluster_name,
        "ring_id": config.ring,
        "state": state_of(core, leaving=leaving),
        "durability": config.durability,
        "view": tuple(core.stable.log_view),
        "members": status.members,
        "next_members": status.next_members,
        "removed": status.removed,
        "ring": view.ring if view else (),
        "in_ring": status.in_ring,
        "token_holder": config.id if status.holds_token else None,
        "first": status.first,
        "end": status.end,
        "stored": status.stored,
        "committed": status.commit,
        "acked": {str(member): end for member, end in status.acked.items()},
        "suspects": status.suspects,
        "unheard": status.unheard,
        "unheard_by": status.unheard_by,
        "links": broken_links(core),
        "wiped": status.wiped,
        "damaged": status.damaged,
        "whole": status.whole,
        "missing_from": status.missing_from,
        "holes": status.holes,
        "not_whole": status.not_whole,
        "disk_full": status.disk_full,
        "in_quorum": status.in_quorum,
        "possible_loss": status.possible_loss,
        "advice": advice(core, asides),
        "set_aside": tuple({**one._asdict(), "folder": str(one.folder)} for one in asides),
        "incarnation": tuple(core.stable.incarnation),
        "version": VERSION,
        "wall_us": wall_us(),
        "clock": shown(status.clocks),
        **supervisor.report(),
        **limits.report(),
    }
