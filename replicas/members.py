"""Changes of members at a replica (V12): an operator's wish goes to the core, and the core's answer comes back."""

import asyncio
from collections import deque
from collections.abc import Callable

from sequencer.output import ChangeMembersAsked, Fact

FACTS = frozenset({"change_asked", "change_refused"})


class MembersChanges:
    """Who waits for the core's answer, in the order in which they asked."""

    def __init__(self, ask: Callable[[ChangeMembersAsked], None]) -> None:
        self._ask = ask
        self._waiting: deque[asyncio.Future[str]] = deque()

    def ask(self, new: tuple[int, ...], info: bytes) -> "asyncio.Future[str]":
        """Ask for a configuration that differs by one member. Done in this turn's step: why not, or "" if it goes on.

        That it took effect is told by `Shell.on_configuration`, that a view uses it by `members` of the status.
        """
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._ask(ChangeMembersAsked(new, info))
        return asked

    def tell(self, fact: Fact) -> None:
        """The core answered the oldest question."""
        self._answer(str(fact.fields.get("why", "")))

    def abandon(self) -> None:
        """The core is made anew: whoever waits asks again."""
        while self._waiting:
            self._answer("restarting")

    def _answer(self, why: str) -> None:
        asked = self._waiting.popleft()
        if not asked.done():
            asked.set_result(why)
