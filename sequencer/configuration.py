"""V12: what a change of members does to a configuration. Pure; core and state machine ask the same functions."""

from collections.abc import Collection

from sequencer.config import MEMBERS_MAX
from sequencer.types import Configuration, MembersChange, SlotRecord


def is_one_step(old: Collection[int], new: tuple[int, ...]) -> bool:
    """One member added or removed, ids ascending, 1 to 7 of them."""
    ascending = list(new) == sorted(set(new))
    return ascending and 1 <= len(new) <= MEMBERS_MAX and len(set(old) ^ set(new)) == 1


def takes_effect(change: MembersChange, at: Configuration) -> bool:
    """The compare-and-set: it was asked of the configuration that stands here. Otherwise the entry does nothing."""
    return change.since == at.slot and at.members in ((), change.old) and is_one_step(change.old, change.new)


def after(at: Configuration, record: SlotRecord) -> Configuration:
    """The configuration behind a slot: at most one change of a slot takes effect, since it moves `slot` on."""
    for request in record.requests:
        change = request.change
        if isinstance(change, MembersChange) and takes_effect(change, at):
            return Configuration(change.new, record.slot, change.info)
    return at
