"""`ringcast recover --accept-loss` at a replica: the query `recover`, and the advice to use it (D2, V0).

Anyone who may ask this replica may ask this. It is no way to lose what is there: the core begins only while no ring
runs and all n members are heard, and a view from the promises of all n holds everything that any of them still has.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from broker.gateway import Reply
from ringcast.errors import NotReady, Refused
from ringcast.strict import Plain
from ringcast.wire import Answer, Query
from sequencer.core import Core
from sequencer.output import Fact, RecoverAsked
from sequencer.quorum import majority
from store.aside import Aside, told

QUERY = "recover"
FACTS = frozenset({"recover_began", "recover_refused"})

Ask: TypeAlias = Callable[[RecoverAsked], None]


class RecoverQueries:
    """Hands the operator's wish to the core, and the core's answer (a fact of that step) back."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: list[tuple[int, Reply]] = []

    def take(self, query: Query, reply: Reply) -> None:
        """A query `recover`: answered by this turn's step."""
        value = query.arguments.get("accept_loss")
        if value is not True:
            reply(Refused(reason=f"argument accept_loss = {value!r}: only true makes a view that may lose data"), ())
            return
        self._waiting.append((query.request, reply))
        if len(self._waiting) == 1:
            self._ask(RecoverAsked())

    def tell(self, fact: Fact, core: Core, next_offset: int) -> None:
        """What the core decided: began, or why not."""
        began = fact.name == "recover_began"
        heard = tuple(core.heard())
        result: dict[str, Plain] = {
            "began": began,
            "why": "" if began else refusal(core),
            "healthy": bool(fact.fields.get("healthy")),
            "heard": heard,
            "missing": tuple(member for member in core.everyone if member not in heard),
        }
        waiting, self._waiting = self._waiting, []
        for request, reply in waiting:
            reply(Answer(request, result, next_offset), ())

    def abandon(self, error: NotReady) -> None:
        """The core is made anew: whoever waits asks again."""
        waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            reply(error, ())


def refusal(core: Core) -> str:
    """Why this core does not begin now, and what to do."""
    missing = [member for member in core.everyone if not core.is_heard(member)]
    bound = any(core.peer(member).join_cluster for member in core.others)
    if core.blank and (bound or not core.hears_lost()):
        return "this replica's disk is new and it has met no cluster yet: ask a replica that still has its data"
    if core.damage:
        return "this replica's disk is damaged and under repair: ask another one, or move its data folder aside first"
    if missing:
        names = ", ".join(map(str, missing))
        return f"replica {names} is not heard, and the promises of all {len(core.everyone)} are needed: start it first"
    return "the cluster is healthy: nothing is lost and nothing is to be done"


def advice(core: Core, asides: Sequence[Aside] = ()) -> str | None:
    """What an operator must know when too few members remember what they acknowledged, else None.

    Members that are not heard may still remember; so it is said only when it is sure. `asides`: folders of this member
    that were set aside (D6).
    """
    if core.in_quorum() or not knows_cluster(core):
        return None
    forgot = [member for member in core.members if forgets(core, member)]
    left, needed = len(core.members) - len(forgot), majority(core.members)
    if left >= needed:
        return None
    damaged = f"; replica {core.me}'s folder was damaged and set aside: {told(tuple(asides))}" if asides else ""
    last = (
        "run `ringcast recover --accept-loss`"
        if any((core.stable.cluster, *(core.peer(member).join_cluster for member in core.others)))
        else "delete the *set-aside.json beside each data folder and restart the replicas as a new cluster"
    )
    return (
        f"at most {left} of {len(core.members)} replicas remember what they acknowledged and {needed} are needed: "
        f"start all with their old data folders, restore a backup (`ringcast restore`), or {last}{damaged}"
    )


def knows_cluster(core: Core) -> bool:
    """Is there a cluster that could be recovered? All members blank is a genesis, unless one is lost (V0, D6)."""
    return not core.blank or core.hears_lost() or any(core.peer(member).join_cluster for member in core.others)


def forgets(core: Core, member: int) -> bool:
    """Is it wiped, or blank and no part of a genesis that is under way, as far as it said (V0, D2)?"""
    unmarked = core.blank and not core.stable.marks
    if member == core.me:
        return unmarked or core.stable.wiped
    peer = core.peer(member)
    if peer.join is not None and member in core.fresh_joiners():
        known = core.stable.known.get(member)
        named = not unmarked and known is not None and known.storage == peer.join.storage
        return peer.join.wiped or (peer.join_cluster == 0 and not named)
    return core.is_heard(member) and peer.status is not None and peer.status.wiped
