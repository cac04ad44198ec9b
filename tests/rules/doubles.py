"""The table of mutants, and how a mutant puts itself into it."""

from collections.abc import Callable
from typing import Any, TypeVar

from sequencer.core import Core
from sequencer.read_rounds import ReadRounds
from sequencer.rules import Rules

Double = type[Rules] | type[Core] | type[ReadRounds[Any]]
T = TypeVar("T", type[Rules], type[Core], type[ReadRounds[Any]])

MUTANTS: dict[str, Double] = {}


def gets_wrong(name: str) -> Callable[[T], T]:
    """Enter a double under "<rule> <what it gets wrong>"."""

    def enter(double: T) -> T:
        assert name not in MUTANTS, f"two mutants {name!r}"
        MUTANTS[name] = double
        return double

    return enter
