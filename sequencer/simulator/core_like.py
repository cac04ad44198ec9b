"""What the simulator needs of a core, so that mutations can stand in for it."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from sequencer.config import GroupConfig
from sequencer.core import CoreStatus
from sequencer.output import Event, Output
from sequencer.rules import Rules
from sequencer.types import Recovered


class CoreLike(Protocol):
    """The part of `sequencer.core.Core` that a shell calls."""

    left: bool

    @property
    def members(self) -> tuple[int, ...]:
        """See sequencer.core."""

    @property
    def whole(self) -> bool:
        """See sequencer.retained."""

    def step(self, now_us: int, wall_us: int, events: Iterable[Event]) -> Output:
        """See sequencer.core."""

    def deadline(self) -> int:
        """See sequencer.core."""

    def room(self) -> int:
        """See sequencer.core."""

    def in_quorum(self) -> bool:
        """See sequencer.core."""

    def status(self) -> CoreStatus:
        """See sequencer.core."""

    def check_invariants(self) -> None:
        """See sequencer.core."""


CoreFactory = Callable[[GroupConfig, int, Recovered, Random, int, int, Rules], CoreLike]
