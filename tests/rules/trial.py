"""Each rule test runs against the real core, where it must pass, and against its mutant, where it must fail.

    @rule("A5 quorum")
    def test_a_slot_is_not_delivered_below_a_quorum(trial: Trial) -> None:
        '''A5: <the rule's sentence, word for word as in docs/protocol.md>'''
        member = trial.bench(...)          # brings about the state in which only this rule decides
        with trial.decides():
            assert ...                     # the real core passes, the mutant of that name fails here

A mutant may fail inside `decides` only: one that breaks the way there proves nothing, so that is a failed test.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sequencer.core import Core
from sequencer.errors import InvariantError
from sequencer.read_rounds import ReadRounds
from sequencer.rules import Rules
from tests.rules.mutants import MUTANTS
from tests.sequencer.group import Group
from tests.sequencer.harness import Host, bench, running

Test = Callable[["Trial"], None]


class Bitten(Exception):
    """The mutant failed where its rule decides."""


class Trial:
    """One run of a rule test: makes hosts and groups of the core on trial."""

    def __init__(self, mutant: str | None) -> None:
        self.mutant = mutant
        self.decided = False
        double = MUTANTS[mutant] if mutant else None
        self.rules = double if double is not None and issubclass(double, Rules) else Rules
        self.core = double if double is not None and issubclass(double, Core) else Core
        rounds = double is not None and issubclass(double, ReadRounds)
        self.read_rounds: type[ReadRounds[str]] = double if rounds else ReadRounds  # type: ignore[assignment]
        self._groups: list[Group] = []

    def bench(self, member: int = 1, **how: Any) -> Host:
        """One started core; see harness.bench."""
        return bench(member, rules=self.rules, core=self.core, **how)

    def running(self, member: int = 1, **how: Any) -> Host:
        """A bench that runs view 2; see harness.running."""
        return running(member, rules=self.rules, core=self.core, **how)

    def group(self, members: int = 3, **limits: int) -> Group:
        """Blank cores on a wire; compared at teardown."""
        group = Group(members, rules=self.rules, core=self.core, **limits)
        self._groups.append(group)
        return group

    @contextmanager
    def decides(self) -> Iterator[None]:
        """Where the rule decides: all that the test demands of it is asserted in here."""
        self.decided = True
        try:
            yield
        except (AssertionError, InvariantError) as error:
            if self.mutant is None:
                raise
            raise Bitten from error

    def check(self) -> None:
        """Teardown."""
        assert self.decided, "a rule test says where its rule decides"
        for group in self._groups:
            group.check()


def rule(*mutants: str) -> Callable[[Test], Callable[[str | None], None]]:
    """Run the test with the real core, then with each of these mutants ("<rule> <what it gets wrong>")."""
    for name in mutants:
        assert name in MUTANTS, f"no mutant {name!r} in tests/rules/mutants.py"

    def decorate(test: Test) -> Callable[[str | None], None]:
        def run(mutant: str | None) -> None:
            trial = Trial(mutant)
            if mutant is None:
                test(trial)
                trial.check()
            else:
                with pytest.raises(Bitten):
                    test(trial)

        run.__name__, run.__qualname__, run.__doc__, run.__module__ = (
            test.__name__, test.__qualname__, test.__doc__, test.__module__,
        )  # fmt: skip
        ids = ["real", *(name.replace(" ", "-") for name in mutants)]
        marked: Callable[[str | None], None] = pytest.mark.parametrize("mutant", [None, *mutants], ids=ids)(run)
        return marked

    return decorate
