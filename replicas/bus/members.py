"""Changes of members at a replica (V12): the queries `members` and `change_members` (docs/wire.md, "Queries").

An operator's wish goes to the core as an event, and its answer comes back as a fact of that step; the core says why it
refuses, and here stands what to do about it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import astuple

from broker.gateway import Reply
from replicas.bus.directory import Directory, pack_info
from ringcast.errors import ChangeRefused, Refused, RingcastError, Unavailable
from ringcast.strict import Plain
from ringcast.wire import LINEARIZABLE, Answer, Query
from sequencer.core import Core
from sequencer.members_change import (
    FEW_COPIES,
    INFO_LIMIT,
    MEMBER_MAX,
    MEMBERS_LIMIT,
    NO_QUORUM,
    NOT_HEARD,
    NOT_SERVING,
    ONE_STEP,
    UNDER_WAY,
)
from sequencer.output import ChangeMembersAsked, Fact

FACTS = frozenset({"change_asked", "change_refused"})
LIST, CHANGE = "members", "change_members"
QUERIES = frozenset({LIST, CHANGE})
RESTARTING = "restarting"


class MembersChanges:
    """Who waits for the core's answer, in the order in which they asked."""

    def __init__(self, ask: Callable[[ChangeMembersAsked], None]) -> None:
        self._ask = ask
        self._waiting: deque[asyncio.Future[str]] = deque()

    def ask(self, new: tuple[int, ...], info: bytes, *, accept_loss: bool = False) -> "asyncio.Future[str]":
        """Ask for a configuration that differs by one member. Done in this turn's step: why not, or "" if it goes on.

        `accept_loss`: also where too few whole copies of the log would stay (C3).

        That it took effect is told by `Shell.on_configuration`, that a view uses it by `members` of the status.
        """
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._ask(ChangeMembersAsked(new, info, accept_loss))
        return asked

    def tell(self, fact: Fact) -> None:
        """The core answered the oldest question."""
        self._answer(str(fact.fields.get("why", "")))

    def abandon(self) -> None:
        """The core is made anew: whoever waits asks again."""
        while self._waiting:
            self._answer(RESTARTING)

    def _answer(self, why: str) -> None:
        asked = self._waiting.popleft()
        if not asked.done():
            asked.set_result(why)


class MembersQueries(MembersChanges):
    """Answers both queries. `trouble`: why nothing can be ordered here now."""

    def __init__(
        self,
        ask: Callable[[ChangeMembersAsked], None],
        core: Callable[[], Core],
        directory: Directory,
        trouble: Callable[[], RingcastError],
    ) -> None:
        super().__init__(ask)
        self._core = core
        self._directory = directory
        self._trouble = trouble

    def take(self, query: Query, reply: Reply) -> None:
        """Answer now, or in this turn's step. With consistency 0 only a replica that serves tells who the members are:
        one that is removed, or not added yet, may not know."""
        core = self._core()
        if query.name == CHANGE:
            self._change(query, reply)
        elif query.consistency == LINEARIZABLE and not core.in_quorum():
            reply(self._trouble(), ())
        else:
            reply(Answer(query.request, self._listed(core), 0), ())

    def _listed(self, core: Core) -> dict[str, Plain]:
        waiting = tuple(one for one in sorted(core.peers) if one not in core.everyone and core.has_joined(one))
        shown = sorted({*core.members, *core.next_members, *waiting})
        return {
            "members": core.members,
            "next_members": core.next_members,
            "ring": core.view.ring if core.view is not None else (),
            "waiting": waiting,
            "heard": tuple(core.heard()),
            "not_whole": tuple(one for one in core.members if core.is_heard(one) and not core.is_copy(one)),
            "end": core.window.end,
            "acked": {str(member): end for member, end in core.acked.items()},
            "addresses": {str(member): astuple(found) for member, found in self._directory.known(shown)},
        }

    def _change(self, query: Query, reply: Reply) -> None:
        core = self._core()
        try:
            adds, member, accept_loss = _wish(query)
        except Refused as error:
            reply(error, ())
            return
        before = set(core.next_members)
        new = tuple(sorted(before | {member} if adds else before - {member}))
        if set(new) == before and core.in_quorum():
            reply(Answer(query.request, {"asked": False}, 0), ())
            return

        def answered(asked: "asyncio.Future[str]") -> None:
            why = asked.result()
            if why:
                reply(self._refusal(why, new, member, adds=adds), ())
            else:
                reply(Answer(query.request, {"asked": True}, 0), ())

        info = pack_info(self._directory.known(new))
        self.ask(new, info, accept_loss=accept_loss).add_done_callback(answered)

    def _refusal(self, why: str, new: tuple[int, ...], member: int, *, adds: bool) -> RingcastError:
        """What the core's reason means for who asked, and the next step."""
        trouble = self._trouble()
        if why in {NOT_SERVING, RESTARTING} and isinstance(trouble, Unavailable):
            return trouble
        change = f"adding member {member}" if adds else f"removing member {member}"
        silent = _ids(one for one in new if one != member and not self._core().is_heard(one))
        advice = {
            UNDER_WAY: "wait until `ringcast members list` shows the change before it in use",
            MEMBERS_LIMIT: "remove one first" if adds else "the last one goes with the cluster: end its process",
            ONE_STEP: f"ids are 1 to {MEMBER_MAX}",
            INFO_LIMIT: "shorten the members' addresses",
            NOT_HEARD: self._introduction(new, member),
            FEW_COPIES: self._copies(new),
            NO_QUORUM: f"start member {silent}, or remove it first: a dead member is removed before another is added",
        }
        return ChangeRefused(change=change, why=why, next=advice.get(why, "try again"), passes=why == UNDER_WAY)

    def _copies(self, new: tuple[int, ...]) -> str:
        """C3: whom to wait for, and the way out."""
        lacking = _ids(one for one in new if not self._core().is_copy(one))
        return (
            f"wait until member {lacking} is whole (`ringcast status` says how far it is), or give up what only the "
            "removed one holds, with --accept-loss"
        )

    def _introduction(self, new: tuple[int, ...], member: int) -> str:
        """How one that is not heard comes to be heard."""
        found = self._directory.of(member)
        if found is None:
            return (
                f"start it first, on an empty folder and with [peers] that name members {_ids(new)} where they are "
                "now: it waits until it is added"
            )
        return f"it says that it is at {found.peer}, and is not heard there: correct its own entry in its [peers]"


def _wish(query: Query) -> tuple[bool, int, bool]:
    """(add, member, accept loss) of {add: id}, or {remove: id} with or without {accept_loss: bool}. Raises Refused."""
    wishes = dict(query.arguments)
    accept_loss = wishes.pop("accept_loss", False)
    (name, member), *more = wishes.items() or [("", None)]
    named = not more and name in {"add", "remove"} and type(accept_loss) is bool
    if not named or type(member) is not int or not 0 < member <= MEMBER_MAX:
        text = f"expected add or remove with an id of 1 to {MEMBER_MAX}"
        raise Refused(reason=f"arguments {dict(query.arguments)!r}: {text}")
    return name == "add", member, bool(accept_loss)


def _ids(members: Iterable[int]) -> str:
    return ", ".join(map(str, members))
