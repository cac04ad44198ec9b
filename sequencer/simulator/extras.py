"""Fault kinds that are off by default (`--faults`). Each draws from a stream of its own, so all other draws stay."""

import argparse
from collections.abc import Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sequencer.simulator.member import Member

from sequencer.types import SlotRecord

ClusterType = TypeVar("ClusterType")


class Extra(Generic[ClusterType]):
    """One kind of faults in one run. Subclasses replace what they need."""

    def __init__(self, cluster: ClusterType, random: Random) -> None:
        self.cluster = cluster
        self.random = random

    def plan(self) -> None:
        """Schedule what happens in the safety phase."""

    def healed(self) -> None:
        """All else was healed: begin what lasts through the liveness phase."""

    def appended(self, record: SlotRecord) -> None:
        """A member put a slot into its log: who sequenced it is the first."""

    def delivered(self, record: SlotRecord) -> None:
        """A member was the first to deliver a slot."""

    def settled(self) -> bool:
        """Has all happened that this kind waits for in the liveness phase?"""
        return True

    def demands(self, member: "Member") -> bool:
        """Whether the liveness phase may demand something of this member."""
        return True

    def ended(self) -> None:
        """The run is over: check what this kind promises."""


def stream(seed: int, name: str) -> Random:
    """The random numbers of one kind."""
    return Random(f"{seed}/{name}")


def extras(
    cluster: ClusterType, kinds: Mapping[str, type[Extra[ClusterType]]], chosen: Iterable[str], seed: int
) -> list[Extra[ClusterType]]:
    """The chosen kinds, in the order of their names."""
    return [kinds[name](cluster, stream(seed, name)) for name in sorted(chosen)]


def parse_names(text: str, known: Iterable[str]) -> frozenset[str]:
    """'partial,clocks'."""
    names = frozenset(filter(None, text.split(",")))
    if unknown := sorted(names.difference(known)):
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: no such faults here; known: {', '.join(sorted(known))}"
        )
    return names
